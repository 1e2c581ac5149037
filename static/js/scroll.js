// Reading: the list follows its end only while the reader is there.

const NEAR = 100; // pixels
let following = true;

const scroller = () => document.getElementById("scroller");

function follow() {
  const list = scroller();
  if (list && following) list.scrollTop = list.scrollHeight;
}

let before = 0;

function noteWhere() {
  const list = scroller();
  if (!list) return;
  const left = list.scrollHeight - list.scrollTop - list.clientHeight;
  if (left >= NEAR) following = false;
  else if (list.scrollTop > before) following = true;
  before = list.scrollTop;
}

// The smallest move up lets go at once: between two words the list would be back at its end.
document.addEventListener("wheel", ({ deltaY }) => deltaY < 0 && (following = false), { passive: true });
document.addEventListener("touchmove", ({ target }) => scroller()?.contains(target) && (following = false), { passive: true });
document.addEventListener("keydown", ({ key, target }) => {
  if (["PageUp", "Home", "ArrowUp"].includes(key) && !target.matches("input, textarea")) following = false;
});

// A scroll event tells of a move by hand; what grows below moves nothing.
document.addEventListener("scroll", noteWhere, { capture: true, passive: true });

// Who sends wants to see it. The list goes there at once: the event of an earlier move by hand may still be to come.
document.addEventListener("htmx:config:request", ({ detail }) => {
  if (detail.ctx.sourceElement.id !== "composer") return;
  following = true;
  follow();
});

// Earlier messages come in above: what one was reading stays where it was.
let below = null;
document.addEventListener("htmx:before:swap", ({ detail }) => {
  const list = scroller();
  below = detail.ctx.target?.id?.startsWith("earlier-") ? list.scrollHeight - list.scrollTop : null;
});

document.addEventListener("htmx:after:swap", ({ target, detail }) => {
  if (detail.ctx.target?.id === "room" || target.id === "room") following = true;
  if (below !== null) scroller().scrollTop = scroller().scrollHeight - below;
  else follow();
  below = null;
});

follow();
