"""Write the files of whole rooms, as an import does."""

from __future__ import annotations

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
        with closing(sqlite3.connect(template)) as db:
            db.execute("PRAGMA journal_mode = DELETE")  # a room's file is set to WAL when it is opened
        self._empty = template.read_bytes()

    def write(self, path: Path, room: NewRoom) -> Summary:
        """Write the file of a room, and return its summary. It is not certain to be on the disk before `flush`."""
        path.write_bytes(self._empty)
        path.chmod(0o600)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode = OFF")  # what is not complete is never used
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("BEGIN")
            insert_room(db, room)
            made = summary(db)
            db.execute("COMMIT")
        return made


def set_source(path: Path, source: str) -> Summary:
    """Store where a room is from in its file, which nobody uses yet, and return its summary."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        with db:
            db.execute("UPDATE room SET source = ?", (source,))
            return summary(db)
