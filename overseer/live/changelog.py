"""A channel: what became stale, by name and in order, so that each tab can ask what came after its place."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

REMEMBERED = 200  # names; a tab that is further behind is brought up to date whole

Name = TypeVar("Name", bound=Hashable)


class Changelog(Generic[Name]):
    """Names of stale fragments, each once, in the order they last became stale.

    A place is a number that only grows. What was stale at `place` or before is not told again.
    """

    def __init__(self, place: int) -> None:
        self._floor = place
        self._marks: dict[Name, int] = {}

    def mark(self, name: Name, place: int) -> None:
        """The fragment `name` is stale since `place`."""
        self._marks.pop(name, None)
        self._marks[name] = place
        if len(self._marks) > REMEMBERED:
            oldest = next(iter(self._marks))
            self._floor = self._marks.pop(oldest)

    def forget(self, place: int) -> None:
        """Everything is stale since `place`: nobody before it can be told by name."""
        self._marks.clear()
        self._floor = place

    def since(self, place: int) -> list[Name] | None:
        """The names that became stale after `place`, oldest first; None if that is too long ago to know."""
        return None if place < self._floor else list(self._after(place))[::-1]

    def _after(self, place: int) -> Iterator[Name]:
        for name, marked in reversed(self._marks.items()):
            if marked <= place:
                return
            yield name
