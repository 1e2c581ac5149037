"""Removes text and reasoning that consist of white space only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from overseer.llm import Delta, PictureFound, ReasoningDelta, ReasoningEnded, TextDelta

MAX_HELD_CHARS = 1000  # of white space
PARTS = (TextDelta, ReasoningDelta, ReasoningEnded, PictureFound)  # where one is followed by another, a part ends


class BlankFilter:
    """Holds white space at the beginning of a text back until a word follows it, and drops it if none does."""

    def __init__(self) -> None:
        self._kind: type[Delta] | None = None
        self._held = ""
        self._begun = False

    def passes(self, delta: Delta) -> bool:
        """Return whether `add` would yield this delta as it is."""
        return self._begun and type(delta) is self._kind

    def add(self, delta: Delta) -> Iterator[Delta]:
        """Yield what is certain to belong to a text with words, and every other delta."""
        if type(delta) is not self._kind and isinstance(delta, PARTS):
            self._kind, self._held, self._begun = type(delta), "", False
        if self._begun or not isinstance(delta, TextDelta | ReasoningDelta):
            yield delta
        elif delta.text.strip():
            self._begun = True
            yield replace(delta, text=self._held + delta.text)
            self._held = ""
        else:
            self._held = (self._held + delta.text)[:MAX_HELD_CHARS]
