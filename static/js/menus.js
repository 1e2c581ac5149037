// Menus, and the drawer that holds the room list on a small screen.

const drawerIsOpen = () => document.body.dataset.drawer === "open";

function openDrawer(open) {
  if (open === drawerIsOpen()) return;
  document.body.dataset.drawer = open ? "open" : "closed";
  document.getElementById("room").inert = open;
  const field = matchMedia("(hover: none)").matches ? "[data-close-drawer]" : "#filter"; // on a touch screen the filter would open the keyboard
  if (open) focusInDrawer(document.querySelector(field));
  else if (!document.querySelector("dialog[open], :popover-open")) document.querySelector("[data-open-drawer]")?.focus();
}

// An element cannot be focused before it is visible, and the transition of the drawer makes it so in one of the next frames.
function focusInDrawer(element) {
  element.focus();
  if (drawerIsOpen() && document.activeElement !== element) requestAnimationFrame(() => focusInDrawer(element));
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

// A form whose request is rejected stays open; one that succeeds closes its menu and removes an earlier error.
document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
  if (!(ctx.response?.status < 400) || ctx.request.method === "GET") return;
  document.getElementById("error").replaceChildren();
  const menu = ctx.sourceElement.closest(".menu__items")?.parentElement;
  if (!menu?.open || ctx.sourceElement.closest("#models")) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// Stop appears where Send was, and vice versa. Ignore the second click of a slow double-click, which is meant for the first
// button.
const GUARDED = ".message__state button, .message__again button, .composer__send, .composer__stop";
const DOUBLE_CLICK_MS = 1000;
const DOUBLE_CLICK_PX = 5;
let pressed = { at: 0, x: 0, y: 0, label: "" };
document.addEventListener(
  "click",
  (event) => {
    const button = event.target.closest(GUARDED);
    const label = button && (button.ariaLabel ?? button.textContent);
    if (!event.detail || !label) return;
    const { clientX: x, clientY: y } = event;
    const same = Date.now() - pressed.at < DOUBLE_CLICK_MS && Math.hypot(x - pressed.x, y - pressed.y) < DOUBLE_CLICK_PX;
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
  // Keep a menu open that a palette command has opened; its click comes from the palette or has no detail.
  if (event.detail && !target.closest("#palette")) closeMenus(target);
});

document.addEventListener("room:opened", () => {
  document.body.dataset.drawer = "closed";
  document.getElementById("room").inert = false;
});
