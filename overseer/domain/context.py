"""The context of a model: estimated tokens, and the newest messages that fit into a budget."""

from __future__ import annotations

from collections.abc import Iterable

from overseer.domain.messages import Message, ToolCall

DEFAULT_CONTEXT_TOKENS = 32_768
MESSAGE_OVERHEAD_TOKENS = 4  # of role and delimiters


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
        else estimate_tokens(part.text)
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
