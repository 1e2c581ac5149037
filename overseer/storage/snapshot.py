"""Read or copy a database that another process may be using, without writing to it or creating files beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from overseer.domain.errors import StorageDamaged, StorageUnavailable
from overseer.storage.database import (
    UNREADABLE,
    beside,
    explain_os_error,
    explain_sqlite_error,
    explain_value,
    file_identity,
    remove,
    save_copy,
)

R = TypeVar("R")

MAX_ATTEMPTS = 10
BUSY_SECONDS = 5.0


def inspect(path: Path, query: Callable[[sqlite3.Connection], R]) -> R:
    """Return the result of `query` on one committed state of the file. `query` may be called repeatedly.

    Raises FileNotFoundError if there is no file and StorageError if it cannot be read.
    """
    for _ in range(MAX_ATTEMPTS):
        before = file_identity(path)
        if before is None:
            raise FileNotFoundError(path)
        # A reader creates a WAL file and a shared-memory file beside a database that has none, and leaves them there.
        # `immutable` prevents it but takes no lock, so the file is compared afterwards.
        immutable = file_identity(beside(path, "-wal")) is None
        try:
            found = _query(path, query, "mode=ro&immutable=1" if immutable else "mode=ro")
        except sqlite3.Error as error:
            if file_identity(path) == before:
                raise explain_sqlite_error(error, path) from error
            continue
        except UNREADABLE as error:
            raise explain_value(path) from error
        finally:
            _remove_empty_wal(path)
        after = file_identity(path)
        if after == before or (not immutable and after is not None and after.file == before.file):
            return found
    raise StorageUnavailable(f"{path.name} is written in all the time. Try again.")


def copy(path: Path, target: Path, change: Callable[[sqlite3.Connection], None] | None = None) -> int:
    """Copy one committed state of a file, make a `change` in the copy, verify and flush it. Return its size in bytes.

    Raises FileNotFoundError if there is no file and StorageError if it cannot be read, or the copy not be written.
    """
    try:
        inspect(path, lambda db: save_copy(db, target, change))
        if _is_damaged(target):
            raise StorageDamaged(f"{path.name} is damaged. Put back a copy from a backup.")
    except BaseException as error:
        # The file may have been deleted while it was copied, and then the copy must not stay either.
        with suppress(OSError):
            remove(target)
        if not isinstance(error, OSError) or (isinstance(error, FileNotFoundError) and file_identity(path) is None):
            raise
        raise explain_os_error(error, target) from error
    return target.stat().st_size


def faults(db: sqlite3.Connection) -> list[str]:
    """Return the errors that SQLite's integrity and foreign key checks report."""
    found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(10)")]
    missing = [f"a row of {row[0]} without its {row[2]}" for row in db.execute("PRAGMA foreign_key_check")]
    return [*(fault for fault in found if fault != "ok"), *missing]


def _remove_empty_wal(path: Path) -> None:
    """Remove the WAL file that a reader creates if the database is being deleted and its own is already gone."""
    wal = file_identity(beside(path, "-wal"))
    if file_identity(path) is None and wal is not None and not wal.size:
        remove(path)


def _is_damaged(path: Path) -> bool:
    try:
        return bool(inspect(path, faults))
    except StorageDamaged:
        return True


def _query(path: Path, query: Callable[[sqlite3.Connection], R], parameters: str) -> R:
    uri = f"{path.absolute().as_uri()}?{parameters}"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")
        return query(db)
