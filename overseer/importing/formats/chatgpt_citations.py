"""The marks of citations in the texts of ChatGPT, in place of which there are links.

Since 2025 a mark is a span of private characters, U+E200 "cite" U+E202 "turn0search1" U+E201, and the metadata of the
message has what it stands for. Before, it was 【12†source】, and the metadata had its position.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overseer.domain.messages import Reasoning, Source, Text
from overseer.importing import contents
from overseer.importing.conversations import Content
from overseer.importing.values import items, mapping, number, text

SPAN = re.compile("( ?)(\ue200[^\ue200\ue201]*\ue201)")
PRIVATE = re.compile("[\ue200-\ue206]")
BETWEEN = "\ue202"
OLD_MARK = re.compile(r"( ?)(【\d+(?::\d+)*†[^【】\n]*】)")
# Files that were read as Windows-1252 and written as UTF-8 have these instead.
MISREAD = {"ã€\x90": "【", "ã€‘": "】", "â€\xa0": "†"}
IMAGE = re.compile(r"!\[")
EMPTY_LINK = re.compile(r"\[([^\[\]]*)\]\(\)")
MAX_REFERENCES = 10_000


def cited(
    parts: Sequence[Content], metadata: Mapping[str, Any], *, is_answer: bool
) -> tuple[list[Content], list[Source]]:
    """Return the parts of a message with links instead of marks, and the pages that it cites."""
    if not is_answer:
        return list(parts), []
    marks = _Marks(metadata)
    made: list[Content] = []
    for part in parts:
        if isinstance(part, Text):
            made.append(Text(marks.resolve(part.text)))
        elif isinstance(part, Reasoning):
            made.append(Reasoning(marks.resolve(part.text), part.seconds))
        else:
            made.append(part)
    return made, list(dict.fromkeys(marks.sources))


class _Marks:
    """The marks of one message."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.sources: list[Source] = []
        self._references: dict[str, deque[str]] = {}
        for reference in map(mapping, items(metadata.get("content_references"))[:MAX_REFERENCES]):
            words = self._words_of(reference)
            matched = text(reference.get("matched_text"))
            spans = [found[2] for found in (*SPAN.finditer(matched), *OLD_MARK.finditer(matched))]
            for index, span in enumerate(spans):
                self._references.setdefault(span, deque()).append("" if index else words)
        self._citations = sorted(
            (mapping(one) for one in items(metadata.get("citations"))[:MAX_REFERENCES]),
            key=lambda one: number(one.get("start_ix")) or 0,
        )
        self.sources += filter(None, (_page(mapping(one.get("metadata"))) for one in self._citations))

    def resolve(self, words: str) -> str:
        """Return a text of the message with links instead of marks."""
        if "ã€" in words:
            for misread, right in MISREAD.items():
                words = words.replace(misread, right)
        if "【" in words:
            words = self._resolve_old(words)
        if "\ue200" in words:
            words = SPAN.sub(self._resolve_span, words)
        return contents.without_dead_links(PRIVATE.sub("", words))

    def _resolve_span(self, found: re.Match[str]) -> str:
        known = self._references.get(found[2])
        if known:
            words = known.popleft() if len(known) > 1 else known[0]
        else:
            words = _unknown_span(found[2][1:-1].split(BETWEEN))
        return f"{found[1]}{words}" if words else ""

    def _resolve_old(self, words: str) -> str:
        """Replace the old marks: by their positions, else in their order, else by nothing."""
        marks = list(OLD_MARK.finditer(words))
        by_position = {self._position(words, one): one for one in self._citations}
        placed = [by_position.get(mark.start(2)) for mark in marks]
        if not any(placed) and len(self._citations) == len(marks):
            placed = list(self._citations)
        made, at = [], 0
        for mark, citation in zip(marks, placed, strict=True):
            known = self._references.get(mark[2])
            replacement = _old_words(citation) if citation is not None else (known[0] if known else "")
            made += [words[at : mark.start()], f" {replacement}" if replacement else ""]
            at = mark.end()
        return "".join([*made, words[at:]])

    @staticmethod
    def _position(words: str, citation: Mapping[str, Any]) -> int:
        start = number(citation.get("start_ix"))
        return int(start) if start is not None and 0 <= start < len(words) else -1

    def _words_of(self, reference: Mapping[str, Any]) -> str:
        """Return what a mark stands for, and collect the pages."""
        pages = list(_pages_of(reference))
        self.sources += pages
        kind = text(reference.get("type"))
        if kind == "hidden" or kind.startswith("image"):
            return ""
        shown = [page for page in map(_page, map(mapping, items(reference.get("items")))) if page is not None]
        if kind.startswith("grouped_webpages") and shown:
            return f"({', '.join(map(contents.link, shown))})"
        alt = EMPTY_LINK.sub(r"\1", IMAGE.sub("[", text(reference.get("alt")))).strip()
        if alt:
            return alt
        if pages and kind != "sources_footnote":
            return f"({contents.link(pages[0])})"
        name = text(reference.get("name")) or text(reference.get("title")) or text(reference.get("prompt_text"))
        return f"({name})" if name and kind == "file" else name


def _pages_of(reference: Mapping[str, Any]) -> Iterator[Source]:
    """Yield the pages of a reference. They may be given in several ways."""
    found = [mapping(one) for key in ("items", "sources", "fallback_items") for one in items(reference.get(key))]
    nested = [mapping(one) for entry in found for one in items(entry.get("supporting_websites"))]
    pages = [page for page in map(_page, [reference, *found, *nested]) if page is not None]
    if not pages:
        pages = [page for page in map(contents.source, items(reference.get("safe_urls"))) if page is not None]
    yield from pages


def _page(entry: Mapping[str, Any]) -> Source | None:
    return contents.source(entry.get("url"), entry.get("title") or entry.get("attribution") or entry.get("name"))


def _old_words(citation: Mapping[str, Any]) -> str:
    metadata = mapping(citation.get("metadata"))
    page = _page(metadata)
    if page is not None:
        return f"({contents.link(page)})"
    name = text(metadata.get("name")) or text(metadata.get("title"))
    return f"({name})" if name else ""


def _unknown_span(fields: Sequence[str]) -> str:
    """Return what can be said of a mark that the metadata does not explain."""
    kind, *rest = fields
    if kind == "url" and len(rest) > 1 and (page := contents.source(rest[1], rest[0])) is not None:
        return contents.link(page)
    if kind == "entity" and rest:
        try:
            names = [text(one) for one in items(json.loads(rest[0]))]
        except (ValueError, RecursionError):
            return ""
        return names[1] if len(names) > 1 else ""
    return ""
