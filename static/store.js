// Browser storage, persistent and per tab: drafts, visited rooms, the theme. Sets the theme before the first paint.

const safeStorage = (storage) => ({
  get(key) {
    try {
      return storage().getItem(key);
    } catch {
      return null; // storage is disabled
    }
  },
  set(key, value) {
    try {
      storage().setItem(key, value);
    } catch {
      // Storage is full or disabled: the value lasts as long as the page.
    }
  },
  forget() {
    try {
      const ours = Object.keys(storage()).filter((key) => /^(draft .*|sent|seen|theme|leaving|left)$/.test(key));
      for (const key of ours) storage().removeItem(key);
    } catch {
      // Storage is disabled: there is nothing to remove.
    }
  },
  remove(key) {
    try {
      storage().removeItem(key);
    } catch {
      // Storage is disabled: there is nothing to remove.
    }
  },
});

const store = safeStorage(() => localStorage);
const tabStore = safeStorage(() => sessionStorage);

// A log-out clears it all, in every tab, once the page that wrote it has been unloaded. (Browsers apply the Clear-Site-Data
// header over TLS only, and it would also clear the data of other apps on the same host.)
document.addEventListener("submit", ({ target }) => target.matches(".sidebar__log-out") && tabStore.set("leaving", "yes"));
addEventListener("storage", ({ key }) => key === "left" && tabStore.forget());
if (tabStore.get("leaving") && /\/log(in|out)$/.test(location.pathname)) {
  store.set("left", "yes");
  store.forget();
  tabStore.forget();
}
tabStore.remove("leaving");

document.documentElement.dataset.theme = store.get("theme") ?? "system";
