"""Waiting for a state that nothing announces."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 20.0
BETWEEN_LOOKS = 0.01


def until(so: Callable[[], bool]) -> None:
    """Look again and again until it is so."""
    deadline = time.monotonic() + DEADLINE
    while not so():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(BETWEEN_LOOKS)
