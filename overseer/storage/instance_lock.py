"""The instance directory: one process has it at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from overseer.domain.errors import InstanceError

LIST = "overseer.sqlite"
ROOM_FILE = re.compile(r"room-([0-9a-f]{12})\.sqlite", re.ASCII)


class InstanceLock:
    """Makes the directory, and keeps every other process out of it by a lock file that names its owner.

    The directory is locked too: somebody may take the file for one that was left behind, and remove it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None
        self._path = directory / "overseer.lock"
        self._lock = FileLock(self._path, mode=0o600, thread_local=False)

    def take(self) -> None:
        """Raises InstanceError, and holds nothing, if another process has the directory or it cannot be written."""
        try:
            self._directory.parent.mkdir(parents=True, exist_ok=True)
            for directory in (self._directory, self._directory / "facets"):
                directory.mkdir(mode=0o700, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._lock_directory()
            self._path.write_text(f"{os.getpid()} on {socket.gethostname()}\n")
        except BaseException as error:
            owner = _named(self._path)
            self.release()
            if isinstance(error, Timeout | BlockingIOError):
                raise InstanceError(
                    f"{self._directory} is in use by process {owner}. Stop that one, or choose another --instance."
                ) from None
            if isinstance(error, OSError):
                remedy = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Check its rights"
                raise InstanceError(
                    f"{self._directory} cannot be written ({error.strerror}). {remedy}, or choose another."
                ) from error
            raise

    def release(self) -> None:
        """Let others have it."""
        descriptor, self._descriptor = self._descriptor, None
        try:
            if descriptor is not None:
                os.close(descriptor)
        finally:
            self._lock.release()

    def _lock_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor


def owner(directory: Path) -> str | None:
    """Who uses the directory just now, by its own word; None if nobody does. Takes nothing from them."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(directory / "overseer.lock")
    finally:
        os.close(descriptor)
    return None


def is_instance(directory: Path) -> bool:
    """Whether there is anything of ours in a directory."""
    return (directory / LIST).exists() or (directory / "facets").is_dir()


def room_file(directory: Path, room_id: str) -> Path:
    """Where a room's file is."""
    return directory / "facets" / f"room-{room_id}.sqlite"


def room_ids(directory: Path) -> set[str]:
    """The rooms that have a file."""
    found = (ROOM_FILE.fullmatch(path.name) for path in (directory / "facets").glob("room-*.sqlite"))
    return {match[1] for match in found if match}


def _named(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().strip() or "another one"
    return "another one"
