// Scrolling. Only this script moves the message list, so that nothing moves it against the reader's will:
//
// - Every write to `scrollTop` goes through `moveTo`, which remembers the resulting position.
// - A write is final: no later frame repeats it. That works because every height is exact when it is read (see "Heights").
// - A movement in several steps (`goal`) ends with any input of the reader, and with any position that `moveTo` did not set.
// - The list follows its growing end (`following`) until the reader scrolls up, and again when the reader is back at the end.

const NEAR_END_PX = 100;
const MAX_PAGES = 20; // pages of earlier messages to load to reach a message; for one farther up, another address is opened
const PAGE_MESSAGES = 50;

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
let knownTop = 0; // the last known scrollTop, set by `moveTo` or by the reader

function moveTo(top) {
  const list = scroller();
  if (Math.abs(list.scrollTop - top) >= 1) list.scrollTop = top;
  knownTop = list.scrollTop;
}

/** Notes a position that `moveTo` did not set: the reader moved, unless the list is at the end that it follows. */
function notePosition(list) {
  const end = left(list) < NEAR_END_PX;
  if (Math.abs(list.scrollTop - knownTop) > 1 && !(following && end)) goal = null;
  if (list.scrollTop < knownTop && !end) following = false;
  else if (list.scrollTop > knownTop && end) following = true;
  knownTop = list.scrollTop;
}

function goTo({ id, offset }) {
  following = false;
  moveTo(scroller().scrollTop + topOf(document.getElementById(id)) - offset);
  updateButton();
}

// The end

/** The number of the last message. Its cost must not grow with the list. */
function lastNumber() {
  let child = messages()?.lastElementChild;
  while (child && !child.matches("article, .beside")) child = child.previousElementSibling;
  return number(child?.querySelector("article:last-child") ?? child);
}

let lastSeen = 0;
/** Shows or hides the button that leads to the end, with the number of new messages. */
function updateButton() {
  const button = document.getElementById("newer");
  if (!button) return;
  if (following) lastSeen = lastNumber();
  const hidden = following || left(scroller()) < NEAR_END_PX;
  if (button.hidden !== hidden) button.hidden = hidden; // setting the same value costs as much as a change
  if (hidden) return;
  const count = Math.max(0, lastNumber() - lastSeen);
  button.firstElementChild.textContent = count ? `${count} new` : "";
  button.ariaLabel = count ? `${count} new, jump to latest` : "Jump to latest";
}

function follow() {
  const list = scroller();
  if (!list) return;
  notePosition(list);
  if (following) moveTo(list.scrollHeight);
  updateButton();
}

function toEnd() {
  if (!scroller()) return; // at home
  goal = null;
  following = true;
  moveTo(scroller().scrollHeight);
  updateButton();
}

function stopFollowing() {
  if (!scroller().scrollTop) return; // the list cannot scroll up
  following = false;
  updateButton();
}

/** Follows again when the reader releases the list at its very end. */
function followIfAtEnd() {
  if (!scroller() || following || left(scroller()) >= 2) return;
  following = true;
  updateButton();
}

// Positions

const positions = new Map(); // room → the first visible message and its offset; null if the list follows its end

/** The first of these elements whose end is below the top of the list, by binary search. */
function firstVisible(elements) {
  let [from, to] = [0, elements.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    const { bottom } = elements[middle].getBoundingClientRect();
    if (bottom <= scroller().getBoundingClientRect().top) from = middle + 1;
    else to = middle;
  }
  return elements[from];
}

/** The first visible message and its offset. Searches page by page: measuring in an undrawn page would lay it out. */
function position() {
  let element = firstVisible(messages()?.children ?? []);
  if (element?.matches(".messages__page")) element = firstVisible(element.children);
  while (element && !element.matches("article, .beside")) {
    const next = element.nextElementSibling;
    element = next?.matches(".messages__page") ? next.firstElementChild : next;
  }
  return element ? { id: element.id, offset: topOf(element) } : null;
}

/** Restores the reader's position after content was inserted or has grown above it. */
function restore(kept) {
  if (following) return follow();
  const element = kept && document.getElementById(kept.id);
  if (element) moveTo(scroller().scrollTop + topOf(element) - kept.offset);
}

// Earlier messages. `goal` is why they are loaded: to reach a message or the top, and with how many more pages at most.

let goal = null;

function continueToGoal() {
  if (!goal || earlier()?.matches(".htmx-request")) return;
  const element = goal.id && document.getElementById(goal.id);
  if (element) goTo(goal);
  if (element || !goal.pages) return void (goal = null);
  if (!goal.id) moveTo(0);
  if (!earlier()) return void (goal = null);
  goal.pages -= 1;
  earlier().click();
}

/** Goes to the top of the loaded messages and loads this many pages, one after the other. */
function toTop(pages) {
  if (!goal || goal.id) goal = { pages: 0 };
  goal.pages += pages;
  following = false;
  moveTo(0);
  continueToGoal();
  updateButton();
}

function toFirst() {
  const link = earlier();
  if (link && number(link.parentElement) > MAX_PAGES * PAGE_MESSAGES + 1) location.assign(link.dataset.first);
  else toTop(Infinity);
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
  notePosition(list); // the reader's last scroll event may still be queued
  if (id === "room") positions.set(room(), following ? null : position());
  else kept = position() ?? {};
});
document.addEventListener("htmx:after:swap", () => {
  if (!messages()) return;
  markAged();
  if (!kept) return follow();
  // In the same task as the insertion, so that no frame shows the list at another position.
  const page = pages()[0]; // it has replaced the link
  if (page) {
    measure(page);
    drawn.observe(page);
  }
  restore(kept);
  kept = null;
  continueToGoal();
});
for (const event of ["htmx:after:request", "htmx:error"])
  document.addEventListener(event, ({ detail: { ctx } }) => {
    if (ctx?.sourceElement?.matches?.(".messages__earlier a") && !(ctx.response?.status < 400)) goal = null;
  });

/** Goes to the message that the address names; returns false if it names none of this room. */
function toMessage() {
  const { hash, pathname } = location;
  if (!/^#message-\d+$/.test(hash)) return false;
  const id = hash.slice(1);
  goal = null;
  // On a narrow page, one of the answers side by side is shown.
  const choice = document.querySelector(`.beside:has(#${id}) [value="${number({ id })}"]`);
  if (choice) choice.checked = true;
  if (document.getElementById(id)) goTo({ id, offset: scroller().clientHeight / 3 });
  else if (room() && earlier() && number({ id }) < number(earlier().parentElement)) location.replace(`${pathname}/messages/${number({ id })}`);
  else return false;
  return true;
}

// Heights. A page of earlier messages is not drawn while it is far from the viewport (`content-visibility: auto`). It has
// its exact height all the same: an estimate would be corrected while the reader looks at it, and a list that grows while
// its scroll bar is dragged never reaches its top. (The size that `contain-intrinsic-size: auto` remembers does not exist
// before a page was drawn, and is outdated after a resize.)

function setHeight(page, height) {
  page.style.containIntrinsicBlockSize = `${height}px`;
}

/** Measures an undrawn page. */
function measure(page) {
  setHeight(page, page.lastElementChild.getBoundingClientRect().bottom - page.getBoundingClientRect().top);
}

// A drawn page may change its height, for example when a part is unfolded.
const drawn = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) setHeight(target, contentRect.height);
});

const outdated = new Set(); // pages that were measured at another width
function measureAgain() {
  const [page] = outdated;
  if (!page) return;
  outdated.delete(page);
  const kept = position();
  if (page.isConnected) measure(page);
  restore(kept);
  requestAnimationFrame(measureAgain); // one per frame, so that no frame takes long
}

const MAX_DRAWN = 60; // the newest messages, which are always drawn; a room opens with fewer

let newest = 0;
/** Allows old messages to go undrawn. They have been drawn once, so the browser remembers their height. */
function markAged() {
  if (newest === (newest = lastNumber())) return;
  const { children } = messages();
  for (let i = children.length - MAX_DRAWN; i > 0 && children[i].matches(":is(article, .beside):not([data-aged])"); i--)
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

// Everything that makes the list grow: text, an unfolded part, a smaller window.
const watch = new ResizeObserver(resize);

function openRoom() {
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
  if (toMessage() || !positions.get(room())) return;
  goal = { ...positions.get(room()), pages: MAX_PAGES };
  continueToGoal();
}

addEventListener("hashchange", toMessage);

// Another version of a message appears where the reader saw this one. The push may come before the response.
let switching = null;
document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
  const article = ctx.sourceElement.matches(".message__versions") && ctx.sourceElement.closest("article");
  if (article) switching = { offset: topOf(article), id: `message-${ctx.request.body.get("message")}` };
});
document.addEventListener("htmx:after:swap", () => {
  if (!switching || !document.getElementById(switching.id)) return;
  goTo(switching);
  document.querySelector(`#${switching.id} .message__versions button:enabled`)?.focus();
  switching = null;
});
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  if (!switching || !ctx.request.body?.get?.("message")) return;
  if (ctx.response?.status === 200) location.assign(`${location.pathname}/messages/${number(switching)}`); // it is further up
  switching = null;
});
document.addEventListener("room:opened", openRoom);
openRoom();

// Input. The smallest scroll up stops following at once; otherwise the next token would move the list back to its end.

const inList = (target) => scroller()?.contains(target);
const KEYS = ["PageUp", "PageDown", "ArrowUp", "ArrowDown", "Home", "End", " ", "Escape"];

document.addEventListener(
  "wheel",
  ({ deltaY, target }) => {
    if (!inList(target)) return;
    goal = null;
    if (deltaY < 0) stopFollowing();
  },
  { passive: true },
);
document.addEventListener(
  "touchmove",
  ({ target }) => {
    if (!inList(target)) return;
    goal = null;
    stopFollowing();
  },
  { passive: true },
);
document.addEventListener("pointerdown", ({ target, offsetX, pointerType }) => {
  if (!inList(target)) return;
  goal = null;
  if (target === scroller() && pointerType === "mouse" && offsetX >= target.clientWidth) stopFollowing(); // on the scroll bar
});
for (const event of ["pointerup", "touchend"]) document.addEventListener(event, followIfAtEnd, { capture: true, passive: true });

document.addEventListener(
  "scroll",
  ({ target: list }) => {
    if (list !== scroller()) return;
    notePosition(list);
    updateButton();
  },
  { capture: true, passive: true },
);

document.addEventListener("keydown", (event) => {
  const { key, target, ctrlKey, metaKey, altKey, shiftKey } = event;
  if (event.defaultPrevented || !(inList(target) || target.matches?.("body, #room"))) return;
  if (!scroller() || target.matches("input, textarea, select")) return;
  const plain = !altKey && !shiftKey;
  if (plain && key === "Home") {
    event.preventDefault();
    if (ctrlKey || metaKey) toFirst();
    else toTop(1);
  } else if (plain && key === "End") {
    event.preventDefault();
    if (ctrlKey || metaKey) toLast();
    else toEnd();
  } else if (KEYS.includes(key)) {
    goal = null;
    if (["PageUp", "ArrowUp"].includes(key) || (key === " " && shiftKey)) stopFollowing();
  }
});

document.addEventListener("click", ({ target }) => {
  if (!target.closest("#newer")) return;
  toEnd();
  document.querySelector("#composer textarea")?.focus();
});

// After sending, show the new message.
document.addEventListener("htmx:config:request", ({ detail }) => detail.ctx.sourceElement.id === "composer" && toEnd());
