"""The tenure of a node over an Overseer: from the moment it becomes the owner until it is not any more."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

from overseer.cluster.bucket import Bucket, BucketUnavailable, Stored
from overseer.cluster.replicas import CopyFailed, Replicas
from overseer.domain.errors import StorageUnavailable
from overseer.multi.directory import PASSWORD_FILE
from overseer.storage.database import PRIVATE_MODE
from overseer.storage.instance_lock import REGISTRY_FILE
from overseer.storage.sessions import SESSIONS_FILE

log = logging.getLogger(__name__)

EPOCH_FILE = "epoch"  # in the directory of an Overseer: the epoch that its files are of
NOT_CERTAIN = "It is not certain that this was stored. Try again in a moment."
MOVING = "This Overseer is moving to another machine. Try again in a moment."
AWAY = "The store of this Overseer cannot be reached at the moment. Try again in a moment."
MISSING = "The files of this Overseer are not in the bucket. Put back a copy from a backup."


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner record of an Overseer: who owns it, and in which epoch, which counts the owners.

    Nobody owns it if `session` is empty; then `to` may be the address of the node that shall. `password` is the hash of
    its password. `ready` tells that its registry is in the bucket. The record of an Overseer that was `removed` stays,
    so that epochs are not used again; `since` is the first epoch of one that was made later under the same name.
    """

    url: str = ""
    session: str = ""
    epoch: int = 0
    to: str = ""
    password: str = ""
    ready: bool = False
    removed: bool = False
    since: int = 1

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Return the record from JSON. Fields of later versions are ignored."""
        return cls(**{field.name: value[field.name] for field in fields(cls) if field.name in value})

    def freed(self, to: str = "") -> Owner:
        """Return the record without an owner."""
        return replace(self, url="", session="", to=to)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Log errors of the bucket and of Litestream, which name addresses and paths, and raise one that does not."""
    try:
        yield
    except (BucketUnavailable, CopyFailed) as error:
        log.error("%s: %s", name, error)
        raise StorageUnavailable(AWAY) from error


def owner_key(name: str) -> str:
    """Return the key of the owner record of an Overseer."""
    return f"o/{name}/owner"


class Tenure:
    """An Overseer while this node owns it: brings its files here, and proves that what is stored is safe.

    A commit is safe when its copy is in the bucket and the owner record, read after that, is still this one: the next
    owner restores after it has changed the record, so it finds the copy. What cannot be proven ends the tenure:
    `on_end` is called, and all that follows raises StorageUnavailable. Implements `storage.replication.Replication`.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        owner: Owner,
        *,
        bucket: Bucket,
        replicas: Replicas,
        on_end: Callable[[Tenure], None],
        make_ready: Callable[[Tenure], None],
        do_later: Callable[[Callable[[], object]], None],
    ) -> None:
        self.name = name
        self.directory = directory
        self.owner = owner
        self.replicas = replicas
        self._bucket = bucket
        self._on_end = on_end
        self._make_ready = make_ready
        self._do_later = do_later
        self._is_over = False

    # Replication

    def fetch(self, paths: Iterable[Path]) -> None:
        """Bring those files here that are not and have a copy."""
        self.check()
        with explained(self.name):
            self.replicas.restore(paths)

    def opening(self, path: Path) -> None:
        """Bring a file here, and begin its copy of this epoch."""
        self.check()
        if self.replicas.is_begun(path) and path.exists():
            return
        self.fetch([path])
        if not path.exists():
            if path.name == REGISTRY_FILE and self.owner.ready:
                raise StorageUnavailable(MISSING)
            return
        self._prove(path)

    def check(self) -> None:
        """Raise StorageUnavailable if the tenure is over."""
        if self._is_over:
            raise StorageUnavailable(MOVING)

    def committed(self, path: Path, *, durable: bool) -> None:
        """Copy a file. If `durable`, prove that the commit is safe, or end the tenure."""
        self.check()
        if durable:
            self._prove(path)
            return
        try:
            self.replicas.note(path)
        except StorageUnavailable as error:
            self._fail(error)

    def closed(self, path: Path) -> None:
        """Copy what is left of a file, unless the tenure is over."""
        if self._is_over:
            return
        try:
            self.replicas.close(path)
        except StorageUnavailable as error:
            log.warning("%s: the last copy of %s is not certain: %s", self.name, path.name, error)

    def removed(self, path: Path) -> None:
        """Delete the copies of a file."""
        self.check()
        with explained(self.name):
            self.replicas.delete(path)

    # For the node

    @property
    def is_over(self) -> bool:
        """Whether the tenure has ended."""
        return self._is_over

    def begin(self) -> None:
        """Use the files that are here if they are of the previous epoch, else begin with an empty directory.

        The password is written into its file, see `multi.directory`.
        """
        stamp = self.directory / EPOCH_FILE
        if not stamp.exists() or stamp.read_text() != str(self.owner.epoch - 1):
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory.mkdir(mode=0o700, parents=True)
        stamp.write_text(str(self.owner.epoch))
        self._write_password()

    def fetch_first(self) -> None:
        """Bring the files that every Overseer needs when it is opened. What fails is tried again then."""
        with suppress(StorageUnavailable):
            self.fetch([self.directory / REGISTRY_FILE, self.directory / SESSIONS_FILE])

    def verify(self) -> None:
        """Check that the node is still the owner, and end the tenure if it is not.

        Raises StorageUnavailable, also if the bucket does not answer.
        """
        self.check()
        found = self._bucket.get(owner_key(self.name))
        if found is None or not self._is_ours(found):
            self.end()
            raise StorageUnavailable(MOVING)
        if (password := str(found.value.get("password", ""))) != self.owner.password:
            self.owner = replace(self.owner, password=password)
            self._write_password()

    def end(self) -> None:
        """End the tenure at once, without telling the bucket."""
        if not self._is_over:
            self.close()
            self._on_end(self)

    def close(self) -> None:
        """Let nobody use the files any more."""
        self._is_over = self.replicas.is_over = True

    def _write_password(self) -> None:
        path = self.directory / PASSWORD_FILE
        content = f"{self.owner.password}\n" if self.owner.password else ""
        with suppress(FileNotFoundError):
            if path.read_text(encoding="utf-8") == content:
                return  # a new file would be another password: it would end the log-ins
        unfinished = path.with_name(f".{PASSWORD_FILE}")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        unfinished.rename(path)

    def _prove(self, path: Path) -> None:
        try:
            whole = self.replicas.copy(path)
            found = self._bucket.get(owner_key(self.name))
        except StorageUnavailable as error:
            self._fail(error)
        if not self._is_ours(found):
            self._fail(StorageUnavailable("another node owns it"))
        if path.name == REGISTRY_FILE and not self.owner.ready:
            self._make_ready(self)
        if whole is not None:
            self._do_later(partial(self.replicas.delete_older, path, whole))

    def _fail(self, error: StorageUnavailable) -> NoReturn:
        log.error("%s: %s", self.name, error)
        self.end()
        raise StorageUnavailable(NOT_CERTAIN) from error

    def _is_ours(self, found: Stored | None) -> bool:
        owner = Owner.read(found.value) if found is not None else Owner()
        return (owner.session, owner.epoch) == (self.owner.session, self.owner.epoch)
