"""Deltas of an answer, joined."""

from __future__ import annotations

from collections.abc import Iterable

from overseer.llm import Delta, ReasoningDelta, TextDelta


def joined(deltas: Iterable[Delta]) -> list[Delta]:
    """Return the deltas, with consecutive ones of the same part joined."""
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
