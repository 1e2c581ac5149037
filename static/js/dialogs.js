// Dialogs: confirmation and renaming a room; and the form that edits a message in its place. One whose request is rejected
// stays open and shows why.

const confirming = document.getElementById("confirm");
const rename = document.getElementById("rename");

// Replaces the browser's confirm() for hx-confirm.
document.addEventListener("htmx:confirm", (event) => {
  event.preventDefault();
  const { ctx, issueRequest, dropRequest } = event.detail;
  document.getElementById("confirm-question").textContent = ctx.confirm;
  confirming.querySelector("[value=yes]").textContent = ctx.sourceElement.dataset.yes ?? "OK";
  confirming.returnValue = "";
  const decide = () => {
    if (confirming.returnValue !== "yes") return dropRequest();
    issueRequest();
    document.dispatchEvent(new CustomEvent("composer:focus"));
  };
  confirming.addEventListener("close", decide, { once: true });
  confirming.showModal();
});

document.addEventListener("click", (event) => {
  const dialog = event.target.closest("[data-cancel]")?.closest("dialog");
  if (!dialog) return;
  event.preventDefault();
  dialog.close();
});

// The rename popover opens over the name, in the list or in the header.
function renameAt(place) {
  const name = place.querySelector(".row__name") ?? place;
  const { left, top, width, height } = name.getBoundingClientRect();
  Object.assign(rename.style, { left: `${left - 9}px`, top: `${top - 5}px`, width: `${Math.max(width + 18, 240)}px`, height: `${height + 10}px` });
  rename.dataset.url = place.dataset.rename;
  rename.querySelector("[role=alert]").textContent = "";
  rename.elements.name.value = name.textContent;
  rename.showPopover();
  rename.elements.name.select();
}

// `detail` is a row or the heading, each with the address of its room.
document.addEventListener("room:rename", ({ detail }) => renameAt(detail));
document.addEventListener("click", ({ target, detail }) => {
  // A single click with a pointer does not rename; the palette calls click(), which has no detail.
  const heading = target.closest("h1[data-rename]");
  if (heading && !detail) renameAt(heading);
});
document.addEventListener("dblclick", ({ target }) => {
  const place = target.closest(".row__link, h1")?.closest("[data-rename]");
  if (place) renameAt(place);
});
rename.addEventListener("beforetoggle", ({ newState }) => document.body.toggleAttribute("data-renaming", newState === "open"));
rename.addEventListener("submit", (event) => {
  event.preventDefault();
  const { url } = rename.dataset;
  htmx.ajax("PATCH", url, { source: rename, target: rename, swap: "none", values: { name: rename.elements.name.value } });
});

// The server renders the form, with the current text and the number of messages that would be dropped. It is in the message,
// which no push replaces meanwhile. What was typed stays in this tab until it is sent or cancelled.
const editPlace = (form) => `edit ${form.getAttribute("hx-patch")}`;

function startEditing(form) {
  for (const other of document.querySelectorAll(".editing")) if (other !== form) leaveEditing(other);
  const article = form.closest(".message");
  article.setAttribute("data-editing", "");
  article.setAttribute("hx-morph-skip", "");
  const { text } = form.elements;
  text.value = tabStore.get(editPlace(form)) ?? text.value;
  text.focus();
  text.setSelectionRange(text.value.length, text.value.length);
  form.scrollIntoView({ block: "nearest" });
}

function stopEditing(form) {
  const article = form.closest(".message");
  article?.removeAttribute("data-editing");
  article?.removeAttribute("hx-morph-skip");
  form.remove();
  document.dispatchEvent(new CustomEvent("composer:focus"));
}

/** Closes the form, and shows the message as it is now: pushes have passed it over. */
function leaveEditing(form) {
  const [article, url] = [form.closest(".message"), form.getAttribute("hx-patch")];
  stopEditing(form);
  htmx.ajax("GET", url, { source: article, target: article, swap: "outerMorph" });
}

document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  const form = ctx.sourceElement.matches("[data-edit]") && ctx.sourceElement.closest(".message")?.querySelector(".editing");
  if (form) startEditing(form);
});
document.addEventListener("input", ({ target }) => {
  const form = target.closest(".message > .editing");
  if (form) tabStore.set(editPlace(form), target.value);
});
document.addEventListener("click", (event) => {
  const form = event.target.closest("[data-cancel]")?.closest(".message > .editing");
  if (!form) return;
  event.preventDefault();
  // A form that was rejected may have to be opened again.
  if (!form.querySelector("[role=alert]").textContent) tabStore.remove(editPlace(form));
  leaveEditing(form);
});
document.addEventListener("keydown", (event) => {
  const form = event.target.closest(".message > .editing");
  if (!form) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  if (event.key !== "Escape" || event.isComposing) return;
  event.preventDefault();
  leaveEditing(form);
});
// The push that shows the change may come before the response.
document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.matches(".editing")) ctx.sourceElement.closest(".message")?.removeAttribute("hx-morph-skip");
});
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  const form = ctx.sourceElement;
  if (!form.matches(".editing[hx-patch]")) return;
  if (ctx.response?.status < 400) {
    tabStore.remove(editPlace(form));
    if (form.isConnected) stopEditing(form);
  } else {
    form.closest(".message")?.setAttribute("hx-morph-skip", "");
  }
});

document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
  const form = ctx.sourceElement.closest("dialog:not(.palette), [popover]:not(.row-menu), .message > .editing");
  const alert = form?.querySelector("[role=alert]");
  if (!alert) return;
  const rejected = ctx.response.status >= 400;
  const page = new DOMParser().parseFromString(rejected ? ctx.text : "", "text/html");
  alert.textContent = page.querySelector("p")?.textContent ?? "";
  // The log-in link opens in a new tab, so that the typed text stays.
  const link = page.querySelector("#error a");
  if (link) alert.append(" ", Object.assign(document.createElement("a"), { href: link.getAttribute("href"), target: "_blank", textContent: link.textContent }));
  if (rejected) ctx.hx.reswap = "none";
  else if (form === rename) rename.hidePopover();
  else if (form.matches("dialog")) form.close();
});
