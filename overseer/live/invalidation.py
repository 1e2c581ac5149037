"""Which fragments an event makes stale, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from overseer.domain.events import (
    MessageAdded,
    MessageChanged,
    MessagesCleared,
    MessagesDropped,
    PartAdded,
    PartChanged,
    PartGrew,
    ReadingMoved,
    RoomConfigured,
    RoomCreated,
    RoomDeleted,
    RoomEvent,
    RoomRenamed,
    RoomSynced,
    TurnDelayed,
    TurnEnded,
)


@dataclass(frozen=True, slots=True)
class Row:
    """A room's row in the list, where it is."""

    room_id: str


@dataclass(frozen=True, slots=True)
class MovedToTop:
    """A room's row, which belongs on top of the list now."""

    room_id: str


@dataclass(frozen=True, slots=True)
class Order:
    """The list, whole."""


@dataclass(frozen=True, slots=True)
class DefaultModel:
    """What is said below the list of the model that answers by default."""


@dataclass(frozen=True, slots=True)
class Header:
    """The open room's header."""


@dataclass(frozen=True, slots=True)
class Messages:
    """The message list, whole."""


@dataclass(frozen=True, slots=True)
class RoomGone:
    """The room itself: it was deleted."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question that is new at the end of the list, with its answer."""

    question: int


@dataclass(frozen=True, slots=True)
class MessageInvalidated:
    """One message, whole."""

    number: int


@dataclass(frozen=True, slots=True)
class PartInvalidated:
    """One finished part of a message."""

    number: int
    position: int


@dataclass(frozen=True, slots=True)
class Growth:
    """The growing end of a message."""

    number: int
    position: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The line from which on the model reads."""


ListName = Row | MovedToTop | DefaultModel
RoomName = Header | Messages | RoomGone | Exchange | MessageInvalidated | PartInvalidated | Growth | Reading


def in_list(event: RoomEvent) -> Iterator[ListName | Order]:
    """What of the list of rooms is stale after this."""
    match event:
        case RoomSynced(moved=True):
            yield Order()
        case RoomCreated(room_id) | RoomSynced(room_id, raised=True):
            yield MovedToTop(room_id)
        case RoomDeleted(room_id) | RoomSynced(room_id):
            yield Row(room_id)


def in_room(event: RoomEvent) -> Iterator[RoomName]:
    """What of the room is stale after this."""
    match event:
        case PartGrew(_, number, position):
            yield Growth(number, position)
        case PartChanged(_, number, position):
            yield PartInvalidated(number, position)
        case MessageAdded(_, question):
            yield Exchange(question)
        case MessageChanged(_, number) | PartAdded(_, number) | TurnDelayed(_, number) | TurnEnded(_, number):
            yield MessageInvalidated(number)
        case MessagesCleared() | MessagesDropped():
            yield Messages()
        case ReadingMoved():
            yield Reading()
        case RoomRenamed() | RoomConfigured():
            yield Header()
        case RoomDeleted():
            yield RoomGone()
