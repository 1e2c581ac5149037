// The notice for a request that did not reach the server. It says what failed, until it is dismissed or the server is back.

// Method, path, a field of the request, and the sentence; the first match is used.
const FAILED = [
  ["POST", /\/messages$/, "", "Your message wasn’t sent."],
  ["PATCH", /\/messages\/\d+$/, "", "Your edit wasn’t saved."],
  ["GET", /\/messages\/\d+\/edit$/, "", "The message wasn’t opened for editing."],
  ["GET", /\/messages\/\d+$/, "", "The message wasn’t updated."],
  ["GET", /\/messages$/, "", "Earlier messages weren’t loaded."],
  ["DELETE", /\/messages$/, "", "The messages weren’t cleared."],
  ["DELETE", /\/turn$/, "", "The answer wasn’t stopped."],
  ["POST", /\/turn$/, "resume", "The answer wasn’t continued."],
  ["POST", /\/turn$/, "", "No new answer was started."],
  ["POST", /\/rooms$/, "", "No room was created."],
  ["GET", /\/rooms$/, "after", "No more rooms were loaded."],
  ["GET", /\/rooms$/, "", "The list of rooms wasn’t updated."],
  ["GET", /\/rooms\/\w+$/, "", "The room wasn’t opened."],
  ["PATCH", /\/rooms\/\w+$/, "pinned", "The room wasn’t pinned or unpinned."],
  ["PATCH", /\/rooms\/\w+$/, "name", "The room wasn’t renamed."],
  ["PATCH", /\/rooms\/\w+$/, "", "The settings weren’t saved."],
  ["DELETE", /\/rooms\/\w+$/, "", "The room wasn’t deleted."],
  ["GET", /\/models$/, "", "The list of models wasn’t loaded."],
  ["GET", /\/palette$/, "", "Rooms and commands weren’t searched."],
];

const notice = () => document.getElementById("unreachable");
let output = null; // the element that shows the sentence, in a dialog or in the notice

function show(what, dialog, why = "Can’t reach the server. ") {
  hide();
  output = dialog?.querySelector("[role=alert]") ?? notice().querySelector("span");
  output.textContent = why + what;
  if (!notice().contains(output)) return;
  notice().hidden = false;
  document.getElementById("error").replaceChildren(); // show one notice at a time
}

function hide() {
  notice().hidden = true;
  output?.replaceChildren();
  output = null;
}

function showFailure({ request, sourceElement }) {
  const { pathname, searchParams } = new URL(request.action, location.href);
  const has = (field) => request.body?.has?.(field) || searchParams.has(field);
  const found = FAILED.find(([method, path, field]) => method === request.method && path.test(pathname) && (!field || has(field)));
  // The list of models is loaded when its menu is opened. It must not take the place of what the reader has done.
  if (pathname.endsWith("/models") && !notice().hidden) return;
  show(found?.at(-1) ?? "Try again in a moment.", sourceElement.closest("dialog[open], :popover-open, .message > .editing"));
}

// No response, a truncated response, or the error page of a proxy (our own responses have a Content-Security-Policy).
document.addEventListener("htmx:error", ({ detail: { ctx } }) => ctx?.request && ctx.text === undefined && showFailure(ctx));
document.addEventListener("htmx:before:response", (event) => {
  const { ctx } = event.detail;
  if (ctx.response.status < 400 || ctx.response.headers.has("Content-Security-Policy")) return;
  event.preventDefault();
  showFailure(ctx);
});
document.addEventListener("server:unreachable", ({ detail }) => show(detail));

// A browser would open a dropped file in place of the page.
const NO_FILES = "Files can’t be attached yet. Paste the text of the file instead.";
document.addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  show(NO_FILES, null, "");
});
document.addEventListener("paste", ({ clipboardData }) => {
  const { files, types } = clipboardData;
  if (files.length && !types.includes("text/plain")) show(NO_FILES, null, "");
});

document.addEventListener("htmx:after:request", hide);
document.addEventListener("htmx:ws:after:connection", hide);

document.addEventListener("click", ({ target }) => {
  if (!target.matches("[data-dismiss]")) return;
  if (notice().contains(target)) hide();
  else document.getElementById("error").replaceChildren();
});
