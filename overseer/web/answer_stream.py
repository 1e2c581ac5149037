"""Following one answer over HTTP: until it has ended, or word by word as plain text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType

from overseer.domain.errors import NoSuchMessage, NoSuchRoom, StorageError
from overseer.domain.events import (
    MessagesCleared,
    MessagesDropped,
    PartAdded,
    PartChanged,
    PartGrew,
    RoomDeleted,
    RoomEvent,
    TurnEnded,
)
from overseer.domain.messages import Message, ToolCall
from overseer.domain.records import Asked
from overseer.rooms.overseer import Overseer

FOREVER = 7 * 24 * 3600.0  # seconds


class AnswerStream:
    """Hears what happens in a room from its making on; to be closed."""

    def __init__(self, overseer: Overseer, room_id: str) -> None:
        self._overseer = overseer
        self._room_id = room_id
        self._events: SimpleQueue[RoomEvent] = SimpleQueue()
        self._unsubscribe = overseer.subscribe(self._events.put, room_id)
        self._handed_over = False

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._handed_over:
            self.close()

    def close(self) -> None:
        """Hear no more."""
        self._unsubscribe()

    def wait(self, asked: Asked, seconds: float) -> None:
        """Return when the answer has ended, or after so many seconds."""
        until = time.monotonic() + min(seconds, FOREVER)
        if not (asked.repeated and self._is_over(asked)):
            for event in self._until(until):
                if self._ended(event, asked):
                    return

    def plain_text(self, asked: Asked) -> PlainText:
        """The answer's words as they come. What iterates it closes it; the answer goes on without."""
        self._handed_over = True
        return PlainText(self, self._wait_and_tell(asked) if asked.repeated else self._told(asked))

    def _until(self, until: float) -> Iterator[RoomEvent]:
        while (left := until - time.monotonic()) > 0:
            try:
                yield self._events.get(timeout=left)
            except Empty:
                return

    def _told(self, asked: Asked) -> Iterator[str]:
        speaking: int | None = None  # the part of text that grows
        working: int | None = None  # the tool call that has no result yet
        between = ""
        while True:
            event = self._events.get()
            if self._ended(event, asked):
                if working is not None and (part := self._part(asked, working)) is not None:
                    yield between + part.in_brackets
                yield self._ending(asked)
                return
            match event:
                case PartAdded(_, asked.answer, position, kind, text):
                    speaking = position if kind == "text" else None
                    working = position if kind == "tool_call" else None
                    if kind == "text":
                        yield between + text
                        between = "\n\n"
                case PartGrew(_, asked.answer, position, text) if position == speaking:
                    yield text
                case PartChanged(_, asked.answer, position):
                    working = None
                    part = self._part(asked, position)
                    if part is not None:
                        yield between + part.in_brackets
                        between = "\n\n"

    def _wait_and_tell(self, asked: Asked) -> Iterator[str]:
        self.wait(asked, FOREVER)
        with suppress(NoSuchRoom, NoSuchMessage, StorageError):  # the ending says so
            yield self._message(asked).text
        yield self._ending(asked)

    def _ended(self, event: RoomEvent, asked: Asked) -> bool:
        """Whether the answer has ended, as the event suggests. It may be older than the question: events come late."""
        if isinstance(event, TurnEnded):
            return event.number == asked.answer
        return isinstance(event, MessagesCleared | MessagesDropped | RoomDeleted) and self._is_over(asked)

    def _is_over(self, asked: Asked) -> bool:
        try:
            return self._message(asked).finished
        except (NoSuchRoom, NoSuchMessage, StorageError):
            return True  # nothing more comes of it

    def _ending(self, asked: Asked) -> str:
        try:
            message = self._message(asked)
        except (NoSuchRoom, NoSuchMessage):
            return "\n\n[deleted]\n"
        except StorageError as error:
            return f"\n\n[interrupted: {error}]\n"
        notes = [message.note] if message.note else []
        if message.state != "complete":
            notes.append(f"{message.state}: {message.reason}")
        return "".join(f"\n\n[{note}]" for note in notes) + "\n"

    def _part(self, asked: Asked, position: int) -> ToolCall | None:
        try:
            part = self._message(asked).parts[position]
        except (NoSuchRoom, NoSuchMessage, StorageError, IndexError):
            return None  # cleared away or asked again meanwhile
        return part if isinstance(part, ToolCall) else None

    def _message(self, asked: Asked) -> Message:
        return self._overseer.message(self._room_id, asked.answer)


class PlainText:
    """An iterable that ends its follower when it is closed, even before its first word."""

    def __init__(self, follower: AnswerStream, words: Iterator[str]) -> None:
        self._follower = follower
        self._words = words

    def __iter__(self) -> Iterator[bytes]:
        return (word.encode() for word in self._words if word)

    def close(self) -> None:
        """The client has it all, or has gone."""
        self._follower.close()
