// Keyboard shortcuts of the page. An open dialog, menu or popover handles its own keys.

const keys = document.getElementById("keys");
const isCovered = () => document.querySelector("dialog[open], :popover-open, .menu[open], [data-drawer=open]");
const press = (selector) => document.querySelector(selector)?.click();

/** Whether a key types a character. AltGr combinations do, and some systems report AltGr as Ctrl and Alt. */
function isPrintable(event) {
  const modified = (event.ctrlKey || event.altKey) && !event.getModifierState("AltGraph");
  return [...event.key].length === 1 && !modified && !event.metaKey && event.keyCode !== 229;
}

function openNeighbour(step) {
  const rows = [...document.querySelectorAll("#rooms > .row")];
  const at = rows.findIndex((row) => row.matches("[aria-current]"));
  const row = at < 0 ? rows[0] : rows[at + step];
  if (!row) return;
  // Mark it now, for a second press before the room has loaded.
  rows[at]?.removeAttribute("aria-current");
  row.setAttribute("aria-current", "page");
  row.querySelector("a").click();
  row.scrollIntoView({ block: "nearest" });
}

/** Opens the last question to be edited. */
function editLast() {
  const questions = document.querySelectorAll('#messages > [data-role="user"] [href$="/edit"]');
  questions[questions.length - 1]?.click();
}

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.isComposing || event.defaultPrevented || isCovered()) return;
  const typing = target.matches("input, textarea, select");
  const command = (event.ctrlKey || event.metaKey) && !event.altKey;
  const unmodified = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (event.altKey && (key === "ArrowUp" || key === "ArrowDown")) {
    event.preventDefault();
    openNeighbour(key === "ArrowUp" ? -1 : 1);
  } else if (command && event.shiftKey && key.toLowerCase() === "o") {
    event.preventDefault();
    press("#new-room");
  } else if (command && key === "/") {
    event.preventDefault();
    keys.showModal();
  } else if (key === "ArrowUp" && unmodified && !event.shiftKey && target.matches("#composer textarea") && !target.value) {
    event.preventDefault();
    editLast();
  } else if (key === "F2") {
    event.preventDefault();
    const place = target.closest(".row") ?? document.querySelector("#header h1");
    if (place) document.dispatchEvent(new CustomEvent("room:rename", { detail: place }));
  } else if (key === "Escape" && unmodified && !event.repeat && !(target.type === "search" && target.value)) {
    press("#composer[data-answering] [data-stop]");
  } else if (key === "?" && unmodified && !typing) {
    event.preventDefault();
    keys.showModal();
  } else if (!typing && isPrintable(event) && (key !== " " || target === document.body)) {
    // Text typed outside a field goes to the composer, this key included. Space scrolls or presses the focused control.
    document.querySelector("#composer textarea")?.focus({ preventScroll: true });
  }
});

document.addEventListener("click", ({ target }) => target.closest("#open-keys") && keys.showModal());
