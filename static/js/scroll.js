// Reading: the list follows its end only while the reader is there, and else offers a way to what is new.

const NEAR = 100; // pixels
const scroller = () => document.getElementById("scroller");
const left = (list) => list.scrollHeight - list.scrollTop - list.clientHeight;
const number = (article) => Number(article?.id.split("-")[1] ?? 0);

/** The number of the last message; nothing here may take longer in a longer list. */
function last() {
  let child = document.getElementById("messages")?.lastElementChild;
  while (child && !child.matches("article")) child = child.previousElementSibling;
  return number(child);
}

let following = true;
let before = 0;
let lastSeen = 0;

/** Up is by hand; what grows below moves nothing, and what shrinks leaves the end near. */
function look(list) {
  if (list.scrollTop < before && left(list) >= NEAR) following = false;
  else if (list.scrollTop > before && left(list) < NEAR) following = true;
  before = list.scrollTop;
}

function follow() {
  const list = scroller();
  if (!list) return;
  look(list); // the event of a move by hand may still be to come
  if (following) {
    list.scrollTop = list.scrollHeight;
    before = list.scrollTop; // and so is that of this one
  }
  offer();
}

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

function toEnd() {
  before = scroller().scrollTop;
  following = true;
  follow();
}

function letGo() {
  if (!scroller()?.scrollTop) return; // there is nowhere to go
  following = false;
  offer();
}

// The smallest move up lets go at once: between two words the list would be back at its end.
const here = (target) => scroller()?.contains(target);
document.addEventListener("wheel", ({ deltaY, target }) => deltaY < 0 && here(target) && letGo(), { passive: true });
document.addEventListener("touchmove", ({ target }) => here(target) && letGo(), { passive: true });
document.addEventListener("keydown", ({ key, target }) => {
  if (["PageUp", "Home", "ArrowUp"].includes(key) && here(target)) letGo();
});

document.addEventListener(
  "scroll",
  ({ target: list }) => {
    if (list !== scroller()) return;
    look(list);
    offer();
  },
  { capture: true, passive: true },
);

document.addEventListener("click", ({ target }) => {
  if (!target.closest("#newer")) return;
  toEnd();
  document.querySelector("#composer textarea").focus();
});

// Who sends wants to see it.
document.addEventListener("htmx:config:request", ({ detail }) => detail.ctx.sourceElement.id === "composer" && toEnd());

// Whatever makes the list grow: words, a message scrolled into being drawn, a smaller window.
const watch = new ResizeObserver(follow);

function begin() {
  watch.disconnect();
  if (!scroller()) return;
  watch.observe(scroller());
  watch.observe(document.getElementById("messages"));
  toEnd();
}

document.addEventListener("reader:elsewhere", () => ((following = false), offer()));
document.addEventListener("room:opened", begin);
document.addEventListener("htmx:after:swap", follow);
begin();
