"""One SQLite file: opened with the right pragmas, migrated, written in transactions, removed whole."""

from __future__ import annotations

import errno
import math
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from overseer.domain.errors import (
    StorageClosed,
    StorageDamaged,
    StorageEmpty,
    StorageError,
    StorageFull,
    StorageReplaced,
)

Migration = Callable[[sqlite3.Connection], None]
RunInThread = Callable[[Callable[[], object]], object]  # does something, in another thread if that serves

BUSY_SECONDS = 1.0  # to wait while another program writes
SUFFIXES = ("", "-wal", "-shm")
LEAST = 512  # bytes of a database that holds anything
FULL_LOG = 4 * 2**20  # bytes of a -wal file, from which on it is checkpointed
PRIVATE = 0o600  # the mode of a file that is made
READING = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS)


def run_inline(work: Callable[[], object]) -> object:
    """Do it in this thread."""
    return work()


class FileIdentity(NamedTuple):
    """By what a file is known again: which one it is, and whether anybody has written in it.

    `link` if its path is a symbolic link to it: SQLite keeps the log beside the file itself, not beside the link.
    """

    device: int
    inode: int
    link: bool
    size: int
    written_at: int

    @property
    def file(self) -> tuple[int, int, bool]:
        """Which file it is, and how its path leads there."""
        return self.device, self.inode, self.link


class Storage:
    """A SQLite file with its one connection and the one lock that everything done with it takes.

    Opening is lazy: nothing touches the disk before `migrate`. An open connection goes on working in a file that was
    removed, replaced or written over from outside, and what it stores is lost: so every use looks at the file first,
    and every write looks again after its commit, before anybody is told that it is stored.

    Every commit is made by `run_in_thread`, which may let other threads run meanwhile: a commit may wait for the disk.
    The lock is held until it is done.
    """

    def __init__(
        self, path: Path, *, lock: threading.RLock | None = None, run_in_thread: RunInThread = run_inline
    ) -> None:
        self.path = path
        self.lock = lock or threading.RLock()
        self._run_in_thread = run_in_thread
        self.busy_deadline = math.inf  # by the monotonic clock: then nobody waits while another program writes
        self._db: sqlite3.Connection | None = None
        self._paths = {suffix: os.fspath(beside(path, suffix)) for suffix in SUFFIXES}
        self._identity: dict[str, FileIdentity | None] = {}  # of the file and its companions, by suffix
        self._spoilt: FileIdentity | None = None

    def migrate(
        self, migrations: Sequence[Migration], *, application_id: int, create: bool, keep_older: bool = False
    ) -> None:
        """Open the file, made only if `create`, and bring it to the newest schema.

        `keep_older` keeps a copy of one that has an older schema, as `<name>.before-v<newest>`. Raises StorageError for
        a file that is missing, not SQLite, not ours, or written by a newer version.
        """
        with self.lock:
            self.close()
            if not create and not self.path.exists():
                raise StorageError(f"{self.path.name} is missing. Put back a copy from a backup.")
            self._identity, self._spoilt = {}, None
            try:
                if create:
                    _make(self.path)
                self._paths = {suffix: os.path.realpath(self.path) + suffix for suffix in SUFFIXES[1:]}
                self._paths[""] = os.fspath(self.path)
                self._identity[""] = file_identity(self._paths[""])
                self._db = _connect(self.path, create)
                version = version_of(self._db, migrations, application_id)
                if version == 0 and not create:
                    raise StorageEmpty("is empty. Put back a copy from a backup.")
                if keep_older and 0 < version < len(migrations):
                    keep_copy(self._db, self.path.with_name(f"{self.path.name}.before-v{len(migrations)}"))
                _migrate(self._db, migrations, application_id, version)
                found = {suffix: file_identity(self._paths[suffix]) for suffix in SUFFIXES}
                in_place = self._is_at_path(found[""]) and found["-wal"] is not None
                self._identity = found if in_place else {**found, "": self._identity[""]}
                if not in_place:
                    raise StorageFull("was removed or replaced while it was opened. Try again.")
            except BaseException as error:
                self.close()
                if isinstance(error, OSError):
                    raise refused(error, self.path) from error
                if isinstance(error, sqlite3.Error):
                    raise explain(error, self.path) from error
                if isinstance(error, StorageError):
                    raise type(error)(f"{self.path.name} {error}") from None
                raise

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction: committed when the block ends, rolled back when it raises.

        One that is not durable survives a crash of the process, but maybe not a power cut; it does not wait for the
        disk. Raises StorageReplaced after the commit if the file or its log was removed or replaced meanwhile.
        """
        with self.lock:
            db = self._connection()
            if not durable:
                db.execute("PRAGMA synchronous = NORMAL")
            try:
                _begin(db, self.busy_deadline)
                yield db
                self._commit(db)
                self._confirm()
                self._checkpoint(db)
            except BaseException as error:
                # Some errors end the transaction by themselves.
                with suppress(sqlite3.Error):
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise explain(error, self.path) from error
                raise
            finally:
                if self._db is db and not durable:
                    db.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The connection, for reading only."""
        with self.lock:
            try:
                yield self._connection()
            except sqlite3.Error as error:
                raise explain(error, self.path) from error

    def verify(self) -> None:
        """Read the whole file. Raises StorageDamaged if it is not as SQLite left it."""
        with self.read() as db:
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise StorageDamaged(f"{self.path.name} is damaged. Put back a copy from a backup.")

    def in_place(self) -> bool:
        """Whether the file that is open is the one at its path, with its log; so is one that is not open."""
        with self.lock:
            return self._db is None or (self._is_at_path(file_identity(self.path)) and self._has_its_log())

    def is_sound(self) -> bool:
        """Whether the file is open, and nobody has removed, replaced or harmed it since."""
        with self.lock:
            try:
                return bool(self._connection())
            except (StorageClosed, StorageDamaged):
                return False

    def close(self) -> None:
        """Close the file; every later use raises StorageClosed."""
        with self.lock:
            if self._db is None:
                return
            gone = not self._is_at_path(file_identity(self.path))
            self._db.close()
            self._db = None
            if gone:
                self._remove_companions()

    # In call order

    def _commit(self, db: sqlite3.Connection) -> None:
        self._run_in_thread(partial(self._execute_commit, db))

    def _execute_commit(self, db: sqlite3.Connection) -> None:
        db.execute("COMMIT")

    def _confirm(self) -> None:
        """Make sure that what was just committed is where the next process looks for it."""
        try:
            self._look()
        except StorageDamaged:
            raise
        except StorageError:
            pass  # another program keeps us from looking into a file that is still in its place; the next use looks

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        """Move a log that has grown long into the file.

        Nothing else here changes the file, so every other change of it is another program's. SQLite's own checkpoints,
        which are part of a commit, would hide one that came during a transaction.
        """
        log = file_identity(self._paths["-wal"])
        if log is None or log.size < FULL_LOG:
            return
        with suppress(sqlite3.Error):  # everything is in the log as well; the next write tries again
            self._run_in_thread(partial(self._execute_checkpoint, db))
        found = file_identity(self._paths[""])
        if self._is_at_path(found):
            self._identity[""] = found

    def _execute_checkpoint(self, db: sqlite3.Connection) -> None:
        # The row is read to its end: a cursor that another thread still holds counts as a statement that writes, and
        # SQLite commits nothing as long as there is one.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise StorageClosed(f"{self.path.name} is closed.")
        self._look()
        return self._db

    def _look(self) -> None:
        """Raises StorageReplaced or StorageDamaged if the file or its log is not as it was left."""
        found = file_identity(self._paths[""])
        if found != self._identity[""]:
            self._look_into(found)
        if not self._has_its_log():
            raise StorageReplaced(f"{self.path.name}-wal was removed while it was open. Leave it there, and try again.")

    def _is_at_path(self, found: FileIdentity | None) -> bool:
        known = self._identity.get("")
        return known is None or (found is not None and found.file == known.file)

    def _has_its_log(self) -> bool:
        """Whether what is stored goes where the next process will look; if not, closing still puts it into the file."""
        known, found = self._identity.get("-wal"), file_identity(self._paths["-wal"])
        return known is None or (found is not None and found.file == known.file)

    def _look_into(self, found: FileIdentity | None) -> None:
        """The file is not as we left it: another program wrote in it, which may be well, or harmed it."""
        if found is None or not self._is_at_path(found):
            raise StorageReplaced(f"{self.path.name} was removed or replaced while it was open. Try again.")
        if found != self._spoilt and found.size >= LEAST and _is_whole(self.path):
            self._identity[""] = found
            return
        self._spoilt = found
        raise StorageDamaged(f"{self.path.name} is damaged: it was written over. Put back a copy from a backup.")

    def _remove_companions(self) -> None:
        """What belonged to a file that is gone would spoil the copy that is put in its place."""
        for suffix in SUFFIXES[1:]:
            known, found = self._identity.get(suffix), file_identity(self._paths[suffix])
            if known is not None and found is not None and found.file == known.file:
                with suppress(FileNotFoundError):
                    os.unlink(self._paths[suffix])


def beside(path: Path, suffix: str) -> Path:
    """A companion of a database, or another file of its name with something after it."""
    return path.with_name(path.name + suffix)


def file_identity(path: Path | str) -> FileIdentity | None:
    """By what a file will be known again; None if there is none."""
    try:
        found = os.lstat(path)
        link = stat.S_ISLNK(found.st_mode)
        if link:
            found = os.stat(path)
    except OSError:
        return None
    return FileIdentity(found.st_dev, found.st_ino, link, found.st_size, found.st_mtime_ns)


def remove(path: Path) -> None:
    """Remove a database with its two companions, for good; what is not there is no error."""
    # The file itself last: a companion without it, from a crash in between, would be found by nobody.
    for suffix in reversed(SUFFIXES):
        beside(path, suffix).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        flush(path.parent)


def quarantine(path: Path, suffix: str) -> Path:
    """Rename a database with its companions, so that another can take its place; returns its new path."""
    run_in_thread = beside(path, suffix)
    for companion in SUFFIXES:
        with suppress(FileNotFoundError):
            beside(path, companion).rename(beside(run_in_thread, companion))
    flush(path.parent)
    return run_in_thread


def flush(path: Path) -> None:
    """Wait until what was written in a file, or which names are in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_copy(db: sqlite3.Connection, target: Path) -> None:
    """Copy the whole database as it is at this moment into a file that only its owner can read, and wait for the disk.

    The file has its name when it is whole; one of that name is replaced.
    """
    unfinished = beside(target, ".partial")
    remove(unfinished)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))
    try:
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")
            db.backup(copy)
        flush(unfinished)
        unfinished.rename(target)
    except BaseException:
        remove(unfinished)
        raise
    flush(target.parent)


def _make(path: Path) -> None:
    """Make an empty file if there is none. SQLite would let everybody read it."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))


def _connect(path: Path, create: bool) -> sqlite3.Connection:
    # Autocommit: transactions are written out in `write`. The lock of Storage stands in for the thread check.
    mode = "rwc" if create else "rw"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        db.row_factory = sqlite3.Row
        db.create_function("casefold", 1, str.casefold, deterministic=True)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA wal_autocheckpoint = 0")  # see Storage._checkpoint
    except BaseException:
        db.close()
        raise
    return db


def _begin(db: sqlite3.Connection, until: float) -> None:
    """Begin to write, when another program lets us. SQLite's own wait would hold up every greenlet."""
    until = min(until, time.monotonic() + BUSY_SECONDS)
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _is_whole(path: Path) -> bool:
    """Whether another connection, which has nothing in memory, finds every page in order."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as db:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.DatabaseError as error:
        # One that is locked cannot be looked at now; the next use looks again.
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return False
        raise explain(error, path) from error


def version_of(db: sqlite3.Connection, migrations: Sequence[Migration], application_id: int) -> int:
    """How many of the migrations the file has seen. Raises StorageError for one that is not ours, or newer."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != application_id and (owner or tables):
        raise StorageError("is a database of another program. Move it out of the instance directory.")
    if version > len(migrations):
        raise StorageError("was written by a newer version of Overseer. Update Overseer to open it.")
    return version


def _migrate(db: sqlite3.Connection, migrations: Sequence[Migration], application_id: int, version: int) -> None:
    # Journal mode cannot change inside a transaction, and is kept in the file: only a new one needs it.
    if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("SELECT 1 FROM sqlite_schema").fetchone()  # makes the log, which is known by its marks from then on
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


def explain(error: sqlite3.Error, path: Path) -> StorageError:
    """What an error of SQLite means for a person."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary == sqlite3.SQLITE_FULL:
        return _full()
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return _closed_to_us(path)
    if primary == sqlite3.SQLITE_IOERR and code not in READING:
        # A quota says so, and a full disk too when it is a companion that cannot grow.
        return StorageFull(
            f"{path.name} could not be written. Nothing was lost; look whether the disk or a quota is full, and try"
            " again."
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageFull(f"{path.name} is locked by another program. Close it there and try again.")
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StorageDamaged(f"{path.name} is damaged or not a SQLite file. Put back a copy from a backup.")
    return StorageError(f"{path.name} could not be used: {error}.")


def refused(error: OSError, path: Path) -> StorageFull:
    """What an error of the system means for a person."""
    return _full() if error.errno in (errno.ENOSPC, errno.EDQUOT) else _closed_to_us(path)


def _full() -> StorageFull:
    return StorageFull("The disk is full. Nothing was lost; free some space and try again.")


def _closed_to_us(path: Path) -> StorageFull:
    return StorageFull(f"{path.name} cannot be opened for writing. Check the rights of the instance directory.")
