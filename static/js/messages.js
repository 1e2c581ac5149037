// Messages: copy a message, its link or its code; wrap long lines; announce answers that ended.

/** Writes a text, or the promise of one, to the clipboard. */
async function writeClipboard(text) {
  if (navigator.clipboard?.write && window.ClipboardItem) {
    // Safari accepts only writes that start in the click handler, but their content may be a promise.
    const blob = Promise.resolve(text).then((value) => new Blob([value], { type: "text/plain" }));
    return navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
  }
  // The Clipboard API needs a secure context (HTTPS or localhost); elsewhere use execCommand.
  const area = Object.assign(document.createElement("textarea"), { value: await text });
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused.focus({ preventScroll: true });
}

const labels = new WeakMap();
const labelOf = (button) => button.querySelector("span") ?? button;
async function copy(button, text) {
  if (!labels.has(button)) labels.set(button, labelOf(button).textContent);
  let label = "Copied";
  try {
    await writeClipboard(text);
    announce(label);
  } catch {
    label = "Couldn’t copy";
  }
  labelOf(button).textContent = label;
  button.dataset.result = label === "Copied" ? "copied" : "failed";
  setTimeout(() => {
    labelOf(button).textContent = labels.get(button);
    delete button.dataset.result;
  }, 1500);
}

async function fetchMarkdown(url) {
  const response = await fetch(url, { headers: { Accept: "text/markdown" } }).catch(() => null);
  if (!response?.headers.has("Content-Security-Policy")) {
    document.dispatchEvent(new CustomEvent("server:unreachable", { detail: "The message wasn’t copied." }));
  }
  if (!response?.ok) throw new Error("no text to copy");
  return response.text();
}

let emptyTimer;
/** Announces a text to screen readers. A live region that is needed for it is emptied again: the page shows the text already. */
function announce(text) {
  if (document.ariaNotify) return document.ariaNotify(text);
  clearTimeout(emptyTimer);
  document.getElementById("announcer").textContent = text;
  emptyTimer = setTimeout(() => (document.getElementById("announcer").textContent = ""), 1000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-message], [data-copy-link], [data-wrap], [data-unfold]");
  if (!button) return;
  const code = button.closest(".code");
  if (button.matches("[data-copy]")) copy(button, code.querySelector("code").textContent);
  else if (button.matches("[data-copy-link]")) {
    event.preventDefault();
    copy(button, button.href);
    document.dispatchEvent(new CustomEvent("composer:focus"));
  } else if (button.matches("[data-unfold]")) {
    const unfolded = (code ?? button.previousElementSibling).toggleAttribute("data-unfolded");
    labelFolding();
    if (!unfolded) button.scrollIntoView({ block: "nearest" });
  }
  else if (button.matches("[data-wrap]")) button.ariaPressed = String(code.toggleAttribute("data-wrapped"));
  else {
    event.preventDefault();
    copy(button, fetchMarkdown(button.href));
  }
});

/** Labels the buttons that fold, also after a morph, which keeps the state and not the label. */
function labelFolding() {
  for (const button of document.querySelectorAll("#messages .unfold")) {
    const unfolded = (button.closest(".code") ?? button.previousElementSibling).hasAttribute("data-unfolded");
    if (!labels.has(button)) labels.set(button, button.textContent);
    const label = unfolded ? "Show less" : labels.get(button);
    if (button.textContent !== label) button.textContent = label;
    button.ariaExpanded = unfolded;
  }
}
// A list may have thousands of messages, so look for the buttons only if there are some in what is swapped in.
let hasFolding = false;
document.addEventListener("htmx:before:swap", ({ detail: { tasks } }) => (hasFolding = tasks.some(({ fragment }) => fragment?.querySelector(".unfold"))));
document.addEventListener("htmx:after:swap", () => hasFolding && labelFolding());

/** Lets the code in these messages fold. */
function allowFolding(articles) {
  for (const article of articles) if (article.querySelector(".code--long")) article.setAttribute("data-foldable", "");
}
function openRoom() {
  allowFolding([...document.querySelectorAll("#messages article")].slice(0, -1));
  labelFolding();
}
document.addEventListener("room:opened", openRoom);
document.addEventListener("htmx:before:swap", ({ detail: { tasks } }) => {
  for (const { target, fragment } of tasks) if (target?.id?.startsWith("earlier-")) allowFolding(fragment.querySelectorAll("article"));
});
openRoom();

// Announce an answer once, when it has ended, not word by word. One that fails at once may never be seen growing, so
// compare states.
const GROWING = "growing";
const numberOf = (id) => Number(id.split("-")[1] ?? 0);
let before = null; // the state of each of the latest answers, by id; null when the room has just been opened

function checkAnswers() {
  const now = new Map();
  const { children } = document.getElementById("messages") ?? { children: [] };
  for (let i = children.length - 1; i >= 0 && i > children.length - 20; i--) {
    const answers = children[i].matches(".beside") ? [...children[i].querySelectorAll("article")].reverse() : [children[i]];
    for (const { id, ariaBusy, dataset } of answers)
      if (dataset.role === "assistant") now.set(id, ariaBusy === "true" ? GROWING : dataset.state);
  }
  const newest = Math.max(0, ...[...(before ?? now).keys()].map(numberOf));
  for (const [id, state] of now) {
    const isNew = before?.has(id) ? before.get(id) !== state : numberOf(id) > newest;
    if (state === GROWING || !isNew) continue;
    const article = document.getElementById(id);
    const ending = article.querySelector(".message__state > span")?.textContent ?? "";
    announce(`${article.ariaLabel}: ${article.querySelector(".message__body").innerText.slice(0, 2000)} ${ending}`);
    document.dispatchEvent(new CustomEvent("answer:ended", { detail: article }));
  }
  before = now;
  const growing = [...now.keys()].filter((id) => now.get(id) === GROWING).reverse();
  document.dispatchEvent(new CustomEvent("answers:growing", { detail: growing }));
}

document.addEventListener("room:opened", () => ((before = null), checkAnswers()));
document.addEventListener("htmx:after:swap", checkAnswers);
checkAnswers();

// Few visits follow a search or print, so these scripts are loaded for those.
const loadMarks = () => location.search.includes("mark=") && import("./marks.js");
document.addEventListener("room:opened", loadMarks);
loadMarks();
if (/\ball=1\b/.test(location.search)) import("./print.js");
