// The room under the pointer is fetched a moment before the click. Its socket brings what changes meanwhile.

const DWELL = 65; // milliseconds on a row that mean it
const FRESH = 5000; // milliseconds that it is good for
let ahead = null;
let timer;

document.addEventListener("pointerover", ({ target, pointerType }) => {
  clearTimeout(timer);
  const link = pointerType === "mouse" && target.closest(".row:not([aria-current]) .row__link");
  if (!link || (ahead?.href === link.href && Date.now() < ahead.until)) return;
  timer = setTimeout(() => {
    const headers = { "HX-Request": "true", "HX-Request-Type": "partial" };
    const answer = fetch(link.href, { headers });
    ahead = { href: link.href, answer, until: Date.now() + FRESH };
    answer.catch(() => (ahead = null)).then((response) => response?.ok || (ahead = null));
  }, DWELL);
});

document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (!ctx.sourceElement.matches?.(".row__link")) return;
  clearTimeout(timer);
  const { href } = ctx.sourceElement;
  if (ahead?.href === href && Date.now() < ahead.until) {
    const { answer } = ahead;
    ctx.fetch = () => answer;
  }
  ahead = null;
});
