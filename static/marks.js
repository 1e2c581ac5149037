// Marks the words of a search in the message that it led to. messages.js loads this file for addresses with `mark=`.

const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

function mark() {
  const words = new URLSearchParams(location.search).get("mark")?.match(/(?<!\S)-?"[^"]*"?|[^\s"]+/g) ?? [];
  const wanted = words.filter((word) => word[0] !== "-").map((word) => plain(word.replaceAll('"', "").trim())).filter(Boolean);
  const article = /^#message-\d+$/.test(location.hash) && document.querySelector(`${location.hash} .message__body`);
  CSS.highlights?.delete("found");
  if (!article || !wanted.length || !CSS.highlights) return;
  const found = new Highlight();
  const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const places = []; // where each character of the plain text comes from
    let [text, place] = ["", 0];
    for (const letter of node.data) {
      text += plain(letter);
      while (places.length < text.length) places.push(place);
      place += letter.length;
    }
    for (const word of wanted)
      for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
        const range = new Range();
        range.setStart(node, places[at] ?? 0);
        range.setEnd(node, places[at + word.length] ?? node.data.length);
        found.add(range);
      }
  }
  CSS.highlights.set("found", found);
}

document.addEventListener("room:opened", mark);
mark();
