"""What keeps the memory of many open Overseers small, and the pauses that it costs short."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def release_free_memory() -> None:
    """Return the memory that is free to the operating system, with glibc: it keeps what is freed in small pieces."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class GarbageCollector:
    """Exempts what open Overseers consist of from garbage collection, which would take 0.2 s for a thousand of them.

    What is left of closed ones can be collected again when there are MAX_CLOSED of them.
    """

    MAX_CLOSED = 1000

    def __init__(self) -> None:
        self._exempt = 0  # Overseers
        self._closed = 0

    def note_closed(self) -> None:
        """Count one more closed Overseer."""
        self._closed += 1

    def exempt(self, opened: int) -> None:
        """Exempt what there is now, if more Overseers are open than at the last time."""
        if self._closed >= self.MAX_CLOSED:
            self._closed = self._exempt = 0
            gc.unfreeze()
            gc.collect()
        if opened > self._exempt:
            gc.collect(1)
            gc.freeze()
        self._exempt = opened
