// Places in a conversation: what one was reading is there again, and a link to a message leads to it.

const PAGES = 20; // of earlier messages that are fetched to find a place again
const places = new Map(); // room → the message at the top of the window, and its distance from there
const scroller = () => document.getElementById("scroller");
const room = () => document.getElementById("room").dataset.room;
const earlier = () => document.querySelector("#messages > .messages__earlier a");

/** The first message in the window, and how far below the window's edge it begins; null at the end of the list. */
function place() {
  const list = scroller();
  if (!list || list.scrollHeight - list.scrollTop - list.clientHeight < 100) return null;
  const { top } = list.getBoundingClientRect();
  const articles = document.getElementById("messages").getElementsByTagName("article");
  let [from, to] = [0, articles.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (articles[middle].getBoundingClientRect().bottom <= top) from = middle + 1;
    else to = middle;
  }
  const article = articles[from];
  return article ? { id: article.id, offset: article.getBoundingClientRect().top - top } : null;
}

/** Moves the list so that a message begins so far below its edge. */
function goTo({ id, offset }, frames = 4) {
  const list = scroller();
  const article = document.getElementById(id);
  if (!list?.contains(article)) return;
  document.dispatchEvent(new CustomEvent("reader:elsewhere"));
  list.scrollTop += article.getBoundingClientRect().top - list.getBoundingClientRect().top - offset;
  // What comes near the window is drawn in the next frame, and takes another height than was guessed.
  if (frames) requestAnimationFrame(() => goTo({ id, offset }, frames - 1));
}

let sought = null;
function seek() {
  if (!sought) return;
  if (document.getElementById(sought.id)) {
    goTo(sought);
    sought = null;
  } else if (earlier() && sought.pages--) {
    earlier().click();
  } else {
    sought = null;
  }
}

let kept = null;
document.addEventListener("htmx:before:swap", ({ detail: { ctx } }) => {
  if (ctx.target?.id === "room") places.set(room(), place());
  // Earlier messages come in above: what one was reading stays where it was.
  kept = ctx.target?.id?.startsWith("earlier-") && !sought ? place() : null;
});
document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  if (kept && document.getElementById(kept.id)) goTo(kept);
  kept = null;
  if (ctx.target?.id?.startsWith("earlier-")) seek();
});
document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => ctx.response?.status >= 400 && (sought = null));

/** Goes where the address says; returns whether it names a message of the room. */
function toMessage() {
  const id = location.hash.slice(1);
  const article = /^message-\d+$/.test(id) && document.getElementById(id);
  if (article) {
    goTo({ id, offset: scroller().clientHeight / 3 });
    return true;
  } else if (/^message-\d+$/.test(id) && earlier() && Number(id.slice(8)) < Number(earlier().parentElement.id.slice(8))) {
    location.replace(`${location.pathname}/messages/${id.slice(8)}`);
    return true;
  }
  return false;
}

function begin() {
  sought = null;
  if (toMessage() || !places.get(room())) return;
  sought = { ...places.get(room()), pages: PAGES };
  seek();
}

addEventListener("hashchange", toMessage);
document.addEventListener("room:opened", begin);
begin();
