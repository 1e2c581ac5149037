"""What an answer takes: tokens as the server counts them, or estimated, and seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from overseer.domain.context import estimate_tokens, message_tokens
from overseer.domain.messages import Message, Usage
from overseer.llm import Delta, LeftOut, TokenCount, ToolRequest


class UsageCounter:
    """Adds up the steps of one answer, which may have been begun before."""

    def __init__(self, before: Usage | None = None) -> None:
        self._lock = threading.Lock()
        self._before = before
        self._running = False
        self._tokens_in = 0
        self._written = 0  # bytes
        self._counted: TokenCount | None = None
        self._began = self._spoke = 0.0

    def begin(self, system: str, history: Sequence[Message]) -> None:
        """A model is asked."""
        self._tokens_in = estimate_tokens(system) + sum(map(message_tokens, history))
        self._written = 0
        self._counted = None
        self._began = time.monotonic()
        self._spoke = 0.0
        self._running = True

    @property
    def spoken(self) -> bool:
        """Whether the model has said something in this step."""
        return bool(self._spoke)

    def hear(self, delta: Delta) -> None:
        """It says something."""
        if isinstance(delta, LeftOut):
            return
        if isinstance(delta, TokenCount):
            self._counted = delta  # servers that count as they go count from the beginning
            return
        if not self._spoke:
            self._spoke = time.monotonic()
        text = delta.name + delta.arguments if isinstance(delta, ToolRequest) else delta.text
        self._written += len(text.encode(errors="replace"))

    def end(self) -> None:
        """It has said all of this step."""
        with self._lock:
            self._before, self._running = self._usage(), False

    def usage(self) -> Usage | None:
        """What all steps together took until now; None before the first word of the first one."""
        with self._lock:  # it may be asked for while a step ends
            return self._usage()

    def _usage(self) -> Usage | None:
        if not self._running or not (self._spoke or self._counted):
            return self._before
        now = time.monotonic()
        counted = self._counted or TokenCount(self._tokens_in, -(-self._written // 4))
        step = Usage(
            counted.tokens_in,
            counted.tokens_out,
            seconds=now - self._began,
            speaking=now - self._spoke if self._spoke else 0.0,
            estimated=self._counted is None,
        )
        return self._before.plus(step) if self._before else step
