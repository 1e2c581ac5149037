"""Waiting for a state that nothing announces."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 20.0  # seconds
INTERVAL_SECONDS = 0.01


def until(condition: Callable[[], bool]) -> None:
    """Poll until `condition` returns True. Fails after DEADLINE seconds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met"
        time.sleep(INTERVAL_SECONDS)
