// The composer: Enter sends, Shift+Enter breaks, the box grows, and what is not sent is kept, room by room.

const composer = () => document.getElementById("composer");
const room = () => document.getElementById("room").dataset.room;
const field = (form) => form.elements.namedItem("text");

// Each tab has its own draft of a room; a new tab, and one that was closed, begins with the last that was typed anywhere.
const drafts = {
  of: (id) => tabStore.get(`draft ${id}`) ?? store.get(`draft ${id}`) ?? "",
  set(id, text) {
    for (const one of [store, tabStore]) text ? one.set(`draft ${id}`, text) : one.remove(`draft ${id}`);
  },
  arrived(id, text) {
    for (const one of [store, tabStore]) if (one.get(`draft ${id}`) === text) one.remove(`draft ${id}`);
  },
};

function grow(textarea) {
  textarea.style.blockSize = "auto";
  textarea.style.blockSize = `${textarea.scrollHeight}px`;
}

function keep(textarea) {
  drafts.set(room(), textarea.value);
  grow(textarea);
}

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function begin() {
  if (!composer()) return;
  const textarea = field(composer());
  textarea.value ||= drafts.of(room());
  grow(textarea);
  // On a screen that is touched the keyboard would come up and cover what one came to read.
  if (matchMedia("(hover: none)").matches || document.querySelector(":popover-open, dialog[open]")) return;
  textarea.focus({ preventScroll: true });
}

document.addEventListener("room:opened", begin);
begin();

// In a room that is gone nothing can be sent. (A style sheet that looked would look again at every token.)
document.addEventListener("htmx:after:swap", () => {
  composer()?.toggleAttribute("data-over", Boolean(document.getElementById("messages")?.matches(".notice")));
});

document.addEventListener("input", ({ target }) => target.matches("#composer textarea") && keep(target));

document.addEventListener("keydown", (event) => {
  // While an input method composes a character, Enter belongs to it.
  if (!event.target.matches?.("#composer textarea") || event.isComposing || event.keyCode === 229) return;
  if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (event.target.value.trim()) event.target.form.requestSubmit();
});

// At submit: what is typed while the request waits for an earlier one is the next message.
let again = null; // what came back, and the key it was sent with
let returned = []; // texts that came back since, in the order they were sent
document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
  const form = ctx.sourceElement;
  if (form.id !== "composer") return;
  const text = field(form).value;
  // A resend of a text carries the key it was sent with, so that it is never asked twice; another text has its own.
  if (again && again.text !== text) ctx.request.body.set("key", (form.elements.key.value = newKey()));
  again = null;
  returned = [];
  ctx.sent = { room: room(), text, key: form.elements.key.value };
  form.elements.key.value = newKey();
  field(form).value = "";
  grow(field(form));
});

// The draft goes when its text has arrived; what has not is put back, in whatever room one is by then.
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  const { sent } = ctx;
  if (!sent) return;
  const arrived = ctx.response?.status < 400;
  const draft = drafts.of(sent.room);
  if (arrived) drafts.arrived(sent.room, sent.text);
  if (!arrived && draft !== sent.text) drafts.set(sent.room, [sent.text, draft].filter(Boolean).join("\n"));
  if (!composer() || room() !== sent.room) return;
  const textarea = field(composer());
  if (arrived) {
    returned = [];
    if (textarea.value === sent.text && draft === sent.text) textarea.value = ""; // one came back while it was on its way
  } else {
    const before = returned.join("\n");
    const typed = textarea.value.startsWith(before) ? textarea.value.slice(before.length).replace(/^\n/, "") : textarea.value;
    returned = textarea.value.startsWith(before) ? [...returned, sent.text] : [sent.text];
    textarea.value = [...returned, typed].filter(Boolean).join("\n");
    if (textarea.value === sent.text) composer().elements.key.value = (again = sent).key;
  }
  if (textarea.value) keep(textarea);
  else grow(textarea);
});
