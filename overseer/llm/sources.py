"""What an answer refers to or contains besides text and pictures: cited pages, sound.

Citations come as `annotations` of the message (OpenAI, OpenRouter), as `citations` or `search_results` of the chunk
(Perplexity, xAI), or as `context.citations` (Azure).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from overseer.domain.addresses import split_url
from overseer.domain.messages import Source
from overseer.domain.text import clean
from overseer.llm.pictures import PICTURE_TYPES, PictureCollector

MAX_SOURCES = 50
MAX_LISTED = 500  # entries of one list that are looked at
MAX_SOURCE_URL_CHARS = 2000
MAX_TITLE_CHARS = 200
TEXT_TYPES = ("text", "output_text", "refusal", "thinking", "reasoning")
SOUND_TYPES = ("audio", "input_audio", "output_audio")


class SourceCollector:
    """Collects the sources of one answer, each address once, and the kinds of what cannot be shown.

    `unshown` are keys of `LEFT_OUT`.
    """

    def __init__(self) -> None:
        self.unshown: set[str] = set()
        self._sources: dict[str, Source] = {}

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources until now, in the order of their first mention."""
        return tuple(self._sources.values())

    def add_chunk(self, chunk: Mapping[str, object]) -> None:
        """Add the sources that a chunk names beside its choices."""
        self._add(chunk.get("citations"))
        self._add(chunk.get("search_results"))

    def add_message(self, message: Mapping[str, object]) -> None:
        """Add what a delta or a whole message has besides text."""
        context = message.get("context")
        self._add(message.get("annotations"))
        self._add(context.get("citations") if isinstance(context, Mapping) else None)
        if message.get("audio"):
            self.unshown.add("sound")
        for part in _listed(message.get("content")):
            kind = part.get("type") if isinstance(part, Mapping) else None
            if isinstance(kind, str) and kind not in (*TEXT_TYPES, *PICTURE_TYPES):
                self.unshown.add("sound" if kind in SOUND_TYPES else "unknown_part")

    def add_pictures(self, pictures: PictureCollector) -> None:
        """Add the pictures that are on the web, as sources: the page loads nothing from other servers."""
        self._add([{"url": link, "title": "Picture"} for link in pictures.links])
        if pictures.unshown:
            self.unshown.add("picture")

    def _add(self, entries: object) -> None:
        for source in filter(None, map(_source, _listed(entries))):
            known = self._sources.get(source.url)
            if known is None and len(self._sources) >= MAX_SOURCES:
                return
            if known is None or not known.title:
                self._sources[source.url] = source


def _listed(value: object) -> Iterator[object]:
    yield from value[:MAX_LISTED] if isinstance(value, list) else ()


def _source(entry: object) -> Source | None:
    """Return a source from an address, or from an object with one; None for another scheme than http and https."""
    if isinstance(entry, Mapping) and isinstance(inner := entry.get("url_citation"), Mapping):
        entry = inner
    url, title = (entry.get("url"), entry.get("title")) if isinstance(entry, Mapping) else (entry, "")
    if not isinstance(url, str) or len(url) > MAX_SOURCE_URL_CHARS or clean(url) != url or not url.isprintable():
        return None
    parts = split_url(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return Source(url, " ".join(clean(title).split())[:MAX_TITLE_CHARS] if isinstance(title, str) else "")
