// The page of a live share: whether it is connected.

document.addEventListener("htmx:ws:after:connection", () => (document.body.dataset.live = "open"));
document.addEventListener("htmx:ws:close", ({ detail: { code } }) => (document.body.dataset.live = code === 4404 ? "ended" : "closed"));
