"""Create instance directories, rooms and messages without a server. Creating them by requests would take minutes."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from overseer.domain.records import Summary
from overseer.storage import message_tree, room_rows
from overseer.storage.database import Storage
from overseer.storage.instance_lock import room_file
from overseer.storage.registry import Registry
from overseer.storage.room_store import RoomStore

WORDS = "Some words that were said here, as many as it takes to be a message like any other. "
LONG_AGO = 1_000_000  # seconds
CREATED_AT = 1_700_000_000_000  # ms
INSERT = f"""
    INSERT INTO messages (number, role, state, created_at, ended_at, parent, depth, jump)
    SELECT :number, :role, 'complete', :at, :at, * FROM ({message_tree.PLACE})"""


def create_instance(directory: Path, *, rooms: int, messages: int, files: bool = False, was_clean: bool = True) -> str:
    """Create an instance. Return the id of the room in the middle of the list, which has `messages` messages.

    The others are on the list and, without `files`, nowhere else. Not `was_clean`: the last run was killed.
    """
    (directory / "facets").mkdir(parents=True)
    ids = [f"{number:012x}" for number in range(1, rooms + 1)]
    room_id = ids[rooms // 2]
    summary = _create_messages(room_file(directory, room_id), messages)
    storage = Storage(directory / "overseer.sqlite")
    with closing(storage):
        registry = Registry(storage)
        registry.adopt((one, replace(summary, active_at=place)) for place, one in enumerate(ids))
        for one in ids if files else ():
            path = room_file(directory, one)
            if one != room_id:
                shutil.copy(room_file(directory, room_id), path)
            os.utime(path, (LONG_AGO, LONG_AGO))
            registry.note_closed(one, at=2000 * LONG_AGO)
        if not was_clean:
            registry.begin_run()
    return room_id


def _create_messages(path: Path, messages: int) -> Summary:
    storage = Storage(path)
    with closing(storage):
        transcript = RoomStore(storage, create=True)
        transcript.initialize("Room", by_person=True)
        with storage.write() as db:
            insert_chain(db, range(1, messages + 1), lambda number: WORDS, at=room_rows.now())
        return transcript.summary()


def insert_messages(path: Path, numbers: Iterable[int], text: Callable[[int], str]) -> None:
    """Write messages into the file of a room while no server runs. Those with odd numbers are questions."""
    with closing(sqlite3.connect(path)) as db, db:
        db.row_factory = sqlite3.Row
        insert_chain(db, numbers, text, at=CREATED_AT)


def insert_versions(path: Path, messages: int, count: int) -> None:
    """Add versions of random messages, which are not shown, to a room that has these messages."""
    places = random.Random(messages).choices(range(1, messages), k=count)
    with closing(sqlite3.connect(path)) as db, db:
        for number, parent in enumerate(places, messages + 1):
            role = "assistant" if parent % 2 else "user"
            db.execute(INSERT, {"number": number, "role": role, "at": CREATED_AT, "parent": parent})
            db.execute("INSERT INTO parts (message, position, kind, text) VALUES (?, 0, 'text', 'Another')", (number,))
        db.execute("UPDATE room SET hidden = ?", (count,))


def insert_chain(db: sqlite3.Connection, numbers: Iterable[int], text: Callable[[int], str], *, at: int) -> None:
    """Insert messages, each after the one before it, the first after the head. The last becomes the head."""
    last = message_tree.head(db)
    for number in numbers:
        role = "user" if number % 2 else "assistant"
        db.execute(INSERT, {"number": number, "role": role, "at": at + number, "parent": last})
        db.execute("INSERT INTO parts (message, position, kind, text) VALUES (?, 0, 'text', ?)", (number, text(number)))
        last = number
    db.execute("UPDATE room SET head = ?", (last,))
