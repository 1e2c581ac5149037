// The composer: Enter sends, Shift+Enter breaks, the box grows, and what is not sent is kept, room by room.

const composer = () => document.getElementById("composer");
const room = () => document.getElementById("room").dataset.room;
const field = (form) => form.elements.namedItem("text");

function grow(textarea) {
  textarea.style.blockSize = "auto";
  textarea.style.blockSize = `${textarea.scrollHeight}px`;
}

function keep(textarea) {
  if (textarea.value) store.set(`draft ${room()}`, textarea.value);
  else store.remove(`draft ${room()}`);
  grow(textarea);
}

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function begin() {
  if (!composer()) return;
  const textarea = field(composer());
  textarea.value ||= store.get(`draft ${room()}`) ?? "";
  grow(textarea);
  // On a screen that is touched the keyboard would come up and cover what one came to read.
  if (matchMedia("(hover: none)").matches || document.querySelector(":popover-open, dialog[open]")) return;
  textarea.focus({ preventScroll: true });
}

document.addEventListener("room:opened", begin);
begin();

document.addEventListener("input", ({ target }) => target.matches("#composer textarea") && keep(target));

document.addEventListener("keydown", (event) => {
  // While an input method composes a character, Enter belongs to it.
  if (!event.target.matches?.("#composer textarea") || event.isComposing || event.keyCode === 229) return;
  if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (event.target.value.trim()) event.target.form.requestSubmit();
});

// At submit: what is typed while the request waits for an earlier one is the next message.
document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
  const form = ctx.sourceElement;
  if (form.id !== "composer") return;
  ctx.sent = { room: room(), text: field(form).value, key: form.elements.key.value };
  // A resend of this text carries the key it was sent with, so that it is never asked twice.
  form.elements.key.value = newKey();
  field(form).value = "";
  grow(field(form));
});

// The draft goes when the text has arrived; what has not is put back, in whatever room one is by then.
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  if (!ctx.sent) return;
  const arrived = ctx.response?.status < 400;
  const here = composer() && room() === ctx.sent.room;
  if (!here) {
    if (arrived && store.get(`draft ${ctx.sent.room}`) === ctx.sent.text) store.remove(`draft ${ctx.sent.room}`);
    return;
  }
  const textarea = field(composer());
  if (!arrived) {
    textarea.value = textarea.value ? `${ctx.sent.text}\n${textarea.value}` : ctx.sent.text;
    if (textarea.value === ctx.sent.text) composer().elements.key.value = ctx.sent.key;
  } else if (textarea.value === ctx.sent.text && store.get(`draft ${room()}`) === ctx.sent.text) {
    textarea.value = ""; // one came back to the room while it was on its way
  }
  keep(textarea);
});
