// The rooms: which one is open, and a list that stays true to the filter and to the keyboard.

const list = () => document.getElementById("rooms");
const shown = () => document.querySelector("#room > :first-child");

function markOpen() {
  const open = document.getElementById("room")?.dataset.room;
  for (const row of document.querySelectorAll("#rooms > .row")) {
    if (row.dataset.room === open) row.setAttribute("aria-current", "page");
    else row.removeAttribute("aria-current");
  }
}

// Whatever swapped it in: a click, the palette, Back.
let opened = shown();
document.addEventListener("htmx:after:swap", ({ detail }) => {
  if (shown() !== opened) {
    opened = shown();
    markOpen();
    document.dispatchEvent(new CustomEvent("room:opened"));
  } else if (detail.ctx.target?.closest?.("#sidebar")) {
    document.dispatchEvent(new CustomEvent("rooms:changed"));
  }
});

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

// A row that rises is taken out and put in on top: what had the focus in it gets it back, or the row after one that went.
let focused = null;
document.addEventListener("htmx:ws:before:message:incoming", () => {
  const row = document.activeElement.closest("#rooms > .row");
  focused = row && {
    row: row.id,
    next: (row.nextElementSibling ?? row.previousElementSibling)?.id,
    place: [...row.querySelectorAll("a, button")].indexOf(document.activeElement),
  };
});

document.addEventListener("htmx:ws:after:message:incoming", ({ detail: { message } }) => {
  if (focused && document.activeElement === document.body) {
    const row = document.getElementById(focused.row) ?? document.getElementById(focused.next);
    row?.querySelectorAll("a, button")[focused.place]?.focus({ preventScroll: true });
  }
  if (!/hx-target="#rooms?["-]/.test(message.data)) return;
  markOpen();
  document.dispatchEvent(new CustomEvent("rooms:changed"));
  // A pushed row lands on top, or goes, whether the filter lets it through or not: ask again.
  if (document.getElementById("filter").value) refresh();
});

function refresh() {
  htmx.trigger(document.getElementById("filter"), "refresh");
}
