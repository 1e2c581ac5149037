// Times: the server names them in UTC, the page in the reader's zone and in the browser's own way of writing them.
// New content is corrected before it is swapped in, so nothing is seen to change and nothing else is searched.

const DAY = 24 * 3600 * 1000;
const LABELS = { pinned: "Pinned", today: "Today", yesterday: "Yesterday", week: "Last 7 days", earlier: "Earlier" };
const KEYS = Object.keys(LABELS);

const formats = new Map();
/** A formatter; making one takes far longer than using it. */
function format(options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(undefined, options));
  return formats.get(key);
}

/** The local day of an instant, as the number of days since 1970: the difference of two is 1 also across a clock change. */
function dayOf(instant) {
  const date = new Date(instant);
  return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / DAY;
}

const daysAgo = (instant) => dayOf(Date.now()) - dayOf(instant);
const year = (instant) =>
  new Date(instant).getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };

function showTime(time) {
  const instant = Date.parse(time.dateTime);
  if (Number.isNaN(instant)) return;
  const day = daysAgo(instant) === 0 ? {} : { day: "numeric", month: "short", ...year(instant) };
  const { hour12 } = format({ hour: "numeric" }).resolvedOptions();
  time.textContent = format({ ...day, hour: hour12 ? "numeric" : "2-digit", minute: "2-digit" }).format(instant);
  time.title = format({ dateStyle: "full", timeStyle: "short" }).format(instant);
}

const timeOf = (article) => article.querySelector(".message__when time");
const instantOf = (article) => Date.parse(timeOf(article).dateTime);

function showDay(separator, instant) {
  const ago = daysAgo(instant);
  const date = new Date(instant);
  const time = separator.querySelector("time");
  const pad = (number) => String(number).padStart(2, "0");
  time.dateTime = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  time.textContent =
    ago === 0 ? LABELS.today
    : ago === 1 ? LABELS.yesterday
    : format({ weekday: "long", day: "numeric", month: "long", ...year(instant) }).format(instant);
}

/** Puts a separator where the local day changes between messages, and takes away the others; returns the last message. */
function separate(articles, find, previous) {
  for (const article of articles) {
    const id = article.id.replace("message", "day");
    const separator = find(id);
    const instant = instantOf(article);
    if (previous && dayOf(instantOf(previous)) === dayOf(instant)) {
      separator?.remove();
    } else {
      const shown = separator ?? newSeparator(id);
      showDay(shown, instant);
      if (!separator) article.before(shown);
    }
    previous = article;
  }
  return previous;
}

function newSeparator(id) {
  const separator = Object.assign(document.createElement("p"), { id, className: "messages__day" });
  separator.append(document.createElement("time"));
  return separator;
}

function group(row) {
  if (row.hasAttribute("data-pinned")) return 0;
  const days = daysAgo(Number(row.dataset.active));
  return days < 1 ? 1 : days === 1 ? 2 : days <= 7 ? 3 : 4;
}

/** Puts the headings of the list of rooms where the local days begin; those of the first two groups are always there. */
function regroup(list) {
  if (!list) return;
  const headings = new Map();
  for (const heading of list.querySelectorAll(":scope > .rooms__day")) {
    if (headings.has(heading.id)) heading.remove();
    else headings.set(heading.id, heading);
  }
  // Nothing is moved that is in its place: a move would take the focus from a row, and cost a layout.
  let at = list.firstElementChild;
  let latest = -1;
  const put = (key) => {
    const id = `rooms-${KEYS[key]}`;
    const heading = headings.get(id) ?? newHeading(id, LABELS[KEYS[key]]);
    headings.delete(id);
    heading.hidden = false;
    if (heading === at) at = at.nextElementSibling;
    else list.insertBefore(heading, at);
  };
  while (at || latest < 1) {
    if (at?.matches(".row")) {
      // As on the server: a clock that was set back makes no heading come twice.
      const key = Math.max(latest, group(at));
      if (key > latest) {
        for (let always = latest + 1; always < Math.min(key, 2); always++) put(always);
        put(key);
        latest = key;
      }
      at = at.nextElementSibling;
    } else if (at?.matches(".rooms__day")) {
      const heading = at;
      at = at.nextElementSibling;
      heading.remove();
      headings.set(heading.id, heading);
    } else {
      for (; latest < 1; latest++) put(latest + 1);
      at = at?.nextElementSibling;
    }
  }
}

function newHeading(id, label) {
  const heading = Object.assign(document.createElement("li"), { id, className: "rooms__day" });
  heading.append(Object.assign(document.createElement("h2"), { textContent: label }));
  return heading;
}

const articlesOf = (root) => root?.querySelectorAll("article.message") ?? [];

function show(root) {
  for (const time of root.querySelectorAll(".message__when time")) showTime(time);
}

function showAll() {
  show(document);
  separate(articlesOf(document.getElementById("messages")), (id) => document.getElementById(id), null);
  regroup(document.getElementById("rooms"));
}

document.addEventListener("htmx:before:swap", ({ detail: { tasks } }) => {
  for (const { fragment, target } of tasks) {
    if (!fragment?.firstElementChild) continue;
    show(fragment);
    regroup(fragment.querySelector("#rooms"));
    const { id = "" } = target ?? {};
    if (id.startsWith("message-")) continue;
    const articles = articlesOf(fragment);
    if (!articles.length) continue;
    const shown = document.getElementById("messages")?.getElementsByTagName("article") ?? [];
    const before = id.startsWith("after-") ? shown[shown.length - 1] : null;
    const last = separate(articles, (day) => fragment.querySelector(`#${day}`), before);
    // A page of earlier messages comes in above: what was the first message may not be the first of its day any more.
    if (id.startsWith("earlier-") && shown.length) separate([shown[0]], (day) => document.getElementById(day), last);
  }
});

// A page of the list, or a row, that came in.
document.addEventListener("rooms:changed", () => regroup(document.getElementById("rooms")));

let now;
/** What was today's is yesterday's after midnight, and the reader may have come to another zone. */
function look() {
  const before = now;
  now = `${dayOf(Date.now())} ${new Date().getTimezoneOffset()} ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  if (now === before) return;
  formats.clear();
  showAll();
}

function wait() {
  look();
  const midnight = new Date();
  midnight.setHours(24, 0, 0, 0);
  // A machine that slept has slept through its timers too.
  setTimeout(wait, Math.min(60_000, Math.max(1, midnight - Date.now())));
}

for (const event of ["visibilitychange", "pageshow"]) addEventListener(event, look);
wait();
