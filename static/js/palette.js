// The command palette: Ctrl+K, a few letters, Enter. The server returns the matching rooms and commands.

const palette = document.getElementById("palette");
const input = palette.querySelector("input");
const options = () => [...palette.querySelectorAll("[role=option]:not([aria-disabled])")];
const selected = () => options().findIndex((option) => option.ariaSelected === "true");

let enterPending = false; // Enter was pressed before the options for the typed text arrived

function select(at) {
  const all = options();
  for (const [i, option] of all.entries()) option.ariaSelected = String(i === at);
  input.setAttribute("aria-activedescendant", all[at]?.id ?? "");
  all[at]?.scrollIntoView({ block: "nearest" });
}

function open() {
  if (palette.open || document.querySelector("dialog[open]")) return;
  input.value = "";
  enterPending = false;
  palette.showModal();
  htmx.trigger(input, "opened");
}

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
  event.preventDefault();
  if (palette.open) palette.close();
  else open();
});
document.addEventListener("click", ({ target }) => target.closest("#open-palette") && open());

input.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const count = options().length;
  if (step && count) {
    event.preventDefault();
    select((selected() + step + count) % count);
  } else if (event.key === "Enter" && !event.isComposing) {
    event.preventDefault();
    // The options may still be those for an earlier text.
    enterPending = document.getElementById("palette-options").dataset.q !== input.value.trim();
    if (!enterPending) options()[selected()]?.click();
  }
});

palette.addEventListener("close", () => (enterPending = false));
palette.addEventListener("click", ({ target }) => {
  const option = target.closest("[role=option]");
  if (!option && target !== palette) return; // a click on the backdrop has the dialog as its target
  palette.close();
  if (option?.dataset.press) document.querySelector(option.dataset.press)?.click();
});
document.addEventListener("htmx:after:swap", ({ detail }) => {
  if (detail.ctx.sourceElement !== input) return;
  select(0);
  if (!enterPending) return;
  enterPending = document.getElementById("palette-options").dataset.q !== input.value.trim();
  if (!enterPending) options()[0]?.click();
});
