"""Rooms and messages written straight into their files, while no server runs: by way of it they would take minutes."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from overseer.domain.records import Summary
from overseer.storage.database import Storage
from overseer.storage.instance_lock import LIST, room_file
from overseer.storage.registry import Registry
from overseer.storage.room_store import RoomStore

NAME = "Owls 00000"  # of the same length in every room, and so in the same place of its file
BEGAN = 1_700_000_000_000


def furnish(folder: Path, count: int) -> list[str]:
    """Put so many empty rooms into an empty instance directory; returns their ids."""
    (folder / "facets").mkdir(parents=True)
    model = folder / "model.sqlite"
    empty, summary = empty_room(model)
    chance = random.Random(count)
    ids = [f"{number:012x}" for number in chance.sample(range(2**48), count)]
    names = [f"Owls {n:05d}" for n in range(count)]
    for room_id, name in zip(ids, names, strict=True):
        room_file(folder, room_id).write_bytes(empty.replace(NAME.encode(), name.encode()))
    storage = Storage(folder / LIST)
    registry = Registry(storage)
    registry.adopt(
        (room_id, replace(summary, name=name, active_at=BEGAN + 1000 * n))
        for n, (room_id, name) in enumerate(zip(ids, names, strict=True))
    )
    storage.close()
    os.sync()  # what is measured must not wait for these
    return ids


def empty_room(path: Path) -> tuple[bytes, Summary]:
    """The file of a room that was just made, and what the list knows of it."""
    storage = Storage(path)
    transcript = RoomStore(storage, create=True)
    transcript.initialize(NAME, by_person=True)
    summary = transcript.summary()
    storage.close()
    data = path.read_bytes()
    path.unlink()
    return data, summary


def fill(folder: Path, room_id: str, messages: int) -> None:
    """Have so many messages said in an empty room."""
    numbers = range(1, messages + 1)
    with closing(sqlite3.connect(room_file(folder, room_id))) as db, db:
        db.executemany(
            "INSERT INTO messages (number, role, state, created_at, ended_at) VALUES (?, ?, 'complete', ?, ?)",
            ((n, "user" if n % 2 else "assistant", BEGAN + n, BEGAN + n) for n in numbers),
        )
        db.executemany("INSERT INTO parts (message, position, kind, text) VALUES (?, 0, 'text', ?)", said(numbers))


def said(numbers: Iterable[int]) -> Iterable[tuple[int, str]]:
    """Words for each message: a line, or a few with some Markdown."""
    return ((n, f"Message **{n}**. " + "Some words that fill a line or two of it. " * (n % 7)) for n in numbers)
