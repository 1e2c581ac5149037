// The Print command opens the room with all messages, and prints it there.

if (location.hash === "#print") {
  history.replaceState(null, "", location.pathname + location.search);
  addEventListener("load", () => print());
}
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-print]") || new URLSearchParams(location.search).get("all") !== "1") return;
  event.preventDefault();
  print();
});
