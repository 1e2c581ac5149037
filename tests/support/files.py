"""Read, change and damage SQLite files as another program would."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from overseer.storage.database import beside

JUNK = b"This is not a database. " * 1000
PAGE_BYTES = 4096
DESCRIPTORS = Path("/proc/self/fd")


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def column(path: Path, sql: str) -> list[object]:
    """Return the first column of every row."""
    return [row[0] for row in query(path, sql)]


def open_files(directory: Path) -> set[str]:
    """Return the files of a directory that this process has open; the names of removed ones end in `(deleted)`."""
    found = set()
    for entry in DESCRIPTORS.iterdir():
        with suppress(OSError):
            path = Path(os.readlink(entry))
            if path.parent == directory:
                found.add(path.name)
    return found


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for sql in statements:
            db.execute(sql)


def copy_database(path: Path, target: Path) -> Path:
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(target)) as to,
    ):
        source.backup(to)
    return target


def remove(path: Path) -> None:
    path.unlink()


def remove_with_companions(path: Path) -> None:
    for companion in path.parent.glob(f"{path.name}*"):
        companion.unlink()


def remove_wal(path: Path) -> None:
    beside(path, "-wal").unlink()


def write_junk(path: Path) -> None:
    path.write_bytes(JUNK[:2000])


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(JUNK)


def overwrite_last_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-PAGE_BYTES, os.SEEK_END)
        file.write(b"\x55" * PAGE_BYTES)


def truncate(path: Path) -> None:
    os.truncate(path, PAGE_BYTES)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def replace_by_junk(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(JUNK)
    other.rename(path)
