"""One SQLite file: opened with the right pragmas, migrated, written in transactions, removed whole."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

Migration = Callable[[sqlite3.Connection], None]

BUSY_SECONDS = 1.0  # to wait while another program writes
SUFFIXES = ("", "-wal", "-shm")


class StorageError(Exception):
    """A file cannot be used; the message is a sentence for a person."""


class StorageEmpty(StorageError):
    """The file is there, but nothing was ever stored in it."""


class StorageClosed(StorageError):
    """The file was closed while somebody still wanted to use it."""


class StorageFull(StorageError):
    """Nothing can be written just now: the disk is full, or the file or its folder is read-only."""


class Storage:
    """A SQLite file with its one connection and the one lock that everything done with it takes.

    Opening is lazy: nothing touches the disk before `migrate`.
    """

    def __init__(self, path: Path, *, lock: threading.RLock | None = None) -> None:
        self.path = path
        self.lock = lock or threading.RLock()
        self._db: sqlite3.Connection | None = None

    def migrate(self, migrations: Sequence[Migration], *, application_id: int, create: bool) -> None:
        """Open the file, made only if `create`, and bring it to the newest schema.

        Raises StorageError for a file that is missing, not SQLite, not ours, or written by a newer version.
        """
        with self.lock:
            if not create and not self.path.exists():
                raise StorageError(f"{self.path.name} is missing. Put back a copy from a backup.")
            try:
                self._db = _connect(self.path, create)
                _migrate(self._db, migrations, application_id, create)
            except sqlite3.Error as error:
                self.close()
                raise _explain(error, self.path) from error
            except StorageError as error:
                self.close()
                raise type(error)(f"{self.path.name} {error}") from None

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction: committed when the block ends, rolled back when it raises.

        One that is not durable survives a crash of the process, but maybe not a power cut; it does not wait for the
        disk.
        """
        with self.lock:
            db = self._connection()
            if not durable:
                db.execute("PRAGMA synchronous = NORMAL")
            try:
                _begin(db)
                yield db
                db.execute("COMMIT")
            except BaseException as error:
                # Some errors end the transaction by themselves.
                with suppress(sqlite3.Error):
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise _explain(error, self.path) from error
                raise
            finally:
                if not durable and self._db is db:
                    db.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The connection, for reading only."""
        with self.lock:
            try:
                yield self._connection()
            except sqlite3.Error as error:
                raise _explain(error, self.path) from error

    def close(self) -> None:
        """Close the file; every later use raises StorageClosed."""
        with self.lock:
            if self._db is not None:
                self._db.close()
            self._db = None

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise StorageClosed(f"{self.path.name} is closed.")
        return self._db


def remove(path: Path) -> None:
    """Remove a database with its two companions; what is not there is no error."""
    # The file itself last: a companion without it, from a crash in between, would be found by nobody.
    for suffix in reversed(SUFFIXES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _connect(path: Path, create: bool) -> sqlite3.Connection:
    # Autocommit: transactions are written out in `write`. The lock of Storage stands in for the thread check.
    mode = "rwc" if create else "rw"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.create_function("casefold", 1, str.casefold, deterministic=True)
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _begin(db: sqlite3.Connection) -> None:
    """Begin to write, when another program lets us. SQLite's own wait would hold up every greenlet."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _migrate(db: sqlite3.Connection, migrations: Sequence[Migration], application_id: int, create: bool) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != application_id and (owner or tables):
        raise StorageError("is a database of another program. Move it out of the instance directory.")
    if version == 0 and not create:
        raise StorageEmpty("is empty. Put back a copy from a backup.")
    if version > len(migrations):
        raise StorageError("was written by a newer version of Overseer. Update Overseer to open it.")
    # Journal mode cannot change inside a transaction, and is kept in the file: only a new one needs it.
    if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        db.execute("PRAGMA journal_mode = WAL")
    # The first commit after these waits for the disk, and takes them with it.
    db.execute("PRAGMA synchronous = NORMAL")
    for number, migration in list(enumerate(migrations, 1))[version:]:
        db.execute("BEGIN IMMEDIATE")
        try:
            migration(db)
            db.execute(f"PRAGMA application_id = {application_id}")
            db.execute(f"PRAGMA user_version = {number}")
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
    db.execute("PRAGMA synchronous = FULL")


def _explain(error: sqlite3.Error, path: Path) -> StorageError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary == sqlite3.SQLITE_FULL:
        return StorageFull("The disk is full. Nothing was lost; free some space and try again.")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StorageFull(f"{path.name} cannot be opened for writing. Check the rights of the instance directory.")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageFull(f"{path.name} is locked by another program. Close it there and try again.")
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StorageError(f"{path.name} is damaged or not a SQLite file. Put back a copy from a backup.")
    return StorageError(f"{path.name} could not be used: {error}.")
