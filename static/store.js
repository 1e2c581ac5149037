// Browser storage, persistent and per tab: drafts, visited rooms, the theme. Sets the theme before the first paint.

// Several Overseers on a server share the storage. The keys of each begin with its mount point.
const mount = new URL(document.currentScript.src).pathname.replace(/\/static\/.*/, "");
const full = (key) => (mount ? `${mount} ${key}` : key);
const OURS = new RegExp(`^${full("")}(draft .*|sent|seen|theme|leaving|left)$`);

// Without storage, or when it is full, a value lasts as long as the page.
const attempt = (use) => {
  try {
    return use();
  } catch {
    return null;
  }
};
const safeStorage = (storage) => ({
  get: (key) => attempt(() => storage().getItem(full(key))),
  set: (key, value) => attempt(() => storage().setItem(full(key), value)),
  remove: (key) => attempt(() => storage().removeItem(full(key))),
  forget: () =>
    attempt(() => {
      for (const key of Object.keys(storage())) if (OURS.test(key)) storage().removeItem(key);
    }),
});

const store = safeStorage(() => localStorage);
const tabStore = safeStorage(() => sessionStorage);

// A log-out clears it all, in every tab, once the page that wrote it has been unloaded. (Browsers apply the Clear-Site-Data
// header over TLS only, and it would also clear the data of other apps on the same host.)
document.addEventListener("submit", ({ target }) => target.matches(".sidebar__log-out") && tabStore.set("leaving", "yes"));
addEventListener("storage", ({ key }) => key === full("left") && tabStore.forget());
if (tabStore.get("leaving") && /\/log(in|out)$/.test(location.pathname)) {
  store.set("left", "yes");
  store.forget();
  tabStore.forget();
}
tabStore.remove("leaving");

document.documentElement.dataset.theme = store.get("theme") ?? "system";
