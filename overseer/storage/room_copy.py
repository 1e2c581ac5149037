"""Copies of rooms, from which downloads are made."""

from __future__ import annotations

import os
import secrets
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from overseer.domain.messages import Message
from overseer.storage import message_tree, room_json, room_jsonl, room_rows
from overseer.storage.database import (
    PRIVATE_MODE,
    UNREADABLE,
    beside,
    explain_os_error,
    explain_sqlite_error,
    explain_value,
    remove,
)
from overseer.storage.snapshot import copy

PAGE_MESSAGES = 50  # that are read at once


class RoomCopy:
    """A copy of a room's file, without idempotency keys and shares.

    The files that its methods return have no name: they are gone when they are closed, and after a crash.
    """

    def __init__(self, room_id: str, db: sqlite3.Connection, folder: Path) -> None:
        self._room_id = room_id
        self._db = db
        self._folder = folder
        self.name: str = room_json.room_item(db)["name"]

    def transcript(self) -> Iterator[Message]:
        """Yield the messages of the shown path, in order."""
        head = message_tree.head(self._db)
        path = [row["number"] for row in self._db.execute(room_jsonl.SELECT_PATH, (head, -1))]
        for first in range(0, len(path), PAGE_MESSAGES):
            page = path[first : first + PAGE_MESSAGES]
            yield from room_rows.select_path(self._db, page[-1], len(page))

    def sqlite(self) -> BinaryIO:
        """Return the copy itself, as a single SQLite file."""
        path = _unused_path(self._folder)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_MODE))
        try:
            self._db.execute("VACUUM INTO ?", (str(path),))  # nothing that was deleted is left in it
            return path.open("rb")
        finally:
            remove(path)

    def json(self) -> BinaryIO:
        """Return everything as JSON."""
        return self.file(room_json.encode(self._db, self._room_id))

    def jsonl(self) -> BinaryIO:
        """Return all messages as JSON Lines."""
        return self.file(room_jsonl.encode(self._db, self._room_id))

    def file(self, pieces: Iterable[str]) -> BinaryIO:
        """Return a file with a text, in UTF-8."""
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - the caller closes it
        try:
            file.writelines(piece.encode() for piece in pieces)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file


def export(path: Path, room_id: str, form: Callable[[RoomCopy], BinaryIO]) -> BinaryIO:
    """Return what `form` makes of a copy of one committed state of the room's file at `path`.

    Raises FileNotFoundError if there is no file, and StorageError if it cannot be read or the disk is full.
    """
    target = _unused_path(path.parent)
    copy(path, target, _remove_private)
    try:
        with closing(_open(target)) as db:
            return form(RoomCopy(room_id, db, path.parent))
    except sqlite3.Error as error:
        raise explain_sqlite_error(error, path) from error
    except UNREADABLE as error:
        raise explain_value(path) from error
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        remove(target)


def _remove_private(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM shares")
    db.execute("UPDATE messages SET key = NULL WHERE key IS NOT NULL")
    db.execute("UPDATE room SET temporary = 0")  # a copy is kept


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


def _unused_path(folder: Path) -> Path:
    """Return a path that `remove_unfinished_copies` removes after a crash."""
    return beside(folder / f"export-{secrets.token_hex(8)}", ".partial")
