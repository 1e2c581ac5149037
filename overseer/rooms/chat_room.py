"""ChatRoom, the facet: one conversation in one SQLite file, answered one turn at a time."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from overseer.domain.context import DEFAULT_BUDGET, estimate_tokens, message_tokens
from overseer.domain.errors import AnswerInProgress, StorageError, StorageFull
from overseer.domain.events import (
    MessageAdded,
    MessageChanged,
    MessagesCleared,
    MessagesDropped,
    PartAdded,
    PartChanged,
    PartGrew,
    ReadingMoved,
    RoomConfigured,
    RoomEvent,
    RoomRenamed,
    TurnDelayed,
    TurnEnded,
)
from overseer.domain.messages import Message, Part, State, Text, ToolCall, Usage, ended
from overseer.domain.records import MAX_NUMBER, Asked, Page, Summary
from overseer.domain.settings import Changes, Settings
from overseer.domain.text import escape_for_log, name_from_text
from overseer.llm import Model
from overseer.rooms.turn import MAX_ANSWER_CHARS, Turn, TurnOver
from overseer.storage.database import Storage
from overseer.storage.room_store import RoomStore
from overseer.tools.registry import SECONDS, Toolbox

log = logging.getLogger(__name__)

SAVE_INTERVAL_SECONDS = 1.0  # seconds between writes of a growing part
START_RETRY_DELAYS_SECONDS = (0.1, 0.5, 2.0, 5.0)  # seconds after which a turn that could not be started is tried again
PAGE = 50  # messages
INTERRUPTED = "The server went down while this answer was being made. What had arrived is kept; Retry asks again."
STOPPED = "Stopped."


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended; without parts and model for one that was not begun, which keeps what it has."""

    parts: tuple[Part, ...]
    state: State
    reason: str
    model: str = ""
    usage: Usage | None = None
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a model reads (tokens), how much it may say in one answer (characters), and how long one call of a tool
    may take (seconds)."""

    context_tokens: int = DEFAULT_BUDGET
    answer_chars: int = MAX_ANSWER_CHARS
    tool_seconds: float = SECONDS


class ChatRoom:
    """The conversation of one room. Its public methods take and return plain values.

    The text of a growing answer is in memory and shown from there. It is written when a part or the answer ends, and
    about once a second, so that a crash loses little and no token waits for the disk.

    `emit` takes an event under the room's lock, after the commit, and only queues it. `deliver` passes the queued
    events on; a turn calls it without the lock, and whoever calls a public method does so afterwards.

    An answer that is committed as `waiting` is in `_waiting` until its turn runs. Whatever puts one there or ends a
    turn calls `_begin_next`, which raises nothing and leaves one of three: a turn runs, nothing waits, or a timer is
    set that tries again. So no answer waits for ever.
    """

    def __init__(
        self,
        storage: Storage,
        room_id: str,
        *,
        emit: Callable[[RoomEvent], None],
        deliver: Callable[[], None] = lambda: None,
        pick_model: Callable[[str], Model],
        tools: Toolbox,
        limits: Limits = Limits(),
        create: bool = False,
    ) -> None:
        self._lock = storage.lock
        self._store = RoomStore(storage, create=create)
        self.room_id = room_id
        self._emit = emit
        self._deliver = deliver
        self._pick_model = pick_model
        self._tools = tools
        self._limits = limits
        self._turn: Turn | None = None
        self._waiting: deque[int] = deque()  # the numbers of the answers that have still to be begun
        self._timer: threading.Timer | None = None  # begins the next turn, if that failed
        self._failures = 0  # to begin it
        self._saved_at = 0.0
        self._unstored: dict[int, Ending] = {}
        # Nothing runs in a file that was just opened: what is unfinished was cut off by a crash.
        self.interrupted = self._store.end_all(state="interrupted", reason=INTERRUPTED)

    # Commands

    def begin(self, name: str, *, by_person: bool) -> None:
        """Name a new room."""
        self._store.begin(name, by_person=by_person)

    def rename(self, name: str) -> None:
        """Call the room what a person wants it called."""
        self._store.rename(name)
        self._emit(RoomRenamed(self.room_id))

    def configure(self, changes: Changes, *, name: str | None = None) -> None:
        """Change some of the room's settings, and its name if there is one; the next turn goes by them."""
        self._store.configure(replace(self._store.settings(), **changes), name=name)
        if name is not None:
            self._emit(RoomRenamed(self.room_id))
        self._emit(RoomConfigured(self.room_id))

    def ask(self, text: str, *, key: str | None = None) -> Asked:
        """Store a question and the row of its answer, and let it be answered when its turn comes.

        A `key` that was used before returns what it returned then; raises KeyReused if the text was another.
        """
        self._store_endings()
        asked = self._store.add(text, key, name=name_from_text(text))
        events: list[RoomEvent] = []
        if not asked.repeated:
            self._waiting.append(asked.answer)
            if asked.named_room:
                events.append(RoomRenamed(self.room_id))
            events.append(MessageAdded(self.room_id, asked.question, asked.answer))
        self._tell_and_begin(*events)
        return asked

    def edit(self, number: int, text: str, *, last: int | None = None) -> None:
        """Change a question, drop what follows it, and answer it anew.

        Raises NoSuchMessage, NotNow while an answer is being made, or Outdated if `last` is given and not the number
        of the room's last message any more.
        """
        self._check_idle()
        self._store.edit(number, text, last=last)
        self._waiting.append(number + 1)
        self._tell_and_begin(MessagesDropped(self.room_id, number))

    def retry(self) -> int:
        """Answer the last question again; returns the answer's number.

        Raises NoSuchMessage in an empty room, or NotNow while an answer is being made.
        """
        self._check_idle()
        number = self._store.reset_last()
        self._waiting.append(number)
        self._tell_and_begin(MessageChanged(self.room_id, number))
        return number

    def resume(self) -> int:
        """Let the last answer, which broke off, be gone on with; returns its number.

        Raises Outdated if it did not break off in mid-text, or NotNow while an answer is being made.
        """
        self._check_idle()
        message = self._store.resume_last()
        self._waiting.append(message.number)
        self._tell_and_begin(MessageChanged(self.room_id, message.number))
        return message.number

    def stop(self, *, state: State = "stopped", reason: str = STOPPED) -> None:
        """End the running answer and those that wait, and keep what was said."""
        waiting, turn = list(self._waiting), self._cut(state)
        if turn is not None:
            self._unstored[turn.number] = _ending(turn, state, reason)
        for number in waiting:
            self._unstored[number] = Ending((), state, reason)
        ended = ([turn.number] if turn is not None else []) + waiting
        try:
            self._store_endings()
            ended += self._store.end_all(state=state, reason=reason)
        finally:
            for number in ended:
                self._emit(TurnEnded(self.room_id, number, state))

    def clear(self) -> None:
        """Remove all messages; a running answer is stopped first."""
        self._store.clear()
        self._cut("cleared")
        self._unstored.clear()
        self._emit(MessagesCleared(self.room_id))

    # Queries

    def messages(self, *, before: int | None = None, limit: int = PAGE) -> Page:
        """The newest `limit` messages, or those before number `before`, the growing answer as it is now."""
        self._begin_next()
        page = self._store.page(before, limit)
        return replace(page, messages=tuple(map(self._as_it_is, page.messages)))

    def message(self, number: int) -> Message:
        """One message as it is now. Raises NoSuchMessage."""
        return self._as_it_is(self._store.message(number))

    def exchange(self, question: int) -> tuple[Message, Message]:
        """A question and its answer. Raises NoSuchMessage."""
        return self.message(question), self.message(question + 1)

    def after(self, number: int, *, limit: int = PAGE) -> tuple[Message, ...]:
        """The `limit` messages after a number, in order, the growing answer as it is now."""
        return tuple(map(self._as_it_is, self._store.after(number, limit)))

    def following(self, number: int, *, enough: int = MAX_NUMBER) -> tuple[int, int]:
        """How many messages an edit of a question drops beside its answer, counted no further than `enough`, and the
        number of the room's last one."""
        return self._store.following(number, enough)

    def reads_from(self) -> int:
        """From which message the model reads; 0 stands for all of them."""
        return self._store.reads_from()

    def settings(self) -> Settings:
        """The room's settings."""
        return self._store.settings()

    def summary(self) -> Summary:
        """What the registry keeps of the room."""
        summary = self._store.summary()
        return replace(summary, answering=self._turn is not None or bool(self._waiting))

    # What facets ask of a child

    def idle(self) -> bool:
        return self._turn is None and not self._waiting and not self._unstored

    def close(self) -> None:
        self._cut("closed")
        with suppress(StorageError):
            self._store_endings()

    # What a turn tells

    def added(self, turn: Turn, position: int) -> None:
        with self._lock:
            self._check_running(turn)
            part = turn.draft.parts()[position]
            if isinstance(part, ToolCall):
                self._save(turn, position)
            text = "" if isinstance(part, ToolCall) else part.text
            self._emit(PartAdded(self.room_id, turn.number, position, part.kind, text))
        self._deliver()

    def grew(self, turn: Turn, position: int, text: str) -> None:
        with self._lock:
            self._check_running(turn)
            self._emit(PartGrew(self.room_id, turn.number, position, text))
        self._deliver()
        if time.monotonic() - self._saved_at > SAVE_INTERVAL_SECONDS:
            time.sleep(0)  # who reads it comes first: the disk may take longer
            with self._lock:
                self._check_running(turn)
                self._save_if_possible(turn, position)

    def changed(self, turn: Turn, position: int) -> None:
        with self._lock:
            self._check_running(turn)
            self._save(turn, position)
            if isinstance(turn.draft.parts()[position], ToolCall):
                self._emit(PartChanged(self.room_id, turn.number, position))
        self._deliver()

    def delayed(self, turn: Turn) -> None:
        with self._lock:
            self._check_running(turn)
            self._emit(TurnDelayed(self.room_id, turn.number))
        self._deliver()

    def reads(self, turn: Turn, number: int) -> None:
        with self._lock:
            self._check_running(turn)
            self._note_reading(number)
        self._deliver()

    def ended(self, turn: Turn, state: State, reason: str) -> None:
        with self._lock:
            self._check_running(turn)
            self._turn = None
            self._unstored[turn.number] = _ending(turn, state, reason)
            try:
                self._store_endings()
            except StorageError as error:
                # It is kept in memory, and written before anything else is.
                log.error("turn %s/%s could not be stored: %s", self.room_id, turn.number, error)
                state = "failed"
                ending = replace(self._unstored[turn.number], state=state, reason=f"The answer is not stored. {error}")
                self._unstored[turn.number] = ending
            turn.outcome = state
            self._tell_and_begin(TurnEnded(self.room_id, turn.number, state))
        self._deliver()

    # In call order

    def _tell_and_begin(self, *events: RoomEvent) -> None:
        """Emit what was committed, and begin the next turn."""
        for event in events:
            self._emit(event)
        self._begin_next()

    def _begin_next(self) -> None:
        """Begin the oldest turn that waits, unless one is running. Raises nothing: what waits is committed.

        One that cannot be begun is tried again after a while, and with the next question, Retry or read of the room;
        it ends as failed when it has been tried often enough.
        """
        while self._turn is None and self._waiting:
            number = self._waiting[0]
            try:
                self._begin(number)
            except Exception as error:
                log.error("turn %s/%s could not be started: %s", self.room_id, number, error)
                log.debug("turn %s/%s", self.room_id, number, exc_info=True)
                if self._timer is not None or self._begin_later():
                    return
                self._fail_to_begin(number, error)
            else:
                self._waiting.popleft()
                self._forget_timer()

    def _begin_later(self) -> bool:
        """Try again after a while; False if that was done often enough, or no timer can be started."""
        if self._failures == len(START_RETRY_DELAYS_SECONDS):
            return False
        timer = threading.Timer(START_RETRY_DELAYS_SECONDS[self._failures], lambda: self._begin_again(timer))
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no more threads
            return False
        self._timer = timer
        self._failures += 1
        return True

    def _begin_again(self, timer: threading.Timer) -> None:
        with self._lock:
            if self._timer is timer:
                self._timer = None
                self._begin_next()
        self._deliver()

    def _fail_to_begin(self, number: int, error: Exception) -> None:
        """End an answer that was never begun. Who asked sees why, and may retry."""
        why = str(error) if isinstance(error, StorageError) else "Overseer's log says why."
        reason = f"The answer could not be started. {why} Retry asks again."
        self._unstored[number] = Ending((), "failed", reason)
        self._waiting.popleft()
        self._forget_timer()
        with suppress(StorageError):  # it is kept in memory, and written before anything else is
            self._store_endings()
        self._emit(TurnEnded(self.room_id, number, "failed"))

    def _forget_timer(self) -> None:
        timer, self._timer = self._timer, None
        self._failures = 0
        if timer is not None:
            timer.cancel()

    def _begin(self, number: int) -> None:
        """Begin a turn, which continues the answer if it has parts."""
        message = self._store.message(number)
        begun = message if message.parts else None
        settings = self._store.settings()
        budget = (
            self._limits.context_tokens
            - estimate_tokens(settings.system_prompt)
            - (message_tokens(begun) if begun else 0)
        )
        history = self._store.history(number, budget)
        self._note_reading(history[0].number if history and history[0].number > self._store.first() else 0)
        turn = Turn(
            number,
            history,
            pick_model=lambda: self._pick_model(settings.model),
            tools=self._tools,
            record=self,
            settings=settings,
            begun=begun,
            budget=budget,
            max_answer=self._limits.answer_chars,
        )
        # Whatever the turn says waits for the lock, which is held until all of this is done.
        threading.Thread(target=self._run, args=(turn,), name=f"turn-{self.room_id}", daemon=True).start()
        self._turn = turn
        self._saved_at = time.monotonic()
        if begun is not None:
            self._tell_begun(begun)

    def _tell_begun(self, message: Message) -> None:
        """What was said before is a part that grows again."""
        part = message.parts[-1]
        assert isinstance(part, Text)
        self._emit(PartAdded(self.room_id, message.number, len(message.parts) - 1, part.kind, part.text))

    def _note_reading(self, number: int) -> None:
        try:
            moved = self._store.note_reading(number)
        except StorageError as error:  # the line in the list is wrong then, and nothing else
            log.error("room %s: from where the model reads could not be stored: %s", self.room_id, error)
            return
        if moved:
            self._emit(ReadingMoved(self.room_id, number))

    def _run(self, turn: Turn) -> None:
        began = time.monotonic()
        try:
            turn.run()
        except StorageError as error:
            log.error("turn %s/%s could not be written: %s", self.room_id, turn.number, error)
            self._give_up(turn, f"The answer could not be stored. {error}")
        except BaseException:  # SystemExit of a tool too: nobody else would end the turn
            number = secrets.token_hex(4)
            log.exception("error %s: turn %s/%s broke", number, self.room_id, turn.number)
            sentence = f"Something went wrong inside Overseer. Its log says what, under {number}. Retry asks again."
            self._give_up(turn, sentence)
        seconds = time.monotonic() - began
        model = escape_for_log(turn.model_name) or "-"
        log.info("turn %s/%s %s %s %.1fs", self.room_id, turn.number, model, turn.outcome, seconds)

    def _give_up(self, turn: Turn, reason: str) -> None:
        with suppress(TurnOver):
            self.ended(turn, "failed", reason)

    def _store_endings(self) -> None:
        """Write how answers ended. Raises StorageError; what is written by then is, and the rest is kept."""
        for number, ending in list(self._unstored.items()):
            self._store.end(
                number,
                ending.parts,
                state=ending.state,
                reason=ending.reason,
                model=ending.model,
                usage=ending.usage,
                left_out=ending.left_out,
            )
            del self._unstored[number]

    def _cut(self, outcome: str) -> Turn | None:
        """Take the running turn away, if there is one, and those that wait; whatever it still says goes nowhere."""
        self._waiting.clear()
        self._forget_timer()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.outcome = outcome
            turn.cut()
        return turn

    def _check_running(self, turn: Turn) -> None:
        if self._turn is not turn:
            raise TurnOver

    def _save_if_possible(self, turn: Turn, position: int) -> None:
        try:
            self._save(turn, position)
        except StorageFull as error:
            self._saved_at = time.monotonic()
            log.error("turn %s/%s goes on unsaved: %s", self.room_id, turn.number, error)

    def _save(self, turn: Turn, position: int) -> None:
        self._store.save(turn.number, turn.draft.parts(), first=position, model=turn.model_name, left_out=turn.left_out)
        self._saved_at = time.monotonic()

    def _check_idle(self) -> None:
        self._store_endings()
        self._begin_next()
        if self._turn is not None or self._waiting:
            raise AnswerInProgress("An answer is being made in this room. Stop it, or wait until it has ended.")

    def _as_it_is(self, message: Message) -> Message:
        if ending := self._unstored.get(message.number):
            return replace(
                message,
                parts=ending.parts or message.parts,
                state=ending.state,
                reason=ending.reason,
                model=ending.model or message.model,
                usage=ending.usage or message.usage,
                left_out=ending.left_out or message.left_out,
            )
        turn = self._turn
        if turn is None or turn.number != message.number:
            return message
        if delay := turn.delay:
            message = replace(message, reason=delay.reason, retry_at=delay.until)
        if not len(turn.draft):
            return message
        return replace(
            message, state="streaming", parts=turn.draft.parts(), model=turn.model_name, left_out=turn.left_out
        )


def _ending(turn: Turn, state: State, reason: str) -> Ending:
    parts = tuple(map(ended, turn.draft.parts()))
    return Ending(parts, state, reason, turn.model_name, turn.usage, turn.left_out)
