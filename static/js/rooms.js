// The room list: marks the open room, applies the filter to pushed rows, and keeps the focus in a row that moves.

const ROW_MS = 500;
const PAGE = 51;
const shown = () => document.querySelector("#room > :first-child");

function markOpen() {
  const open = document.getElementById("room")?.dataset.room;
  for (const row of document.querySelectorAll("#rooms > .row")) {
    if (row.dataset.room === open) row.setAttribute("aria-current", "page");
    else row.removeAttribute("aria-current");
  }
  const apart = document.querySelector("#rooms-open + .row");
  if (apart && apart.dataset.room !== open) dropApart();
  else if (open) setTimeout(showIfMissing, ROW_MS);
}

// A new room's row comes by a push. That of another room may be further down the list than is loaded.
function showIfMissing() {
  const open = document.getElementById("room")?.dataset.room;
  const isMissing = open && !document.getElementById(`room-${open}`) && !document.querySelector("#messages.notice");
  // The list that is requested again is the first page.
  if (isMissing && document.querySelectorAll("#rooms > .row").length <= PAGE && !document.getElementById("filter").value) refresh();
}

// The open room stands apart while its place in the list is not loaded.
function dropApart() {
  document.querySelector("#rooms-open + .row")?.remove();
  document.getElementById("rooms-open")?.remove();
}
document.addEventListener("htmx:before:swap", ({ detail: { tasks } }) => {
  const apart = document.querySelector("#rooms-open + .row");
  if (apart && tasks.some(({ target, fragment }) => target?.id === "rooms-more" && fragment?.querySelector(`#${apart.id}`))) dropApart();
});

// The list is one Tab stop: the open room, or the first. The arrow keys go from row to row, and from a row to its buttons.
function moveTabStop(link) {
  for (const one of document.querySelectorAll("#rooms .row__link")) one.tabIndex = one === link ? 0 : -1;
}
function resetTabStop() {
  if (document.activeElement.matches(".row__link")) return moveTabStop(document.activeElement);
  moveTabStop(document.querySelector("#rooms > [aria-current] .row__link, #rooms > .row .row__link"));
}
document.addEventListener("focusin", ({ target }) => target.matches(".row__link") && moveTabStop(target));
document.addEventListener("keydown", (event) => {
  const row = event.target.closest?.("#rooms > .row");
  if (!row || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const links = [...document.querySelectorAll("#rooms .row__link")];
  const at = links.indexOf(row.querySelector(".row__link"));
  const inRow = [...row.querySelectorAll("a, button")];
  const side = inRow.indexOf(event.target);
  const next = {
    ArrowDown: links[at + 1],
    ArrowUp: links[at - 1],
    Home: links[0],
    End: links.at(-1),
    ArrowRight: inRow[side + 1],
    ArrowLeft: inRow[side - 1],
  }[event.key];
  if (!next) return;
  event.preventDefault();
  next.focus();
});
for (const event of ["rooms:changed", "room:opened", "htmx:finally:request"]) document.addEventListener(event, resetTabStop);
resetTabStop();

// The clicked row is the current one before its room has arrived, and again the former one if it does not arrive.
document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  const row = ctx.sourceElement.closest?.("#rooms > .row");
  if (!row || !ctx.sourceElement.matches(".row__link")) return;
  document.querySelector("#rooms > [aria-current]")?.removeAttribute("aria-current");
  row.setAttribute("aria-current", "page");
});
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => ctx.sourceElement.matches?.(".row__link") && markOpen());

// However the room was opened: by a click, the palette or Back.
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

// The filter applies while the user types; submitting the form would leave the room.
document.querySelector(".sidebar__filter").addEventListener("submit", (event) => event.preventDefault());

// With Ctrl, Meta or Shift held, a link opens in a new tab or window; htmx would swallow the click.
document.addEventListener(
  "click",
  (event) => {
    if ((event.ctrlKey || event.metaKey || event.shiftKey) && event.target.closest("a[href]")) event.stopPropagation();
  },
  { capture: true },
);

// A row that moves up is removed and inserted at the top. Restore the focus in it, or, if it was deleted, in the next row.
let focused = null;
document.addEventListener("htmx:ws:before:message:incoming", () => {
  const row = document.activeElement.closest("#rooms > .row");
  focused = row && {
    row: row.id,
    next: (row.nextElementSibling ?? row.previousElementSibling)?.id,
    index: [...row.querySelectorAll("a, button")].indexOf(document.activeElement),
  };
});

document.addEventListener("htmx:ws:after:message:incoming", ({ detail: { message } }) => {
  if (focused && document.activeElement === document.body) {
    const row = document.getElementById(focused.row) ?? document.getElementById(focused.next);
    row?.querySelectorAll("a, button")[focused.index]?.focus({ preventScroll: true });
  }
  if (!/hx-target="#rooms?["-]/.test(message.data)) return;
  markOpen();
  document.dispatchEvent(new CustomEvent("rooms:changed"));
  // A pushed row is inserted or removed regardless of the filter, so request the filtered list again.
  if (document.getElementById("filter").value) refresh();
});

function refresh() {
  htmx.trigger(document.getElementById("filter"), "refresh");
}
