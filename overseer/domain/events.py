"""Events of rooms, named in the past tense. An event is emitted after its commit.

The exception is the text of a growing answer: it is emitted at once and written about once a second (see `ChatRoom`).
"""

from __future__ import annotations

from dataclasses import dataclass

from overseer.domain.messages import State


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """The base class of all events."""

    room_id: str


@dataclass(frozen=True, slots=True)
class MessageAdded(RoomEvent):
    """A question and its empty answer were stored; if several models were asked, also the answers `beside` it."""

    question: int
    answer: int
    beside: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageChanged(RoomEvent):
    """The answer `number` is to be continued."""

    number: int


@dataclass(frozen=True, slots=True)
class PartAdded(RoomEvent):
    """A growing answer got a new part. `text` is its first text, empty for a tool call or file.

    When an answer is continued, the event is emitted for its last part, with the whole text.
    """

    number: int
    position: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class PartGrew(RoomEvent):
    """`text` was appended to a part of a growing answer."""

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
    """The answer `number` reached its final state."""

    number: int
    state: State


@dataclass(frozen=True, slots=True)
class TurnStarted(RoomEvent):
    """The turn of the answer `number`, which was queued, started."""

    number: int


@dataclass(frozen=True, slots=True)
class TurnDelayed(RoomEvent):
    """The turn of the answer `number` started or stopped waiting for a busy model server."""

    number: int


@dataclass(frozen=True, slots=True)
class ContextStartMoved(RoomEvent):
    """The model now reads the room from the message `number` on; 0 means the whole room."""

    number: int


@dataclass(frozen=True, slots=True)
class MessagesDeleted(RoomEvent):
    """All messages were deleted."""


@dataclass(frozen=True, slots=True)
class PathChanged(RoomEvent):
    """The shown path has changed: another version is shown, or a question that waited was removed."""


@dataclass(frozen=True, slots=True)
class ShareRevoked(RoomEvent):
    """The share `number` was revoked."""

    number: int


@dataclass(frozen=True, slots=True)
class RoomCreated(RoomEvent):
    """A room was created."""


@dataclass(frozen=True, slots=True)
class RoomConfigured(RoomEvent):
    """The name or the settings of the room were changed."""


@dataclass(frozen=True, slots=True)
class RoomSynced(RoomEvent):
    """The registry's summary of the room was updated.

    `moved_to_top` if the room moved to the top of its part of the list (pinned or not), `moved` if it moved elsewhere.
    """

    moved_to_top: bool
    moved: bool = False


@dataclass(frozen=True, slots=True)
class RoomDeleted(RoomEvent):
    """The room and its files were deleted."""
