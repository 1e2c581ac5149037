"""Following one answer over HTTP: waiting for its end, or streaming it as plain text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue

from overseer.domain.errors import NoSuchMessage, NoSuchRoom, StorageError
from overseer.domain.events import (
    MessagesDeleted,
    PartAdded,
    PartChanged,
    PartGrew,
    PathChanged,
    RoomDeleted,
    RoomEvent,
    TurnEnded,
)
from overseer.domain.messages import File, Message, Part, Text, ToolCall
from overseer.domain.records import Asked
from overseer.llm.model_name import model_label
from overseer.rooms.overseer import Overseer

MAX_WAIT_SECONDS = 7 * 24 * 3600.0


class AnswerStream:
    """Subscribes to the events of a room, from before a question is asked until it is closed."""

    def __init__(self, overseer: Overseer, room_id: str) -> None:
        self._room = overseer.room(room_id)
        self._events: SimpleQueue[RoomEvent] = SimpleQueue()
        self._unsubscribe = overseer.subscribe(self._events.put, room_id)

    def close(self) -> None:
        """Unsubscribe."""
        self._unsubscribe()

    def wait(self, asked: Asked, seconds: float) -> None:
        """Return when all answers have ended, or after `seconds`."""
        deadline = time.monotonic() + min(seconds, MAX_WAIT_SECONDS)
        for one in _one_by_one(asked):
            if not (one.repeated and self._is_over(one)):
                for event in self._events_until(deadline):
                    if self._has_ended(event, one):
                        break

    def plain_text(self, asked: Asked) -> Iterator[bytes]:
        """Return the text of the answer as it grows, in UTF-8. The answer continues if the client disconnects.

        Of several answers, each follows the one before, under the name of its model.
        """
        return (piece.encode() for piece in self._texts(asked) if piece)

    def _texts(self, asked: Asked) -> Iterator[str]:
        for one in _one_by_one(asked):
            if asked.beside:
                yield "\n" * (one.answer != asked.answer) + f"[{self._model_of(one)}]\n"
            yield from self._whole_text(one) if one.repeated else self._growing_text(one)

    def _model_of(self, asked: Asked) -> str:
        for message in asked.messages:
            if message.number == asked.answer:
                return model_label(message.asked_model)
        with suppress(NoSuchRoom, NoSuchMessage, StorageError):
            return model_label(self._message(asked).asked_model)
        return "deleted"

    def _events_until(self, deadline: float) -> Iterator[RoomEvent]:
        while (left := deadline - time.monotonic()) > 0:
            try:
                yield self._events.get(timeout=left)
            except Empty:
                return

    def _growing_text(self, asked: Asked) -> Iterator[str]:
        growing: int | None = None  # the position of the text part that grows
        running: int | None = None  # the position of the tool call without a result
        separator = ""
        while True:
            event = self._events.get()
            if self._has_ended(event, asked):
                if running is not None and (call := self._part(asked, running)) is not None:
                    yield separator + call.in_brackets
                yield self._ending(asked)
                return
            match event:
                case PartAdded(_, asked.answer, position, kind, text):
                    growing = position if kind == "text" else None
                    running = position if kind == "tool_call" else None
                    if kind == "text":
                        yield separator + text
                        separator = "\n\n"
                    elif kind == "file" and (file := self._part(asked, position)) is not None:
                        yield separator + file.in_brackets
                        separator = "\n\n"
                case PartGrew(_, asked.answer, position, text) if position == growing:
                    yield text
                case PartChanged(_, asked.answer, position):
                    running = None
                    if (call := self._part(asked, position)) is not None:
                        yield separator + call.in_brackets
                        separator = "\n\n"

    def _whole_text(self, asked: Asked) -> Iterator[str]:
        self.wait(asked, MAX_WAIT_SECONDS)
        with suppress(NoSuchRoom, NoSuchMessage, StorageError):  # then the ending says why
            yield "\n\n".join(filter(None, map(_as_text, self._message(asked).parts)))
        yield self._ending(asked)

    def _has_ended(self, event: RoomEvent, asked: Asked) -> bool:
        """Whether the answer has ended, as the event suggests. The event may be older than the question."""
        if isinstance(event, TurnEnded):
            return event.number == asked.answer
        return isinstance(event, MessagesDeleted | PathChanged | RoomDeleted) and self._is_over(asked)

    def _is_over(self, asked: Asked) -> bool:
        try:
            return self._message(asked).finished
        except (NoSuchRoom, NoSuchMessage, StorageError):
            return True

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

    def _part(self, asked: Asked, position: int) -> ToolCall | File | None:
        try:
            part = self._message(asked).parts[position]
        except (NoSuchRoom, NoSuchMessage, StorageError, IndexError):
            return None  # the room was cleared, or the question asked again
        return part if isinstance(part, ToolCall | File) else None

    def _message(self, asked: Asked) -> Message:
        return self._room.message(asked.answer)


def _as_text(part: Part) -> str:
    if isinstance(part, ToolCall | File):
        return part.in_brackets
    return part.text if isinstance(part, Text) else ""


def _one_by_one(asked: Asked) -> Iterator[Asked]:
    """Yield each answer as if it were the only one.

    Those after the first are like repeated ones: they may end while the first is followed, which takes their events.
    """
    yield replace(asked, beside=())
    for answer in asked.beside:
        yield replace(asked, answer=answer, beside=(), repeated=True)
