"""The Overseers of a cluster as a directory: those that this node owns are here, all others are in the bucket."""

from __future__ import annotations

from pathlib import Path

from overseer.cluster.bucket import Bucket
from overseer.cluster.node import Node, create_overseer, read_owner
from overseer.cluster.tenure import Owner, explained
from overseer.domain.errors import NoSuchOverseer
from overseer.domain.text import Invalid
from overseer.multi.directory import INVALID_NAME, NAME, NO_SUCH_OVERSEER, Directory, Identity


class ClusterDirectory(Directory):
    """Makes and finds Overseers in the bucket. Methods raise StorageUnavailable if it does not answer."""

    def __init__(self, root: Path, node: Node, bucket: Bucket) -> None:
        super().__init__(root)
        self._node = node
        self._bucket = bucket

    def identity(self, name: str) -> Identity | None:
        """Return what changes with the password of an Overseer and with its epoch. None if it is not owned here."""
        found = super().identity(name) if self._node.owns(name) else None
        return None if found is None else (self._node.tenure(name).owner.epoch, *found[1:])

    def require(self, name: str) -> Path:
        """Return the instance directory that an Overseer has where it is owned. Raises NoSuchOverseer."""
        if not NAME.fullmatch(name):
            raise NoSuchOverseer(NO_SUCH_OVERSEER)
        self._owner(name)
        return self.path(name)

    def password(self, name: str) -> str:
        """Return the hash of the password of an Overseer, or an empty string. Raises NoSuchOverseer."""
        return super().password(name) if self._node.owns(name) else self._owner(name).password

    def add(self, name: str, password_hash: str) -> None:
        """Make an Overseer without rooms. Raises Invalid or OverseerExists."""
        if not NAME.fullmatch(name):
            raise Invalid(INVALID_NAME)
        with explained(name):
            create_overseer(self._bucket, name, password_hash)

    def _owner(self, name: str) -> Owner:
        with explained(name):
            return read_owner(self._bucket, name)[0]
