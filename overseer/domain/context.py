"""The context of a model: estimated tokens, and the newest messages that fit into a budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from overseer.domain.messages import File, Message, ToolCall

DEFAULT_CONTEXT_TOKENS = 32_768
MESSAGE_OVERHEAD_TOKENS = 4  # of role and delimiters
MAX_ANSWER_RESERVE_TOKENS = 1024


class ModelContext(NamedTuple):
    """The context length of a model in tokens, if known, and how many tokens it counts for one that we estimate."""

    tokens: int | None = None
    ratio: float = 1.0

    @property
    def request_tokens(self) -> int | None:
        """The estimated tokens that a request may have, so that an answer fits too; None if that is not known."""
        if self.tokens is None:
            return None
        return int((self.tokens - min(MAX_ANSWER_RESERVE_TOKENS, self.tokens // 4)) / self.ratio)


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text: one per four bytes of UTF-8, rounded up.

    OpenAI gives four characters per token as a rule of thumb for English. The exact number depends on the model.
    """
    return (len(text.encode()) + 3) // 4


def message_tokens(message: Message) -> int:
    """Estimate the tokens of a message in the context. Reasoning is not sent to the model again and does not count."""
    parts = (
        estimate_tokens(part.arguments) + estimate_tokens(part.result)
        if isinstance(part, ToolCall)
        else estimate_tokens(part.in_brackets if isinstance(part, File) else part.text)
        for part in message.parts
        if part.kind != "reasoning"
    )
    return MESSAGE_OVERHEAD_TOKENS + sum(parts)


def newest_within_budget(newest_first: Iterable[Message], budget: int) -> tuple[Message, ...]:
    """Return the newest messages that fit into `budget` tokens, in reading order. The input has the newest first.

    The result starts with a question and always contains the last message. The iterable is read only as far as needed.
    """
    chosen: list[Message] = []
    for message in newest_first:
        budget -= message_tokens(message)
        if budget < 0 and chosen:
            break
        chosen.append(message)
    while len(chosen) > 1 and chosen[-1].role == "assistant":
        chosen.pop()
    return tuple(reversed(chosen))
