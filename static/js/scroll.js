// Scrolling. All that moves the list of messages is here, so that nothing moves it against its reader:
//
// - Every write to `scrollTop` goes through `move`, which remembers where it left the list.
// - A write is final: no later frame repeats it. It can be, since every height is true when it is read (see "Heights").
// - What takes several steps (`goal`) ends with any input of the reader, and with any position that `move` did not leave.
// - Growth below is followed (`following`) until the reader goes up, and again once the reader is back at the end.

const NEAR = 100; // pixels from the end that count as being there
const PAGES = 20; // of earlier messages that are loaded to reach a message; for what is farther up its own page is opened
const PAGE = 50; // messages

const scroller = () => document.getElementById("scroller");
const messages = () => document.getElementById("messages");
const room = () => document.getElementById("room").dataset.room;
const earlier = () => document.querySelector("#messages > .messages__earlier a");
const pages = () => document.querySelectorAll("#messages > .messages__page");
const left = (list) => list.scrollHeight - list.scrollTop - list.clientHeight;
const topOf = (element) => element.getBoundingClientRect().top - scroller().getBoundingClientRect().top;
const number = (element) => Number(element?.id.split("-")[1] ?? 0);

// Moving

let following = true;
let at = 0; // the last scrollTop that is known, left by `move` or by the reader

function move(top) {
  const list = scroller();
  if (Math.abs(list.scrollTop - top) >= 1) list.scrollTop = top;
  at = list.scrollTop;
}

/** Takes note of a move that is not ours: the reader's, unless it leaves the list at the end that is followed. */
function look(list) {
  const end = left(list) < NEAR;
  if (Math.abs(list.scrollTop - at) > 1 && !(following && end)) goal = null;
  if (list.scrollTop < at && !end) following = false;
  else if (list.scrollTop > at && end) following = true;
  at = list.scrollTop;
}

function goTo({ id, offset }) {
  following = false;
  move(scroller().scrollTop + topOf(document.getElementById(id)) - offset);
  offer();
}

// The end

/** The number of the last message; nothing here may take longer in a longer list. */
function last() {
  let child = messages()?.lastElementChild;
  while (child && !child.matches("article")) child = child.previousElementSibling;
  return number(child);
}

let lastSeen = 0;
function offer() {
  const button = document.getElementById("newer");
  if (!button) return;
  if (following) lastSeen = last();
  const hidden = following || left(scroller()) < NEAR;
  if (button.hidden !== hidden) button.hidden = hidden; // to set it to what it is costs as much as a change
  if (hidden) return;
  const count = Math.max(0, last() - lastSeen);
  button.firstElementChild.textContent = count ? `${count} new` : "";
  button.ariaLabel = count ? `${count} new, go to the end` : "Go to the end";
}

function follow() {
  const list = scroller();
  if (!list) return;
  look(list);
  if (following) move(list.scrollHeight);
  offer();
}

function toEnd() {
  goal = null;
  following = true;
  move(scroller().scrollHeight);
  offer();
}

function letGo() {
  if (!scroller().scrollTop) return; // there is nowhere to go
  following = false;
  offer();
}

/** Follows again when the reader lets go of the list at its very end. */
function rest() {
  if (!scroller() || following || left(scroller()) >= 2) return;
  following = true;
  offer();
}

// Places

const places = new Map(); // room → the message at the top of the window, and its distance from there; null for the end

/** The first of these elements that ends below the upper edge of the window. */
function firstBelow(elements) {
  let [from, to] = [0, elements.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    const { bottom } = elements[middle].getBoundingClientRect();
    if (bottom <= scroller().getBoundingClientRect().top) from = middle + 1;
    else to = middle;
  }
  return elements[from];
}

/** The message at the top of the window. Page by page: to measure in a page that is not drawn would lay it out. */
function place() {
  let element = firstBelow(messages()?.children ?? []);
  if (element?.matches(".messages__page")) element = firstBelow(element.children);
  while (element && !element.matches("article")) {
    const next = element.nextElementSibling;
    element = next?.matches(".messages__page") ? next.firstElementChild : next;
  }
  return element ? { id: element.id, offset: topOf(element) } : null;
}

/** Leaves what is read where it is, whatever came in or grew above it. */
function restore(kept) {
  if (following) return follow();
  const element = kept && document.getElementById(kept.id);
  if (element) move(scroller().scrollTop + topOf(element) - kept.offset);
}

// Earlier messages: `goal` is what they are loaded for: a message, or the top, and how many pages more it may take.

let goal = null;

function pursue() {
  if (!goal || earlier()?.matches(".htmx-request")) return;
  const element = goal.id && document.getElementById(goal.id);
  if (element) goTo(goal);
  if (element || !goal.pages) return void (goal = null);
  if (!goal.id) move(0);
  if (!earlier()) return void (goal = null);
  goal.pages -= 1;
  earlier().click();
}

/** Goes to the top of what is loaded and loads so many pages, one after the other. */
function climb(pages) {
  if (!goal || goal.id) goal = { pages: 0 };
  goal.pages += pages;
  following = false;
  move(0);
  pursue();
  offer();
}

function toFirst() {
  const link = earlier();
  if (link && number(link.parentElement) > PAGES * PAGE + 1) location.assign(link.dataset.first);
  else climb(Infinity);
}

function toLast() {
  const newest = document.querySelector("#messages > .messages__newest a");
  if (newest) location.assign(newest.href);
  else toEnd();
}

let kept = null;
document.addEventListener("htmx:before:swap", ({ detail: { ctx } }) => {
  const [list, id] = [scroller(), ctx.target?.id];
  kept = null;
  if (!list || !(id === "room" || id?.startsWith("earlier-"))) return;
  look(list); // the event of a move by hand may still be to come
  if (id === "room") places.set(room(), following ? null : place());
  else kept = place() ?? {};
});
document.addEventListener("htmx:after:swap", () => {
  if (!messages()) return;
  age();
  if (!kept) return follow();
  // In the task of the insertion: no frame shows the list in another place.
  const page = pages()[0]; // in the place of the link
  if (page) {
    measure(page);
    drawn.observe(page);
  }
  restore(kept);
  kept = null;
  pursue();
});
for (const event of ["htmx:after:request", "htmx:error"])
  document.addEventListener(event, ({ detail: { ctx } }) => {
    if (ctx?.sourceElement?.matches?.(".messages__earlier a") && !(ctx.response?.status < 400)) goal = null;
  });

/** Goes where the address says; returns whether it names a message of the room. */
function toMessage() {
  const { hash, pathname } = location;
  if (!/^#message-\d+$/.test(hash)) return false;
  const id = hash.slice(1);
  goal = null;
  if (document.getElementById(id)) goTo({ id, offset: scroller().clientHeight / 3 });
  else if (earlier() && number({ id }) < number(earlier().parentElement)) location.replace(`${pathname}/messages/${number({ id })}`);
  else return false;
  return true;
}

// Heights: a page of earlier messages is not drawn while it is far from the window. It counts as high as it is all the
// same, not as high as somebody guessed: a guess is corrected under the reader, and a list that grows while its bar is
// dragged is one whose top is never reached. (The size that `contain-intrinsic-size: auto` remembers would do, but there
// is none before a page was drawn, and after a resize it is an old one.)

function setHeight(page, height) {
  page.style.containIntrinsicBlockSize = `${height}px`;
}

/** Measures a page that is not drawn. */
function measure(page) {
  setHeight(page, page.lastElementChild.getBoundingClientRect().bottom - page.getBoundingClientRect().top);
}

// One that is drawn may change: a part is opened in it.
const drawn = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) setHeight(target, contentRect.height);
});

const outdated = new Set(); // pages that were measured in another width
function measureAgain() {
  const [page] = outdated;
  if (!page) return;
  outdated.delete(page);
  const kept = place();
  if (page.isConnected) measure(page);
  restore(kept);
  requestAnimationFrame(measureAgain); // one a frame: all at once would take as long as all of them
}

const DRAWN = 60; // of the newest messages; a room is opened with fewer

let newest = 0;
/** Lets a message go undrawn that so many others have followed. It was drawn when it came, so its height is remembered. */
function age() {
  if (newest === (newest = last())) return;
  const { children } = messages();
  for (let i = children.length - DRAWN; i > 0 && children[i].matches("article:not([data-aged])"); i--)
    children[i].setAttribute("data-aged", "");
}

let width = 0;
function resize() {
  follow();
  const now = messages()?.clientWidth;
  if (now === width) return;
  width = now;
  const idle = !outdated.size;
  for (const page of pages()) outdated.add(page);
  if (idle) requestAnimationFrame(measureAgain);
}

// Whatever makes the list grow: words, an opened part, a smaller window.
const watch = new ResizeObserver(resize);

function begin() {
  watch.disconnect();
  drawn.disconnect();
  outdated.clear();
  goal = null;
  if (!scroller()) return;
  width = messages().clientWidth;
  watch.observe(scroller());
  watch.observe(messages());
  for (const page of pages()) drawn.observe(page);
  toEnd();
  if (toMessage() || !places.get(room())) return;
  goal = { ...places.get(room()), pages: PAGES };
  pursue();
}

addEventListener("hashchange", toMessage);
document.addEventListener("room:opened", begin);
begin();

// The reader. The smallest move up lets go of the end at once: between two words the list would be back there.

const here = (target) => scroller()?.contains(target);
const KEYS = ["PageUp", "PageDown", "ArrowUp", "ArrowDown", "Home", "End", " ", "Escape"];

document.addEventListener(
  "wheel",
  ({ deltaY, target }) => {
    if (!here(target)) return;
    goal = null;
    if (deltaY < 0) letGo();
  },
  { passive: true },
);
document.addEventListener(
  "touchmove",
  ({ target }) => {
    if (!here(target)) return;
    goal = null;
    letGo();
  },
  { passive: true },
);
document.addEventListener("pointerdown", ({ target, offsetX, pointerType }) => {
  if (!here(target)) return;
  goal = null;
  if (target === scroller() && pointerType === "mouse" && offsetX >= target.clientWidth) letGo(); // the scroll bar
});
for (const event of ["pointerup", "touchend"]) document.addEventListener(event, rest, { capture: true, passive: true });

document.addEventListener(
  "scroll",
  ({ target: list }) => {
    if (list !== scroller()) return;
    look(list);
    offer();
  },
  { capture: true, passive: true },
);

document.addEventListener("keydown", (event) => {
  const { key, target, ctrlKey, metaKey, altKey, shiftKey } = event;
  if (event.defaultPrevented || !(here(target) || target.matches?.("body, #room"))) return;
  if (!scroller() || target.matches("input, textarea, select")) return;
  const plain = !altKey && !shiftKey;
  if (plain && key === "Home") {
    event.preventDefault();
    if (ctrlKey || metaKey) toFirst();
    else climb(1);
  } else if (plain && key === "End") {
    event.preventDefault();
    if (ctrlKey || metaKey) toLast();
    else toEnd();
  } else if (KEYS.includes(key)) {
    goal = null;
    if (["PageUp", "ArrowUp"].includes(key) || (key === " " && shiftKey)) letGo();
  }
});

document.addEventListener("click", ({ target }) => {
  if (!target.closest("#newer")) return;
  toEnd();
  document.querySelector("#composer textarea").focus();
});

// Who sends wants to see it.
document.addEventListener("htmx:config:request", ({ detail }) => detail.ctx.sourceElement.id === "composer" && toEnd());
