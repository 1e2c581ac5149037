// What a page is made slow with, for its rows of the benchmark to be seen over their bounds.

const burn = (ms) => {
  for (const until = performance.now() + ms; performance.now() < until; );
};
const rows = () => document.querySelectorAll("#rooms > .row").length;

burn(300);
for (let n = 0; n < 20; n++) new Image().src = `${document.querySelector("link[rel=icon]").href}&again=${n}`;

// On every frame since the first key, for what comes before takes long enough: longer in a longer room and beside more
// rooms.
function every() {
  const messages = document.querySelector("#rooms > [aria-current]")?.dataset.messages ?? 0;
  burn(rows() / 5 + Math.min(messages / 50, 100));
  requestAnimationFrame(every);
}
addEventListener("keydown", every, { once: true });

// On everything that comes while one follows it: longer beside more rooms, and in a longer answer.
document.addEventListener("htmx:before:swap", () => {
  const list = document.getElementById("scroller");
  if (!list || list.scrollHeight - list.scrollTop - list.clientHeight > 100) return;
  const answer = document.querySelector("#messages > article:last-of-type");
  burn(Math.min(rows() ** 2 / 20, 100) + Math.min((answer?.textContent.length ?? 0) / 100, 60));
});

document.addEventListener("room:opened", () => burn(100));
