// What folds out and in: menus, and the list of rooms on a small screen.

const drawer = () => document.body.dataset.drawer === "open";

function openDrawer(open) {
  if (open === drawer()) return;
  document.body.dataset.drawer = open ? "open" : "closed";
  document.getElementById("room").inert = open;
  // It can take the focus once it is visible.
  const field = matchMedia("(hover: none)").matches ? "[data-close-drawer]" : "#filter"; // no keyboard over the list
  if (open) setTimeout(() => document.querySelector(field).focus(), 50);
  else if (!document.querySelector("dialog[open], :popover-open")) document.querySelector("[data-open-drawer]")?.focus();
}

function closeMenus(except) {
  for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(except)) menu.open = false;
}

document.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  openDrawer(false);
  document.activeElement.closest(".menu[open]")?.querySelector("summary").focus();
  closeMenus();
});

// What was refused stays to be mended; what worked closes its menu, and takes an old complaint away.
document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
  if (!(ctx.response?.status < 400) || ctx.request.method === "GET") return;
  document.getElementById("error").replaceChildren();
  const menu = ctx.sourceElement.closest(".menu__items")?.parentElement;
  if (!menu?.open || ctx.sourceElement.closest("#models")) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// Stop comes where Retry was, and the other way round: the second click of a slow double click was not meant for it.
const SLOW = 1000; // milliseconds
const NEAR = 5; // pixels
let pressed = { at: 0, x: 0, y: 0, label: "" };
document.addEventListener(
  "click",
  (event) => {
    const label = event.target.closest(".message__state button, .message__again button")?.textContent;
    if (!event.detail || !label) return;
    const { clientX: x, clientY: y } = event;
    const same = Date.now() - pressed.at < SLOW && Math.hypot(x - pressed.x, y - pressed.y) < NEAR;
    if (event.detail > 1 || (same && label !== pressed.label)) {
      event.preventDefault();
      event.stopPropagation();
    } else {
      pressed = { at: Date.now(), x, y, label };
    }
  },
  { capture: true },
);

document.addEventListener("click", (event) => {
  const { target } = event;
  if (target.closest("[data-open-drawer], [data-close-drawer]")) {
    event.preventDefault();
    openDrawer(Boolean(target.closest("[data-open-drawer]")));
  } else if (!target.closest("#sidebar, dialog, [popover]")) {
    openDrawer(false);
  }
  // What the palette presses opens a menu that no click by hand may close.
  if (event.detail && !target.closest("#palette")) closeMenus(target);
});

document.addEventListener("room:opened", () => {
  document.body.dataset.drawer = "closed";
  document.getElementById("room").inert = false;
});
