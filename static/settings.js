// The settings of a room: the slider of the temperature, and what was typed and not saved, which stays with its room. Loaded when
// the menu opens.

const form = () => document.querySelector("#header .settings__form");
const place = () => `settings ${document.getElementById("room").dataset.room}`;
const fields = () => form().querySelectorAll("[name=system_prompt], [name=temperature]");

function showTemperature() {
  const [slider, number] = form().querySelectorAll(".settings__temperature input");
  slider.value = number.value || 1;
}

/** Says what is not saved, and keeps it in this tab. */
function keep() {
  const changed = [...fields()].filter((field) => field.value !== field.defaultValue).map(({ name, value }) => [name, value]);
  if (changed.length) tabStore.set(place(), JSON.stringify(changed));
  else tabStore.remove(place());
  form().querySelector(".settings__unsaved").textContent = changed.length ? "Not saved yet" : "";
}

function restore(isFirst = false) {
  if (!form()) return;
  const [slider, number] = form().querySelectorAll(".settings__temperature input");
  const moved = isFirst && slider.value !== "1" ? slider.value : null; // before this script was there
  for (const [name, value] of JSON.parse(tabStore.get(place()) ?? "[]")) form().elements[name].value = value;
  number.value = moved ?? number.value;
  showTemperature();
  keep();
}

document.addEventListener("input", ({ target }) => {
  if (!target.closest(".settings__form")) return;
  if (target.type === "range") form().elements.temperature.value = target.value;
  showTemperature();
  keep();
});
document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement === form()) ctx.settings = place();
});
document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => ctx.settings && ctx.response?.status < 400 && tabStore.remove(ctx.settings));
document.addEventListener("room:opened", () => restore());
// Another tab may have caused a push of the header. Other swaps, such as those of tokens, leave the form alone.
let isSwapped = false;
document.addEventListener("htmx:before:swap", ({ detail: { tasks } }) => (isSwapped = tasks.some(({ target }) => target?.id === "header")));
document.addEventListener("htmx:after:swap", () => isSwapped && restore());
restore(true);
