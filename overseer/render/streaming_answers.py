"""The growing answers as the web half knows them: Markdown rendered block by block while it comes."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from markupsafe import Markup

from overseer.domain.events import (
    MessageChanged,
    MessagesCleared,
    MessagesDropped,
    PartAdded,
    PartGrew,
    RoomDeleted,
    RoomEvent,
    TurnEnded,
)
from overseer.render.incremental_markdown import IncrementalMarkdown


@dataclass(frozen=True, slots=True)
class Growth:
    """A growing part as it is now: the HTML of its finished blocks, from some place on, and of the open one.

    `blocks` is how many are finished in all.
    """

    done: Markup
    open: Markup
    blocks: int


class StreamingAnswers:
    """What every growing answer says so far, by room; it hears every event, from the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # One answer grows in a room at a time, and only its last part does.
        self._growing: dict[str, tuple[int, int, IncrementalMarkdown]] = {}

    def apply(self, event: RoomEvent) -> None:
        """Keep up with what happened."""
        with self._lock:
            if isinstance(event, PartGrew):
                known = self._growing.get(event.room_id)
                if known is not None and known[:2] == (event.number, event.position):
                    known[2].add(event.text)
            elif isinstance(event, PartAdded):
                self._growing[event.room_id] = (event.number, event.position, IncrementalMarkdown(event.text))
            elif isinstance(event, TurnEnded | MessageChanged | MessagesCleared | MessagesDropped | RoomDeleted):
                self._growing.pop(event.room_id, None)

    def growth(self, room_id: str, number: int, position: int, *, since: int = 0) -> Growth | None:
        """The growing part as it is now, without the first `since` of its finished blocks; None if it does not grow."""
        with self._lock:
            known = self._growing.get(room_id)
            if known is None or known[:2] != (number, position):
                return None
            return _growth(known[2], since)

    def of_text(self, text: str) -> Growth:
        """A growing part that says `text`, for one that is not known yet."""
        return _growth(IncrementalMarkdown(text), 0)


def _growth(growing: IncrementalMarkdown, since: int) -> Growth:
    count, open_block = growing.snapshot()
    return Growth(Markup("".join(growing.blocks[since:])), Markup(open_block), count)
