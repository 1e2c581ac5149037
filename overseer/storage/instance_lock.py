"""The instance directory: its layout and the lock that lets one process at a time use it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from overseer.domain.errors import InstanceError

REGISTRY_FILE = "overseer.sqlite"
OWNER_FILE = "overseer.lock"
ROOM_FILE = re.compile(r"room-([0-9a-f]{12})\.sqlite", re.ASCII)


class InstanceLock:
    """An exclusive `flock` on the instance directory.

    The directory itself is locked, not a file in it: removing `overseer.lock`, which only names the owner, does not
    let a second process in.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Create the directory if needed and lock it.

        Raises InstanceError, and holds nothing, if another process has the lock or the directory cannot be written.
        """
        try:
            self._directory.parent.mkdir(parents=True, exist_ok=True)
            for directory in (self._directory, self._directory / "facets"):
                directory.mkdir(mode=0o700, exist_ok=True)
            self._descriptor = lock_directory(self._directory)
        except OSError as error:
            remedy = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Check its permissions"
            raise InstanceError(
                f"{self._directory} cannot be written ({error.strerror}). {remedy}, or choose another."
            ) from error

    def release(self) -> None:
        """Unlock the directory. Does nothing if it is not locked."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def lock_directory(directory: Path) -> int:
    """Lock a directory for this process. Return the descriptor whose closing unlocks it.

    Raises InstanceError if another process has locked it, and OSError.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write_owner(directory)
    except BlockingIOError:
        os.close(descriptor)
        raise InstanceError(
            f"{directory} is in use by {_read_owner(directory)}. Stop that one, or choose another --instance."
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def owner(directory: Path) -> str | None:
    """Return which process has the directory locked, or None. Does not take the lock."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_owner(directory)
    finally:
        os.close(descriptor)
    return None


def require_instance(directory: Path) -> None:
    """Raise InstanceError unless the directory holds a registry or a folder of rooms."""
    if not (directory / REGISTRY_FILE).exists() and not (directory / "facets").is_dir():
        raise InstanceError(f"There are no rooms in {directory}. Set OVERSEER_INSTANCE to the directory that has them.")


def room_file(directory: Path, room_id: str) -> Path:
    """Return the path of a room's file."""
    return directory / "facets" / f"room-{room_id}.sqlite"


def room_ids(directory: Path) -> set[str]:
    """Return the ids of all rooms that have a file."""
    found = (ROOM_FILE.fullmatch(path.name) for path in (directory / "facets").glob("room-*.sqlite"))
    return {match[1] for match in found if match}


def _write_owner(directory: Path) -> None:
    descriptor = os.open(directory / OWNER_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")


def _read_owner(directory: Path) -> str:
    with suppress(OSError):
        if owner := (directory / OWNER_FILE).read_text().strip():
            return f"process {owner}"
    return "another process"
