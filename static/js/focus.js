// The keyboard focus goes to the composer after an action on a message, and when the focused element is lost.

const COVERING = "dialog[open], :popover-open, .menu[open], [data-drawer=open]";
const ACTIONS = "[data-stop], .message__again button, [data-copy], [data-copy-message], [data-dismiss]";
const PAGING = ".rooms__more, .messages__earlier a"; // Tab goes on in what they load

function focusComposer() {
  // On a touch screen it would open the keyboard.
  if (matchMedia("(hover: none)").matches || document.querySelector(COVERING)) return;
  document.querySelector("#composer textarea")?.focus({ preventScroll: true });
}

document.addEventListener("composer:focus", focusComposer);
// Before anybody stops the click; a click that is ignored has moved the focus, too.
document.addEventListener("click", ({ target }) => target.closest(ACTIONS) && focusComposer(), { capture: true });

// When a dialog closes after a click in it, Chromium gives the composer the focus back but not the caret. It says so in a
// later task, and a key may come before that.
let closing = false;

function restoreCaret() {
  const { activeElement } = document;
  if (!closing || !activeElement.matches("#composer textarea")) return;
  closing = false;
  activeElement.blur();
  activeElement.focus({ preventScroll: true });
}

document.addEventListener("beforetoggle", ({ newState }) => (closing = newState === "closed"), { capture: true });
for (const event of ["close", "keydown"]) document.addEventListener(event, restoreCaret, { capture: true });

// An element that is removed or disabled loses the focus without an event; whoever leaves it causes one. One that a morph
// turns into another button keeps the focus, so what it does is remembered too.
let last = null;
let did = "";
const does = (element) => ["hx-delete", "name", "href"].map((name) => element.getAttribute(name)).join(" ");

document.addEventListener("focusin", ({ target }) => ([last, did] = [target, does(target)]));
document.addEventListener("focusout", ({ target }) =>
  queueMicrotask(() => {
    if (last === target && target.isConnected && !target.disabled && document.activeElement !== target) last = null;
  }),
);

// To take the focus would undo a selection on the page.
const lost = () => document.activeElement === document.body && getSelection().isCollapsed;
const changed = () => document.activeElement === last && last.closest("#messages") && does(last) !== did;

function recover({ type }) {
  // A row of the list is first given back its own focus, at the end of the message that moves it.
  if (last?.closest(".row") && !type.startsWith("htmx:ws:")) return;
  queueMicrotask(() => {
    if (!last || last.matches(PAGING) || !(lost() || changed())) return;
    last = null;
    focusComposer();
  });
}

for (const event of ["htmx:after:swap", "htmx:finally:request", "htmx:ws:after:message:incoming"]) {
  document.addEventListener(event, recover);
}
