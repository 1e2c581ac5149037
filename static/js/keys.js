// Keys for the whole page. What a field or something open over the page needs for itself stays its own.

const keys = document.getElementById("keys");
const busy = () => document.querySelector("dialog[open], :popover-open, .menu[open], [data-drawer=open]");
const press = (selector) => document.querySelector(selector)?.click();

/** Whether a key types a character. AltGr does, and is reported as Ctrl and Alt on some systems. */
function types(event) {
  const modified = (event.ctrlKey || event.altKey) && !event.getModifierState("AltGraph");
  return [...event.key].length === 1 && !modified && !event.metaKey && event.keyCode !== 229;
}

function toNeighbour(step) {
  const rows = [...document.querySelectorAll("#rooms > .row")];
  const at = rows.findIndex((row) => row.matches("[aria-current]"));
  const row = at < 0 ? rows[0] : rows[at + step];
  if (!row) return;
  // At once, for who presses it again before the room is there.
  rows[at]?.removeAttribute("aria-current");
  row.setAttribute("aria-current", "page");
  row.querySelector("a").click();
  row.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.isComposing || event.defaultPrevented || busy()) return;
  const typing = target.matches("input, textarea, select");
  const bare = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (event.altKey && (key === "ArrowUp" || key === "ArrowDown")) {
    event.preventDefault();
    toNeighbour(key === "ArrowUp" ? -1 : 1);
  } else if (key === "F2") {
    event.preventDefault();
    (target.closest(".row")?.querySelector("[data-rename]") ?? document.querySelector("#header [data-rename]"))?.click();
  } else if (key === "Escape" && bare && !event.repeat && !(target.type === "search" && target.value)) {
    press("#messages [data-stop]");
  } else if (key === "?" && bare && !typing) {
    event.preventDefault();
    keys.showModal();
  } else if (!typing && types(event) && (key !== " " || target === document.body)) {
    // What is typed outside a field goes to the composer, this key included. Space scrolls, or presses what has the focus.
    document.querySelector("#composer textarea")?.focus({ preventScroll: true });
  }
});

document.addEventListener("click", ({ target }) => target.closest("#open-keys") && keys.showModal());
