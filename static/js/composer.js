// The composer: Enter sends, Shift+Enter breaks, the box grows, and what is not sent is kept, room by room.

const KEYS = 200; // keys of sent texts that are remembered
const composer = () => document.getElementById("composer");
const room = () => document.getElementById("room").dataset.room;
const field = (form) => form.elements.namedItem("text");

// A draft is a text and the key it will be sent with; every change gives it another key. So the copies of a draft that
// several tabs hold are known to be the same, and the server takes only one of them.

/** Parses a stored draft; an older version stored the text alone. */
function parse(stored) {
  try {
    const { text, key } = JSON.parse(stored);
    if (text && key) return { text, key };
  } catch {
    // It is such a text.
  }
  return stored ? { text: stored, key: newKey() } : null;
}

// Each tab has its own draft of a room; a new tab, and one that was closed, begins with the last that was typed anywhere.
const drafts = {
  sent: () => JSON.parse(store.get("sent") ?? "[]"),
  of(id) {
    const found = [tabStore, store].map((one) => parse(one.get(`draft ${id}`)));
    return found.find((draft) => draft && !drafts.sent().includes(draft.key)) ?? null;
  },
  set(id, text, key) {
    const draft = JSON.stringify({ text, key });
    for (const one of [store, tabStore]) text ? one.set(`draft ${id}`, draft) : one.remove(`draft ${id}`);
  },
  /** Drops the draft here, and, by what the browser keeps, in all tabs that have not changed it. */
  arrived(id, key) {
    store.set("sent", JSON.stringify([...drafts.sent(), key].slice(-KEYS)));
    for (const one of [store, tabStore]) if (parse(one.get(`draft ${id}`))?.key === key) one.remove(`draft ${id}`);
  },
};

function grow(textarea) {
  textarea.style.blockSize = "auto";
  textarea.style.blockSize = `${textarea.scrollHeight}px`;
}

/** Shows a text in the composer and keeps it as the room's draft. */
function put(text, key) {
  const textarea = field(composer());
  if (textarea.value !== text) textarea.value = text;
  composer().elements.key.value = key;
  drafts.set(room(), text, key);
  grow(textarea);
}

/** Empties the composer if another tab has sent what it holds. */
function dropSent() {
  if (!composer() || !drafts.sent().includes(composer().elements.key.value)) return;
  tabStore.remove(`draft ${room()}`);
  composer().elements.key.value = newKey();
  field(composer()).value = "";
  grow(field(composer()));
}

// The tab may have been frozen, or kept for Back, while the other one sent.
addEventListener("storage", ({ key }) => key === "sent" && dropSent());
addEventListener("pageshow", dropSent);
document.addEventListener("visibilitychange", dropSent);

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function begin() {
  const sending = JSON.parse(tabStore.get("draft sending") ?? "null");
  tabStore.remove("draft sending");
  if (!composer()) return;
  // A form without htmx leads here, to the message it has made.
  if (sending?.room === room() && location.hash.startsWith("#message-")) drafts.arrived(room(), sending.key);
  const textarea = field(composer());
  // The browser may have filled in what was there when the page was left.
  const here = parse(tabStore.get(`draft ${room()}`));
  const draft = drafts.of(room());
  if (textarea.value === here?.text) textarea.value = "";
  if (!textarea.value && draft) {
    textarea.value = draft.text;
    composer().elements.key.value = draft.key;
  }
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

document.addEventListener("input", ({ target }) => {
  if (target.matches("#composer textarea")) put(target.value, newKey());
});

document.addEventListener("keydown", (event) => {
  // While an input method composes a character, Enter belongs to it.
  if (!event.target.matches?.("#composer textarea") || event.isComposing || event.keyCode === 229) return;
  if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (event.target.value.trim()) event.target.form.requestSubmit();
});

document.addEventListener("submit", ({ target }) => {
  if (target.matches("#composer:not([hx-post])")) {
    tabStore.set("draft sending", JSON.stringify({ room: room(), key: target.elements.key.value }));
  }
});

// At submit: what is typed while the request waits for an earlier one is the next message.
let returned = []; // texts that came back since the last one was sent, in the order they were sent
document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
  const form = ctx.sourceElement;
  if (form.id !== "composer") return;
  returned = [];
  ctx.sent = { room: room(), text: field(form).value, key: form.elements.key.value };
  form.elements.key.value = newKey();
  field(form).value = "";
  grow(field(form));
});

// The draft goes when its text has arrived; what has not is put back, in whatever room one is by then.
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  const { sent } = ctx;
  if (!sent) return;
  const here = composer() && room() === sent.room;
  if (ctx.response?.status < 400) {
    drafts.arrived(sent.room, sent.key);
    returned = [];
    if (here) dropSent(); // it came back with the room while it was on its way
    return;
  }
  if (!here) {
    const draft = drafts.of(sent.room);
    if (draft?.key !== sent.key) drafts.set(sent.room, [sent.text, draft?.text].filter(Boolean).join("\n"), draft ? newKey() : sent.key);
    return;
  }
  const shown = field(composer()).value;
  if (composer().elements.key.value === sent.key) return; // it came back with the room
  const before = returned.join("\n");
  const follows = shown.startsWith(before);
  const typed = follows ? shown.slice(before.length).replace(/^\n/, "") : shown;
  returned = follows ? [...returned, sent.text] : [sent.text];
  const text = [...returned, typed].filter(Boolean).join("\n");
  put(text, text === sent.text ? sent.key : newKey()); // sent again with its key, it is asked once
});
