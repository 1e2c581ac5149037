// Shows that requests are under way, and a question before the server has stored it.

let running = 0;
function count(change) {
  running = Math.max(0, running + change);
  document.body.toggleAttribute("data-loading", running > 0);
}
document.addEventListener("htmx:before:request", () => count(1));
document.addEventListener("htmx:finally:request", () => count(-1));

const pending = []; // the questions that are shown and not stored yet, in the order in which they were sent

function echo(text) {
  const end = document.querySelector("#messages > .messages__end");
  if (!end) return;
  const message = document.createElement("div");
  message.className = "message message--user message--pending";
  const body = Object.assign(document.createElement("div"), { className: "message__body", dir: "auto" });
  body.append(Object.assign(document.createElement("div"), { className: "part__plain", textContent: text }));
  message.append(body);
  end.before(message);
  pending.push(message);
}

document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.id === "composer") echo(ctx.sourceElement.querySelector("textarea").value.trim());
}, { capture: true });
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.id === "composer") pending.shift()?.remove();
});
// The socket is often faster than the response.
document.addEventListener("htmx:ws:before:message:incoming", ({ detail: { message } }) => {
  if (message.data.includes('data-role="user"')) pending.shift()?.remove();
});
