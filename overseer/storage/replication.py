"""The seam for keeping copies of an instance directory elsewhere. Without one, files are on the local disk only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol


class Replication(Protocol):
    """Copies the files of one instance directory, and brings them back.

    `Storage` calls `opening`, `check`, `committed` and `closed` under its lock, so that nothing of a commit is read
    before `committed` has returned. After StorageUnavailable, that file must not be read any more.
    """

    def fetch(self, paths: Iterable[Path]) -> None:
        """Bring those files here that are not and have a copy. Raises StorageUnavailable."""

    def opening(self, path: Path) -> None:
        """Bring the file here, if it has a copy, before it is opened. Raises StorageUnavailable."""

    def check(self) -> None:
        """Raise StorageUnavailable if the local files may not be used any more."""

    def committed(self, path: Path, *, durable: bool) -> None:
        """Copy the file. If `durable`, return when that is done, and raise StorageUnavailable if it is not certain."""

    def closed(self, path: Path) -> None:
        """Copy what is left, before the file is closed."""

    def removed(self, path: Path) -> None:
        """Delete the copies of a file that was deleted. Raises StorageUnavailable."""
