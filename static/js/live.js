// The connection: whether it is open, how new the list of rooms is, and waits that end by themselves.

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

// A room that is gone has nothing more to tell, but the list goes on.
document.addEventListener("htmx:ws:close", ({ target, detail: { code } }) => {
  if (code !== 4404) return;
  target.setAttribute("hx-ws:connect", target.getAttribute("hx-ws:connect").split("?")[0]);
  setTimeout(() => htmx.process(target, true));
});

// A socket that is refused does not say why: it may be that one has to log in again.
document.addEventListener("htmx:ws:close", async ({ detail: { code } }) => {
  if (document.body.dataset.loggedOut) return;
  if (code === 4401) document.body.dataset.loggedOut = "yes";
  if (code !== 1006) return;
  const list = document.querySelector("#filter").getAttribute("hx-get");
  const answer = await fetch(list, { method: "HEAD", headers: { "HX-Request": "true" } }).catch(() => null);
  if (answer?.status !== 401) return;
  document.body.dataset.loggedOut = "yes";
  htmx.ajax("GET", list, { target: "#error", swap: "none" });
});

let waiting = []; // the ids of the messages that may count down
function count() {
  for (const time of waiting.map((id) => document.querySelector(`#${id} [data-countdown]`))) {
    if (!time) continue;
    const left = Math.ceil((time.dataset.countdown - Date.now()) / 1000);
    const words = left > 0 ? `Next try in ${left} s` : "Trying again";
    if (time.textContent !== words) time.textContent = words;
  }
}

setInterval(count, 1000);
document.addEventListener("answers:growing", ({ detail }) => ((waiting = detail), count()));
