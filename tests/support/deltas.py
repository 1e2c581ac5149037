"""What a model said, put together."""

from __future__ import annotations

from collections.abc import Iterable

from overseer.llm import Delta, ReasoningDelta, TextDelta


def joined(deltas: Iterable[Delta]) -> list[Delta]:
    """The deltas, those that grow one part as one."""
    found: list[Delta] = []
    for delta in deltas:
        last = found[-1] if found else None
        if isinstance(delta, TextDelta) and isinstance(last, TextDelta):
            found[-1] = TextDelta(last.text + delta.text)
        elif isinstance(delta, ReasoningDelta) and isinstance(last, ReasoningDelta):
            found[-1] = ReasoningDelta(last.text + delta.text)
        else:
            found.append(delta)
    return found
