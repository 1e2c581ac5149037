// Unread marks: a dot on a room whose answer ended while it was not open, and a mark in the title of a hidden tab.

const MAX_ROOMS = 500; // rooms whose last visit is remembered
const rows = () => document.querySelectorAll("#rooms > .row");
const activeAt = (row) => Number(row.dataset.active);

function read() {
  const seen = JSON.parse(store.get("seen") ?? "null");
  // On the first visit of a browser nothing is unread.
  return seen ?? { since: Math.max(rows().length ? 0 : Date.now(), ...[...rows()].map(activeAt)), rooms: {} };
}

function write(seen) {
  const kept = Object.entries(seen.rooms).sort((one, other) => other[1] - one[1]);
  const dropped = kept.splice(MAX_ROOMS);
  store.set("seen", JSON.stringify({ since: Math.max(seen.since, dropped[0]?.[1] ?? 0), rooms: Object.fromEntries(kept) }));
}

function updateMarks() {
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
    const mark = row.querySelector(".row__unread");
    mark.hidden = old;
    mark.title = old ? "" : "new answer";
    if (Boolean(mark.firstChild) === old) mark.replaceChildren(...(old ? [] : [Object.assign(document.createElement("span"), { className: "visually-hidden", textContent: "new answer" })]));
    row.toggleAttribute("data-unread", !old);
  }
}

let ended = false;
function updateTitle() {
  const name = document.querySelector("#header h1")?.textContent;
  const title = `${ended ? "● " : ""}${name ? `${name} · ` : ""}Overseer`;
  if (document.title !== title) document.title = title;
}

document.addEventListener("answer:ended", ({ detail: article }) => {
  ended = document.hidden;
  updateTitle();
  if (ended) notify(article);
});

// A notification, if the reader has allowed them. The button that asks is shown until then.
const button = document.getElementById("notify");
const canAsk = () => "Notification" in window && Notification.permission === "default";

function notify(article) {
  if (!("Notification" in window) || Notification.permission !== "granted") return;
  const { room } = document.getElementById("room").dataset;
  const body = article.querySelector(".message__body").innerText.slice(0, 200);
  const shown = new Notification(document.querySelector("#header h1")?.textContent ?? "Overseer", { body, tag: room, icon: button.dataset.icon });
  shown.addEventListener("click", () => (window.focus(), shown.close()));
}

button.hidden = !canAsk();
button.addEventListener("click", async () => {
  await Notification.requestPermission();
  button.hidden = !canAsk();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) ended = false;
  updateTitle();
  updateMarks();
});
for (const event of ["room:opened", "rooms:changed"]) document.addEventListener(event, updateMarks);
document.addEventListener("htmx:after:swap", updateTitle);
addEventListener("storage", ({ key }) => key === full("seen") && updateMarks());
updateMarks();
updateTitle();
