"""A database that another process may be using: looked into and copied without writing in it or beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from overseer.domain.errors import StorageDamaged, StorageFull
from overseer.storage.database import beside, explain, file_identity, keep_copy, refused, remove

R = TypeVar("R")

TRIES = 10
BUSY_SECONDS = 5.0


def inspect(path: Path, look: Callable[[sqlite3.Connection], R]) -> R:
    """What `look` finds in one state of the file, all of it committed.

    Raises FileNotFoundError if there is none, StorageError for one that cannot be read.
    """
    for _ in range(TRIES):
        before = file_identity(path)
        if before is None:
            raise FileNotFoundError(path)
        # SQLite would make a log and an index for a file that has none, and leave them there: so it is told that
        # nobody writes in the file, and afterwards that is looked after.
        alone = file_identity(beside(path, "-wal")) is None
        try:
            found = _look(path, look, "mode=ro&immutable=1" if alone else "mode=ro")
        except sqlite3.Error as error:
            if file_identity(path) == before:
                raise explain(error, path) from error
            continue
        finally:
            _clear_up(path)
        after = file_identity(path)
        if after == before or (not alone and after is not None and after.file == before.file):
            return found
    raise StorageFull(f"{path.name} is written in all the time. Try again.")


def copy(path: Path, target: Path) -> int:
    """Copy a file as it is at one moment, verify the copy, and wait for the disk; returns its size in bytes.

    Raises FileNotFoundError if there is none, StorageError for one that cannot be read or written.
    """
    try:
        inspect(path, lambda db: keep_copy(db, target))
        if _is_harmed(target):
            remove(target)
            raise StorageDamaged(f"{path.name} is damaged. Put back a copy from a backup.")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and file_identity(path) is None:
            raise
        raise refused(error, target) from error
    return target.stat().st_size


def faults(db: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong in a file, in its own words."""
    found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(10)")]
    missing = [f"a row of {row[0]} without its {row[2]}" for row in db.execute("PRAGMA foreign_key_check")]
    return [*(fault for fault in found if fault != "ok"), *missing]


def _clear_up(path: Path) -> None:
    """A reader that comes between the removal of a log and that of its file makes an empty one."""
    log = file_identity(beside(path, "-wal"))
    if file_identity(path) is None and log is not None and not log.size:
        remove(path)


def _is_harmed(path: Path) -> bool:
    try:
        return bool(inspect(path, faults))
    except StorageDamaged:
        return True


def _look(path: Path, look: Callable[[sqlite3.Connection], R], how: str) -> R:
    uri = f"{path.absolute().as_uri()}?{how}"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")
        return look(db)
