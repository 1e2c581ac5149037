// Moves the focus to the composer after an action on a message, and when the focused element is removed.

const COVERING = "dialog[open], :popover-open, .menu[open], [data-drawer=open]";
const ACTIONS = "[data-stop], .message__again button, [data-copy], [data-copy-message], [data-dismiss]";
const PAGING = ".rooms__more, .messages__earlier a"; // Tab continues in what they load

function focusComposer() {
  // On a touch screen it would open the keyboard.
  if (matchMedia("(hover: none)").matches || document.querySelector(COVERING)) return;
  document.querySelector("#composer textarea")?.focus({ preventScroll: true });
}

document.addEventListener("composer:focus", focusComposer);
// In the capture phase, since a later listener may stop the click; an ignored click has moved the focus too.
document.addEventListener("click", ({ target }) => target.closest(ACTIONS) && focusComposer(), { capture: true });

// When a dialog closes after a click in it, Chromium restores the focus of the composer but not the caret. Its close event
// fires in a later task, and a key may be pressed before that.
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

// An element that is removed or disabled loses the focus without an event; a user who leaves it causes one. A button that a
// morph turns into another button keeps the focus, so its action is remembered too.
let last = null;
let lastAction = "";
const actionOf = (element) => ["hx-delete", "name", "href"].map((name) => element.getAttribute(name)).join(" ");

document.addEventListener("focusin", ({ target }) => ([last, lastAction] = [target, actionOf(target)]));
document.addEventListener("focusout", ({ target }) =>
  queueMicrotask(() => {
    if (last !== target || !target.isConnected || target.disabled || document.activeElement === target) return;
    last = null;
    if (target.matches("[data-stop]") && lost()) focusComposer(); // it is hidden when the answer has ended
  }),
);

// Moving the focus would clear a selection on the page.
const lost = () => document.activeElement === document.body && getSelection().isCollapsed;
const changed = () => document.activeElement === last && last.closest("#messages") && actionOf(last) !== lastAction;

function recover({ type }) {
  // rooms.js restores the focus within a room row after the socket message that moves the row.
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
