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
document.addEventListener("htmx:after:swap", showChoice);

// Enter in the search chooses the first one that is not chosen, and sends nothing.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches("#several-filter") || event.isComposing) return;
  event.preventDefault();
  if (list().dataset.q === event.target.value.trim()) list().querySelector("input:not(:checked, :disabled)")?.click();
});
showChoice();
