// The composer: Enter sends, Shift+Enter inserts a line break, the box grows with its text, and each room keeps a draft.

let usual = ""; // the placeholder where no model is chosen and no room is open
const MAX_SENT_KEYS = 200; // keys of sent drafts that are remembered
const composer = () => document.getElementById("composer");
const room = () => document.getElementById("room").dataset.room ?? ""; // empty where the first question creates the room
const field = (form) => form.querySelector("textarea"); // suggestions have the same name

// A draft is a text and the idempotency key it is sent with; every change gives it a new key. Copies of a draft in several
// tabs have the same key, so the server accepts only one of them.

/** Parses a stored draft. Older versions stored the bare text. */
function parse(stored) {
  try {
    const { text, key } = JSON.parse(stored);
    if (text && key) return { text, key };
  } catch {
    // The bare text of an older version.
  }
  return stored ? { text: stored, key: newKey() } : null;
}

// Each tab has its own draft of a room (sessionStorage). A new or reopened tab starts with the draft that was last typed in
// any tab (localStorage).
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
  /** Drops a sent draft in this tab, and in every other tab that has not changed it. */
  markSent(id, key) {
    store.set("sent", JSON.stringify([...drafts.sent(), key].slice(-MAX_SENT_KEYS)));
    for (const one of [store, tabStore]) if (parse(one.get(`draft ${id}`))?.key === key) one.remove(`draft ${id}`);
  },
};

function grow(textarea) {
  textarea.style.blockSize = "auto";
  textarea.style.blockSize = `${textarea.scrollHeight}px`;
}

/** Shows a text in the composer and stores it as the room's draft. */
function setDraft(text, key) {
  const textarea = field(composer());
  if (textarea.value !== text) textarea.value = text;
  composer().elements.key.value = key;
  drafts.set(room(), text, key);
  grow(textarea);
}

/** Empties the composer if another tab has sent its draft. */
function clearIfSent() {
  if (!composer()) return;
  // The browser may have restored the text of a page that is loaded again by Back, but not its key.
  const stored = parse(tabStore.get(`draft ${room()}`));
  const restored = stored?.text === field(composer()).value ? stored.key : null;
  if (![composer().elements.key.value, restored].some((key) => drafts.sent().includes(key))) return;
  tabStore.remove(`draft ${room()}`);
  composer().elements.key.value = newKey();
  field(composer()).value = "";
  grow(field(composer()));
}

// The tab may have been frozen, or in the back/forward cache, while the other tab sent the draft.
addEventListener("storage", ({ key }) => key === full("sent") && clearIfSent());
addEventListener("pageshow", clearIfSent);
document.addEventListener("visibilitychange", clearIfSent);

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function openRoom() {
  const sending = JSON.parse(tabStore.get("draft sending") ?? "null");
  tabStore.remove("draft sending");
  if (!composer()) return;
  // A form submitted without htmx redirects here, to the message it created.
  if (sending?.room === room() && location.hash.startsWith("#message-")) drafts.markSent(room(), sending.key);
  const textarea = field(composer());
  // The browser may have restored the text that was there when the page was left.
  const here = parse(tabStore.get(`draft ${room()}`));
  const draft = drafts.of(room());
  if (textarea.value === here?.text) textarea.value = "";
  if (!textarea.value && draft) {
    textarea.value = draft.text;
    composer().elements.key.value = draft.key;
    tabStore.set(`draft ${room()}`, JSON.stringify(draft));
  }
  grow(textarea);
  usual = textarea.placeholder;
  // On a touch screen the focus would open the keyboard, which covers the conversation.
  if (matchMedia("(hover: none)").matches || document.querySelector(":popover-open, dialog[open]")) return;
  textarea.focus({ preventScroll: true });
}

document.addEventListener("room:opened", openRoom);
openRoom();

/** Names who will answer in the placeholder: the models that are chosen in the menu, or the room's, also when it has changed. */
function showModelName() {
  if (!composer()) return;
  const [one, ...more] = composer().querySelectorAll("[type=checkbox]:checked");
  const name = more.length ? `${1 + more.length} models` : (one?.value ?? document.querySelector(".picker__summary > span")?.textContent);
  const placeholder = name ? `Message ${name}…` : usual;
  if (field(composer()).placeholder !== placeholder) field(composer()).placeholder = placeholder;
}
document.addEventListener("models:chosen", showModelName);
// Other models are another request, and Enter in their menu sends nothing.
document.addEventListener("change", ({ target }) => target.matches("#several input") && setDraft(field(composer()).value, newKey()));
document.addEventListener("keydown", (event) => event.key === "Enter" && event.target.matches?.(".several input") && event.preventDefault());

// Nothing can be sent in a deleted room. (An equivalent :has() selector would be matched again at every token.)
document.addEventListener("htmx:after:swap", () => {
  showModelName();
  const messages = document.getElementById("messages");
  composer()?.toggleAttribute("data-over", Boolean(messages?.matches(".notice")));
  if (messages) document.getElementById("room").toggleAttribute("data-empty", !messages.querySelector("article") && Boolean(messages.querySelector(".messages__empty")));
});

document.addEventListener("answers:growing", ({ detail }) => {
  composer()?.toggleAttribute("data-answering", detail.length > 0);
  composer()?.toggleAttribute("data-queue", detail.length > 1 && detail.some((id) => document.querySelector(`#${id} [data-queued]`)));
});

// A suggestion is sent like a text that was typed.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-suggestion]");
  if (!button) return;
  event.preventDefault();
  setDraft(button.value, newKey());
  button.form.requestSubmit();
  document.dispatchEvent(new CustomEvent("composer:focus"));
});

document.addEventListener("input", ({ target }) => {
  if (target.matches("#composer textarea")) setDraft(target.value, newKey());
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

// Empty the box at submit: what is typed while the request is queued is the next message.
let returned = []; // texts that failed since the last submit, in the order in which they were sent
document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
  const form = ctx.sourceElement;
  if (form.id !== "composer") return;
  returned = [];
  ctx.sent = { room: room(), text: field(form).value, key: form.elements.key.value };
  form.elements.key.value = newKey();
  field(form).value = "";
  grow(field(form));
});

// Drop the draft when the server has accepted it. Put a text that failed back into the draft of its room, which may not
// be the open one any more.
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  const { sent } = ctx;
  if (!sent) return;
  const here = composer() && room() === sent.room;
  if (ctx.response?.status < 400) {
    drafts.markSent(sent.room, sent.key);
    returned = [];
    if (here) clearIfSent(); // the room was opened again while the request ran
    return;
  }
  if (!here) {
    const draft = drafts.of(sent.room);
    if (draft?.key !== sent.key) drafts.set(sent.room, [sent.text, draft?.text].filter(Boolean).join("\n"), draft ? newKey() : sent.key);
    return;
  }
  const shown = field(composer()).value;
  if (composer().elements.key.value === sent.key) return; // the room was opened again and shows it already
  const before = returned.join("\n");
  const follows = shown.startsWith(before);
  const typed = follows ? shown.slice(before.length).replace(/^\n/, "") : shown;
  returned = follows ? [...returned, sent.text] : [sent.text];
  const text = [...returned, typed].filter(Boolean).join("\n");
  setDraft(text, text === sent.text ? sent.key : newKey()); // sent again with the same key, it is stored once
});
