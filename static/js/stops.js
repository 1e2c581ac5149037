// The Tab stops in the message list: the actions of one message, at first of the newest. The arrow keys go from there to the
// actions of the messages above and below, and from version to version, so that a long conversation is not hundreds of Tab stops away from the composer.

const CONTROLS = ".message__when, .message__versions button, .message__use button, .message__actions :is(a, button, summary)";
const isMessage = (element) => element?.matches("article.message");
let current = null; // the message whose actions are Tab stops

function leaveOut(message) {
  for (const control of message.querySelectorAll(CONTROLS)) control.tabIndex = -1;
}

function moveStops(message) {
  if (current && current !== message) leaveOut(current);
  current = message;
  for (const control of message.querySelectorAll(CONTROLS)) control.removeAttribute("tabindex");
}

function openRoom() {
  const messages = [...document.querySelectorAll("#messages article")];
  for (const message of messages) leaveOut(message);
  current = null;
  if (messages.length) moveStops(messages.at(-1));
}

document.addEventListener("room:opened", openRoom);
let isWhole = false; // the list is swapped as a whole
document.addEventListener("htmx:before:swap", ({ detail: { tasks } }) => {
  isWhole = tasks.some(({ target }) => target?.id === "messages");
  for (const { target, fragment } of tasks) if (target?.id?.startsWith("earlier-")) for (const message of fragment.querySelectorAll("article")) leaveOut(message);
});
document.addEventListener("htmx:after:swap", () => {
  if (isWhole) return openRoom();
  const after = document.getElementById("messages")?.lastElementChild; // a selector would look at every message, at every token
  const end = after?.matches(".messages__end") ? after.previousElementSibling : null;
  const newest = end?.matches(".beside") ? [...end.querySelectorAll("article")] : [end];
  const last = newest.at(-1);
  if (last === current || !isMessage(last) || newest.includes(current) || current?.contains(document.activeElement)) return;
  for (const message of [end.previousElementSibling, ...newest]) if (isMessage(message)) leaveOut(message);
  moveStops(last);
});
document.addEventListener("focusin", ({ target }) => {
  const message = target.closest("#messages article");
  if (message && message !== current) moveStops(message);
});
document.addEventListener("keydown", (event) => {
  const neighbour = { ArrowLeft: 0, ArrowRight: 1 }[event.key];
  if (neighbour !== undefined && !event.defaultPrevented && !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) && event.target.matches(`#messages :is(${CONTROLS})`))
    event.target.closest("article").querySelectorAll(".message__versions button")[neighbour]?.click();
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!step || event.defaultPrevented || !event.target.matches(`#messages :is(${CONTROLS})`)) return;
  const messages = [...document.querySelectorAll("#messages article")];
  const next = messages[messages.indexOf(event.target.closest("article")) + step];
  if (!next) return;
  event.preventDefault();
  moveStops(next);
  [...next.querySelectorAll(CONTROLS)].at(-1)?.focus();
});
openRoom();
