"""Keeps a secret out of an answer: a server that was sent the key may say it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from overseer.llm import Delta, LeftOut, ReasoningDelta, TextDelta, TokenCount, ToolRequest

REDACTED = "[key]"
SHORTEST = 12  # characters; what is shorter is no key ("ollama", "EMPTY"), and may be said


def redacted(deltas: Iterator[Delta], secret: str) -> Iterator[Delta]:
    """The same without the secret, also where it is split over several.

    What may be its beginning waits for the next.
    """
    return _without_secret(deltas, secret) if len(secret) >= SHORTEST else deltas


def _without_secret(deltas: Iterator[Delta], secret: str) -> Iterator[Delta]:
    held: TextDelta | ReasoningDelta | None = None
    try:
        for delta in deltas:
            if isinstance(delta, TokenCount | LeftOut):
                yield delta  # some servers count with every word, and what is held back goes on after it
                continue
            if isinstance(delta, ToolRequest):
                delta = replace(
                    delta,
                    call_id=delta.call_id.replace(secret, REDACTED),
                    name=delta.name.replace(secret, REDACTED),
                    arguments=_without(secret, delta.arguments),
                )
            if held is not None:
                if isinstance(delta, TextDelta | ReasoningDelta) and type(delta) is type(held):
                    delta = replace(delta, text=held.text + delta.text)
                else:
                    yield held
                held = None
            if isinstance(delta, TextDelta | ReasoningDelta):
                text = delta.text.replace(secret, REDACTED)
                begun = _beginning(text, secret)
                if begun:
                    held = replace(delta, text=text[len(text) - begun :])
                    text = text[: len(text) - begun]
                    if not text:
                        continue
                if text is not delta.text:
                    delta = replace(delta, text=text)
            yield delta
    except Exception:
        if held is not None:
            yield held
        raise
    if held is not None:
        yield held


def _without(secret: str, arguments: str) -> str:
    """JSON without the secret, also where it is written in escapes: a tool's complaint would say it in plain."""
    try:
        plain = json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        plain = ""
    return (plain if secret in plain else arguments).replace(secret, REDACTED)


def _beginning(text: str, secret: str) -> int:
    """How many characters at the end of a text are a beginning of the secret, and not all of it."""
    at = text.find(secret[0], max(0, len(text) - len(secret) + 1))
    while at >= 0:
        if secret.startswith(text[at:]):
            return len(text) - at
        at = text.find(secret[0], at + 1)
    return 0
