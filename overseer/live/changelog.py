"""The changelog of a topic: which fragments became stale, and at which revision."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

MAX_NAMES = 200  # a tab that is further behind gets the whole topic

Name = TypeVar("Name", bound=Hashable)


class Changelog(Generic[Name]):
    """Names of stale fragments, each once, ordered by the revision at which they last became stale.

    A revision is a number that grows with every event. A tab at revision N shows all changes up to and including N.
    """

    def __init__(self, revision: int) -> None:
        self._oldest = revision  # changes up to this revision are no longer known by name
        self._revisions: dict[Name, int] = {}

    def mark(self, name: Name, revision: int) -> None:
        """Record that the fragment `name` became stale at `revision`."""
        self._revisions.pop(name, None)
        self._revisions[name] = revision
        if len(self._revisions) > MAX_NAMES:
            oldest_name = next(iter(self._revisions))
            self._oldest = self._revisions.pop(oldest_name)

    def mark_all(self, revision: int) -> None:
        """Record that everything became stale at `revision`."""
        self._revisions.clear()
        self._oldest = revision

    def since(self, revision: int) -> list[Name] | None:
        """Return the names that became stale after `revision`, oldest first, or None if they are not all known."""
        return None if revision < self._oldest else list(self._after(revision))[::-1]

    def _after(self, revision: int) -> Iterator[Name]:
        for name, marked in reversed(self._revisions.items()):
            if marked <= revision:
                return
            yield name
