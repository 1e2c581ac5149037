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
  forget() {
    try {
      const ours = Object.keys(storage()).filter((key) => /^(draft .*|sent|seen|theme|leaving|left)$/.test(key));
      for (const key of ours) storage().removeItem(key);
    } catch {
      // There is nothing then.
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

// A log-out takes it all away, once the page that wrote it is gone, and from other tabs too. (The header that would do
// so is obeyed over TLS only, and takes from neighbours below the same host.)
document.addEventListener("submit", ({ target }) => target.matches(".sidebar__log-out") && tabStore.set("leaving", "yes"));
addEventListener("storage", ({ key }) => key === "left" && tabStore.forget());
if (tabStore.get("leaving") && /\/log(in|out)$/.test(location.pathname)) {
  store.set("left", "yes");
  store.forget();
  tabStore.forget();
}
tabStore.remove("leaving");

document.documentElement.dataset.theme = store.get("theme") ?? "system";
