"""A whole room at once: insert it, read it, and add what a later export of it has."""

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

INSERT_NEXT = f"""
    INSERT INTO messages (role, state, reason, model, created_at, ended_at, parent, depth, jump, source, sources)
    SELECT :role, :state, :reason, :model, :created_at, :ended_at, *, :source, :cited
    FROM ({message_tree.PLACE})"""  # noqa: S608 - a constant
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


def read_room(path: Path) -> NewRoom:
    """Read the file of a whole room, which nobody else uses."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        room = db.execute("SELECT * FROM room").fetchone()
        rows = db.execute("SELECT number, source FROM messages ORDER BY number").fetchall()
        messages = [room_rows.select_message(db, row["number"]) for row in rows]
        return NewRoom(
            name=room["name"],
            source=room["source"],
            created_at=room["created_at"],
            settings=Settings(
                room["model"], room["system_prompt"], room["temperature"], bool(room["pinned"]), bool(room["archived"])
            ),
            messages=[message for message in messages if message is not None],
            sources={row["number"]: row["source"] for row in rows if row["source"] is not None},
            head=room["head"],
            contents={row["sha256"]: row["content"] for row in db.execute("SELECT sha256, content FROM files")},
        )


def merge(db: sqlite3.Connection, new: NewRoom) -> int:
    """Insert the messages of a later export of a room that are not in it yet. Return how many are of the export.

    The path that the export shows is shown, unless something was asked here since. The caller has a transaction.
    """
    known = {row["source"]: row["number"] for row in db.execute(SELECT_KNOWN)}
    if not set(new.sources.values()) - known.keys():
        return 0
    numbers: dict[int | None, int | None] = {None: None}  # here, by those in the export
    added = 0
    for message in new.messages:
        source = new.sources.get(message.number)
        if source in known:
            numbers[message.number] = known[source]
            continue
        here = None if source is not None else _placeholder(db, message, numbers[message.parent])
        if here is None:
            here = insert_message(db, message, parent=numbers[message.parent], source=source, contents=new.contents)
            added += source is not None
        numbers[message.number] = here
    if db.execute(SELECT_SHOWS_OWN).fetchone() is None:
        db.execute("UPDATE room SET head = ?", (numbers[new.head],))
    message_tree.count_hidden(db)
    return added


def _placeholder(db: sqlite3.Connection, message: Message, parent: int | None) -> int | None:
    """Return the number of the message here that stands for the same missing question or answer."""
    row = db.execute(
        "SELECT number FROM messages WHERE parent IS ? AND source IS NULL AND role = ? AND reason = ?",
        (parent, message.role, message.reason),
    ).fetchone()
    return row["number"] if row else None


def insert_message(
    db: sqlite3.Connection, message: Message, *, parent: int | None, source: str | None, contents: Mapping[str, bytes]
) -> int:
    """Insert a message with the next number, and return that."""
    done = db.execute(INSERT_NEXT, _columns(message, parent, source))
    assert done.lastrowid is not None
    insert_parts(db, done.lastrowid, message, contents)
    return done.lastrowid


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
