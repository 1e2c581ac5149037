// The palette: Ctrl+K, a few letters, Enter. The rooms and commands that fit come from the server.

const palette = document.getElementById("palette");
const input = palette.querySelector("input");
const options = () => [...palette.querySelectorAll("[role=option]:not([aria-disabled])")];
const chosen = () => options().findIndex((option) => option.ariaSelected === "true");

let wanted = false; // an Enter that came before the options for what was typed

function choose(at) {
  const all = options();
  all.forEach((option, i) => (option.ariaSelected = String(i === at)));
  input.setAttribute("aria-activedescendant", all[at]?.id ?? "");
  all[at]?.scrollIntoView({ block: "nearest" });
}

function open() {
  if (palette.open || document.querySelector("dialog[open]")) return;
  input.value = "";
  wanted = false;
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
    choose((chosen() + step + count) % count);
  } else if (event.key === "Enter" && !event.isComposing) {
    event.preventDefault();
    // Who types fast is ahead of the answer.
    wanted = document.getElementById("palette-options").dataset.q !== input.value.trim();
    if (!wanted) options()[chosen()]?.click();
  }
});

palette.addEventListener("close", () => (wanted = false));
palette.addEventListener("click", ({ target }) => {
  const option = target.closest("[role=option]");
  if (!option && target !== palette) return; // a click beside the box is one on the dialog itself
  palette.close();
  if (option?.dataset.press) document.querySelector(option.dataset.press)?.click();
});
document.addEventListener("htmx:after:swap", ({ detail }) => {
  if (detail.ctx.sourceElement !== input) return;
  choose(0);
  if (!wanted) return;
  wanted = document.getElementById("palette-options").dataset.q !== input.value.trim();
  if (!wanted) options()[0]?.click();
});
