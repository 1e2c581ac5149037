// The menu of a row in the list: one for all rows. It is filled in when it opens, and again when its row changes. Loaded when it
// is first opened.

const rowMenu = document.getElementById("row-menu");
let menuRoom = ""; // the id of the row
const menuRow = () => document.getElementById(menuRoom);
document.addEventListener("click", ({ target }) => (menuRoom = target.closest(".row__more")?.closest(".row").id ?? menuRoom), { capture: true });

function fillRowMenu() {
  const { rename: url, messages, hidden, pinned, archived, temporary } = menuRow().dataset;
  const { name } = menuRow().querySelector(".row__more").dataset;
  const count = messages === "1" ? "1 message" : `${messages} messages`;
  const others = hidden ? `, and ${hidden} in other versions` : "";
  const [pin, archive, , fork, clear, remove] = rowMenu.querySelectorAll("button");
  for (const [button, flag, does, undoes] of [[pin, pinned, "Pin", "Unpin"], [archive, archived, "Archive", "Unarchive"]]) {
    button.ariaLabel = flag === undefined ? does : undoes;
    button.value = flag === undefined ? "1" : "0";
    button.setAttribute("hx-patch", url);
  }
  pin.className = `menu__item menu__item--live icon--${pin.ariaLabel.toLowerCase()}`;
  archive.hidden = temporary !== undefined;
  fork.setAttribute("hx-post", `${url}/fork`);
  clear.setAttribute("hx-delete", `${url}/messages`);
  clear.setAttribute("hx-confirm", `Clear all ${count} in “${name}”${others} and its shares? This can’t be undone.`);
  clear.hidden = messages === "0";
  remove.setAttribute("hx-delete", url);
  remove.setAttribute("hx-confirm", `Delete “${name}”?${messages === "0" ? "" : ` Its ${count}${others} will be gone for good.`}`);
}
rowMenu.addEventListener("beforetoggle", ({ newState }) => {
  for (const row of document.querySelectorAll(".row[data-menu]")) row.removeAttribute("data-menu");
  if (newState !== "open" || !menuRow()) return;
  menuRow().setAttribute("data-menu", "");
  fillRowMenu();
  const { bottom, left } = menuRow().querySelector(".row__more").getBoundingClientRect();
  Object.assign(rowMenu.style, { left: `${left}px`, top: `min(${bottom + 4}px, calc(100dvh - 15rem))` });
});
document.addEventListener("rooms:changed", () => {
  if (!rowMenu.matches(":popover-open")) return;
  if (menuRow()) fillRowMenu();
  else rowMenu.hidePopover();
});
rowMenu.addEventListener("toggle", ({ newState }) => newState === "open" && rowMenu.querySelector("button").focus());
rowMenu.addEventListener("focusout", ({ relatedTarget }) => {
  if (relatedTarget && !rowMenu.contains(relatedTarget) && rowMenu.matches(":popover-open")) rowMenu.hidePopover();
});
rowMenu.querySelector("[data-rename-room]").addEventListener("click", () => {
  if (menuRow()) document.dispatchEvent(new CustomEvent("room:rename", { detail: menuRow() }));
});
// Before the action, whose confirmation returns the focus to where it was.
rowMenu.addEventListener("click", () => rowMenu.matches(":popover-open") && rowMenu.hidePopover(), { capture: true });
