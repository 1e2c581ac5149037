"""Invalidations: which fragments of the page an event makes stale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from overseer.domain.events import (
    ContextStartMoved,
    MessageAdded,
    MessageChanged,
    MessagesDeleted,
    PartAdded,
    PartChanged,
    PartGrew,
    PathChanged,
    RoomConfigured,
    RoomCreated,
    RoomDeleted,
    RoomEvent,
    RoomSynced,
    TurnDelayed,
    TurnEnded,
    TurnStarted,
)


@dataclass(frozen=True, slots=True)
class RowInvalidated:
    """A room's row in the list is stale. Its position is not."""

    room_id: str


@dataclass(frozen=True, slots=True)
class MovedToTop:
    """A room's row is stale and moves to the top of the list."""

    room_id: str


@dataclass(frozen=True, slots=True)
class ListInvalidated:
    """The whole list is stale."""


@dataclass(frozen=True, slots=True)
class DefaultModelInvalidated:
    """The name of the default model, below the list, is stale."""


@dataclass(frozen=True, slots=True)
class HeaderInvalidated:
    """The open room's header is stale."""


@dataclass(frozen=True, slots=True)
class MessagesInvalidated:
    """The whole message list is stale."""


@dataclass(frozen=True, slots=True)
class RoomGone:
    """The room was deleted."""


@dataclass(frozen=True, slots=True)
class ExchangeAdded:
    """The list ends with a new question and its answer, and the answers `beside` it."""

    question: int
    answer: int
    beside: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageInvalidated:
    """One whole message is stale."""

    number: int


@dataclass(frozen=True, slots=True)
class PartInvalidated:
    """One finished part of a message is stale."""

    number: int
    position: int


@dataclass(frozen=True, slots=True)
class GrowingPartInvalidated:
    """The last part of a streaming answer has new text."""

    number: int
    position: int


@dataclass(frozen=True, slots=True)
class ContextLineInvalidated:
    """The line above which the model no longer reads has moved."""


ListInvalidation = RowInvalidated | MovedToTop | DefaultModelInvalidated
RoomInvalidation = (
    HeaderInvalidated
    | MessagesInvalidated
    | RoomGone
    | ExchangeAdded
    | MessageInvalidated
    | PartInvalidated
    | GrowingPartInvalidated
    | ContextLineInvalidated
)


def list_invalidations(event: RoomEvent) -> Iterator[ListInvalidation | ListInvalidated]:
    """Yield what `event` makes stale in the list of rooms."""
    match event:
        case RoomSynced(moved=True):
            yield ListInvalidated()
        case RoomCreated(room_id) | RoomSynced(room_id, moved_to_top=True):
            yield MovedToTop(room_id)
        case RoomDeleted(room_id) | RoomSynced(room_id):
            yield RowInvalidated(room_id)


def room_invalidations(event: RoomEvent) -> Iterator[RoomInvalidation]:
    """Yield what `event` makes stale in its room."""
    match event:
        case PartGrew(_, number, position):
            yield GrowingPartInvalidated(number, position)
        case PartChanged(_, number, position):
            yield PartInvalidated(number, position)
        case MessageAdded(_, question, answer, beside):
            yield ExchangeAdded(question, answer, beside)
            if beside:
                yield HeaderInvalidated()  # it says how many messages are in other versions
        case MessageChanged(_, number) | PartAdded(_, number) | TurnEnded(_, number):
            yield MessageInvalidated(number)
        case TurnDelayed(_, number) | TurnStarted(_, number):
            yield MessageInvalidated(number)
        case MessagesDeleted() | PathChanged():
            yield MessagesInvalidated()
        case ContextStartMoved():
            yield ContextLineInvalidated()
        case RoomConfigured():
            yield HeaderInvalidated()
        case RoomDeleted():
            yield RoomGone()
