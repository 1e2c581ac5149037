"""A turn: the generation of one answer, from the history through the model's deltas and tool calls to a final state."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from overseer.domain.messages import CallState, File, Message, Part, Reasoning, State, Text, ToolCall, Usage
from overseer.domain.settings import Settings
from overseer.domain.text import clean
from overseer.llm import (
    AnsweredBy,
    Delta,
    LeftOut,
    Model,
    ModelBusy,
    ModelCut,
    ModelError,
    ModelOverflow,
    PictureFound,
    ReasoningDelta,
    ReasoningEnded,
    Reply,
    SourcesFound,
    TextDelta,
    ToolRequest,
)
from overseer.llm.model_name import short_model_name
from overseer.rooms.history import CONTEXT_IS_FULL, ContextIsFull, History
from overseer.rooms.retries import Delay, Retries
from overseer.rooms.usage import UsageCounter
from overseer.tools.toolbox import Call, ToolAbandoned, Toolbox, ToolError

if TYPE_CHECKING:
    from overseer.rooms.chat_room import ChatRoom

MAX_STEPS = 5  # requests to the model in one turn
MAX_ANSWER_CHARS = 400_000
QUEUE_POLL_SECONDS = 1.0


class TurnCancelled(Exception):
    """The turn was stopped, or its room cleared, closed or deleted. It must not write anything more."""


class AnswerBuffer:
    """The parts of a growing answer. One thread writes, any thread reads.

    Appended text is kept as a list of pieces until it is read, so that a token costs the same at any length.
    """

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        self._lock = threading.Lock()
        self._parts: list[Part] = list(parts)
        self._pieces: list[str] = []  # text that belongs to the end of the last part
        self._began = 0.0  # monotonic time when the last part was added; 0 for a part of an earlier turn

    def __len__(self) -> int:
        return len(self._parts)

    def parts(self) -> tuple[Part, ...]:
        """Return the parts until now."""
        with self._lock:
            self._join_pieces()
            return tuple(self._parts)

    def add(self, part: Part) -> int:
        """Add a part. Return its position."""
        with self._lock:
            self._join_pieces()
            self._parts.append(part)
            self._began = time.monotonic()
            return len(self._parts) - 1

    def append(self, text: str) -> int:
        """Append to the last part, which must be text or reasoning. Return its position."""
        with self._lock:
            self._pieces.append(text)
            return len(self._parts) - 1

    def replace(self, position: int, part: Part) -> None:
        """Replace the part at a position."""
        with self._lock:
            self._parts[position] = part

    def drop_end(self, text: str) -> None:
        """Remove a text from the end of the last part, if it ends so. Remove the part if nothing else is in it."""
        with self._lock:
            self._join_pieces()
            last = self._parts[-1] if self._parts else None
            if isinstance(last, Text) and last.text.endswith(text):
                left = last.text.removesuffix(text)
                self._parts[-1:] = [Text(left)] if left.strip() else []

    def ends_with(self, kind: type[Part]) -> bool:
        """Return whether the last part is of this kind."""
        return bool(self._parts) and type(self._parts[-1]) is kind

    def _join_pieces(self) -> None:
        if self._pieces:
            last = self._parts[-1]
            assert isinstance(last, Text | Reasoning)
            self._parts[-1] = replace(last, text=last.text + "".join(self._pieces))
            self._pieces.clear()
        if self._began and self._parts and isinstance(last := self._parts[-1], Reasoning):
            self._parts[-1] = replace(last, seconds=time.monotonic() - self._began)


class Turn:
    """The generation of one answer. `run` generates it, in a thread of its own; `cancel` ends it from another thread.

    `number` and `question` are the numbers of the answer and its question, `history` is the conversation before the
    answer. `partial` is the answer if it is to be continued. The turn `is_first` unless its answer is beside another
    one, which the conversation goes on with. A model that loads is asked again for `loading_seconds`.
    """

    def __init__(
        self,
        number: int,
        question: int,
        history: History,
        *,
        pick_model: Callable[[], Model],
        tools: Toolbox,
        recorder: ChatRoom,
        settings: Settings,
        partial: Message | None,
        is_first: bool,
        loading_seconds: float,
        max_answer_chars: int,
    ) -> None:
        self.number = number
        self.question = question
        self.is_first = is_first
        self.saved_at = 0.0  # monotonic time, set by the room
        self.model_name = partial.model if partial else ""
        self.left_out = frozenset(partial.left_out if partial else ())
        self.sources = partial.sources if partial else ()
        self.buffer = AnswerBuffer(partial.parts if partial else ())
        self.delay: Delay | None = None
        self.continuable = True
        self.outcome = ""  # for the log; set by the room when the turn ends
        self._history = history
        self._pick_model = pick_model
        self._tools = tools
        self._recorder = recorder
        self._settings = settings
        self._loading_seconds = loading_seconds
        self._max_answer_chars = max_answer_chars
        self._usage_counter = UsageCounter(partial.usage if partial else None)
        self._reply: Reply | None = None
        self._call: Call | None = None
        self._cancelled = threading.Event()
        self._held_back = ""  # half of a character or line end, until the other half arrives
        self._held_back_kind: type[Text] | type[Reasoning] = Text
        self._length = 0  # characters received in this turn

    @property
    def usage(self) -> Usage | None:
        """The usage of the answer until now; None if the model has sent nothing."""
        return self._usage_counter.usage()

    def run(self) -> None:
        """Generate the answer and record its final state. Errors of the model or a tool end it; they are not raised."""
        try:
            state, reason = self._answer()
            self._recorder.turn_ended(self, state, reason)
        except TurnCancelled:
            return

    def cancel(self) -> None:
        """Close the connection to the model and abandon a running tool, at once. The caller stores the final state."""
        self._cancelled.set()
        if self._reply is not None:
            self._reply.close()
        if self._call is not None:
            self._call.abandon()

    def _answer(self) -> tuple[State, str]:
        model = self._pick_model()
        self.model_name = clean(model.name)
        try:
            for _ in range(MAX_STEPS):
                requests = self._run_step_with_retries(model)
                if not requests:
                    return self._final_state()
                for request in requests:
                    self._call_tool(request)
        except ModelCut as error:
            self.continuable = self._history.can_continue(model.context, self._message())
            return "interrupted", str(error) if self.continuable else CONTEXT_IS_FULL
        except ContextIsFull as error:
            self.continuable = False
            return "failed", str(error)
        except ModelError as error:
            return "failed", str(error)
        return "failed", f"The model used tools {MAX_STEPS} times without answering. Retry, or rephrase your message."

    def _final_state(self) -> tuple[State, str]:
        parts = self.buffer.parts()
        calls = [position for position, part in enumerate(parts) if isinstance(part, ToolCall)]
        last_step = parts[calls[-1] + 1 :] if calls else parts
        if any(isinstance(part, Text | File) for part in last_step):
            return "complete", ""
        thought = " It sent reasoning but no text. Retry, or rephrase your message." if last_step else ""
        return "failed", f"The model returned an empty answer.{thought}"

    def _run_step_with_retries(self, model: Model) -> list[ToolRequest]:
        """Run a step. Repeat it if the server is busy or the context is too long, and no text has arrived yet."""
        retries = Retries(self._loading_seconds)
        while True:
            if self._cancelled.is_set():
                raise TurnCancelled
            length = self._length
            try:
                return self._run_step(model)
            except ModelBusy as busy:
                delay = retries.after(busy) if self._length == length else None
                if delay is None:
                    raise
                self._wait(*delay)
            except ModelOverflow as overflow:
                if self._length != length:
                    raise
                if not self._history.shrink(overflow, self._message()):
                    raise self._history.too_long(overflow, self._message()) from None
                self._recorder.context_shortened(self, self._history.messages[0].number)

    def _run_step(self, model: Model) -> list[ToolRequest]:
        """Send one request and take in the whole reply. Return the tools that the model wants to call."""
        reply = self._send(model)
        requests: list[ToolRequest] = []
        answered_by, first = "", len(self.buffer)
        self._held_back = ""
        arrived = self._watch_queue(reply)
        try:
            for delta in reply:
                if isinstance(delta, AnsweredBy):
                    answered_by = short_model_name(delta.name)
                if not self._usage_counter.has_output:
                    arrived()
                    # A server may name its default model in the reply only, or answer with another one.
                    self.model_name = clean(answered_by or model.name)
                self._usage_counter.add(delta)
                if isinstance(delta, ToolRequest):
                    requests.append(delta)
                else:
                    self._take(delta, first=first)
            self._append_held_back()
        except ModelError:
            self._append_held_back()
            raise
        finally:
            arrived(keep_delay=True)
            self.model_name = clean(answered_by or model.name)
            self._usage_counter.end_step()
            reply.close()
        if counted := self._usage_counter.counted_prompt_tokens:
            model.note_prompt(estimated=self._usage_counter.estimated_prompt_tokens, counted=counted)
        return requests

    def _send(self, model: Model) -> Reply:
        """Send one request: the messages that fit into the model's context, and the answer so far."""
        answer = self._message()
        if self._history.fit(model.context, answer):
            self._recorder.context_shortened(self, self._history.messages[0].number)
        self._usage_counter.start_step(self._history.tokens(answer), model.context.tokens or self._history.limit)
        self._reply = reply = model.answer(
            [*self._history.messages, *([answer] if answer else [])],
            self._tools,
            system=self._settings.system_prompt,
            temperature=self._settings.temperature,
        )
        if self._cancelled.is_set():
            reply.close()
        return reply

    def _message(self) -> Message | None:
        """Return the answer so far, or None if it has no parts."""
        parts = self.buffer.parts()
        return Message(self.number, "assistant", "streaming", parts) if parts else None

    def _take(self, delta: Delta, *, first: int) -> None:
        """Take in a delta other than a tool request. `first` is the position of the step's first part."""
        if isinstance(delta, LeftOut):
            self.left_out |= delta.names
        elif isinstance(delta, SourcesFound):
            self.left_out |= delta.unshown
            self.sources = tuple(dict.fromkeys((*self.sources, *delta.sources)))
        elif isinstance(delta, ReasoningEnded):
            self._mark_as_reasoning(first=first)
        elif isinstance(delta, TextDelta | ReasoningDelta):
            self._append(Text if isinstance(delta, TextDelta) else Reasoning, delta.text)
        elif isinstance(delta, PictureFound):
            self._add_picture(delta)

    def _wait(self, seconds: float, delay: Delay) -> None:
        """Wait before the next request. A model that loads stays shown as loading during the request."""
        self._set_delay(delay)
        self._cancelled.wait(seconds)
        if delay.retry_at is not None or self._cancelled.is_set():
            self._set_delay(None)  # raises TurnCancelled after `cancel`

    def _set_delay(self, delay: Delay | None) -> None:
        if delay != self.delay:
            self.delay = delay
            self._recorder.delay_changed(self)

    def _watch_queue(self, reply: Reply) -> Callable[..., None]:
        """Show how many answers of other rooms the model gives first. Return what to call when something arrives."""
        over, lock = threading.Event(), threading.Lock()

        def watch() -> None:
            while not over.wait(QUEUE_POLL_SECONDS):
                ahead = reply.answers_ahead()
                with lock, suppress(TurnCancelled):
                    if ahead and not over.is_set():
                        self._set_delay(Delay(f"Waiting for the model: {ahead} answer{'s' * (ahead > 1)} ahead"))

        def arrived(*, keep_delay: bool = False) -> None:
            with lock:
                over.set()
            if not keep_delay:
                self._set_delay(None)

        threading.Thread(target=watch, name="queue", daemon=True).start()
        return arrived

    def _append(self, kind: type[Text] | type[Reasoning], text: str) -> None:
        # A surrogate pair or CRLF may be split between two deltas: hold the first half back until the second arrives.
        if self._held_back and kind is not self._held_back_kind:
            self._append_held_back()
        text, self._held_back = _split_incomplete(self._held_back + text)
        self._held_back_kind = kind
        self._append_complete(kind, text)

    def _append_held_back(self) -> None:
        """Append what was held back, since its second half did not arrive."""
        text, self._held_back = self._held_back, ""
        self._append_complete(self._held_back_kind, text)

    def _add_picture(self, picture: PictureFound) -> None:
        self._append_held_back()
        if picture.replaces:
            self.buffer.drop_end(_normalize(picture.replaces))
        sha256 = hashlib.sha256(picture.content).hexdigest()
        file = File(sha256, picture.media_type, clean(picture.text), picture.width, picture.height)
        self._recorder.file_received(self, file, picture.content)
        self._length += 1  # so that the step is not repeated

    def _append_complete(self, kind: type[Text] | type[Reasoning], text: str) -> None:
        text = _normalize(text)
        if not text:
            return
        space = self._max_answer_chars - self._length
        text, excess = text[:space], text[space:]
        self._length += len(text)
        if text and self.buffer.ends_with(kind):
            self._recorder.part_grew(self, self.buffer.append(text), text)
        elif text:
            self._finish_part()
            self._recorder.part_added(self, self.buffer.add(kind(text)))
        if excess:
            raise ModelError(f"The answer was ended at {self._max_answer_chars:,} characters.")

    def _mark_as_reasoning(self, *, first: int) -> None:
        """Make the last text reasoning, if it is at position `first` or later."""
        self._append_held_back()
        position = len(self.buffer) - 1
        if position >= first and self.buffer.ends_with(Text):
            text = self.buffer.parts()[position]
            assert isinstance(text, Text)
            self.buffer.replace(position, Reasoning(text.text))
            self._recorder.part_added(self, position)

    def _finish_part(self) -> None:
        if len(self.buffer) and not self.buffer.ends_with(ToolCall):
            self._recorder.part_changed(self, len(self.buffer) - 1)

    def _call_tool(self, request: ToolRequest) -> None:
        self._finish_part()
        call = ToolCall(clean(request.call_id), clean(request.name), clean(request.arguments), extra=request.extra)
        position = self.buffer.add(call)
        self._recorder.part_added(self, position)
        try:
            self._call = running = self._tools.call(call.name, call.arguments)
            if self._cancelled.is_set():
                running.abandon()
            done = replace(call, result=clean(running.run()), state="done")
        except ToolError as error:
            state: CallState = "abandoned" if isinstance(error, ToolAbandoned) else "failed"
            done = replace(call, result=clean(str(error)), state=state)
        if self._cancelled.is_set():
            raise TurnCancelled  # the caller of `cancel` has stored the call as abandoned
        self.buffer.replace(position, done)
        self._recorder.part_changed(self, position)


def _normalize(text: str) -> str:
    return clean(text).replace("\r\n", "\n").replace("\r", "\n")


def _split_incomplete(text: str) -> tuple[str, str]:
    """Split off a final CR or high surrogate, which may be the first half of something."""
    incomplete = text[-1:] == "\r" or "\ud800" <= text[-1:] <= "\udbff"
    return (text[:-1], text[-1]) if incomplete else (text, "")
