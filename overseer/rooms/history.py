"""The part of a conversation that a model reads: the newest messages that fit into its context."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from overseer.domain.context import (
    MESSAGE_OVERHEAD_TOKENS,
    ModelContext,
    estimate_tokens,
    message_tokens,
    newest_within_budget,
)
from overseer.domain.messages import Message
from overseer.domain.tools import ToolDescription
from overseer.llm import ModelError, ModelOverflow

CONTINUE_TOKENS = 64  # for the request to continue an answer, and the first words of the continuation
CONTEXT_IS_FULL = "The answer fills the model’s context. Start a new room to go on."
MAX_SHARE = 0.9  # of a request that was too long, for the next one


class ContextIsFull(ModelError):
    """The answer so far and its question fill the context, so that the answer cannot be continued."""


class History:
    """The messages before an answer, from the oldest that the model still reads.

    `budget` is what they may have in estimated tokens, `limit` what a whole request may have. The system prompt and
    the tools are sent with each request.
    """

    def __init__(
        self, messages: Sequence[Message], *, budget: int, limit: int, system: str, tools: Iterable[ToolDescription]
    ) -> None:
        self.messages = messages
        self.limit = limit
        self._budget = budget
        self._fixed_tokens = estimate_tokens(system) + sum(map(_tool_tokens, tools))

    def tokens(self, answer: Message | None) -> int:
        """Estimate the tokens of a request, with the answer so far."""
        return sum(map(message_tokens, self.messages)) + self._tokens_besides(answer)

    def fit(self, context: ModelContext, answer: Message | None) -> bool:
        """Drop the oldest messages that do not fit into the context, if that is known. Return whether any was."""
        if context.request_tokens is None:
            return False
        return self._shorten(min(self._budget, context.request_tokens - self._tokens_besides(answer)))

    def shrink(self, overflow: ModelOverflow, answer: Message | None) -> bool:
        """Drop the oldest messages after the server refused the request. Return False if only the question is left.

        If the server names no numbers, the older half is dropped.
        """
        if len(self.messages) <= 1:
            return False
        tokens = sum(map(message_tokens, self.messages))
        budget = tokens // 2
        if overflow.needed and overflow.limit:
            share = min(MAX_SHARE, (ModelContext(overflow.limit).request_tokens or 0) / overflow.needed)
            budget = int(self.tokens(answer) * share) - self._tokens_besides(answer)
        self._shorten(min(budget, tokens - 1))
        return True

    def can_continue(self, context: ModelContext, answer: Message | None) -> bool:
        """Return whether the answer can be continued: it, its question and some more fit into the context."""
        if context.tokens is None:
            return True
        needed = message_tokens(self.messages[-1]) + self._tokens_besides(answer) + CONTINUE_TOKENS
        return needed * context.ratio <= context.tokens

    def too_long(self, overflow: ModelOverflow, answer: Message | None) -> ModelError:
        """Return the error for a question that does not fit into the context alone, or with the answer so far."""
        if answer is not None:
            return ContextIsFull(CONTEXT_IS_FULL)
        if not (overflow.needed and overflow.limit):
            said = f" The server said: “{overflow.said}”" if overflow.said else ""
            return ModelError(f"Your message is too long for this model. Shorten it, or choose another model.{said}")
        excess = overflow.needed - (ModelContext(overflow.limit).request_tokens or 0)
        question = overflow.needed * message_tokens(self.messages[-1]) / max(1, self.tokens(None))
        advice = (
            f"Shorten it by about {math.ceil(100 * excess / question)} %"
            if excess < question
            else "Shorten the room’s instructions"
        )
        return ModelError(
            f"Your message is too long for this model: {overflow.needed:,} tokens, and the model reads "
            f"{overflow.limit:,}. {advice}, or choose another model."
        )

    def _tokens_besides(self, answer: Message | None) -> int:
        return self._fixed_tokens + (message_tokens(answer) if answer else 0)

    def _shorten(self, budget: int) -> bool:
        kept = newest_within_budget(reversed(self.messages), budget)
        shorter = len(kept) < len(self.messages)
        self.messages = kept
        return shorter


def _tool_tokens(tool: ToolDescription) -> int:
    schema = json.dumps(tool.parameters)
    return estimate_tokens(tool.name + tool.description + schema) + MESSAGE_OVERHEAD_TOKENS
