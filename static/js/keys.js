// Keys for the whole page. What a field or something open over the page needs for itself stays its own.

const keys = document.getElementById("keys");
const busy = () => document.querySelector("dialog[open], :popover-open, .menu[open], [data-drawer=open]");
const press = (selector) => document.querySelector(selector)?.click();

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
  } else if (key === "Escape" && bare && !(target.type === "search" && target.value)) {
    press("#messages [data-stop]");
  } else if (key === "?" && bare && !typing) {
    event.preventDefault();
    keys.showModal();
  }
});

document.addEventListener("click", ({ target }) => target.closest("#open-keys") && keys.showModal());
