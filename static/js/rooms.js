// The list of rooms: which one is open, a filter that stays true, menus, and the drawer on a phone.

function markOpen() {
  const open = document.getElementById("room")?.dataset.room;
  for (const row of document.querySelectorAll("#rooms > [data-room]")) {
    if (row.dataset.room === open) row.setAttribute("aria-current", "page");
    else row.removeAttribute("aria-current");
  }
}

document.addEventListener("htmx:after:swap", ({ detail }) => {
  markOpen();
  if (detail.ctx.target?.id !== "room") return;
  openDrawer(false);
  document.getElementById("error").replaceChildren();
});

function openDrawer(open) {
  document.body.dataset.drawer = open ? "open" : "closed";
  document.getElementById("room").inert = open;
  // It can take the focus once it is visible.
  if (open) setTimeout(() => document.getElementById("filter").focus(), 50);
}

document.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  openDrawer(false);
  document.activeElement.closest(".menu[open]")?.querySelector("summary").focus();
  closeMenus();
});

function closeMenus(except) {
  for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(except)) menu.open = false;
}

// What was refused stays to be mended; what worked closes its menu, and takes an old complaint away.
document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
  if (!(ctx.response?.status < 400)) return;
  document.getElementById("error").replaceChildren();
  const menu = ctx.sourceElement.closest(".menu__items")?.parentElement;
  if (!menu || ctx.sourceElement.closest("#models")) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// A second click of a double click would ask for the same thing again.
document.addEventListener(
  "click",
  (event) => event.detail > 1 && event.target.closest(".message__again") && event.preventDefault(),
  { capture: true },
);

// The filter filters as one types; sending it would leave the room.
document.querySelector(".sidebar__filter").addEventListener("submit", (event) => event.preventDefault());

// With a key held, a link opens in a tab or window of its own; htmx would take the click and do nothing.
document.addEventListener(
  "click",
  (event) => {
    if ((event.ctrlKey || event.metaKey || event.shiftKey) && event.target.closest("a[href]")) event.stopPropagation();
  },
  { capture: true },
);

document.addEventListener("click", (event) => {
  const { target } = event;
  closeMenus(target);
  if (target.closest("[data-open-drawer]")) {
    event.preventDefault();
    openDrawer(true);
  } else if (!target.closest("#sidebar")) {
    openDrawer(false);
  }
  if (target.matches("[data-dismiss]")) target.parentElement.replaceChildren();
});

// A row that rises is taken out and put in on top: what had the focus in it gets it back.
let focused = null;
document.addEventListener("htmx:ws:before:message:incoming", () => {
  const row = document.activeElement.closest("#rooms > [data-room]");
  focused = row && { row: row.id, place: [...row.querySelectorAll("a, button")].indexOf(document.activeElement) };
});
document.addEventListener("htmx:ws:after:message:incoming", () => {
  if (focused && document.activeElement === document.body) {
    document.getElementById(focused.row)?.querySelectorAll("a, button")[focused.place]?.focus({ preventScroll: true });
  }
});

// A pushed row lands on top, or goes, whether the filter lets it through or not: ask again.
document.addEventListener("htmx:ws:after:message:incoming", ({ detail: { message } }) => {
  const filter = document.getElementById("filter");
  if (filter.value && /hx-target="#rooms?["-]/.test(message.data)) htmx.trigger(filter, "refresh");
});
