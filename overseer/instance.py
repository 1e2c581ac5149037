"""The instance directory: one process has it at a time."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from pathlib import Path

from filelock import FileLock, Timeout

LIST = "overseer.sqlite"
ROOM_FILE = re.compile(r"room-([0-9a-f]{12})\.sqlite", re.ASCII)


class InstanceError(Exception):
    """The instance directory cannot be used; the message is a sentence for a person."""


class InstanceLock:
    """Makes the directory, and keeps every other process out of it by a lock file that names its owner."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "overseer.lock"
        self._lock = FileLock(self._path, mode=0o600, thread_local=False)

    def take(self) -> None:
        """Raises InstanceError if another process has the directory, or if it cannot be written."""
        try:
            self._directory.parent.mkdir(parents=True, exist_ok=True)
            for directory in (self._directory, self._directory / "facets"):
                directory.mkdir(mode=0o700, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._path.write_text(f"{os.getpid()} on {socket.gethostname()}\n")
        except Timeout:
            owner = self._path.read_text().strip() or "another one"
            raise InstanceError(
                f"{self._directory} is in use by process {owner}. Stop that one, or choose another --instance."
            ) from None
        except OSError as error:
            raise InstanceError(
                f"{self._directory} cannot be written ({error.strerror}). Check its rights, or choose another."
            ) from error

    def release(self) -> None:
        """Let others have it."""
        self._lock.release()


def owner(directory: Path) -> str | None:
    """Who uses the directory just now, by its own word; None if nobody does. Takes nothing from them."""
    path = directory / "overseer.lock"
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return path.read_text().strip() or "another one"
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
