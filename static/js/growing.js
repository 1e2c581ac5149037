// A growing answer: what comes goes into the elements that are there, so that what a reader selected, scrolled sideways or
// has the focus in stays, also when the answer ends.
//
// The server sends finished blocks once, to `.part__done`, and the open one again and again, to `.part__open`; a long list,
// table or piece of code comes in pieces (`--more`). Here all of it becomes one: `.part__done` holds the blocks, each
// whole, as they are when the answer has ended. `data-blocks` counts those that were finished, `data-nodes` what is
// finished in the last of them, and `data-end` the characters of its last text.

const KEPT = ["data-wrapped", "aria-pressed", "open"]; // what a reader did to an element
const isMore = (element) => /--more\b/.test(element.className);

/** Where the items of a list, the rows of a table or the words of code are. */
const inside = (block) =>
  block.matches(".table") ? block.querySelector("tbody") : block.matches(".code") ? block.querySelector("code") : block;

function patch(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType === Node.TEXT_NODE) {
    // Only what is new: a selection loses its place in what is replaced.
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

/** Makes the children of an element from `at` on like these; returns none that are left over. */
function patchFrom(parent, at, nodes) {
  for (const node of nodes) {
    if (at && at.nodeName === node.nodeName && at.nodeType === node.nodeType) {
      patch(at, node);
      at = at.nextSibling;
    } else {
      parent.insertBefore(node, at);
    }
  }
  cut(at);
}

/** Removes a node and all after it. */
function cut(at) {
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** How far a part has come: the block, and in it the number of nodes and the characters of the last, if that is a text. */
class Place {
  constructor(done) {
    this.done = done;
    this.block = done.children[Number(done.dataset.blocks ?? 0) - 1] ?? null;
    this.nodes = Number(done.dataset.nodes ?? 0);
    this.end = Number(done.dataset.end ?? 0);
  }

  keep(finished) {
    const { dataset } = this.done;
    dataset.blocks = Number(dataset.blocks ?? 0) + finished;
    dataset.nodes = this.nodes;
    dataset.end = this.end;
  }

  /** Goes on with a block, which may be the next piece of the last one; returns whether it is a new one. */
  add(element) {
    if (this.block && isMore(element)) {
      this.continue([...inside(element).childNodes]);
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
    const { childNodes } = inside(this.block);
    this.nodes = childNodes.length;
    this.end = this.block.matches(".code") ? (inside(this.block).lastChild?.length ?? 0) : 0;
    return true;
  }

  continue(nodes) {
    const parent = inside(this.block);
    const last = parent.childNodes[this.nodes - 1];
    if (this.block.matches(".code")) {
      if (last?.nodeType === Node.TEXT_NODE) {
        const first = nodes[0]?.nodeType === Node.TEXT_NODE ? nodes.shift().data : "";
        patch(last, document.createTextNode(last.data.slice(0, this.end) + first));
      }
    } else if (nodes[0]?.nodeType === Node.TEXT_NODE) {
      nodes.shift(); // the line end before an item, which is there
    }
    patchFrom(parent, last ? last.nextSibling : parent.firstChild, nodes);
    this.nodes = parent.childNodes.length;
    this.end = this.block.matches(".code") ? (parent.lastChild?.length ?? 0) : 0;
  }

  /** The last block does not go on. */
  finish() {
    if (this.block) this.continue([]);
  }
}

/** Adds finished blocks to a part and shows the open one after them. */
function grow(done, finished, open) {
  const place = new Place(done);
  let count = 0;
  for (const element of finished) count += place.add(element);
  place.keep(count);
  for (const element of open) place.add(element);
  if (!open.length) place.finish();
  const rest = place.block ? place.block.nextElementSibling : done.firstElementChild;
  cut(rest);
}

/** Makes one of what the server rendered in two. */
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
