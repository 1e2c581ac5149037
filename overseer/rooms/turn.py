"""A turn: one answer being made, from the history through the model's deltas and its tools to an ending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from overseer.domain.context import message_tokens, newest_within_budget
from overseer.domain.messages import CallState, Message, Part, Reasoning, State, Text, ToolCall, Usage
from overseer.domain.settings import Settings
from overseer.domain.text import clean
from overseer.llm import (
    LeftOut,
    Model,
    ModelBusy,
    ModelCut,
    ModelError,
    ModelOverflow,
    Reply,
    TextDelta,
    TokenCount,
    ToolRequest,
)
from overseer.rooms.usage import UsageCounter
from overseer.tools.registry import Call, ToolAbandoned, Toolbox, ToolError

MAX_TOOL_ROUNDS = 5
MAX_ANSWER_CHARS = 400_000  # characters
YIELD_INTERVAL_SECONDS = 0.005  # seconds
RETRY_DELAYS_SECONDS = (
    1.0,
    2.0,
    4.0,
)  # seconds before a model that has no time is asked again, if it does not say itself
MAX_RETRY_DELAY_SECONDS = 60.0  # seconds; who says more than that is asked again by a person


class TurnOver(Exception):
    """The turn was ended from outside: stopped, cleared away or deleted. Nothing more may be written."""


class Record(Protocol):
    """Where a turn writes what it makes. Every method raises TurnOver once the turn was ended from outside."""

    def added(self, turn: Turn, position: int) -> None:
        """There is a new part."""

    def grew(self, turn: Turn, position: int, text: str) -> None:
        """The part got more text."""

    def changed(self, turn: Turn, position: int) -> None:
        """The part is finished, or a tool call has its result."""

    def delayed(self, turn: Turn) -> None:
        """The turn waits before it asks again, or waits no more: see `turn.delay`."""

    def reads(self, turn: Turn, number: int) -> None:
        """The model reads the room from this message on only."""

    def ended(self, turn: Turn, state: State, reason: str) -> None:
        """The answer has its last state."""


class Draft:
    """The parts so far, added to by the turn and read by anybody.

    Text is kept in pieces, so that a token costs the same at any length.
    """

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        self._lock = threading.Lock()
        self._parts: list[Part] = list(parts)
        self._pieces: list[str] = []

    def __len__(self) -> int:
        return len(self._parts)

    def parts(self) -> tuple[Part, ...]:
        """What has been said so far."""
        with self._lock:
            self._settle()
            return tuple(self._parts)

    def begin(self, part: Part) -> int:
        """Add a part; returns its position."""
        with self._lock:
            self._settle()
            self._parts.append(part)
            return len(self._parts) - 1

    def grow(self, text: str) -> int:
        """Add to the last part, a text or a reasoning; returns its position."""
        with self._lock:
            self._pieces.append(text)
            return len(self._parts) - 1

    def change(self, position: int, part: Part) -> None:
        """Put another part in its place."""
        with self._lock:
            self._parts[position] = part

    def grows(self, kind: type[Part]) -> bool:
        """Whether the last part is of this kind, so that more of it belongs there."""
        return bool(self._parts) and type(self._parts[-1]) is kind

    def _settle(self) -> None:
        if self._pieces:
            last = self._parts[-1]
            assert not isinstance(last, ToolCall)
            self._parts[-1] = replace(last, text=last.text + "".join(self._pieces))
            self._pieces.clear()


@dataclass(frozen=True, slots=True)
class Delay:
    """A turn waits before it asks again: why, and until when (UTC milliseconds)."""

    reason: str
    until: int


class Turn:
    """One answer. `run` makes it, in a thread of its own; `cut` ends it from any other.

    `history` is what was said before, and `begun` the answer as far as it is made already, to be gone on with. The
    model reads as much of them as fits into `budget` tokens.
    """

    def __init__(
        self,
        number: int,
        history: Sequence[Message],
        *,
        pick_model: Callable[[], Model],
        tools: Toolbox,
        record: Record,
        settings: Settings,
        begun: Message | None,
        budget: int,
        max_answer: int,
    ) -> None:
        self.number = number
        self.model_name = begun.model if begun else ""
        self.left_out = frozenset(begun.left_out if begun else ())
        self.draft = Draft(begun.parts if begun else ())
        self.delay: Delay | None = None
        self.outcome = ""  # how it ended, by the word of whoever ended it
        self._history = history
        self._pick_model = pick_model
        self._tools = tools
        self._record = record
        self._settings = settings
        self._budget = budget
        self._halved = False
        self._max_answer = max_answer
        self._meter = UsageCounter(begun.usage if begun else None)
        self._reply: Reply | None = None
        self._call: Call | None = None
        self._cut = threading.Event()
        self._half = ""
        self._half_of: type[Text] | type[Reasoning] = Text
        self._length = 0

    @property
    def usage(self) -> Usage | None:
        """What the answer has taken so far; None if no model was asked."""
        return self._meter.usage()

    def run(self) -> None:
        """Make the answer to its end, whichever that is. Raises nothing that a model or a tool can cause."""
        try:
            state, reason = self._answer()
            self._record.ended(self, state, reason)
        except TurnOver:
            return

    def cut(self) -> None:
        """Close the model's connection and abandon the tool that works, at once. Who cuts a turn writes its ending."""
        self._cut.set()
        if self._reply is not None:
            self._reply.close()
        if self._call is not None:
            self._call.abandon()

    def _answer(self) -> tuple[State, str]:
        model = self._pick_model()
        self.model_name = clean(model.name)
        try:
            for _ in range(MAX_TOOL_ROUNDS):
                requests = self._heard_out(model)
                if not requests:
                    return self._ending()
                for request in requests:
                    self._use(request)
        except ModelCut as error:
            return "interrupted", str(error)
        except ModelError as error:
            return "failed", str(error)
        return "failed", f"The model used tools {MAX_TOOL_ROUNDS} times without coming to an answer. Retry, or ask otherwise."

    def _ending(self) -> tuple[State, str]:
        parts = self.draft.parts()
        if not parts:
            return "failed", "The model said nothing. Retry."
        if all(isinstance(part, Reasoning) for part in parts):
            return "failed", "The model thought, but said nothing. Retry, or ask otherwise."
        return "complete", ""

    def _heard_out(self, model: Model) -> list[ToolRequest]:
        """One step, tried again if the model had no time or could not read so much: but not once it said something."""
        waits = list(RETRY_DELAYS_SECONDS)
        while True:
            if self._cut.is_set():
                raise TurnOver
            said = self._length
            try:
                return self._step(model)
            except ModelBusy as busy:
                wait = waits.pop(0) if waits else None
                if wait is None or self._length != said or (busy.seconds or 0) > MAX_RETRY_DELAY_SECONDS:
                    raise
                self._wait(busy, busy.seconds if busy.seconds is not None else wait, tries_left=len(waits))
            except ModelOverflow:
                if self._halved or self._length != said:
                    raise
                self._read_half()

    def _step(self, model: Model) -> list[ToolRequest]:
        """Hear the model out once; returns the tools it wants used."""
        so_far = self.draft.parts()
        history = [*self._history, Message(self.number, "assistant", "streaming", so_far)] if so_far else self._history
        system, temperature = self._settings.system_prompt, self._settings.temperature
        self._meter.begin(system, history)
        self._reply = reply = model.answer(history, self._tools, system=system, temperature=temperature)
        if self._cut.is_set():
            reply.close()
        requests: list[ToolRequest] = []
        self._half = ""
        yielded = time.monotonic()
        try:
            for delta in reply:
                if not self._meter.spoken:
                    self.model_name = clean(model.name)  # only the server's list may have told it
                self._meter.hear(delta)
                if isinstance(delta, ToolRequest):
                    requests.append(delta)
                elif isinstance(delta, LeftOut):
                    self.left_out |= delta.names
                elif not isinstance(delta, TokenCount):
                    self._say(Text if isinstance(delta, TextDelta) else Reasoning, delta.text)
                # A model faster than its readers would starve them: greenlets switch only where one waits.
                if time.monotonic() - yielded > YIELD_INTERVAL_SECONDS:
                    time.sleep(0)
                    yielded = time.monotonic()
            self._say_half()
        except ModelError:
            self._say_half()
            raise
        finally:
            self.model_name = clean(model.name)
            self._meter.end()
            reply.close()
        return requests

    def _wait(self, busy: ModelBusy, seconds: float, *, tries_left: int) -> None:
        times = f"at most {tries_left + 1} times" if tries_left else "for the last time"
        self.delay = Delay(
            f"{busy.why} It is asked again by itself, {times}.", until=time.time_ns() // 1_000_000 + int(seconds * 1000)
        )
        self._record.delayed(self)
        self._cut.wait(seconds)
        self.delay = None
        self._record.delayed(self)  # raises TurnOver if it was cut

    def _read_half(self) -> None:
        """Leave out half of what was read, which may be far less than the budget."""
        half = newest_within_budget(
            reversed(self._history), min(self._budget, sum(map(message_tokens, self._history))) // 2
        )
        if len(half) < len(self._history):
            self._record.reads(self, half[0].number)
        self._halved, self._history = True, half

    def _say(self, kind: type[Text] | type[Reasoning], text: str) -> None:
        # A surrogate pair or a line end of two characters may come in two halves: the first waits for the second.
        if self._half and kind is not self._half_of:
            self._say_half()
        text, self._half = _without_half(self._half + text)
        self._half_of = kind
        self._take(kind, text)

    def _say_half(self) -> None:
        """The second half never came."""
        half, self._half = self._half, ""
        self._take(self._half_of, half)

    def _take(self, kind: type[Text] | type[Reasoning], text: str) -> None:
        text = clean(text).replace("\r\n", "\n").replace("\r", "\n")
        if not text:
            return
        text, over = text[: self._max_answer - self._length], text[self._max_answer - self._length :]
        self._length += len(text)
        if text and self.draft.grows(kind):
            self._record.grew(self, self.draft.grow(text), text)
        elif text:
            self._finish_part()
            self._record.added(self, self.draft.begin(kind(text)))
        if over:
            raise ModelError(f"The answer was ended at {self._max_answer:,} characters.")

    def _finish_part(self) -> None:
        if len(self.draft) and not self.draft.grows(ToolCall):
            self._record.changed(self, len(self.draft) - 1)

    def _use(self, request: ToolRequest) -> None:
        self._finish_part()
        call = ToolCall(clean(request.call_id), clean(request.name), clean(request.arguments))
        position = self.draft.begin(call)
        self._record.added(self, position)
        try:
            self._call = started = self._tools.call(call.name, call.arguments)
            if self._cut.is_set():
                started.abandon()
            done = replace(call, result=clean(started.run()), state="done")
        except ToolError as error:
            state: CallState = "abandoned" if isinstance(error, ToolAbandoned) else "failed"
            done = replace(call, result=clean(str(error)), state=state)
        if self._cut.is_set():
            raise TurnOver  # the call counts as it was when the turn was cut
        self.draft.change(position, done)
        self._record.changed(self, position)


def _without_half(text: str) -> tuple[str, str]:
    """The text, and what at its end may be half of something."""
    half = text[-1:] == "\r" or "\ud800" <= text[-1:] <= "\udbff"
    return (text[:-1], text[-1]) if half else (text, "")
