// The Print command opens the room with all messages, and prints it there. messages.js loads this file for such an address.

if (location.hash === "#print") {
  history.replaceState(null, "", location.pathname + location.search);
  if (document.readyState === "complete") print();
  else addEventListener("load", () => print());
}
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-print]") || new URLSearchParams(location.search).get("all") !== "1") return;
  event.preventDefault();
  print();
});
