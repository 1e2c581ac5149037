"""Token and time usage of an answer."""

from __future__ import annotations

import threading
import time

from overseer.domain.messages import Usage
from overseer.llm import AnsweredBy, Delta, LeftOut, ReasoningEnded, SourcesFound, TokenCount, ToolRequest


class UsageCounter:
    """Sums the usage of the steps of one answer. A step is one request to the model.

    `earlier` is the usage of a partial answer that is being continued. Tokens are those the server reports, or an
    estimate if it reports none.
    """

    def __init__(self, earlier: Usage | None = None) -> None:
        self._lock = threading.Lock()
        self._earlier = earlier
        self._running = False
        self._tokens_in = self._context_limit = 0
        self._bytes_out = 0
        self._reported: TokenCount | None = None
        self._started_at = self._first_output_at = 0.0

    def start_step(self, estimated: int, context_limit: int) -> None:
        """Start a step whose request is estimated at so many tokens, to a model with this context length."""
        self._tokens_in = estimated
        self._context_limit = context_limit
        self._bytes_out = 0
        self._reported = None
        self._started_at = time.monotonic()
        self._first_output_at = 0.0
        self._running = True

    @property
    def has_output(self) -> bool:
        """Whether the model has sent text or a tool request in this step."""
        return bool(self._first_output_at)

    @property
    def estimated_prompt_tokens(self) -> int:
        """The estimated tokens of the last request."""
        return self._tokens_in

    @property
    def counted_prompt_tokens(self) -> int | None:
        """The tokens of the last request as the server counted them, or None."""
        return self._reported.tokens_in if self._reported else None

    def add(self, delta: Delta) -> None:
        """Count one delta of the running step."""
        if isinstance(delta, LeftOut | AnsweredBy | ReasoningEnded | SourcesFound):
            return
        if isinstance(delta, TokenCount):
            self._reported = delta  # a later count of the same step includes the earlier ones
            return
        if not self._first_output_at:
            self._first_output_at = time.monotonic()
        text = delta.name + delta.arguments if isinstance(delta, ToolRequest) else delta.text
        self._bytes_out += len(text.encode(errors="replace"))

    def end_step(self) -> None:
        """End the running step."""
        with self._lock:
            self._earlier, self._running = self._usage(), False

    def usage(self) -> Usage | None:
        """Return the usage of all steps until now, or None before the first output of the first step."""
        with self._lock:  # another thread may call this while the step ends
            return self._usage()

    def _usage(self) -> Usage | None:
        if not self._running or not (self._first_output_at or self._reported):
            return self._earlier
        now = time.monotonic()
        tokens = self._reported or TokenCount(self._tokens_in, -(-self._bytes_out // 4))
        step = Usage(
            tokens.tokens_in,
            tokens.tokens_out,
            seconds=now - self._started_at,
            speaking=now - self._first_output_at if self._first_output_at else 0.0,
            estimated=self._reported is None,
            context_used=tokens.tokens_in + tokens.tokens_out,
            context_limit=self._context_limit,
        )
        return self._earlier.plus(step) if self._earlier else step
