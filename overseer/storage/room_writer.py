"""Write the files of whole rooms, as an import does."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from overseer.domain.records import Summary
from overseer.storage.database import Storage
from overseer.storage.new_room import NewRoom, insert_room
from overseer.storage.room_store import summary
from overseer.storage.schema import APPLICATION_ID, MIGRATIONS


class RoomWriter:
    """Writes the files of rooms. They are copies of an empty one at `template`, which is created."""

    def __init__(self, template: Path) -> None:
        storage = Storage(template)
        storage.migrate(MIGRATIONS, application_id=APPLICATION_ID, create=True)
        storage.close()
        self._empty = template.read_bytes()

    def write(self, path: Path, room: NewRoom) -> Summary:
        """Write the file of a room, and return its summary. The file is on the disk when this returns."""
        path.write_bytes(self._empty)
        path.chmod(0o600)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("BEGIN")
            insert_room(db, room)
            made = summary(db)
            db.execute("COMMIT")
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return made


def set_source(path: Path, source: str) -> Summary:
    """Store where a room is from in its file, which nobody uses yet, and return its summary."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        with db:
            db.execute("UPDATE room SET source = ?", (source,))
            return summary(db)
