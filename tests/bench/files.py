"""Rooms written into their files while no server runs. Creating them by requests would take minutes."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

from overseer.domain.records import Summary
from overseer.storage.database import Storage
from overseer.storage.instance_lock import REGISTRY_FILE, room_file
from overseer.storage.registry import Registry
from overseer.storage.room_store import RoomStore
from tests.support.seed_data import CREATED_AT

NAME = "Owls 00000"  # of the same length as the name that replaces it in the file


def create_rooms(folder: Path, count: int) -> list[str]:
    """Create empty rooms in an empty instance directory. Return their ids."""
    (folder / "facets").mkdir(parents=True)
    model = folder / "model.sqlite"
    empty, summary = empty_room(model)
    chance = random.Random(count)
    ids = [f"{number:012x}" for number in chance.sample(range(2**48), count)]
    names = [f"Owls {n:05d}" for n in range(count)]
    for room_id, name in zip(ids, names, strict=True):
        room_file(folder, room_id).write_bytes(empty.replace(NAME.encode(), name.encode()))
    storage = Storage(folder / REGISTRY_FILE)
    registry = Registry(storage)
    registry.adopt(
        (room_id, replace(summary, name=name, active_at=CREATED_AT + 1000 * n))
        for n, (room_id, name) in enumerate(zip(ids, names, strict=True))
    )
    storage.close()
    os.sync()  # so that measurements do not wait for these writes
    return ids


def empty_room(path: Path) -> tuple[bytes, Summary]:
    """Return the file of a new room, and its summary for the list."""
    storage = Storage(path)
    transcript = RoomStore(storage, create=True)
    transcript.initialize(NAME, by_person=True)
    summary = transcript.summary()
    storage.close()
    data = path.read_bytes()
    path.unlink()
    return data, summary


def message(number: int) -> str:
    """Return the text of a message: a few lines with some Markdown."""
    return f"Message **{number}**. " + "Some words that fill a line or two of it. " * (number % 7)
