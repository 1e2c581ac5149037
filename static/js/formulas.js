// A selection with formulas is copied with their LaTeX, which MathML holds as an annotation.

const FORMULA = ".part math";

function latexOf(formula) {
  const latex = formula.querySelector("annotation")?.textContent ?? formula.textContent;
  return formula.getAttribute("display") === "block" ? `$$${latex}$$` : `$${latex}$`;
}

/** The formula that a position is in. */
const formulaAround = (node) => (node.closest ? node : node.parentElement)?.closest(FORMULA);

document.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (selection.isCollapsed || !selection.rangeCount || event.target.closest?.("input, textarea")) return;
  const range = selection.getRangeAt(0).cloneRange();
  const first = formulaAround(range.startContainer);
  const last = formulaAround(range.endContainer);
  if (first) range.setStartBefore(first);
  if (last) range.setEndAfter(last);
  const copied = document.createElement("div");
  copied.append(range.cloneContents());
  const formulas = copied.querySelectorAll("math");
  if (!formulas.length) return;
  for (const formula of formulas) formula.replaceWith(latexOf(formula));
  // Only the text of a rendered element has the line breaks of its blocks.
  copied.className = "copied";
  document.body.append(copied);
  event.clipboardData.setData("text/plain", copied.innerText);
  copied.remove();
  event.preventDefault();
});
