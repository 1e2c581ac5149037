"""The memory that something holds, measured by tracemalloc."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def measured() -> Iterator[list[int]]:
    """Measure the bytes that are held at the end more than at the beginning; the one number is there after the end."""
    gc.collect()
    tracemalloc.start()
    held = [0]
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield held
        gc.collect()
        held[0] = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
