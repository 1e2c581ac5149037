// What this browser keeps: drafts, what was read, the theme. Before anything is painted, for the theme.

const store = {
  get(key) {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // a browser that keeps nothing
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(key, value);
    } catch {
      // Full, or forbidden: it lasts as long as the page.
    }
  },
  remove(key) {
    try {
      localStorage.removeItem(key);
    } catch {
      // There is nothing then.
    }
  },
};

document.documentElement.dataset.theme = store.get("theme") ?? "system";
