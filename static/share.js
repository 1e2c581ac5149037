// The page of a live share: whether it is connected, and whether the share has ended.

document.addEventListener("htmx:ws:after:connection", () => (document.body.dataset.live = "open"));
document.addEventListener("htmx:ws:close", async ({ detail: { code } }) => {
  document.body.dataset.live = code === 4404 ? "ended" : "closed";
  if (code !== 1006) return;
  // A rejected handshake does not tell why.
  const response = await fetch(location.pathname, { method: "HEAD" }).catch(() => null);
  if (response?.status === 404) location.reload();
});
