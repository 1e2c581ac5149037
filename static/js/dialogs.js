// Dialogs: renaming a room from its row, editing a question. What was refused stays to be mended, with the reason beside it.

const rename = document.getElementById("rename");
const edit = document.getElementById("edit");
const form = rename.querySelector("form");

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-rename]");
  if (button) {
    form.dataset.url = button.dataset.rename;
    form.querySelector("[role=alert]").textContent = "";
    form.elements.name.value = button.closest(".row").querySelector(".row__name").textContent;
    rename.showModal();
    form.elements.name.select();
  }
  const dialog = event.target.closest("[data-cancel]")?.closest("dialog");
  if (dialog) {
    event.preventDefault();
    dialog.close();
  }
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  htmx.ajax("PATCH", form.dataset.url, { source: form, target: form, swap: "none", values: { name: form.elements.name.value } });
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

document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
  const dialog = ctx.sourceElement.closest("dialog");
  if (!dialog) return;
  const refused = ctx.response.status >= 400;
  const page = new DOMParser().parseFromString(refused ? ctx.text : "", "text/html");
  dialog.querySelector("[role=alert]").textContent = page.querySelector("p")?.textContent ?? "";
  if (refused) ctx.hx.reswap = "none";
  else dialog.close();
});
