"""Open, migrate, write, copy and remove one SQLite file."""

from __future__ import annotations

import errno
import logging
import math
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from overseer.domain.errors import (
    StorageClosed,
    StorageDamaged,
    StorageEmpty,
    StorageError,
    StorageReplaced,
    StorageUnavailable,
)
from overseer.storage.replication import Replication

Migration = Callable[[sqlite3.Connection], None]
RunInThread = Callable[[Callable[[], object]], object]  # calls the function, possibly in another thread

log = logging.getLogger(__name__)

BUSY_SECONDS = 1.0  # how long a write waits for another program's lock
SUFFIXES = ("", "-wal", "-shm")
# What the code raises that meets a value of a kind that it did not store.
UNREADABLE = (ArithmeticError, LookupError, TypeError, ValueError)
MIN_DATABASE_BYTES = 512  # the smallest page of SQLite
CHECKPOINT_BYTES = 4 * 2**20  # the size of a -wal file that starts a checkpoint
PRIVATE_MODE = 0o600
READ_ERRORS = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS)


def run_inline(work: Callable[[], object]) -> object:
    """Call `work` in this thread."""
    return work()


class FileIdentity(NamedTuple):
    """The result of `stat` that tells whether a path still leads to the same file, and whether the file has changed.

    `link` is set if the path is a symbolic link: SQLite keeps the WAL file beside the target, not beside the link.
    """

    device: int
    inode: int
    link: bool
    size: int
    written_at: int

    @property
    def file(self) -> tuple[int, int, bool]:
        """The part that does not change when the file is written."""
        return self.device, self.inode, self.link


class Storage:
    """A SQLite file with one connection and one lock. Every method takes the lock.

    `migrate` opens the file. SQLite keeps writing to an open file that another program has removed, replaced or
    overwritten, and those writes are lost. Therefore every use checks the identity of the file first, and every write
    checks it again after the commit and before it returns.

    Commits that wait for the disk, checkpoints and closing run in `run_in_thread`, so that other threads can run
    meanwhile. The lock is held.

    With a `replication`, a durable transaction is one that has been copied as well. The program that copies makes the
    checkpoints then, and so changes the main file.
    """

    def __init__(
        self,
        path: Path,
        *,
        lock: threading.RLock | None = None,
        run_in_thread: RunInThread = run_inline,
        replication: Replication | None = None,
    ) -> None:
        self.path = path
        self.lock = lock or threading.RLock()
        self._run_in_thread = run_in_thread
        self._replication = replication
        self.busy_deadline = math.inf  # by the monotonic clock: no write waits for another program after it
        self._durable = True  # the last transaction was, and the next is unless that is changed
        self._db: sqlite3.Connection | None = None
        self._paths = {suffix: os.fspath(beside(path, suffix)) for suffix in SUFFIXES}
        self._identity: dict[str, FileIdentity | None] = {}  # of the three files, by suffix
        self._damaged: FileIdentity | None = None

    def migrate(
        self, migrations: Sequence[Migration], *, application_id: int, create: bool, keep_older: bool = False
    ) -> None:
        """Open the file and apply the migrations that it does not have yet. Create the file if `create`.

        With `keep_older`, a file with an older schema is first copied to `<name>.before-v<newest>`. Raises StorageError
        for a file that is missing, not SQLite, of another program, or written by a newer version.
        """
        with self.lock:
            self.close()
            if self._replication is not None:
                self._replication.opening(self.path)
            if not create and not self.path.exists():
                raise StorageError(f"{self.path.name} is missing. Put back a copy from a backup.")
            try:
                self._open(migrations, application_id, create=create, keep_older=keep_older)
            except BaseException as error:
                self.close()
                if isinstance(error, OSError):
                    raise explain_os_error(error, self.path) from error
                if isinstance(error, sqlite3.Error):
                    raise explain_sqlite_error(error, self.path) from error
                if isinstance(error, StorageError):
                    raise type(error)(f"{self.path.name} {error}") from None
                raise

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Run a transaction: committed at the end of the block, rolled back if the block raises.

        A transaction that is not durable does not wait for the disk: it survives a crash of the process, but possibly
        not a power cut. Raises StorageReplaced after the commit if the file or its WAL file was replaced meanwhile.
        """
        with self.lock:
            db = self._connection()
            self._set_durable(db, durable)
            changes = db.total_changes
            try:
                _execute(db, "BEGIN IMMEDIATE", (), self.busy_deadline)
                yield db
                if durable:
                    self._run_in_thread(partial(self._execute_commit, db))
                else:
                    self._execute_commit(db)  # a write into the page cache, faster than the way to another thread
                self._check_committed()
                self._finish_commit(db, changes, durable=durable)
            except BaseException as error:
                # SQLite itself rolls back on some errors.
                with suppress(sqlite3.Error):
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise explain_sqlite_error(error, self.path) from error
                if isinstance(error, UNREADABLE):
                    raise explain_value(self.path) from error
                raise

    def write_one(self, statement: str, parameters: Mapping[str, object]) -> list[sqlite3.Row]:
        """Run one statement as a transaction that is not durable, and return its rows. Raises what `write` raises."""
        with self.lock:
            db = self._connection()
            changes = db.total_changes
            try:
                self._set_durable(db, False)
                rows = _execute(db, statement, parameters, self.busy_deadline)
                self._check_committed()
                self._finish_commit(db, changes, durable=False)
            except sqlite3.Error as error:
                raise explain_sqlite_error(error, self.path) from error
            return rows

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, for queries only."""
        with self.lock:
            try:
                yield self._connection()
            except sqlite3.Error as error:
                raise explain_sqlite_error(error, self.path) from error
            except UNREADABLE as error:
                raise explain_value(self.path) from error

    def verify(self) -> None:
        """Run SQLite's `quick_check`. Raises StorageDamaged if it finds an error."""
        with self.read() as db:
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise StorageDamaged(f"{self.path.name} is damaged. Put back a copy from a backup.")

    def in_place(self) -> bool:
        """Return whether the open file and its WAL file are still at their paths; True if no file is open."""
        with self.lock:
            return self._db is None or (self._is_at_path(file_identity(self.path)) and self._has_its_wal())

    def is_sound(self) -> bool:
        """Return whether the file is open and has not been removed, replaced or damaged."""
        with self.lock:
            try:
                return bool(self._connection())
            except (StorageClosed, StorageDamaged):
                return False

    def shrink(self) -> None:
        """Free the pages that SQLite has cached."""
        with self.lock, suppress(sqlite3.Error):
            if self._db is not None:
                self._db.execute("PRAGMA shrink_memory")

    def close(self) -> None:
        """Close the file. Every later use raises StorageClosed."""
        with self.lock:
            if self._db is None:
                return
            gone = not self._is_at_path(file_identity(self.path))
            try:
                if self._replication is not None:
                    self._replication.closed(self.path)
                self._run_in_thread(self._db.close)  # it writes the WAL file back, which may wait for the disk
            finally:
                self._db = None
            if gone:
                self._remove_companions()

    # In call order

    def _open(self, migrations: Sequence[Migration], application_id: int, *, create: bool, keep_older: bool) -> None:
        self._identity, self._damaged, self._durable = {}, None, True
        if create:
            _create(self.path)
        self._paths = {suffix: os.path.realpath(self.path) + suffix for suffix in SUFFIXES[1:]}
        self._paths[""] = os.fspath(self.path)
        self._identity[""] = file_identity(self._paths[""])
        self._db = _connect(self.path, create)
        version = version_of(self._db, migrations, application_id)
        if version == 0 and not create:
            raise StorageEmpty("is empty. Put back a copy from a backup.")
        if keep_older and 0 < version < len(migrations):
            save_copy(self._db, self.path.with_name(f"{self.path.name}.before-v{len(migrations)}"))
        _migrate(self._db, migrations, application_id, version)
        found = {suffix: file_identity(self._paths[suffix]) for suffix in SUFFIXES}
        in_place = self._is_at_path(found[""]) and found["-wal"] is not None
        self._identity = found if in_place else {**found, "": self._identity[""]}
        if not in_place:
            raise StorageUnavailable("was removed or replaced while it was opened. Try again.")

    def _set_durable(self, db: sqlite3.Connection, durable: bool) -> None:
        """Let the next transactions wait for the disk, or not."""
        if durable != self._durable:
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    def _execute_commit(self, db: sqlite3.Connection) -> None:
        db.execute("COMMIT")

    def _check_committed(self) -> None:
        """Check that the commit went into the file that is now at the path."""
        try:
            self._check_file()
        except StorageDamaged:
            raise
        except StorageError:
            pass  # the file is in place but locked by another program; the next use checks it again

    def _finish_commit(self, db: sqlite3.Connection, changes_before: int, *, durable: bool) -> None:
        """Copy what was committed, or write it back into the main file when the WAL file has grown."""
        if self._replication is None:
            self._checkpoint(db)
        elif db.total_changes != changes_before:
            self._replication.committed(self.path, durable=durable)

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        """Copy a WAL file of CHECKPOINT_BYTES or more into the database and truncate it.

        SQLite's automatic checkpoints are off: only this method changes the main file, so every other change is
        another program's.
        """
        wal = file_identity(self._paths["-wal"])
        if wal is None or wal.size < CHECKPOINT_BYTES:
            return
        with suppress(sqlite3.Error):  # the WAL file still has everything; the next write tries again
            # Fetch the result: an open cursor of this statement, which another thread might still hold, would block
            # later commits.
            self._run_in_thread(lambda: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        found = file_identity(self._paths[""])
        if self._is_at_path(found):
            self._identity[""] = found

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise StorageClosed(f"{self.path.name} is closed.")
        if self._replication is not None:
            self._replication.check()
        self._check_file()
        return self._db

    def _check_file(self) -> None:
        """Raise StorageReplaced or StorageDamaged if another program has replaced or damaged the file or its WAL."""
        found = file_identity(self._paths[""])
        if found != self._identity[""]:
            self._check_changed_file(found)
        if not self._has_its_wal():
            raise StorageReplaced(f"{self.path.name}-wal was removed while it was open. Leave it there, and try again.")

    def _is_at_path(self, found: FileIdentity | None) -> bool:
        known = self._identity.get("")
        return known is None or (found is not None and found.file == known.file)

    def _has_its_wal(self) -> bool:
        """Return whether the WAL file is still at its path. If not, closing the connection still saves its content."""
        known, found = self._identity.get("-wal"), file_identity(self._paths["-wal"])
        return known is None or (found is not None and found.file == known.file)

    def _check_changed_file(self, found: FileIdentity | None) -> None:
        """Check a file that another program has changed: valid changes are accepted."""
        if found is None or not self._is_at_path(found):
            raise StorageReplaced(f"{self.path.name} was removed or replaced while it was open. Try again.")
        if self._replication is not None:  # a checkpoint
            self._identity[""] = found
            return
        if found != self._damaged and found.size >= MIN_DATABASE_BYTES and _is_intact(self.path):
            self._identity[""] = found
            return
        self._damaged = found
        raise StorageDamaged(f"{self.path.name} is damaged: it was overwritten. Put back a copy from a backup.")

    def _remove_companions(self) -> None:
        """Remove the WAL and shared-memory files of a file that is gone.

        SQLite would apply the WAL file to a file put in its place.
        """
        for suffix in SUFFIXES[1:]:
            known, found = self._identity.get(suffix), file_identity(self._paths[suffix])
            if known is not None and found is not None and found.file == known.file:
                with suppress(FileNotFoundError):
                    os.unlink(self._paths[suffix])


def explain_value(path: Path) -> StorageDamaged:
    """Return the error for a file in which another program has stored a value of another kind; log it."""
    log.exception("%s has a value that cannot be read", path.name)
    return StorageDamaged(f"{path.name} has a value that cannot be read (see the log). Put back a copy from a backup.")


def beside(path: Path, suffix: str) -> Path:
    """Return the path with `suffix` appended to the file name."""
    return path.with_name(path.name + suffix)


def file_identity(path: Path | str) -> FileIdentity | None:
    """Return the identity of the file at a path, or None if there is none."""
    try:
        found = os.lstat(path)
        link = stat.S_ISLNK(found.st_mode)
        if link:
            found = os.stat(path)
    except OSError:
        return None
    return FileIdentity(found.st_dev, found.st_ino, link, found.st_size, found.st_mtime_ns)


def remove(path: Path) -> None:
    """Delete a database with its WAL and shared-memory files. Missing files are ignored."""
    # The main file last: after a crash in between, the next start finds the rest by its name.
    for suffix in reversed(SUFFIXES):
        beside(path, suffix).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        flush(path.parent)


def quarantine(path: Path, suffix: str) -> Path:
    """Rename a database, its WAL file and its shared-memory file by appending `suffix`. Return the new path."""
    target = beside(path, suffix)
    for companion in SUFFIXES:
        with suppress(FileNotFoundError):
            beside(path, companion).rename(beside(target, companion))
    flush(path.parent)
    return target


def flush(path: Path) -> None:
    """Call `fsync` on a file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_copy(db: sqlite3.Connection, target: Path, change: Callable[[sqlite3.Connection], None] | None = None) -> None:
    """Copy the database to `target`, readable by its owner only, and flush it to disk.

    The copy is a consistent snapshot. It gets its name when it is complete, and when `change` has been made in it, and
    replaces an existing file.
    """
    unfinished = beside(target, ".partial")
    remove(unfinished)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_MODE))
    try:
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")
            db.backup(copy)
            if change is not None:
                copy.row_factory = sqlite3.Row
                copy.execute("PRAGMA foreign_keys = ON")
                copy.execute("BEGIN")
                change(copy)
                copy.execute("COMMIT")
                copy.execute("PRAGMA journal_mode = DELETE")  # with a WAL file, the change would be in that
        flush(unfinished)
        unfinished.rename(target)
    except BaseException:
        remove(unfinished)
        raise
    flush(target.parent)


def remove_unfinished_copies(folder: Path) -> None:
    """Remove what a crash during `save_copy` left in a folder."""
    for path in folder.glob("*.partial*"):
        path.unlink(missing_ok=True)


def _create(path: Path) -> None:
    """Create an empty file if there is none. SQLite would create it with the default mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_MODE))


def _connect(path: Path, create: bool) -> sqlite3.Connection:
    # isolation_level=None is autocommit: `write` begins and commits. The lock of Storage replaces the thread check.
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


def _execute(
    db: sqlite3.Connection, statement: str, parameters: Mapping[str, object] | tuple[()], until: float
) -> list[sqlite3.Row]:
    """Execute a statement that writes or begins to, waiting for other programs. Return its rows.

    SQLite's busy timeout would block all greenlets.
    """
    until = min(until, time.monotonic() + BUSY_SECONDS)
    while True:
        try:
            return db.execute(statement, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _is_intact(path: Path) -> bool:
    """Run `quick_check` on a new connection, whose cache is empty."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as db:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.DatabaseError as error:
        # A locked file cannot be checked now; the next use tries again.
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return False
        raise explain_sqlite_error(error, path) from error


def version_of(db: sqlite3.Connection, migrations: Sequence[Migration], application_id: int) -> int:
    """Return how many migrations were applied. Raises StorageError for a file of another program or newer version."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != application_id and (owner or tables):
        raise StorageError("is a database of another program. Move it out of the instance directory.")
    if version > len(migrations):
        raise StorageError("was written by a newer version of Overseer. Update Overseer to open it.")
    return version


def _migrate(db: sqlite3.Connection, migrations: Sequence[Migration], application_id: int, version: int) -> None:
    # The journal mode is stored in the file, so only a new file needs it. It cannot change inside a transaction.
    if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("SELECT 1 FROM sqlite_schema").fetchone()  # creates the WAL file, whose identity is then recorded
    # The first durable commit afterwards also flushes the migrations.
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


def explain_sqlite_error(error: sqlite3.Error, path: Path) -> StorageError:
    """Convert a SQLite error to a StorageError with an error message for people."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary == sqlite3.SQLITE_FULL:
        return _disk_full()
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return _not_writable(path)
    if primary == sqlite3.SQLITE_IOERR and code not in READ_ERRORS:
        # A quota raises this, and so does a full disk when the WAL or shared-memory file cannot grow.
        return StorageUnavailable(
            f"{path.name} could not be written. Nothing was lost; check whether the disk or a quota is full, and try"
            " again."
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageUnavailable(f"{path.name} is locked by another program. Close it there and try again.")
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StorageDamaged(f"{path.name} is damaged or not a SQLite file. Put back a copy from a backup.")
    return StorageError(f"{path.name} could not be used: {error}.")


def explain_os_error(error: OSError, path: Path) -> StorageUnavailable:
    """Convert an error of the operating system to a StorageError with an error message for people."""
    return _disk_full() if error.errno in (errno.ENOSPC, errno.EDQUOT) else _not_writable(path)


def _disk_full() -> StorageUnavailable:
    return StorageUnavailable("The disk is full. Nothing was lost; free some space and try again.")


def _not_writable(path: Path) -> StorageUnavailable:
    return StorageUnavailable(
        f"{path.name} cannot be opened for writing. Check the permissions of the instance directory."
    )
