"""When a request is repeated to a model server that is busy or still loads the model."""

from __future__ import annotations

import time
from dataclasses import dataclass

from overseer.llm import ModelBusy

RETRY_DELAYS_SECONDS = (1.0, 2.0, 4.0)  # between requests to a busy server that sends no Retry-After
MAX_RETRY_DELAY_SECONDS = 60.0  # if the server asks for more, the answer fails
LOADING_DELAY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Delay:
    """Why a turn waits, and when it sends the next request (UTC milliseconds), if it does not wait for a response."""

    reason: str
    retry_at: int | None = None


class Retries:
    """The repetitions of one request. A model that loads is asked for `loading_seconds`, counted from the first try."""

    def __init__(self, loading_seconds: float) -> None:
        self._delays = list(RETRY_DELAYS_SECONDS)
        self._loading_seconds = loading_seconds
        self._started_at = time.monotonic()

    def after(self, busy: ModelBusy) -> tuple[float, Delay] | None:
        """Return how many seconds to wait and what to show meanwhile, or None if the answer fails."""
        return self._while_loading(busy) if busy.loading else self._while_busy(busy)

    def _while_loading(self, busy: ModelBusy) -> tuple[float, Delay] | None:
        waited = time.monotonic() - self._started_at
        if waited >= self._loading_seconds:
            return None
        seconds = min(busy.seconds or LOADING_DELAY_SECONDS, MAX_RETRY_DELAY_SECONDS, self._loading_seconds - waited)
        return seconds, Delay(f"The model is loading… {waited:.0f} s")

    def _while_busy(self, busy: ModelBusy) -> tuple[float, Delay] | None:
        if not self._delays or (busy.seconds or 0) > MAX_RETRY_DELAY_SECONDS:
            return None
        default = self._delays.pop(0)
        seconds = default if busy.seconds is None else busy.seconds
        times = f"up to {len(self._delays) + 1} times" if self._delays else "one last time"
        retry_at = time.time_ns() // 1_000_000 + int(seconds * 1000)
        return seconds, Delay(f"{busy.why} Retrying, {times}.", retry_at)
