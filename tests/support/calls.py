"""The Python calls that something takes: a measure that neither a clock nor a busy machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType


def count_calls(event: Callable[[], object]) -> int:
    """Return the calls of Python functions in this thread during `event`. Each step of a generator is one."""
    calls = 0

    def profile(frame: FrameType, what: str, argument: object) -> None:
        nonlocal calls
        calls += what == "call"

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        event()
    finally:
        sys.setprofile(before)
    return calls
