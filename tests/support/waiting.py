"""Waiting for a state that nothing announces."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

DEADLINE = 20.0  # seconds
INTERVAL_SECONDS = 0.01


def until(condition: Callable[[], bool], *, seconds: float = DEADLINE) -> None:
    """Poll until `condition` returns True. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met"
        time.sleep(INTERVAL_SECONDS)


def join_turn_threads(room_id: str = "") -> None:
    """Wait until the threads of the room's turns have ended, or those of all rooms."""
    for thread in threading.enumerate():
        if thread.name.startswith(f"turn-{room_id}"):
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a turn's thread never ended"
