// What a page is made slow with, for its rows of the benchmark to be seen over their bounds.

const burn = (ms) => {
  for (const until = performance.now() + ms; performance.now() < until; );
};

burn(300);
for (let n = 0; n < 20; n++) new Image().src = `${document.querySelector("link[rel=icon]").href}&again=${n}`;

// On every frame, and longer in a longer room and beside more rooms.
function every() {
  const rows = document.querySelectorAll("#rooms > .row");
  const messages = document.querySelector("#rooms > [aria-current]")?.dataset.messages ?? 0;
  burn(rows.length / 5 + Math.min(messages / 40, 125));
  requestAnimationFrame(every);
}
every();
