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

// The scripts of menus that are rarely opened are loaded when they are.
document.addEventListener("toggle", ({ target }) => target.dataset.script && import(`./${target.dataset.script}.js`), { capture: true });

function closeMenus(except) {
  for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(except)) menu.open = false;
}

document.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  openDrawer(false);
  document.activeElement.closest(".menu[open]")?.querySelector("summary").focus();
  closeMenus();
});

// The focus goes into a menu that has a field, and a menu closes when the focus leaves it.
document.addEventListener("toggle", ({ target, newState }) => {
  if (newState === "closed" && target.matches(".picker, .several")) target.querySelector("[type=search]").value = "";
  if (newState !== "open" || !target.matches(".menu") || matchMedia("(hover: none)").matches) return;
  [...target.querySelectorAll("input:not([type=hidden]), textarea")].find((one) => one.checkVisibility())?.focus();
}, { capture: true });
document.addEventListener("focusout", ({ target, relatedTarget }) => {
  const menu = target.closest(".menu[open]");
  if (menu && relatedTarget && !menu.contains(relatedTarget) && !relatedTarget.closest("dialog, [popover]")) menu.open = false;
});

// The arrow keys go through the items of a menu.
document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const menu = event.target.closest(".menu[open], .row-menu");
  if (!step || !menu || event.target.matches("textarea, [type=number], [type=range]")) return;
  event.preventDefault();
  const items = [...menu.querySelectorAll("summary, [type=search], .menu__item:not(label), label input")].filter((one) => one.checkVisibility());
  items[(items.indexOf(event.target) + step + items.length) % items.length]?.focus();
});

// The list of models is fetched when its menu opens, not when it closes.
document.addEventListener("htmx:config:request", (event) => {
  const { sourceElement } = event.detail.ctx;
  if (sourceElement.matches(".picker, .several") && !sourceElement.open) event.preventDefault();
});

// The list of models: Enter in the search chooses the first one, as soon as the list is for what was typed.
let choosing = false;
function chooseModel() {
  const list = document.getElementById("models");
  if (!choosing || list?.dataset.q !== document.getElementById("model-filter")?.value.trim()) return;
  choosing = false;
  list.querySelector("[name=model]")?.click();
}
document.addEventListener("keydown", ({ key, target, isComposing }) => {
  if (!target.matches("#model-filter") || isComposing) return;
  choosing = key === "Enter" && target.value.trim() !== "";
  chooseModel();
});
document.addEventListener("htmx:after:swap", () => {
  chooseModel();
  // Refresh replaces its button.
  if (document.activeElement === document.body && document.querySelector("#header .picker[open]")) document.getElementById("model-filter").focus();
});

// The menu of a row in the list is loaded when it is first opened.
document.addEventListener("click", async function load(event) {
  const button = event.target.closest(".row__more");
  if (!button) return;
  event.preventDefault();
  await import("./row-menu.js");
  document.removeEventListener("click", load, { capture: true });
  button.click();
}, { capture: true });

document.addEventListener("click", ({ target }) => {
  if (!target.matches("#header [data-rename-room]")) return;
  target.closest(".menu").querySelector("summary").focus(); // to which the focus returns
  closeMenus();
  document.dispatchEvent(new CustomEvent("room:rename", { detail: document.querySelector("#header h1") }));
});

// A form whose request is rejected stays open; one that succeeds closes its menu and removes an earlier error.
document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
  if (!(ctx.response?.status < 400) || ctx.request.method === "GET") return;
  document.getElementById("error").replaceChildren();
  const menu = ctx.sourceElement.closest(".menu__items")?.parentElement;
  if (!menu?.open) return;
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
