// Patches a growing answer into the elements that exist already, so that the reader's selection, focus and horizontal scroll
// position stay, also when the answer ends.
//
// The server sends finished blocks once, to `.part__done`, and the open block with every update, to `.part__open`; a long
// list, table or code block is sent in chunks (`--more`). This script joins them: `.part__done` holds whole blocks, as it
// does when the answer has ended. `data-blocks` is the number of finished blocks, `data-nodes` the number of finished nodes
// in the last block, and `data-end` the length of that block's last text.

const KEPT = ["data-wrapped", "data-unfolded", "aria-pressed", "open"]; // set by the reader
const isMore = (element) => /--more\b/.test(element.className);

/** The element that holds the items of a list, the rows of a table or the text of code. */
const contentOf = (block) =>
  block.matches(".table") ? block.querySelector("tbody") : block.matches(".code") ? block.querySelector("code") : block;

function patch(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType === Node.TEXT_NODE) {
    // Replace only the new end: a selection in replaced text is lost.
    let same = 0;
    if (fresh.data.startsWith(old.data)) same = old.length;
    else while (old.data[same] === fresh.data[same]) same++;
    old.replaceData(same, old.length - same, fresh.data.slice(same));
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !KEPT.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  patchFrom(old, old.firstChild, [...fresh.childNodes]);
}

/** Patches the children of an element, from `at` on, to equal `nodes`, and removes those left over. */
function patchFrom(parent, at, nodes) {
  for (const node of nodes) {
    if (at && at.nodeName === node.nodeName && at.nodeType === node.nodeType) {
      patch(at, node);
      at = at.nextSibling;
    } else {
      parent.insertBefore(node, at);
    }
  }
  removeFrom(at);
}

/** Removes a node and all its following siblings. */
function removeFrom(at) {
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** The position in a part up to which it is finished: the block, its number of nodes, and the length of its last text. */
class Cursor {
  constructor(done) {
    this.done = done;
    this.block = done.children[Number(done.dataset.blocks ?? 0) - 1] ?? null;
    this.nodes = Number(done.dataset.nodes ?? 0);
    this.end = Number(done.dataset.end ?? 0);
  }

  save(finished) {
    const { dataset } = this.done;
    dataset.blocks = Number(dataset.blocks ?? 0) + finished;
    dataset.nodes = this.nodes;
    dataset.end = this.end;
  }

  /** Adds a block, or the next chunk of the last block; returns whether it is a new block. */
  add(element) {
    if (this.block && isMore(element)) {
      this.continue([...contentOf(element).childNodes]);
      return false;
    }
    this.finish();
    const next = this.block ? this.block.nextElementSibling : this.done.firstElementChild;
    if (next && next.nodeName === element.nodeName) {
      patch(next, element);
      this.block = next;
    } else {
      this.done.insertBefore(element, next);
      element.after("\n");
      this.block = element;
    }
    const { childNodes } = contentOf(this.block);
    this.nodes = childNodes.length;
    this.end = this.block.matches(".code") ? (contentOf(this.block).lastChild?.length ?? 0) : 0;
    return true;
  }

  continue(nodes) {
    const parent = contentOf(this.block);
    const last = parent.childNodes[this.nodes - 1];
    if (this.block.matches(".code")) {
      if (last?.nodeType === Node.TEXT_NODE) {
        const first = nodes[0]?.nodeType === Node.TEXT_NODE ? nodes.shift().data : "";
        patch(last, document.createTextNode(last.data.slice(0, this.end) + first));
      }
    } else if (nodes[0]?.nodeType === Node.TEXT_NODE) {
      nodes.shift(); // the line break before an item, which exists already
    }
    patchFrom(parent, last ? last.nextSibling : parent.firstChild, nodes);
    this.nodes = parent.childNodes.length;
    this.end = this.block.matches(".code") ? (parent.lastChild?.length ?? 0) : 0;
  }

  /** Removes what was shown of the last block beyond its finished nodes. */
  finish() {
    if (this.block) this.continue([]);
  }
}

/** Adds finished blocks to a part and shows the open block after them. */
function grow(done, finished, open) {
  const cursor = new Cursor(done);
  let count = 0;
  for (const element of finished) count += cursor.add(element);
  cursor.save(count);
  for (const element of open) cursor.add(element);
  if (!open.length) cursor.finish();
  const rest = cursor.block ? cursor.block.nextElementSibling : done.firstElementChild;
  removeFrom(rest);
}

/** Joins the finished and the open blocks that the server rendered. */
function assemble(root) {
  for (const open of root.querySelectorAll(".part__open")) {
    const done = open.previousElementSibling;
    const finished = [...done.children];
    done.replaceChildren();
    grow(done, finished, [...open.children]);
    open.replaceChildren();
  }
}

document.addEventListener("htmx:before:swap", ({ detail: { tasks } }) => {
  let finished = [];
  for (const task of [...tasks]) {
    const { id = "", nextElementSibling, previousElementSibling } = task.target ?? {};
    if (task.type === "partial" && /^part-\d+-\d+-done$/.test(id) && nextElementSibling?.matches(".part__open")) {
      finished = [...task.fragment.children];
    } else if (task.type === "partial" && /^part-\d+-\d+-open$/.test(id)) {
      grow(previousElementSibling, finished, [...task.fragment.children]);
      finished = [];
    } else {
      if (task.fragment?.firstElementChild) assemble(task.fragment);
      continue;
    }
    tasks.splice(tasks.indexOf(task), 1);
  }
});

assemble(document);
