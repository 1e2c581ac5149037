// What is new: a dot beside a room whose answer ended while one was away, and a mark in the title of a hidden tab.

const MANY = 500; // rooms whose last visit is remembered
const rows = () => document.querySelectorAll("#rooms > .row");
const activeAt = (row) => Number(row.dataset.active);

function read() {
  const seen = JSON.parse(store.get("seen") ?? "null");
  // To a browser that was never here before everything is old.
  return seen ?? { since: Math.max(0, ...[...rows()].map(activeAt)), rooms: {} };
}

function write(seen) {
  const kept = Object.entries(seen.rooms).sort((one, other) => other[1] - one[1]);
  const dropped = kept.splice(MANY);
  store.set("seen", JSON.stringify({ since: Math.max(seen.since, dropped[0]?.[1] ?? 0), rooms: Object.fromEntries(kept) }));
}

function mark() {
  const seen = read();
  const open = document.hidden ? null : document.querySelector("#rooms > .row[aria-current]");
  if (open && (seen.rooms[open.dataset.room] ?? 0) < activeAt(open)) {
    seen.rooms[open.dataset.room] = activeAt(open);
    write(seen);
  } else if (store.get("seen") === null) {
    write(seen);
  }
  for (const row of rows()) {
    const old = row === open || row.dataset.state === "answering" || activeAt(row) <= Math.max(seen.since, seen.rooms[row.dataset.room] ?? 0);
    row.querySelector(".row__unread").hidden = old;
    row.toggleAttribute("data-unread", !old);
  }
}

let ended = false;
function title() {
  const name = document.querySelector("#header h1")?.textContent;
  const words = `${ended ? "● " : ""}${name ? `${name} · ` : ""}Overseer`;
  if (document.title !== words) document.title = words;
}

document.addEventListener("answer:ended", () => {
  ended = document.hidden;
  title();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) ended = false;
  title();
  mark();
});
for (const event of ["room:opened", "rooms:changed"]) document.addEventListener(event, mark);
document.addEventListener("htmx:after:swap", title);
addEventListener("storage", ({ key }) => key === "seen" && mark());
mark();
title();
