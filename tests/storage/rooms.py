"""Rooms of an Overseer in the test process."""

from __future__ import annotations

from overseer.rooms.overseer import Overseer
from tests.support.waiting import join_turn_threads


def ask(overseer: Overseer, room: str, words: str) -> None:
    """Ask and wait for the end of the answer."""
    overseer.room(room).ask(words)
    join_turn_threads(room)


def create_room(overseer: Overseer, name: str, *questions: str) -> str:
    """Create a room, ask these questions and return its id."""
    room = overseer.create(name).id
    for words in questions:
        ask(overseer, room, words)
    return room


def listed(overseer: Overseer) -> list[tuple[object, ...]]:
    """Return what the list shows of each room, in order."""
    return [
        (room.id, room.name, room.messages, room.preview, room.answering, room.problem, room.pinned)
        for room in overseer.rooms().rooms
    ]
