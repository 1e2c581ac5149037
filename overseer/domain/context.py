"""How much of a conversation a model reads: tokens, estimated, and the newest messages that fit."""

from __future__ import annotations

from collections.abc import Iterable

from overseer.domain.messages import Message, ToolCall

DEFAULT_BUDGET = 32_768  # tokens
PER_MESSAGE = 4  # tokens that a message costs beyond its words


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is: one for each four bytes of it in UTF-8.

    Four characters a token is the rule of thumb that OpenAI gives for English; the real number depends on the model.
    """
    return (len(text.encode()) + 3) // 4


def message_tokens(message: Message) -> int:
    """About how many tokens of context a message takes. What was thought is not sent again."""
    words = (
        estimate_tokens(part.arguments) + estimate_tokens(part.result)
        if isinstance(part, ToolCall)
        else estimate_tokens(part.text)
        for part in message.parts
        if part.kind != "reasoning"
    )
    return PER_MESSAGE + sum(words)


def newest_within_budget(upwards: Iterable[Message], budget: int) -> tuple[Message, ...]:
    """Of messages, given from the last one up, those that together fit into `budget` tokens, in reading order.

    Whole exchanges are left out, oldest first; the last question never is. No more is read of `upwards` than needed.
    """
    chosen: list[Message] = []
    for message in upwards:
        budget -= message_tokens(message)
        if budget < 0 and chosen:
            break
        chosen.append(message)
    while len(chosen) > 1 and chosen[-1].role == "assistant":
        chosen.pop()
    return tuple(reversed(chosen))
