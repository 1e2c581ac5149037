"""The memory that something holds, measured by tracemalloc."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def measured() -> Iterator[list[int]]:
    """Yield a list whose only item is, after the block, the growth in allocated bytes."""
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
