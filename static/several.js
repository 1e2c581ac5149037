// The composer's menu of models to ask. Loaded when it opens.

const MAX_MODELS = 4; // that can be asked at once
const list = () => document.getElementById("several");

/** Shows how many are chosen, and lets no more be chosen than can be asked. */
function showChoice() {
  if (!list()) return;
  const boxes = [...list().querySelectorAll("input")];
  const count = boxes.filter((box) => box.checked).length;
  for (const box of boxes) box.disabled = count >= MAX_MODELS && !box.checked;
  const summary = list().closest("details").querySelector("summary");
  if (count) summary.dataset.count = count;
  else delete summary.dataset.count;
  document.dispatchEvent(new CustomEvent("models:chosen"));
}
document.addEventListener("change", ({ target }) => target.closest("#several") && showChoice());

// What has been chosen since the list was requested stays so.
document.addEventListener("htmx:before:swap", ({ detail: { tasks } }) => {
  for (const { target, fragment } of tasks) {
    if (target?.id !== "several") continue;
    const before = new Map([...target.querySelectorAll("input")].map((box) => [box.value, box.checked]));
    for (const box of fragment.querySelectorAll("input")) box.checked = before.get(box.value) ?? box.checked;
  }
});
document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => ctx?.sourceElement?.closest?.(".several") && showChoice());

// Enter chooses the model that has the focus, or from the search the first one that is not chosen.
document.addEventListener("keydown", ({ key, target, isComposing }) => {
  if (key !== "Enter" || isComposing || !target.matches(".several input")) return;
  if (target.type === "checkbox") target.click();
  else if (list().dataset.q === target.value.trim()) list().querySelector("input:not(:checked, :disabled)")?.click();
});
showChoice();
