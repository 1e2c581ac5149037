// The theme switch: light, dark or the system's; it applies to every open tab.

function show(theme) {
  document.documentElement.dataset.theme = theme;
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", button.dataset.themeChoice === theme);
  }
}

document.addEventListener("click", ({ target }) => {
  const theme = target.closest("[data-theme-choice]")?.dataset.themeChoice;
  if (!theme) return;
  if (theme === "system") store.remove("theme");
  else store.set("theme", theme);
  show(theme);
});
addEventListener("storage", ({ key, newValue }) => key === full("theme") && show(newValue ?? "system"));
show(document.documentElement.dataset.theme);
