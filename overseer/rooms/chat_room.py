"""ChatRoom, the child of a facet: one conversation in one SQLite file, answered one question at a time."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from overseer.domain.context import DEFAULT_CONTEXT_TOKENS, estimate_tokens, message_tokens
from overseer.domain.errors import AnswerInProgress, Outdated, StorageError, StorageUnavailable
from overseer.domain.events import (
    ContextStartMoved,
    MessageAdded,
    MessageChanged,
    MessagesDeleted,
    PartAdded,
    PartChanged,
    PartGrew,
    PathChanged,
    RoomConfigured,
    RoomEvent,
    ShareRevoked,
    TurnDelayed,
    TurnEnded,
    TurnStarted,
)
from overseer.domain.messages import (
    File,
    Message,
    Part,
    Reasoning,
    Source,
    State,
    Text,
    ToolCall,
    Usage,
    abandon_if_running,
)
from overseer.domain.records import Asked, Page, Summary
from overseer.domain.settings import Changes, Settings
from overseer.domain.shares import Share, Visit
from overseer.domain.text import NEW_ROOM, Invalid, escape_for_log, name_from_text
from overseer.llm import Model
from overseer.rooms.history import History
from overseer.rooms.turn import MAX_ANSWER_CHARS, Turn, TurnCancelled
from overseer.storage.database import Storage
from overseer.storage.room_rows import now
from overseer.storage.room_store import Configuration, RoomStore
from overseer.tools.toolbox import CALL_TIMEOUT_SECONDS, Toolbox

log = logging.getLogger(__name__)

SAVE_INTERVAL_SECONDS = 1.0  # between writes of a growing part
START_RETRY_DELAYS_SECONDS = (0.1, 0.5, 2.0, 5.0)
SAVE_RETRY_DELAYS_SECONDS = (1.0, 5.0, 15.0, 60.0)
PAGE_MESSAGES = 50
INTERRUPTED = "Overseer stopped during this answer. What arrived is saved."
STOPPED = "You stopped this answer."


@dataclass(frozen=True, slots=True)
class FinalState:
    """How an answer ended. Without parts and model, the answer never started and keeps what the file has."""

    parts: tuple[Part, ...]
    state: State
    reason: str
    model: str = ""
    usage: Usage | None = None
    left_out: frozenset[str] = frozenset()
    continuable: bool = True
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one turn: tokens of context, characters of an answer, seconds of one tool call and of loading."""

    context_tokens: int = DEFAULT_CONTEXT_TOKENS
    answer_chars: int = MAX_ANSWER_CHARS
    tool_seconds: float = CALL_TIMEOUT_SECONDS
    loading_seconds: float = 300.0


class ChatRoom:
    """The conversation of one room. Its public methods take and return plain values.

    One question is answered at a time. If several models were asked, each has a turn, and these run at once.

    The text of a growing answer is kept in memory and shown from there. It is written to the file when a part or the
    answer ends, and about once a second. So a crash loses at most a second of text, and no token waits for the disk.

    `emit` queues an event; it is called under the room's lock, after the commit. `deliver` delivers the queue; the
    turn's thread calls it without the lock, and callers of the public methods do so themselves. See `event_queue`.

    An answer that is committed as `waiting` stays in `_queued` until its turn starts. Whatever adds to `_queued` or
    ends a turn calls `_start_next_turn`, which never raises. Afterwards a turn is running, nothing is queued, or a
    timer is set that tries again. So no answer waits forever.
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
        clock: Callable[[], int] = now,
    ) -> None:
        self._lock = storage.lock
        self._store = RoomStore(storage, create=create)
        self.room_id = room_id
        self._emit = emit
        self._deliver = deliver
        self._pick_model = pick_model
        self._tools = tools
        self._limits = limits
        self._clock = clock
        self._turns: dict[int, Turn] = {}  # those that run, by answer number; all have the same question
        # Answers and their questions, in the order in which they were asked. A dict is slow at its start.
        self._queued: OrderedDict[int, int] = OrderedDict()
        self._start_timer: threading.Timer | None = None  # retries `_start_next_turn`
        self._start_failures = 0
        self._unsaved: dict[int, FinalState] = {}  # by answer number
        self._save_timer: threading.Timer | None = None  # retries `_save_final_states`
        self._known_summary: Summary | None = None  # after a question was stored, until its events are queued
        # No turn runs in a file that was just opened, so a crash cut off every unfinished answer.
        self.interrupted = self._store.finish_all_answers(state="interrupted", reason=INTERRUPTED)

    # Commands

    def begin(self, name: str, *, by_person: bool, temporary: bool = False) -> None:
        """Store the name of a new room, and whether it is temporary."""
        self._store.initialize(name, by_person=by_person, temporary=temporary)

    def configure(self, changes: Changes, *, name: str | None = None) -> None:
        """Change settings, and the name if a person gave one. They apply from the next turn on.

        Raises Invalid for a temporary room that is to be archived.
        """
        settings = replace(self.settings(), **changes)
        if settings.archived and settings.temporary:
            raise Invalid("A temporary room can’t be archived. Keep it first.")
        self._store.configure(settings, name=name)
        self._emit(RoomConfigured(self.room_id))

    def ask(self, text: str, *, key: str | None = None, models: Sequence[str] = ()) -> Asked:
        """Store a question and an empty answer after the last message, and queue a turn for the answer.

        With `models`, each of them answers instead of the room's; the answers of several are shown side by side.
        If `key` was used before with the same text, store nothing and return the earlier result. Raises KeyReused if
        the text differs. An archived room is not archived any more.
        """
        self._save_final_states()
        asked, configuration, self._known_summary = self._store.add_question(
            text, key, name=name_from_text(text), models=models
        )
        events: list[RoomEvent] = []
        if not asked.repeated:
            self._queued.update((answer, asked.question) for answer in asked.answers)
            if asked.named_room or asked.unarchived:
                events.append(RoomConfigured(self.room_id))
            events.append(MessageAdded(self.room_id, asked.question, asked.answer, asked.beside))
        try:
            self._emit_and_start_next(*events, configuration=configuration)
        finally:
            self._known_summary = None
        return replace(asked, messages=tuple(map(self._with_live_state, asked.messages)))

    def edit(self, number: int, text: str) -> Asked:
        """Store another version of a question and have it answered. The old one and what follows it stay.

        Raises NoSuchMessage, or AnswerInProgress.
        """
        self._require_idle()
        asked = self._store.edit_question(number, text)
        self._queued[asked.answer] = asked.question
        configured = [RoomConfigured(self.room_id)] if asked.unarchived else []
        self._emit_and_start_next(*configured, PathChanged(self.room_id))
        return asked

    def retry(self, number: int | None = None) -> int:
        """Answer the last question again, as another version of the answer. Return its number.

        With `number`, instead of that one of the answers side by side; the others may still be generated. An answer
        without any content is not kept. Raises NoSuchMessage in an empty room, Outdated, or AnswerInProgress.
        """
        self._require_idle(beside=number)
        asked = self._store.retry_last_answer(number)
        self._queued[asked.answer] = asked.question
        self._emit_and_start_next(PathChanged(self.room_id))
        return asked.answer

    def resume(self, number: int | None = None) -> int:
        """Continue the last answer from where it broke off, or answer `number` beside it. Return its number.

        Raises Outdated if the answer is not `resumable` or not at the end, or AnswerInProgress.
        """
        self._require_idle(beside=number)
        message = self._store.resume_last_answer(number)
        self._queued[message.number] = message.parent or 0
        self._emit_and_start_next(MessageChanged(self.room_id, message.number))
        return message.number

    def show(self, number: int) -> None:
        """Show the version that a message belongs to: the newest path through it.

        Of answers side by side, only this one is shown from now on. Raises NoSuchMessage, or AnswerInProgress.
        """
        self._require_idle()
        if self._store.show(number):
            self._emit(PathChanged(self.room_id))

    def stop(self, number: int | None = None) -> None:
        """End the answers that are being generated, or only answer `number`, and keep the parts that have arrived.

        The next queued answer starts. If none is running, because its turn could not be started, that one ends.
        """
        if number is None:
            running = (turn.question for turn in self._turns.values())
            numbers = [*self._turns, *self._queued_answers(next(running, next(iter(self._queued.values()), None)))]
        else:
            numbers = [number] if number in self._turns or number in self._queued else []
        if not numbers:
            return self._save_final_states()
        for one in numbers:
            if (turn := self._cancel_turn(one, "stopped")) is not None:
                self._unsaved[one] = _final_state(turn, "stopped", STOPPED)
            else:
                self._remove_queued(one)
                self._unsaved[one] = FinalState((), "stopped", STOPPED)
        try:
            self._save_final_states()
        finally:
            for one in numbers:
                self._emit(TurnEnded(self.room_id, one, "stopped"))
            self._start_next_turn(was_queued=True)

    def withdraw(self, question: int) -> None:
        """Delete a question whose answers are queued, and these answers. A question with other answers stays.

        Raises NoSuchMessage, or Outdated if an answer is not queued any more.
        """
        self._store.message(question)
        answers = self._queued_answers(question)
        if not answers or any(turn.question == question for turn in self._turns.values()):
            raise Outdated("This question is not waiting any more.")
        self._store.withdraw(question, answers)
        for answer in answers:
            self._remove_queued(answer)
        self._emit(PathChanged(self.room_id))

    def stop_all(self, *, state: State = "stopped", reason: str = STOPPED) -> None:
        """End the running answers and the queued ones. Keep the parts that have arrived."""
        queued, turns = [*self._queued], self._cancel_turns(state)
        for turn in turns:
            self._unsaved[turn.number] = _final_state(turn, state, reason)
        for number in queued:
            self._unsaved[number] = FinalState((), state, reason)
        numbers = [turn.number for turn in turns] + queued
        try:
            self._save_final_states()
            numbers += self._store.finish_all_answers(state=state, reason=reason)
        finally:
            for number in numbers:
                self._emit(TurnEnded(self.room_id, number, state))

    def save(self) -> None:
        """Write what has arrived of the growing answers."""
        self._save_final_states()
        for turn in self._turns.values():
            if len(turn.buffer):
                self._save(turn, 0)

    def merge(self, path: Path) -> int:
        """Add the messages of a later export, the file of a whole room. Return how many. Raises AnswerInProgress."""
        self._require_idle()
        if added := self._store.merge(path):
            self._emit(PathChanged(self.room_id))
        return added

    def clear(self) -> None:
        """Delete all messages and shares, a name made of the first question, and cancel the running turns."""
        renamed, revoked = self._store.clear(name=NEW_ROOM)
        self._cancel_turns("cleared")
        self._unsaved.clear()
        self._cancel_save_timer()
        for number in revoked:
            self._emit(ShareRevoked(self.room_id, number))
        self._emit(MessagesDeleted(self.room_id))
        if renamed:
            self._emit(RoomConfigured(self.room_id))

    def share(self, page: bytes | None, *, seconds: int | None) -> Share:
        """Share the room: as this page (HTML, compressed with gzip), or live. Raises TooManyShares.

        It ends after so many seconds, or never.
        """
        now = self._clock()
        expires_at = None if seconds is None else now + 1000 * seconds
        return self._store.add_share(self.room_id, page, expires_at=expires_at, now=now)

    def revoke_share(self, number: int) -> None:
        """Delete a share. Raises NoSuchShare."""
        self._store.delete_share(number)
        self._emit(ShareRevoked(self.room_id, number))

    def visit_share(self, secret: str) -> Visit | None:
        """Return the share with this secret, with its page, and note the visit; None if there is none."""
        return self._store.visit_share(self.room_id, secret, now=self._clock())

    # Queries

    def shares(self) -> tuple[Share, ...]:
        """Return the shares of the room that have not expired, the newest first."""
        return self._store.shares(self.room_id, now=self._clock())

    def find_share(self, secret: str) -> Share | None:
        """Return the share with this secret, or None."""
        return self._store.find_share(self.room_id, secret, now=self._clock())

    def is_file_shown(self, sha256: str) -> bool:
        """Return whether a message that is shown has this file."""
        return self._store.is_file_shown(sha256)

    def messages(self, *, before: int | None = None, limit: int = PAGE_MESSAGES) -> Page:
        """Return the newest `limit` messages, or those before message `before`, with the text of a growing answer."""
        self._start_next_turn()
        return self._live_page(self._store.page(before, limit))

    def messages_with(self, number: int, *, limit: int = PAGE_MESSAGES) -> Page:
        """Return the page with a message, of the shown path if it is on it, otherwise of the newest path through it.

        Raises NoSuchMessage.
        """
        return self._live_page(self._store.page_with(number, limit))

    def message(self, number: int) -> Message:
        """Return one message. Raises NoSuchMessage."""
        return self._with_live_state(self._store.message(number))

    def end_of_path(self) -> int | None:
        """Return the number of the last message of the shown path, or None in an empty room."""
        return self._store.end_of_path()

    def path(self, end: int | None, *, after: int = 0, limit: int = PAGE_MESSAGES) -> tuple[Message, ...]:
        """Return `limit` messages of the path that ends at message `end`, without its first `after`, in order."""
        return tuple(map(self._with_live_state, self._store.path(end, after, limit)))

    def context_start(self) -> int:
        """Return the number of the first message that the model reads; 0 means the whole room."""
        return self._store.configuration().context_start

    def file(self, sha256: str) -> tuple[str, bytes]:
        """Return the media type and the content of a file that a message shows. Raises NoSuchFile."""
        return self._store.file(sha256)

    def source(self) -> str:
        """Return the format and id of the conversation that was imported, or an empty text."""
        return self._store.source()

    def holds(self, path: Path) -> bool:
        """Return whether the room has all messages of another file of it."""
        return self._store.holds(path)

    def settings(self) -> Settings:
        """Return the room's settings."""
        return self._store.configuration().settings

    def summary(self) -> Summary:
        """Return the summary that the registry stores."""
        summary = self._known_summary or self._store.summary()
        return replace(summary, answering=bool(self._turns or self._queued))

    # The Child protocol of facets

    def idle(self) -> bool:
        return not (self._turns or self._queued or self._unsaved)

    def close(self) -> None:
        self._cancel_turns("closed")
        with suppress(StorageError):
            self._save_final_states()
        self._cancel_save_timer()

    # For the turn's thread. Every method raises TurnCancelled if the turn is no longer running.

    def part_added(self, turn: Turn, position: int) -> None:
        """Store a new part."""
        with self._reporting(turn):
            part = turn.buffer.parts()[position]
            if isinstance(part, ToolCall):
                self._save(turn, position)
            text = part.text if isinstance(part, Text | Reasoning) else ""
            self._emit(PartAdded(self.room_id, turn.number, position, part.kind, text))

    def file_received(self, turn: Turn, file: File, content: bytes) -> None:
        """Store a file and the part that shows it, and add the part to the answer."""
        with self._reporting(turn):
            self._store.add_file(turn.number, [*turn.buffer.parts(), file], content, model=turn.model_name)
            turn.saved_at = time.monotonic()
            self._emit(PartAdded(self.room_id, turn.number, turn.buffer.add(file), file.kind, ""))

    def part_grew(self, turn: Turn, position: int, text: str) -> None:
        """Emit text that was appended to a part. Store the part if that was not done for SAVE_INTERVAL_SECONDS."""
        with self._lock:  # as `_reporting` does, which takes a microsecond more for each token
            if self._turns.get(turn.number) is not turn:
                raise TurnCancelled
            self._emit(PartGrew(self.room_id, turn.number, position, text))
        self._deliver()
        if time.monotonic() - turn.saved_at > SAVE_INTERVAL_SECONDS:
            time.sleep(0)  # let the readers' greenlets run first: the write may block
            with self._reporting(turn):
                self._save_if_possible(turn, position)

    def part_changed(self, turn: Turn, position: int) -> None:
        """Store a part that is complete, or a tool call that has its result."""
        with self._reporting(turn):
            self._save(turn, position)
            if isinstance(turn.buffer.parts()[position], ToolCall):
                self._emit(PartChanged(self.room_id, turn.number, position))

    def delay_changed(self, turn: Turn) -> None:
        """Emit that `turn.delay` was set or removed."""
        with self._reporting(turn):
            self._emit(TurnDelayed(self.room_id, turn.number))

    def context_shortened(self, turn: Turn, number: int) -> None:
        """Store that the model now reads the room from this message on."""
        with self._reporting(turn):
            if turn.is_first:
                self._save_context_start(number, before=self.context_start())

    def turn_ended(self, turn: Turn, state: State, reason: str) -> None:
        """Store the final state of the answer."""
        with self._reporting(turn):
            del self._turns[turn.number]
            self._unsaved[turn.number] = _final_state(turn, state, reason)
            try:
                self._save_final_states()
            except StorageError as error:
                # The final state stays in `_unsaved` and is written before any other change.
                log.error("turn %s/%s could not be stored: %s", self.room_id, turn.number, error)
                state, reason = "failed", f"The answer is not stored. {error}"
                self._unsaved[turn.number] = replace(self._unsaved[turn.number], state=state, reason=reason)
            turn.outcome = state
            self._emit(TurnEnded(self.room_id, turn.number, state))
            self._start_next_turn(was_queued=True)

    # In call order

    def _emit_and_start_next(self, *events: RoomEvent, configuration: Configuration | None = None) -> None:
        for event in events:
            self._emit(event)
        self._known_summary = None
        self._start_next_turn(configuration=configuration)

    def _start_next_turn(self, *, was_queued: bool = False, configuration: Configuration | None = None) -> None:
        """Start the turns of the oldest queued question, unless another question is being answered. Never raises.

        `was_queued` says that the answer has been shown as queued, so that the start is an event. `configuration` is
        read from the file unless it is given.
        If that fails, a timer tries again, and so does the next question, Retry or read of the room. After the last
        attempt the answer ends as failed.
        """
        while (number := self._next_queued()) is not None:
            try:
                self._start_turn(number, configuration or self._store.configuration())
            except Exception as error:
                log.error("turn %s/%s could not be started: %s", self.room_id, number, error)
                log.debug("turn %s/%s", self.room_id, number, exc_info=True)
                if self._start_timer is not None or self._schedule_start_retry():
                    return
                self._fail_queued(number, error)
            else:
                del self._queued[number]
                self._cancel_start_timer()
                if was_queued:
                    self._emit(TurnStarted(self.room_id, number))

    def _next_queued(self) -> int | None:
        """Return the oldest queued answer, or None if there is none or another question is being answered."""
        if not self._queued:
            return None
        answer, question = next(iter(self._queued.items()))
        return answer if all(turn.question == question for turn in self._turns.values()) else None

    def _queued_answers(self, question: int | None) -> list[int]:
        return [answer for answer, one in self._queued.items() if one == question]

    def _remove_queued(self, number: int) -> None:
        """Remove an answer from the queue. If it could not be started, nothing waits for that any more."""
        if next(iter(self._queued)) == number:
            self._cancel_start_timer()
        del self._queued[number]

    def _schedule_start_retry(self) -> bool:
        """Set the timer. Return False after the last attempt, or if no thread can be started."""
        if self._start_failures == len(START_RETRY_DELAYS_SECONDS):
            return False
        timer = threading.Timer(START_RETRY_DELAYS_SECONDS[self._start_failures], lambda: self._retry_start(timer))
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no more threads
            return False
        self._start_timer = timer
        self._start_failures += 1
        return True

    def _retry_start(self, timer: threading.Timer) -> None:
        with self._lock:
            if self._start_timer is timer:
                self._start_timer = None
                self._start_next_turn(was_queued=True)
        self._deliver()

    def _fail_queued(self, number: int, error: Exception) -> None:
        """End an answer whose turn cannot be started as failed."""
        why = str(error) if isinstance(error, StorageError) else "Overseer's log says why."
        reason = f"The answer could not be started. {why} Retry asks again."
        self._unsaved[number] = FinalState((), "failed", reason)
        del self._queued[number]
        self._cancel_start_timer()
        with suppress(StorageError):  # it stays in `_unsaved` and is written before any other change
            self._save_final_states()
        self._emit(TurnEnded(self.room_id, number, "failed"))

    def _cancel_start_timer(self) -> None:
        timer, self._start_timer = self._start_timer, None
        self._start_failures = 0
        if timer is not None:
            timer.cancel()

    def _start_turn(self, number: int, configuration: Configuration) -> None:
        """Start a turn. If the answer has parts, the turn continues it."""
        settings = configuration.settings
        budget = self._limits.context_tokens - estimate_tokens(settings.system_prompt)
        answer, history = self._store.history(number, budget)
        partial = answer if answer.parts else None
        budget -= message_tokens(answer) if partial else 0
        start = history[0].number if history and history[0].parent else 0
        if is_first := answer.lane in (None, 1):
            self._save_context_start(start, before=configuration.context_start)
        turn = Turn(
            number,
            answer.parent or 0,
            History(
                history,
                budget=budget,
                limit=self._limits.context_tokens,
                system=settings.system_prompt,
                tools=self._tools,
            ),
            pick_model=lambda: self._pick_model(answer.asked_model or settings.model),
            tools=self._tools,
            recorder=self,
            settings=settings,
            partial=partial,
            is_first=is_first,
            loading_seconds=self._limits.loading_seconds,
            max_answer_chars=self._limits.answer_chars,
        )
        # The thread's first report waits for the lock, which this thread holds until the turn is in `_turns`.
        threading.Thread(target=self._run_turn, args=(turn,), name=f"turn-{self.room_id}", daemon=True).start()
        self._turns[number] = turn
        turn.saved_at = time.monotonic()
        if partial is not None:
            self._emit_resumed_part(partial)

    def _emit_resumed_part(self, message: Message) -> None:
        """Emit the last part of a partial answer as one that grows again."""
        part = message.parts[-1]
        assert isinstance(part, Text)
        self._emit(PartAdded(self.room_id, message.number, len(message.parts) - 1, part.kind, part.text))

    def _save_context_start(self, number: int, *, before: int) -> None:
        if number == before:
            return
        try:
            self._store.set_context_start(number)
        except StorageError as error:  # only the line in the page is wrong then, so the turn goes on
            log.error("room %s: the start of the context could not be stored: %s", self.room_id, error)
            return
        self._emit(ContextStartMoved(self.room_id, number))

    def _run_turn(self, turn: Turn) -> None:
        started = time.monotonic()
        try:
            turn.run()
        except StorageError as error:
            log.error("turn %s/%s could not be written: %s", self.room_id, turn.number, error)
            self._fail_turn(turn, f"The answer could not be stored. {error}")
        except BaseException:  # including SystemExit from a tool: nothing else would end the turn
            error_id = secrets.token_hex(4)
            log.exception("error %s: turn %s/%s broke", error_id, self.room_id, turn.number)
            self._fail_turn(turn, f"Something went wrong. See {error_id} in the server log.")
        seconds = time.monotonic() - started
        model = escape_for_log(turn.model_name) or "-"
        log.info("turn %s/%s %s %s %.1fs", self.room_id, turn.number, model, turn.outcome, seconds)

    def _fail_turn(self, turn: Turn, reason: str) -> None:
        with suppress(TurnCancelled):
            self.turn_ended(turn, "failed", reason)

    def _save_final_states(self) -> None:
        """Write the final states of ended answers.

        On StorageError, those not yet written stay in memory, and a timer tries again.
        """
        for number, final in list(self._unsaved.items()):
            try:
                self._store.finish_answer(
                    number,
                    final.parts,
                    state=final.state,
                    reason=final.reason,
                    model=final.model,
                    usage=final.usage,
                    left_out=final.left_out,
                    continuable=final.continuable,
                    sources=final.sources,
                )
            except StorageError:
                self._schedule_save()
                raise
            del self._unsaved[number]

    def _schedule_save(self, failures: int = 0) -> None:
        """Set the timer, unless it is set."""
        if self._save_timer is not None:
            return
        delay = SAVE_RETRY_DELAYS_SECONDS[min(failures, len(SAVE_RETRY_DELAYS_SECONDS) - 1)]
        timer = threading.Timer(delay, lambda: self._retry_save(timer, failures + 1))
        timer.daemon = True
        with suppress(RuntimeError):  # no more threads: the next change of the room tries again
            timer.start()
            self._save_timer = timer

    def _retry_save(self, timer: threading.Timer, failures: int) -> None:
        with self._lock:
            if self._save_timer is not timer:
                return
            try:
                self._save_final_states()
            except StorageError as error:
                log.error("answers in %s are still not stored: %s", self.room_id, error)
                self._save_timer = None
                self._schedule_save(failures)
            else:
                self._save_timer = None

    def _cancel_save_timer(self) -> None:
        timer, self._save_timer = self._save_timer, None
        if timer is not None:
            timer.cancel()

    def _cancel_turns(self, outcome: str) -> list[Turn]:
        """Cancel the running turns and empty the queue. Return the turns."""
        self._queued.clear()
        self._cancel_start_timer()
        return [turn for number in list(self._turns) if (turn := self._cancel_turn(number, outcome)) is not None]

    def _cancel_turn(self, number: int, outcome: str) -> Turn | None:
        """Cancel the turn of an answer. Return it, or None if it is not running."""
        turn = self._turns.pop(number, None)
        if turn is not None:
            turn.outcome = outcome
            turn.cancel()
        return turn

    @contextmanager
    def _reporting(self, turn: Turn) -> Iterator[None]:
        """Hold the lock for a report of a running turn, and deliver its events afterwards. Raises TurnCancelled."""
        with self._lock:
            if self._turns.get(turn.number) is not turn:
                raise TurnCancelled
            yield
        self._deliver()

    def _save_if_possible(self, turn: Turn, position: int) -> None:
        try:
            self._save(turn, position)
        except StorageUnavailable as error:
            turn.saved_at = time.monotonic()
            log.error("turn %s/%s goes on unsaved: %s", self.room_id, turn.number, error)

    def _save(self, turn: Turn, position: int) -> None:
        """Write the parts of a growing answer from `position` on."""
        parts = turn.buffer.parts()
        self._store.save_parts(turn.number, parts, first=position, model=turn.model_name, left_out=turn.left_out)
        turn.saved_at = time.monotonic()

    def _require_idle(self, *, beside: int | None = None) -> None:
        """Raise AnswerInProgress if an answer is being generated, other than those beside the answer `beside`."""
        self._save_final_states()
        self._start_next_turn()
        busy = {*(turn.question for turn in self._turns.values()), *self._queued.values()}
        if not busy:
            return
        running = beside is not None and (beside in self._turns or beside in self._queued)
        if running or beside is None or busy != {self._store.message(beside).parent}:
            raise AnswerInProgress("An answer is being generated in this room. Stop it, or wait until it has ended.")

    def _live_page(self, page: Page) -> Page:
        beside = {question: tuple(map(self._with_live_state, some)) for question, some in page.beside.items()}
        return replace(page, messages=tuple(map(self._with_live_state, page.messages)), beside=beside)

    def _with_live_state(self, message: Message) -> Message:
        """Return a stored message with what is only in memory: a final state that is not saved, or a growing answer."""
        if final := self._unsaved.get(message.number):
            return replace(
                message,
                parts=final.parts or message.parts,
                state=final.state,
                reason=final.reason,
                model=final.model or message.model,
                usage=final.usage or message.usage,
                left_out=final.left_out or message.left_out,
                continuable=final.continuable,
                sources=final.sources or message.sources,
            )
        turn = self._turns.get(message.number)
        if turn is None:
            return replace(message, queued=True) if message.number in self._queued else message
        if delay := turn.delay:
            message = replace(message, reason=delay.reason, retry_at=delay.retry_at)
        if not len(turn.buffer):
            return message
        return replace(
            message, state="streaming", parts=turn.buffer.parts(), model=turn.model_name, left_out=turn.left_out
        )


def _final_state(turn: Turn, state: State, reason: str) -> FinalState:
    parts = tuple(map(abandon_if_running, turn.buffer.parts()))
    return FinalState(parts, state, reason, turn.model_name, turn.usage, turn.left_out, turn.continuable, turn.sources)
