"""The answers that are being streamed, rendered block by block."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from markupsafe import Markup

from overseer.domain.events import (
    MessageChanged,
    MessagesDeleted,
    PartAdded,
    PartGrew,
    RoomDeleted,
    RoomEvent,
    TurnEnded,
)
from overseer.render.incremental_markdown import IncrementalMarkdown


@dataclass(frozen=True, slots=True)
class PartHtml:
    """The HTML of a growing part: its finished blocks, from a given one on, and its open block.

    `blocks` is the number of all finished blocks.
    """

    done: Markup
    open: Markup
    blocks: int


class StreamingAnswers:
    """Keeps the text of each growing answer, by room. It has to receive every event, from the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By the number of the answer: its last part, with its position. Only that grows.
        self._growing: dict[str, dict[int, tuple[int, IncrementalMarkdown]]] = {}

    def apply(self, event: RoomEvent) -> None:
        """Update the text with an event."""
        with self._lock:
            if isinstance(event, PartGrew):
                if markdown := self._find(event.room_id, event.number, event.position):
                    markdown.add(event.text)
            elif isinstance(event, PartAdded):
                of_room = self._growing.setdefault(event.room_id, {})
                of_room[event.number] = event.position, IncrementalMarkdown(event.text)
            elif isinstance(event, TurnEnded | MessageChanged):
                of_room = self._growing.get(event.room_id, {})
                of_room.pop(event.number, None)
                if not of_room:
                    self._growing.pop(event.room_id, None)
            elif isinstance(event, MessagesDeleted | RoomDeleted):
                self._growing.pop(event.room_id, None)

    def growth(self, room_id: str, number: int, position: int, *, since: int = 0) -> PartHtml | None:
        """Return the part, without its first `since` finished blocks, or None if it does not grow."""
        with self._lock:
            markdown = self._find(room_id, number, position)
            return _part_html(markdown, since) if markdown else None

    def of_text(self, text: str) -> PartHtml:
        """Return a growing part with this text, for a part whose events are still to come."""
        return _part_html(IncrementalMarkdown(text), 0)

    def _find(self, room_id: str, number: int, position: int) -> IncrementalMarkdown | None:
        of_room = self._growing.get(room_id)
        growing, markdown = of_room.get(number, (-1, None)) if of_room else (-1, None)
        return markdown if growing == position else None


def _part_html(markdown: IncrementalMarkdown, since: int) -> PartHtml:
    count, open_block = markdown.snapshot()
    return PartHtml(Markup("".join(markdown.blocks[since:])), Markup(open_block), count)
