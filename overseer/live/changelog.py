"""The changelog of a topic: which fragments became stale, and at which revision."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

MAX_INVALIDATIONS = 200  # a tab that is further behind gets the whole topic

Invalidation = TypeVar("Invalidation", bound=Hashable)


class Changelog(Generic[Invalidation]):
    """Invalidations, each once, ordered by the revision at which they were last marked.

    A revision is a number that grows with every event. A tab at revision N shows all changes up to and including N.
    """

    def __init__(self, revision: int) -> None:
        self._oldest = revision  # changes up to this revision are no longer known one by one
        self._revisions: dict[Invalidation, int] = {}

    def mark(self, invalidation: Invalidation, revision: int) -> None:
        """Record an invalidation at `revision`."""
        self._revisions.pop(invalidation, None)
        self._revisions[invalidation] = revision
        if len(self._revisions) > MAX_INVALIDATIONS:
            self._oldest = self._revisions.pop(next(iter(self._revisions)))

    def mark_all(self, revision: int) -> None:
        """Record that everything became stale at `revision`."""
        self._revisions.clear()
        self._oldest = revision

    def since(self, revision: int) -> list[Invalidation] | None:
        """Return the invalidations after `revision`, oldest first, or None if they are not all known."""
        return None if revision < self._oldest else list(self._after(revision))[::-1]

    def _after(self, revision: int) -> Iterator[Invalidation]:
        for invalidation, marked in reversed(self._revisions.items()):
            if marked <= revision:
                return
            yield invalidation
