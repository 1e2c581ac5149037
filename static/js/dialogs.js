// Dialogs: a question before something goes, a room's new name, an edited message. What was refused stays, with why.

const confirming = document.getElementById("confirm");
const edit = document.getElementById("edit");
const rename = document.getElementById("rename");

// htmx asks before it sends.
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

// The name is typed where it stands: in the list, or in the header.
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
  // A single click on a name by hand means something else.
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

// The form comes from the server, with what the question says now and how much would be dropped.
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
  const complaint = form?.querySelector("[role=alert]");
  if (!complaint) return;
  const refused = ctx.response.status >= 400;
  const page = new DOMParser().parseFromString(refused ? ctx.text : "", "text/html");
  complaint.textContent = page.querySelector("p")?.textContent ?? "";
  // Where one can log in, beside what was typed.
  const link = page.querySelector("#error a");
  if (link) complaint.append(" ", Object.assign(document.createElement("a"), { href: link.getAttribute("href"), target: "_blank", textContent: link.textContent }));
  if (refused) ctx.hx.reswap = "none";
  else if (form === rename) rename.hidePopover();
  else form.close();
});
