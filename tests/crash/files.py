"""Rooms as their files have them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from overseer.storage import message_tree, search_index
from overseer.storage.instance_lock import room_file, room_ids
from overseer.storage.snapshot import inspect


@dataclass(frozen=True, slots=True)
class StoredMessage:
    number: int
    role: str
    state: str
    text: str
    parent: int | None = None
    lane: int | None = None


@dataclass(slots=True)
class StoredRoom:
    """A room's file. `used` is the highest number ever assigned to a message, `path` the numbers of the shown path.

    `shown` are these and the answers beside them, in the order in which they are shown. `faults` are those of the tree
    of messages.
    """

    name: str = ""
    used: int = 0
    messages: list[StoredMessage] = field(default_factory=list)
    path: list[int] = field(default_factory=list)
    shown: list[StoredMessage] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_rooms(instance: Path) -> dict[str, StoredRoom]:
    """Read the rooms in a directory by id."""
    return {room: inspect(room_file(instance, room), _read) for room in room_ids(instance)}


def indexed_texts(instance: Path, room: str) -> set[tuple[int, str, int]]:
    """Return number, kind and checksum of each text of a room that belongs into the search index."""
    found = inspect(room_file(instance, room), lambda db: search_index._read(db, 0, limit=10**6))
    return {text.key for text in found.texts}


def read_index(db: sqlite3.Connection) -> dict[str, set[tuple[int, str, int]]]:
    """Return the same of each room in the index."""
    rooms: dict[str, set[tuple[int, str, int]]] = {row["room"]: set() for row in db.execute("SELECT room FROM rooms")}
    for text in db.execute("SELECT rooms.room AS id, texts.* FROM texts JOIN rooms ON rooms.id = texts.room"):
        if text["message"]:
            rooms[text["id"]].add((text["message"], search_index.KINDS[text["kind"]], text["checksum"]))
    return rooms


def _read(db: sqlite3.Connection) -> StoredRoom:
    row = db.execute("SELECT name FROM room").fetchone()
    if row is None:
        return StoredRoom()
    used = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    found = db.execute(
        "SELECT number, role, state, parent, lane,"
        " (SELECT group_concat(text, '') FROM parts WHERE message = number) AS text FROM messages ORDER BY number"
    )
    messages = [
        StoredMessage(one["number"], one["role"], one["state"], one["text"] or "", one["parent"], one["lane"])
        for one in found
    ]
    parents = {message.number: message.parent for message in messages}
    path, number = [], message_tree.head(db)
    while number is not None:
        path.append(number)
        number = parents.get(number)
    shown = [beside for one in messages if one.number in path for beside in _beside(one, messages)]
    return StoredRoom(row["name"], used[0] if used else 0, messages, path, shown, message_tree.faults(db))


def _beside(message: StoredMessage, messages: list[StoredMessage]) -> list[StoredMessage]:
    """Return the answers that are shown side by side with a message, or it alone."""
    if message.lane is None:
        return [message]
    return sorted((one for one in messages if one.parent == message.parent and one.lane), key=lambda one: one.lane or 0)
