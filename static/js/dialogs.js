// Dialogs: confirmation, renaming a room, editing a message. A dialog whose request is rejected stays open and shows why.

const confirming = document.getElementById("confirm");
const edit = document.getElementById("edit");
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
  const name = place.closest(".row")?.querySelector(".row__name") ?? document.querySelector("#header h1");
  const { left, top, width, height } = name.getBoundingClientRect();
  Object.assign(rename.style, { left: `${left - 9}px`, top: `${top - 5}px`, width: `${Math.max(width + 18, 240)}px`, height: `${height + 10}px` });
  rename.dataset.url = place.dataset.rename;
  rename.querySelector("[role=alert]").textContent = "";
  rename.elements.name.value = name.textContent;
  rename.showPopover();
  rename.elements.name.select();
}

document.addEventListener("click", ({ target, detail }) => {
  const place = target.closest("[data-rename]");
  // A single click with a pointer does not rename; F2 and the palette call click(), which has no detail.
  if (place && (place.matches("button") || !detail)) renameAt(place);
});
document.addEventListener("dblclick", ({ target }) => {
  const row = target.closest(".row__link")?.closest(".row");
  const place = row ? row.querySelector("[data-rename]") : target.closest("h1[data-rename]");
  if (place) renameAt(place);
});
rename.addEventListener("beforetoggle", ({ newState }) => document.body.toggleAttribute("data-renaming", newState === "open"));
rename.addEventListener("submit", (event) => {
  event.preventDefault();
  const { url } = rename.dataset;
  htmx.ajax("PATCH", url, { source: rename, target: rename, swap: "none", values: { name: rename.elements.name.value } });
});

// The server renders the form, with the current text and the number of messages that would be dropped.
document.addEventListener("htmx:after:swap", ({ detail }) => {
  if (detail.ctx.target !== edit) return;
  edit.showModal();
  const { text } = edit.querySelector("form").elements;
  text.focus();
  text.setSelectionRange(text.value.length, text.value.length);
});
edit.addEventListener("close", () => edit.replaceChildren());
edit.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form?.requestSubmit();
});

document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
  const form = ctx.sourceElement.closest("dialog:not(.palette), [popover]");
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
  else form.close();
});
