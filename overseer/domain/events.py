"""What happened, in the past tense: plain data, told only after it was committed.

The one exception is the text of a growing answer, which is written about once a second (see `ChatRoom`).
"""

from __future__ import annotations

from dataclasses import dataclass

from overseer.domain.messages import State


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """Something happened in the room `room_id`."""

    room_id: str


@dataclass(frozen=True, slots=True)
class MessageAdded(RoomEvent):
    """A question was stored, and with it the row of its answer."""

    question: int
    answer: int


@dataclass(frozen=True, slots=True)
class MessageChanged(RoomEvent):
    """One message is not what it was: edited, or about to be answered again."""

    number: int


@dataclass(frozen=True, slots=True)
class PartAdded(RoomEvent):
    """The growing answer `number` got a new part of a `kind`, beginning with `text` (empty for a tool call)."""

    number: int
    position: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class PartGrew(RoomEvent):
    """A part of the growing answer `number` got `text` more."""

    number: int
    position: int
    text: str


@dataclass(frozen=True, slots=True)
class PartChanged(RoomEvent):
    """A tool call ended."""

    number: int
    position: int


@dataclass(frozen=True, slots=True)
class TurnEnded(RoomEvent):
    """The answer `number` has reached its last state."""

    number: int
    state: State


@dataclass(frozen=True, slots=True)
class TurnDelayed(RoomEvent):
    """The model of the answer `number` has no time now; it will be asked again in a while."""

    number: int


@dataclass(frozen=True, slots=True)
class ReadingMoved(RoomEvent):
    """The model reads the room from the message `number` on; 0 stands for all of it."""

    number: int


@dataclass(frozen=True, slots=True)
class MessagesCleared(RoomEvent):
    """All messages of the room are gone."""


@dataclass(frozen=True, slots=True)
class MessagesDropped(RoomEvent):
    """The messages after `number` are gone, but for the answer to it, which is being made anew."""

    number: int


@dataclass(frozen=True, slots=True)
class RoomCreated(RoomEvent):
    """There is a new room."""


@dataclass(frozen=True, slots=True)
class RoomRenamed(RoomEvent):
    """The room has another name."""


@dataclass(frozen=True, slots=True)
class RoomConfigured(RoomEvent):
    """The room has other settings."""


@dataclass(frozen=True, slots=True)
class RoomSynced(RoomEvent):
    """The registry's summary of the room was refreshed; `raised` if the room moved to the top of its part of the list,
    `moved` if it went elsewhere."""

    raised: bool
    moved: bool = False


@dataclass(frozen=True, slots=True)
class RoomDeleted(RoomEvent):
    """The room and its files are gone for good."""
