"""Export conversations as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from overseer.domain.messages import Message, Part, Reasoning, Text
from overseer.domain.times import utc


def as_markdown(name: str, messages: Iterable[Message]) -> Iterator[str]:
    """Yield the transcript of a room: a heading per message, reasoning as quotes, tool calls in brackets."""
    yield f"# {name}\n"
    for message in messages:
        when = utc(message.created_at)
        who = "You" if message.role == "user" else message.model or "Assistant"
        yield f"\n## {who}, {when:%Y-%m-%d %H:%M} UTC\n"
        for part in message.parts:
            yield f"\n{_part(part)}\n"
        for number, source in enumerate(message.sources, 1):
            yield f"\n{number}. {source.title + ': ' if source.title else ''}<{source.url}>"
        if message.note:
            yield f"\n*{message.note}*\n"
        if message.state != "complete":
            yield f"\n*{message.state}: {message.reason}*\n" if message.reason else f"\n*{message.state}*\n"


def _part(part: Part) -> str:
    if isinstance(part, Text):
        return part.text.strip("\n")
    if isinstance(part, Reasoning):
        return "\n".join(f"> {line}".rstrip() for line in part.text.strip().splitlines())
    return part.in_brackets
