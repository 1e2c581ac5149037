// Times: the server renders them in UTC; this script shows them in the reader's time zone and locale. New content is
// corrected before it is swapped in, so no change is visible and no other content has to be searched.

const DAY = 24 * 3600 * 1000;
const LABELS = { pinned: "Pinned", today: "Today", yesterday: "Yesterday", week: "Last 7 days", earlier: "Earlier" };
const KEYS = Object.keys(LABELS);

const formats = new Map();
/** A cached formatter: creating one takes far longer than using it. */
function format(options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(undefined, options));
  return formats.get(key);
}

/** The local day of an instant, as days since 1970: consecutive days differ by 1 also across a clock change. */
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

/** Inserts a separator where the local day changes between messages and removes the others; returns the last message. */
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

/** Inserts the headings of the room list where a group begins. The headings of the first two groups always exist. */
function regroup(list) {
  if (!list) return;
  const apart = list.querySelector("#rooms-open"); // the open room, whose place is not loaded
  const apartRow = apart?.nextElementSibling.matches(".row") ? apart.nextElementSibling : null;
  if (apart && !apartRow) apart.remove();
  const headings = new Map();
  for (const heading of list.querySelectorAll(":scope > .rooms__day:not(#rooms-open)")) {
    if (headings.has(heading.id)) heading.remove();
    else headings.set(heading.id, heading);
  }
  // Do not move what is in its place: that would take the focus from a row and cause a layout.
  let at = apartRow ? apartRow.nextElementSibling : list.firstElementChild;
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
      // As on the server: after a clock was set back, no heading is repeated.
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
    // After earlier messages are inserted above, the message that was first may not be the first of its day.
    if (id.startsWith("earlier-") && shown.length) separate([shown[0]], (day) => document.getElementById(day), last);
  }
});

// More rooms were loaded, or a row was pushed.
document.addEventListener("rooms:changed", () => regroup(document.getElementById("rooms")));

let now;
/** Shows all times again when the day or the time zone has changed. */
function refresh() {
  const before = now;
  now = `${dayOf(Date.now())} ${new Date().getTimezoneOffset()} ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  if (now === before) return;
  formats.clear();
  showAll();
}

function scheduleRefresh() {
  refresh();
  const midnight = new Date();
  midnight.setHours(24, 0, 0, 0);
  // At least once a minute, since timers do not run while the machine sleeps.
  setTimeout(scheduleRefresh, Math.min(60_000, Math.max(1, midnight - Date.now())));
}

for (const event of ["visibilitychange", "pageshow"]) addEventListener(event, refresh);
scheduleRefresh();
