// What a page is made slow with, for its rows of the benchmark to be seen over their bounds.

const burn = (ms) => {
  for (const until = performance.now() + ms; performance.now() < until; );
};
const rows = () => document.querySelectorAll("#rooms > .row").length;

burn(300);
for (let n = 0; n < 20; n++) new Image().src = `${document.querySelector("link[rel=icon]").href}&again=${n}`;

// On every frame, and longer in a longer room and beside more rooms.
function every() {
  const messages = document.querySelector("#rooms > [aria-current]")?.dataset.messages ?? 0;
  burn(rows() / 5 + Math.min(messages / 40, 125));
  requestAnimationFrame(every);
}
every();

// On everything that comes: longer beside more rooms and, for who follows it, in a longer answer.
document.addEventListener("htmx:before:swap", () => {
  const list = document.getElementById("scroller");
  const follows = list && list.scrollHeight - list.scrollTop - list.clientHeight < 100;
  const answer = document.querySelector("#messages > article:last-of-type");
  burn(rows() / 5 + (follows && answer ? Math.min(answer.textContent.length / 100, 80) : 0));
});
