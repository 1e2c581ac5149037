// Messages: copy one, its link or its code; wrap long lines; tell of an answer that ended.

/** Puts words, or the promise of words, on the clipboard. */
async function write(words) {
  if (navigator.clipboard?.write && window.ClipboardItem) {
    // Within the click: one browser takes nothing that comes later, but it takes a promise.
    const blob = Promise.resolve(words).then((text) => new Blob([text], { type: "text/plain" }));
    return navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
  }
  // Only a page from this machine or by HTTPS has a clipboard; elsewhere there is the old way.
  const area = Object.assign(document.createElement("textarea"), { value: await words });
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused.focus({ preventScroll: true });
}

const labels = new WeakMap();
async function copy(button, words) {
  if (!labels.has(button)) labels.set(button, button.textContent);
  let done = "Copied";
  try {
    await write(words);
    say(done);
  } catch {
    done = "Couldn’t copy";
  }
  button.textContent = done;
  setTimeout(() => (button.textContent = labels.get(button)), 1500);
}

async function source(url) {
  const response = await fetch(url, { headers: { Accept: "text/markdown" } }).catch(() => null);
  if (!response?.headers.has("Content-Security-Policy")) {
    document.dispatchEvent(new CustomEvent("server:unreachable", { detail: "The message wasn’t copied." }));
  }
  if (!response?.ok) throw new Error("no text to copy");
  return response.text();
}

let silence;
/** Has a screen reader say this. Where that needs an element, its words go again: they stand on the page already. */
function say(words) {
  if (document.ariaNotify) return document.ariaNotify(words);
  clearTimeout(silence);
  document.getElementById("announcer").textContent = words;
  silence = setTimeout(() => (document.getElementById("announcer").textContent = ""), 1000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-message], [data-copy-link], [data-wrap]");
  if (!button) return;
  const code = button.closest(".code");
  if (button.matches("[data-copy]")) copy(button, code.querySelector("code").textContent);
  else if (button.matches("[data-copy-link]")) {
    event.preventDefault();
    copy(button, button.href);
    location.hash = button.hash; // the jump takes the focus away, so it is not left to happen later
    document.dispatchEvent(new CustomEvent("composer:focus"));
  }
  else if (button.matches("[data-wrap]")) button.ariaPressed = String(code.toggleAttribute("data-wrapped"));
  else {
    event.preventDefault();
    copy(button, source(button.href));
  }
});

// A log that reads out every word is a torment: a growing answer is silent, and read when it has ended. One that fails at
// once may never be seen growing, so what counts is that the state is another one.
const GROWING = "growing";
const numberOf = (id) => Number(id.split("-")[1] ?? 0);
let before = null; // the state of each of the last answers, by id; null in a room that was just opened

function look() {
  const now = new Map();
  const { children } = document.getElementById("messages") ?? { children: [] };
  for (let i = children.length - 1; i >= 0 && i > children.length - 20; i--) {
    const { id, ariaBusy, dataset } = children[i];
    if (dataset.role === "assistant") now.set(id, ariaBusy === "true" ? GROWING : dataset.state);
  }
  const newest = Math.max(0, ...[...(before ?? now).keys()].map(numberOf));
  for (const [id, state] of now) {
    const isNews = before?.has(id) ? before.get(id) !== state : numberOf(id) > newest;
    if (state === GROWING || !isNews) continue;
    const article = document.getElementById(id);
    const ending = article.querySelector(".message__state > span")?.textContent ?? "";
    say(`${article.ariaLabel}: ${article.querySelector(".message__body").innerText.slice(0, 2000)} ${ending}`);
    document.dispatchEvent(new CustomEvent("answer:ended", { detail: article }));
  }
  before = now;
  document.dispatchEvent(
    new CustomEvent("answers:growing", { detail: [...now.keys()].filter((id) => now.get(id) === GROWING) }),
  );
}

document.addEventListener("room:opened", () => ((before = null), look()));
document.addEventListener("htmx:after:swap", look);
look();
