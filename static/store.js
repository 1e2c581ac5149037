// What this browser keeps, for good and for this tab: drafts, what was read, the theme. The theme before the first paint.

const kept = (storage) => ({
  get(key) {
    try {
      return storage().getItem(key);
    } catch {
      return null; // a browser that keeps nothing
    }
  },
  set(key, value) {
    try {
      storage().setItem(key, value);
    } catch {
      // Full, or forbidden: it lasts as long as the page.
    }
  },
  remove(key) {
    try {
      storage().removeItem(key);
    } catch {
      // There is nothing then.
    }
  },
});

const store = kept(() => localStorage);
const tabStore = kept(() => sessionStorage);

document.documentElement.dataset.theme = store.get("theme") ?? "system";
