"""The Overseers of one server as a directory: `o/<name>/` is the instance directory of each."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from overseer.domain.errors import InstanceError, NoSuchOverseer, OverseerExists
from overseer.domain.text import Invalid
from overseer.storage.database import flush
from overseer.storage.instance_lock import lock_directory

INVALID_NAME = "A name has 1 to 63 letters from a to z, digits and hyphens, and does not begin with a hyphen."
NO_SUCH_OVERSEER = "There is no Overseer of this name. Check the address that you were given."
OVERSEER_EXISTS = "There is an Overseer of this name already. Choose another name."
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
FOLDER = "o"
PASSWORD_FILE = "password"  # noqa: S105
TEMPORARY = ".tmp-"  # the names of directories that are being made or removed begin with it

Identity = tuple[int, int, int]


class Directory:
    """Makes, finds and removes Overseers. Several processes may do so at once.

    An Overseer exists if its directory has the file `password`. That file holds the hash of its password, or the
    password; it is empty if it has none. Methods raise InstanceError if the directory cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._lock: int | None = None

    def path(self, name: str) -> Path:
        """Return the instance directory of an Overseer."""
        return self._folder / name

    def identity(self, name: str) -> Identity | None:
        """Return what changes when the Overseer is made anew or gets another password. None if it does not exist."""
        if not NAME.fullmatch(name):
            return None
        try:
            found = os.stat(self._folder / name / PASSWORD_FILE)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns

    def require(self, name: str) -> Path:
        """Return the instance directory of an Overseer. Raises NoSuchOverseer."""
        if self.identity(name) is None:
            raise NoSuchOverseer(NO_SUCH_OVERSEER)
        return self.path(name)

    def password(self, name: str) -> str:
        """Return the password of an Overseer or its hash, or an empty string. Raises NoSuchOverseer."""
        path = self._folder / name / PASSWORD_FILE
        try:
            return path.read_text(encoding="utf-8").strip("\r\n")
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchOverseer(NO_SUCH_OVERSEER) from None
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8 text"
            raise InstanceError(f"{path} cannot be read ({reason}). Check its permissions.") from None

    def names(self) -> list[str]:
        """Return the names of all Overseers, in order."""
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self._folder) if self.identity(name))
        return []

    def add(self, name: str, password_hash: str) -> None:
        """Make an Overseer without rooms, or of a directory that was moved there. Raises Invalid or OverseerExists."""
        if not NAME.fullmatch(name):
            raise Invalid(INVALID_NAME)
        with self._writing(name):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = self._folder / f"{TEMPORARY}{secrets.token_hex(8)}"
            made.mkdir(mode=0o700)
            try:
                descriptor = os.open(made / PASSWORD_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(descriptor, "w", encoding="utf-8") as file:
                    file.write(f"{password_hash}\n" if password_hash else "")
                    file.flush()
                    os.fsync(descriptor)
                flush(made)
                try:
                    made.rename(self.path(name))
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                        raise
                    os.link(made / PASSWORD_FILE, self.path(name) / PASSWORD_FILE)
                    flush(self.path(name))
                flush(self._folder)
            except FileExistsError:
                raise OverseerExists(OVERSEER_EXISTS) from None
            finally:
                shutil.rmtree(made, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Delete an Overseer with all its rooms. A server that has it open notices. Raises NoSuchOverseer."""
        self.require(name)
        removed = self._folder / f"{TEMPORARY}{secrets.token_hex(8)}"
        with self._writing(name):
            try:
                self.path(name).rename(removed)  # at once, unlike the deletion of its files
            except FileNotFoundError:
                raise NoSuchOverseer(NO_SUCH_OVERSEER) from None
            flush(self._folder)
            shutil.rmtree(removed)

    def acquire(self) -> None:
        """Lock the directory for this server, and delete what a crash has left half made or half removed."""
        with self._writing(FOLDER):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = lock_directory(self._folder)
            for left in self._folder.glob(f"{TEMPORARY}*"):
                shutil.rmtree(left, ignore_errors=True)

    def release(self) -> None:
        """Unlock the directory."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Check its permissions"
            raise InstanceError(f"{self._folder / name} cannot be written ({error.strerror}). {remedy}.") from error
