"""A whole room at once: insert it, and add what a later export of it has."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from overseer.domain.messages import File, Message
from overseer.domain.settings import Settings
from overseer.storage import message_tree, room_rows

INSERT = """
    INSERT INTO messages
      (number, role, state, reason, model, created_at, ended_at, parent, depth, jump, source, sources)
    VALUES (:number, :role, :state, :reason, :model, :created_at, :ended_at, :parent, :depth, :jump, :source, :cited)"""
PLACED = ("number", "parent", "depth", "jump", "key", "lane")  # columns that a message does not keep in another room
SELECT_FILES = "SELECT * FROM files WHERE sha256 IN (SELECT file FROM parts WHERE message = ?)"
# The end of the shown path, if it is of this server: neither imported, nor in the place of what the export lacks.
SELECT_SHOWS_OWN = """
    SELECT m.number FROM room JOIN messages m ON m.number = room.head LEFT JOIN messages p ON p.number = m.parent
    WHERE m.source IS NULL AND (p.source IS NULL OR EXISTS (SELECT 1 FROM parts WHERE message = m.number))"""
SELECT_IDENTITIES = "SELECT role, created_at FROM messages"
SELECT_KNOWN = "SELECT source, number FROM messages WHERE source IS NOT NULL"


@dataclass(slots=True)
class NewRoom:
    """A room and its messages, in the order of their numbers, each after its parent.

    `sources` are where the messages are from, by number; those that are not in it were added. `contents` are the files
    of the messages, by SHA-256. `head` is the number of the last message on the shown path.
    """

    name: str
    source: str
    created_at: int
    settings: Settings
    messages: Sequence[Message]
    sources: dict[int, str]
    head: int | None
    contents: dict[str, bytes] = field(default_factory=dict)


def insert_room(db: sqlite3.Connection, room: NewRoom) -> None:
    """Insert everything into the tables of a new room."""
    settings = room.settings
    db.execute(
        "INSERT INTO room (one, name, named_by, created_at, model, system_prompt, temperature, pinned, archived,"
        " source, head) VALUES (1, ?, 'person', ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            room.name,
            room.created_at,
            settings.model,
            settings.system_prompt,
            settings.temperature,
            settings.pinned,
            settings.archived,
            room.source,
            room.head,
        ),
    )
    depths: dict[int | None, int] = {None: 0}
    jumps: dict[int | None, int | None] = {None: None}
    for message in room.messages:
        parent, number = message.parent, message.number
        depths[number], jumps[number] = depths[parent] + 1, jump_of(parent, depths, jumps)
        db.execute(
            INSERT,
            {
                **_columns(message, parent, room.sources.get(number)),
                "number": number,
                "depth": depths[number],
                "jump": jumps[number],
            },
        )
        insert_parts(db, number, message, room.contents)
    shown = depths.get(room.head, 0) if room.head else 0
    db.execute("UPDATE room SET hidden = ?", (len(room.messages) - shown,))


def jump_of(parent: int | None, depths: dict[int | None, int], jumps: dict[int | None, int | None]) -> int | None:
    """Return the jump of a message after `parent`; `message_tree.PLACE` is the same rule."""
    one = jumps[parent]
    two = jumps[one] if one is not None else None
    if one is not None and two is not None and depths[parent] - depths[one] == depths[one] - depths[two]:
        return two
    return parent


def merge(db: sqlite3.Connection, path: Path) -> int:
    """Insert the messages of a later export, the file of a whole room, that are not in the room yet.

    Return how many are of the export. The path that the export shows is shown, unless something was asked here since.
    The caller has a transaction.
    """
    known = {row["source"]: row["number"] for row in db.execute(SELECT_KNOWN)}
    with closing(sqlite3.connect(path)) as other:
        other.row_factory = sqlite3.Row
        if {row["source"] for row in other.execute(SELECT_KNOWN)} <= known.keys():
            return 0
        numbers: dict[int | None, int | None] = {None: None}  # here, by those in the export
        added = 0
        for row in other.execute("SELECT * FROM messages ORDER BY number"):
            source, parent = row["source"], numbers[row["parent"]]
            here = known.get(source) if source is not None else _placeholder(db, row, parent)
            if here is None:
                here = _copy_message(db, other, row, parent)
                added += source is not None
            numbers[row["number"]] = here
        (head,) = other.execute("SELECT head FROM room").fetchone()
    if db.execute(SELECT_SHOWS_OWN).fetchone() is None:
        db.execute("UPDATE room SET head = ?", (numbers[head],))
    message_tree.count_hidden(db)
    return added


def _placeholder(db: sqlite3.Connection, message: sqlite3.Row, parent: int | None) -> int | None:
    """Return the number of the message here that stands for the same missing question or answer."""
    row = db.execute(
        "SELECT number FROM messages WHERE parent IS ? AND source IS NULL AND role = ? AND reason = ?",
        (parent, message["role"], message["reason"]),
    ).fetchone()
    return row["number"] if row else None


def _copy_message(db: sqlite3.Connection, other: sqlite3.Connection, message: sqlite3.Row, parent: int | None) -> int:
    """Insert a message of another file with the next number, its parts, and the files that they show. Return the
    number."""
    values = {name: message[name] for name in message.keys() if name not in PLACED}  # noqa: SIM118 - of a row
    names = ", ".join(values)
    done = db.execute(
        f"INSERT INTO messages ({names}, parent, depth, jump)"  # noqa: S608 - names of columns
        f" SELECT :{', :'.join(values)}, * FROM ({message_tree.PLACE.replace(':parent', ':_parent')})",
        {**values, "_parent": parent},
    )
    assert done.lastrowid is not None
    for file in other.execute(SELECT_FILES, (message["number"],)):
        _insert(db, "INSERT OR IGNORE INTO files", dict(file))
    for part in other.execute("SELECT * FROM parts WHERE message = ?", (message["number"],)):
        _insert(db, "INSERT INTO parts", {**dict(part), "message": done.lastrowid})
    return done.lastrowid


def _insert(db: sqlite3.Connection, into: str, row: Mapping[str, object]) -> None:
    db.execute(f"{into} ({', '.join(row)}) VALUES (:{', :'.join(row)})", row)


def _columns(message: Message, parent: int | None, source: str | None) -> dict[str, object]:
    return {
        "role": message.role,
        "state": message.state,
        "reason": message.reason,
        "model": message.model,
        "created_at": message.created_at,
        "ended_at": message.ended_at,
        "parent": parent,
        "source": source,
        "cited": room_rows.encode_sources(message.sources) or "",
    }


def insert_parts(db: sqlite3.Connection, number: int, message: Message, contents: Mapping[str, bytes]) -> None:
    """Insert the parts of a message, and the files that they show."""
    for part in message.parts:
        if isinstance(part, File):
            room_rows.insert_file(db, part, contents[part.sha256])
    room_rows.upsert_parts(db, number, message.parts)


def holds(db: sqlite3.Connection, path: Path) -> bool:
    """Return whether a room has all messages of another file of it, which may have other numbers there."""
    with closing(sqlite3.connect(path)) as other:
        wanted = Counter(other.execute(SELECT_IDENTITIES).fetchall())
    return wanted <= Counter(tuple(row) for row in db.execute(SELECT_IDENTITIES))
