// The WebSocket: its state, the revision of the room list that the page shows, and the countdown to a retry.

document.addEventListener("htmx:ws:before:connection", ({ detail: { connection } }) => {
  const url = new URL(connection.url);
  url.searchParams.set("rooms", document.getElementById("rooms-place")?.dataset.place ?? "");
  connection.url = url.href;
});

document.addEventListener("htmx:ws:after:connection", () => {
  document.body.dataset.live = "open";
  if (document.body.dataset.loggedOut) document.getElementById("error").replaceChildren();
  delete document.body.dataset.loggedOut;
});
document.addEventListener("htmx:ws:close", () => (document.body.dataset.live = "closed"));

// After the room is deleted, reconnect for the room list alone.
document.addEventListener("htmx:ws:close", ({ target, detail: { code } }) => {
  if (code !== 4404) return;
  target.setAttribute("hx-ws:connect", target.getAttribute("hx-ws:connect").split("?")[0]);
  setTimeout(() => htmx.process(target, true));
});

// A rejected handshake does not tell why: check whether the log-in has ended.
document.addEventListener("htmx:ws:close", async ({ detail: { code } }) => {
  if (document.body.dataset.loggedOut) return;
  if (code === 4401) document.body.dataset.loggedOut = "yes";
  if (code !== 1006) return;
  const list = document.querySelector("#filter").getAttribute("hx-get");
  const response = await fetch(list, { method: "HEAD", headers: { "HX-Request": "true" } }).catch(() => null);
  if (response?.status !== 401) return;
  document.body.dataset.loggedOut = "yes";
  htmx.ajax("GET", list, { target: "#error", swap: "none" });
});

let growing = []; // the ids of the messages that may have a countdown
function countDown() {
  for (const time of growing.map((id) => document.querySelector(`#${id} [data-countdown]`))) {
    if (!time) continue;
    const left = Math.ceil((time.dataset.countdown - Date.now()) / 1000);
    const text = left > 0 ? `Next try in ${left} s` : "Trying again";
    if (time.textContent !== text) time.textContent = text;
  }
}

const since = new WeakMap(); // when this page first showed that the model thinks
const MIN_SHOWN_SECONDS = 3;
function countUp() {
  for (const waiting of growing.map((id) => document.querySelector(`#${id} :is(.message__waiting:not([data-queued]), [data-thinking])`))) {
    if (!waiting) continue;
    if (!since.has(waiting)) since.set(waiting, Date.now());
    const seconds = Math.floor((Date.now() - since.get(waiting)) / 1000);
    const text = seconds < MIN_SHOWN_SECONDS ? "Thinking…" : `Thinking… ${seconds} s`;
    if (waiting.textContent !== text) waiting.textContent = text;
  }
}

setInterval(() => (countDown(), countUp()), 1000);
document.addEventListener("answers:growing", ({ detail }) => ((growing = detail), countDown(), countUp()));
