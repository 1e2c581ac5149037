"""Removes a secret from an answer: a server may repeat the key it was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from overseer.llm import (
    AnsweredBy,
    Delta,
    LeftOut,
    PictureFound,
    ReasoningDelta,
    ReasoningEnded,
    SourcesFound,
    TextDelta,
    TokenCount,
    ToolRequest,
)

REDACTED = "[key]"
MIN_SECRET_CHARS = 12  # a shorter key is a placeholder such as "ollama" or "EMPTY", and is not removed


def redacted(deltas: Iterator[Delta], secret: str) -> Iterator[Delta]:
    """Yield the deltas without the secret, also where it is split between several.

    Text at the end of a delta that may be the beginning of the secret is held back until the next one.
    """
    return _redacted(deltas, secret) if len(secret) >= MIN_SECRET_CHARS else deltas


def _redacted(deltas: Iterator[Delta], secret: str) -> Iterator[Delta]:
    held: TextDelta | ReasoningDelta | None = None
    try:
        for delta in deltas:
            if isinstance(delta, TokenCount | LeftOut):
                yield delta  # some servers send a count with every delta, also in the middle of a word
                continue
            if isinstance(delta, AnsweredBy):
                yield AnsweredBy(delta.name.replace(secret, REDACTED))
                continue
            if isinstance(delta, SourcesFound):
                kept = tuple(one for one in delta.sources if secret not in one.url and secret not in one.title)
                yield replace(delta, sources=kept)
                continue
            if held is not None and type(held) is type(delta):
                delta = replace(held, text=held.text + delta.text)
            elif held is not None:
                yield held
            held = None
            if isinstance(delta, ToolRequest):
                yield _redact_request(delta, secret)
                continue
            if isinstance(delta, ReasoningEnded):
                yield delta
                continue
            if isinstance(delta, PictureFound):
                yield replace(delta, text=delta.text.replace(secret, REDACTED))
                continue
            text = delta.text.replace(secret, REDACTED)
            certain = len(text) - _prefix_length(text, secret)
            held = replace(delta, text=text[certain:]) if text[certain:] else None
            if certain or held is None:
                yield replace(delta, text=text[:certain])
    except Exception:
        if held is not None:
            yield held
        raise
    if held is not None:
        yield held


def _redact_request(request: ToolRequest, secret: str) -> ToolRequest:
    return ToolRequest(
        request.call_id.replace(secret, REDACTED),
        request.name.replace(secret, REDACTED),
        _redact_json(request.arguments, secret),
        request.extra.replace(secret, REDACTED),
    )


def _redact_json(arguments: str, secret: str) -> str:
    """Return JSON without the secret, also where it is escaped: a tool's error would contain it unescaped."""
    try:
        plain = json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        plain = ""
    return (plain if secret in plain else arguments).replace(secret, REDACTED)


def _prefix_length(text: str, secret: str) -> int:
    """Return how many characters at the end of the text are a beginning of the secret, but not all of it."""
    at = text.find(secret[0], max(0, len(text) - len(secret) + 1))
    while at >= 0:
        if secret.startswith(text[at:]):
            return len(text) - at
        at = text.find(secret[0], at + 1)
    return 0
