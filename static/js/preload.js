// Fetches the room under the pointer shortly before the click. Its socket sends what changes in between.

const HOVER_MS = 65;
const MAX_AGE_MS = 5000;
let preloaded = null;
let timer;

document.addEventListener("pointerover", ({ target, pointerType }) => {
  clearTimeout(timer);
  const link = pointerType === "mouse" && target.closest(".row:not([aria-current]) .row__link");
  if (!link || (preloaded?.href === link.href && Date.now() < preloaded.until)) return;
  timer = setTimeout(() => {
    const headers = { "HX-Request": "true", "HX-Request-Type": "partial" };
    const response = fetch(link.href, { headers });
    preloaded = { href: link.href, response, until: Date.now() + MAX_AGE_MS };
    response.catch(() => (preloaded = null)).then((result) => result?.ok || (preloaded = null));
  }, HOVER_MS);
});

document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (!ctx.sourceElement.matches?.(".row__link")) return;
  clearTimeout(timer);
  const { href } = ctx.sourceElement;
  if (preloaded?.href === href && Date.now() < preloaded.until) {
    const { response } = preloaded;
    ctx.fetch = () => response;
  }
  preloaded = null;
});
