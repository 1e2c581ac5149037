"""Every turn ends, however busy, short of memory or short of breath its model is, and no word of it is lost."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from overseer.domain.errors import AnswerInProgress, Outdated, StorageFull
from overseer.domain.events import MessageChanged, PartAdded, PartGrew, ReadingMoved, RoomEvent, TurnDelayed, TurnEnded
from overseer.domain.messages import Message, Reasoning, Text, ToolCall, Usage
from overseer.domain.records import Asked
from overseer.llm import (
    ModelBusy,
    ModelCut,
    ModelError,
    ModelOverflow,
    ReasoningDelta,
    TextDelta,
    TokenCount,
    ToolRequest,
)
from overseer.rooms import turn
from overseer.rooms.chat_room import INTERRUPTED, ChatRoom, Limits
from overseer.rooms.turn import MAX_RETRY_DELAY_SECONDS, RETRY_DELAYS_SECONDS
from overseer.tools.registry import tool
from tests.rooms.test_chat_room import DEADLINE, Harness, MakeHarness, Said, Script, held, no_turns, words

FOR_EVER = 50.0  # seconds to wait, which no test does
CUT = "It broke off. Continue."
TRIES = len(RETRY_DELAYS_SECONDS) + 1


def busy(seconds: float | None = 0.01, *before: TextDelta | ReasoningDelta) -> Said:
    """A model that has no time, maybe after it said something."""
    return Said(*before, ModelBusy("The server is asked too much.", seconds, said="Later!"))


def overflow(*before: TextDelta | ReasoningDelta) -> Said:
    """A model that cannot read so much."""
    return Said(*before, ModelOverflow("The conversation is too long."))


def cut(*texts: str) -> Said:
    """An answer that breaks off."""
    return Said(*map(TextDelta, texts), ModelCut(CUT))


def tokens(message: Message) -> tuple[int, int, bool] | None:
    """What of a message's usage does not hang on the clock."""
    usage = message.usage
    return (usage.tokens_in, usage.tokens_out, usage.estimated) if usage else None


def now() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000


def resume(harness: Harness) -> int:
    return harness.room.call(ChatRoom.resume)


def resumed(harness: Harness, *replies: Said, number: int = 2, times: int = 2) -> Message:
    """Go on with the answer, and wait for its end, which is the second unless told otherwise."""
    harness.model.replies.extend(replies)
    assert resume(harness) == number
    harness.ended(number, times=times)
    return harness.message(number)


@pytest.fixture
def make_harness(tmp_path: Path) -> Iterator[MakeHarness]:
    """Makes a harness in a folder of this name; all are shut, and every turn's thread ends."""
    harnesses: list[Harness] = []

    def make(name: str = "harness", *, by_person: bool = True) -> Harness:
        harnesses.append(Harness(tmp_path / name, by_person=by_person))
        return harnesses[-1]

    yield make
    for harness in harnesses:
        harness.facets.close("the test is over")
    no_turns()


@pytest.fixture
def harness(make_harness: MakeHarness) -> Harness:
    """A harness with one room."""
    return make_harness()


@pytest.fixture
def waiting(harness: Harness) -> Harness:
    """A harness whose model has no time for the first answer for long, while a second one waits."""
    harness.will(busy(FOR_EVER))
    harness.ask("one")
    harness.ask("two")
    harness.told(TurnDelayed)
    return harness


# A model that has no time


def test_a_busy_model_is_asked_again_after_the_seconds_it_named(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, and not after those we would have waited ourselves; the answer is as any other."""
    monkeypatch.setattr(turn, "RETRY_DELAYS_SECONDS", (FOR_EVER, FOR_EVER, FOR_EVER))
    asked: list[float] = []
    harness.model.meanwhile = lambda: asked.append(time.monotonic())
    harness.answered("one", busy(0.05), busy(0.0), words("Yes"))
    assert len(asked) == 3
    assert 0.05 <= asked[1] - asked[0] < DEADLINE and asked[2] - asked[1] < DEADLINE
    message = harness.message(2)
    assert (message.state, message.parts, message.reason, message.retry_at) == ("complete", (Text("Yes"),), "", None)
    assert {tuple(m.text for m in read) for read in harness.model.asked} == {("one",)}, "each time it reads the same"


def test_a_busy_model_that_names_no_seconds_is_asked_again_after_ours(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A little longer each time."""
    monkeypatch.setattr(turn, "RETRY_DELAYS_SECONDS", (0.01, 0.03))
    asked: list[float] = []
    harness.model.meanwhile = lambda: asked.append(time.monotonic())
    harness.answered("one", busy(None), busy(None), words("Yes"))
    assert asked[1] - asked[0] >= 0.01 and asked[2] - asked[1] >= 0.03
    assert (
        list(RETRY_DELAYS_SECONDS) == sorted(RETRY_DELAYS_SECONDS)
        and sum(RETRY_DELAYS_SECONDS) < MAX_RETRY_DELAY_SECONDS
    )


def test_while_it_waits_the_answer_says_why_and_until_when(waiting: Harness) -> None:
    """As a message, in its page and in its exchange; the file knows only that it waits."""
    before = now()
    message = waiting.message(2)
    assert (message.state, message.parts) == ("waiting", ())
    assert message.reason.startswith("The server is asked too much.") and "Later!" not in message.reason
    assert message.retry_at is not None and before < message.retry_at <= before + FOR_EVER * 1000
    assert waiting.messages()[1] == message == waiting.room.call(ChatRoom.exchange, 1)[1]
    assert waiting.room.call(ChatRoom.after, 1)[0] == message
    assert waiting.on_disk("SELECT state, reason FROM messages WHERE number = 2") == [("waiting", "")]
    assert waiting.room.call(ChatRoom.summary).answering
    assert (waiting.message(4).state, waiting.message(4).reason, waiting.message(4).retry_at) == ("waiting", "", None)


def test_a_room_that_waits_for_a_model_can_be_used(waiting: Harness) -> None:
    """Asked, read and kept in memory; only what needs the answer is for later."""
    assert waiting.ask("three") == Asked(5, 6)
    assert not waiting.room.call(ChatRoom.idle) and not waiting.room.evict()
    for change in (ChatRoom.retry, ChatRoom.resume):
        with pytest.raises(AnswerInProgress):
            waiting.room.call(change)
    assert waiting.states() == ["waiting"] * 3


def test_when_it_is_asked_again_the_answer_says_neither_any_more(harness: Harness) -> None:
    """Told twice: once when it waits, once when it does not; and both times the message is already so."""
    seen: list[tuple[str, bool]] = []

    def look(event: RoomEvent) -> None:
        if isinstance(event, TurnDelayed):
            assert event == TurnDelayed("room", 2)
            message = harness.message(2)  # the room's lock lets its own thread in
            assert message.state == "waiting"
            seen.append((message.reason, message.retry_at is not None))

    harness.listeners.append(look)
    harness.will(busy(0.0))
    reply = harness.will(held())
    harness.ask("one")
    harness.told(TurnDelayed, times=2)
    reply.taken_in()
    assert (harness.message(2).reason, harness.message(2).retry_at) == ("", None)
    reply.end()
    harness.ended(2)
    assert [(bool(reason), until) for reason, until in seen] == [(True, True), (False, False)]


def test_each_wait_says_how_often_it_will_still_be_tried(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the last one that it is."""
    monkeypatch.setattr(turn, "RETRY_DELAYS_SECONDS", (0.0, 0.0, 0.0))
    said: list[str] = []
    harness.listeners.append(
        lambda event: said.append(harness.message(2).reason) if isinstance(event, TurnDelayed) else None
    )
    harness.answered("one", busy(None), busy(None), busy(None), words("Yes"))
    assert [reason.rpartition("by itself, ")[2] for reason in said if reason] == [
        "at most 3 times.",
        "at most 2 times.",
        "for the last time.",
    ]


def test_a_model_that_stays_busy_is_asked_so_often_and_no_more(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the answer has failed, with the server's words, and the next question is answered."""
    monkeypatch.setattr(turn, "RETRY_DELAYS_SECONDS", (0.0, 0.01, 0.0))
    harness.answered("one", *[busy(None) for _ in range(4)])
    message = harness.message(2)
    assert len(harness.model.asked) == 4 == TRIES
    assert (message.state, message.parts, message.usage, message.retry_at) == ("failed", (), None, None)
    assert "Retry" in message.reason and "Later!" in message.reason
    assert len(harness.heard(TurnDelayed)) == 6
    harness.answered("two")
    assert harness.states() == ["failed", "complete"]


def test_a_model_that_always_names_no_seconds_at_all_is_not_asked_for_ever(harness: Harness) -> None:
    """Retry-After: 0 from a server that is down is not a loop."""
    harness.answered("one", *[busy(0.0) for _ in range(50)])
    assert len(harness.model.asked) == TRIES
    assert harness.states() == ["failed"]


def test_a_busy_model_that_said_something_is_not_asked_again(harness: Harness) -> None:
    """What was said would be said twice: it is kept, and a person decides."""
    for n, said in enumerate([TextDelta("Half"), ReasoningDelta("Hm")]):
        harness.answered("one", busy(0.0, said))
        message = harness.messages()[-1]
        assert message.state == "failed" and "asked too much" in message.reason
        assert message.parts == ((Text("Half"),), (Reasoning("Hm"),))[n]
        assert len(harness.model.asked) == n + 1
    assert harness.heard(TurnDelayed) == []


@pytest.mark.parametrize("seconds", [MAX_RETRY_DELAY_SECONDS + 0.1, 3600.0, 10.0**9])
def test_a_wait_that_is_too_long_is_a_persons(harness: Harness, seconds: float) -> None:
    """It fails at once, and says how long."""
    harness.answered("one", busy(seconds))
    assert harness.states() == ["failed"]
    assert len(harness.model.asked) == 1
    assert harness.heard(TurnDelayed) == []
    assert re.search(r"Wait \d+ (s|min|h), then Retry", harness.message(2).reason)


def test_the_longest_wait_itself_is_waited(harness: Harness) -> None:
    """Up to it and with it."""
    harness.will(busy(MAX_RETRY_DELAY_SECONDS))
    harness.ask("one")
    harness.told(TurnDelayed)
    retry_at = harness.message(2).retry_at
    assert retry_at is not None and abs(retry_at - now() - MAX_RETRY_DELAY_SECONDS * 1000) < 10_000
    harness.stop()


def test_stop_ends_the_waiting_at_once(waiting: Harness) -> None:
    """With those behind it; nothing is asked any more and nothing more is told."""
    waiting.stop()
    assert waiting.events[-2:] == [TurnEnded("room", 2, "stopped"), TurnEnded("room", 4, "stopped")]
    no_turns()
    for number in (2, 4):
        message = waiting.message(number)
        assert (message.state, message.reason, message.retry_at) == ("stopped", "Stopped.", None)
        assert message.usage is None
    assert len(waiting.model.asked) == 1
    assert len(waiting.heard(TurnDelayed)) == 1
    assert waiting.answered("three") == Asked(5, 6)


def test_clear_ends_the_waiting_at_once(waiting: Harness) -> None:
    """And leaves an empty room that works."""
    waiting.room.call(ChatRoom.clear)
    no_turns()
    assert waiting.messages() == ()
    assert waiting.room.call(ChatRoom.idle)
    assert len(waiting.model.asked) == 1
    assert waiting.answered("three") == Asked(5, 6)


def test_delete_ends_the_waiting_at_once(waiting: Harness) -> None:
    """And leaves no file."""
    waiting.facets.delete("room")
    told = list(waiting.events)
    no_turns()
    assert waiting.events == told
    assert list(waiting.directory.iterdir()) == []


def test_closing_ends_the_waiting_at_once(waiting: Harness) -> None:
    """A server that shuts down waits for no model; the next start finds the answers interrupted."""
    waiting.facets.close("the server was shut down")
    no_turns()
    assert len(waiting.model.asked) == 1
    assert waiting.states() == ["interrupted", "interrupted"]
    assert {waiting.message(number).reason for number in (2, 4)} == {INTERRUPTED}
    assert waiting.message(2).retry_at is None


def test_stop_and_ask_anew_while_it_waits_mixes_nothing_up(waiting: Harness) -> None:
    """The turn that was ended says nothing of the one that came after it."""
    waiting.stop()
    reply = waiting.will(held(TextDelta("New")))
    waiting.ask("three")
    reply.taken_in()
    no_delay = waiting.message(6)
    assert (no_delay.state, no_delay.reason, no_delay.retry_at, no_delay.text) == ("streaming", "", None, "New")
    reply.end()
    waiting.ended(6)
    assert waiting.texts()[-1] == "New"


def test_busy_after_a_tool_is_tried_again_without_doubling_anything(harness: Harness) -> None:
    """The tool is used once, what was said before it is there once, and each try reads the same."""
    used: list[str] = []

    @tool
    def count() -> str:
        """Count."""
        used.append("once")
        return str(len(used))

    harness.restarted(count)
    first = Said(ReasoningDelta("Hm"), TextDelta("I count."), ToolRequest("c1", "count", "{}"), TokenCount(10, 1))
    harness.answered("one", first, busy(0.0), busy(0.0), Said(TextDelta("One"), TokenCount(20, 2)))
    assert used == ["once"]
    call = ToolCall("c1", "count", "{}", "1", "done")
    message = harness.message(2)
    assert message.parts == (Reasoning("Hm"), Text("I count."), call, Text("One"))
    assert (message.state, tokens(message)) == ("complete", (30, 3, False))
    assert len(harness.model.asked) == 4
    assert harness.model.asked[1] == harness.model.asked[2] == harness.model.asked[3]
    harness.restarted()
    assert harness.message(2).parts == message.parts


def test_while_it_waits_in_a_later_step_what_was_said_is_shown(harness: Harness) -> None:
    """With the reason and the time beside it; a stop then keeps it."""
    harness.will(Said(TextDelta("I roll."), ToolRequest("c1", "roll_dice", "{}")), busy(FOR_EVER))
    harness.ask("one")
    harness.told(TurnDelayed)
    message = harness.message(2)
    assert (message.state, message.text, message.retry_at is not None) == ("streaming", "I roll.", True)
    harness.stop()
    message = harness.message(2)
    assert (message.state, message.reason, message.retry_at, len(message.parts)) == ("stopped", "Stopped.", None, 2)


def test_every_step_has_its_tries_and_the_turn_still_ends(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is busy before each of its steps is asked so often for each."""
    monkeypatch.setattr(turn, "RETRY_DELAYS_SECONDS", (0.0,))
    replies = [reply for n in range(20) for reply in (busy(0.0), Said(ToolRequest(f"c{n}", "get_current_time", "{}")))]
    harness.answered("one", *replies)
    assert len(harness.model.asked) == 2 * turn.MAX_TOOL_ROUNDS
    assert harness.states() == ["failed"]


# A conversation that is too long


def exchanges(harness: Harness, many: int) -> None:
    """So many questions with their answers, of 10 tokens each."""
    for n in range(many):
        harness.answered(f"question {n}".ljust(24), words(f"answer {n}".ljust(24)))


def test_after_an_overflow_the_model_reads_half(harness: Harness) -> None:
    """Once, of what it was to read; the line in the room moves, and the answer is as any other."""
    harness.restarted(limits=Limits(context_tokens=90))
    exchanges(harness, 4)
    assert harness.heard(ReadingMoved) == []
    harness.answered("question 4".ljust(24), overflow(), words("Yes"))
    assert [m.number for m in harness.model.asked[-2]] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [m.number for m in harness.model.asked[-1]] == [7, 8, 9]
    assert (harness.message(10).state, harness.message(10).text, harness.message(10).reason) == ("complete", "Yes", "")
    assert harness.heard(ReadingMoved) == [ReadingMoved("room", 7)]
    assert harness.room.call(ChatRoom.messages).reads_from == 7
    assert harness.events.index(ReadingMoved("room", 7)) < harness.events.index(TurnEnded("room", 10, "complete"))
    assert len(harness.messages()) == 10, "nothing is lost but from the model's sight"


def test_an_overflow_of_a_short_conversation_halves_what_was_read(harness: Harness) -> None:
    """A budget that was never used up is no measure: to ask the same again would be of no use."""
    harness.restarted(limits=Limits(context_tokens=32_000))
    exchanges(harness, 4)
    harness.answered("question 4".ljust(24), overflow(), words("Yes"))
    assert len(harness.model.asked[-1]) < len(harness.model.asked[-2])
    assert harness.model.asked[-1][-1].number == 9
    assert harness.states()[-1] == "complete"


def test_an_overflow_that_comes_twice_is_a_failed_answer(harness: Harness) -> None:
    """Two requests and no more; the next question is answered."""
    harness.restarted(limits=Limits(context_tokens=90))
    exchanges(harness, 4)
    asked = len(harness.model.asked)
    harness.answered("question 4".ljust(24), overflow(), overflow(), words("never"))
    message = harness.message(10)
    assert (message.state, message.reason, message.parts) == ("failed", "The conversation is too long.", ())
    assert (len(harness.model.asked) - asked, message.usage) == (2, None)
    harness.model.replies.clear()
    harness.answered("question 5")
    assert harness.states()[-1] == "complete"


def test_an_overflow_of_one_question_leaves_the_line_where_it_was(harness: Harness) -> None:
    """There is nothing to leave out: the model still reads all of the room, which is what 0 stands for."""
    harness.answered("x" * 400, overflow(), overflow())
    assert harness.states() == ["failed"]
    assert harness.room.call(ChatRoom.messages).reads_from == 0
    assert harness.heard(ReadingMoved) == []


@pytest.mark.parametrize("said", [TextDelta("Half"), ReasoningDelta("Hm")])
def test_an_overflow_after_the_first_word_is_a_failed_answer(
    harness: Harness, said: TextDelta | ReasoningDelta
) -> None:
    """What was said is kept, and not said again."""
    harness.answered("one", overflow(said))
    message = harness.message(2)
    assert (message.state, message.reason) == ("failed", "The conversation is too long.")
    assert message.parts == ((Text("Half") if isinstance(said, TextDelta) else Reasoning("Hm")),)
    assert len(harness.model.asked) == 1
    harness.restarted()
    assert harness.message(2).parts == message.parts


def test_an_overflow_after_a_tool_halves_what_was_before_and_keeps_the_step(harness: Harness) -> None:
    """The tool is not used again, and what it gave is read."""
    used: list[str] = []

    @tool
    def count() -> str:
        """Count."""
        used.append("once")
        return "x" * 100

    harness.restarted(count, limits=Limits(context_tokens=90))
    exchanges(harness, 4)
    harness.answered("question 4".ljust(24), Said(ToolRequest("c1", "count", "{}")), overflow(), words("Yes"))
    assert used == ["once"]
    assert [m.number for m in harness.model.asked[-1]] == [7, 8, 9, 10]
    assert harness.message(10).parts == (ToolCall("c1", "count", "{}", "x" * 100, "done"), Text("Yes"))


def test_it_is_halved_once_in_a_turn_and_anew_in_the_next(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy in between takes no try away from it, nor it from busy."""
    monkeypatch.setattr(turn, "RETRY_DELAYS_SECONDS", (0.0,))
    harness.restarted(limits=Limits(context_tokens=90))
    exchanges(harness, 4)
    for number in (10, 12):
        harness.answered("question".ljust(24), busy(0.0), overflow(), words("Yes"))
        assert harness.message(number).text == "Yes"
    two_steps = [overflow(), Said(ToolRequest("c1", "get_current_time", "{}")), overflow(), words("never")]
    harness.answered("question".ljust(24), *two_steps)
    assert harness.message(14).state == "failed"


# An answer that breaks off, and goes on


def test_continue_goes_on_in_the_same_row_with_the_text_joined_exactly(harness: Harness) -> None:
    """Not a blank more or less, in the same part; numbers and time are as they were."""
    harness.answered("one", cut("One two", " thr"))
    before = harness.message(2)
    assert (before.state, before.reason, before.resumable) == ("interrupted", CUT, True)
    after = resumed(harness, words("ee", " four\n"))
    assert after.parts == (Text("One two three four\n"),)
    assert (after.state, after.reason, after.number, after.created_at) == ("complete", "", 2, before.created_at)
    assert not after.resumable and after.ended_at is not None
    assert harness.answered("two") == Asked(3, 4)
    assert [m.text for m in harness.model.asked[-1]] == ["one", "One two three four\n", "two"]
    harness.restarted()
    assert harness.message(2) == after
    assert harness.on_disk("SELECT position, text FROM parts WHERE message = 2") == [(0, "One two three four\n")]


def test_what_the_model_reads_then_is_the_question_and_its_answer_so_far(harness: Harness) -> None:
    """The answer once, and last: the model goes on from there."""
    harness.answered("zero")
    harness.answered("one", cut("Half"))
    resumed(harness, words(" more"), number=4)
    read = harness.model.asked[-1]
    assert [(m.number, m.role, m.text) for m in read][2:] == [(3, "user", "one"), (4, "assistant", "Half")]
    assert len(read) == 4


def test_the_events_of_an_answer_that_goes_on_add_up_to_it(harness: Harness) -> None:
    """Who was not there before has all of it too."""
    first = Said(ReasoningDelta("Hm"), TextDelta("I roll."), ToolRequest("c1", "roll_dice", "{}"))
    harness.answered("one", first, cut("Ha", "lf"))
    harness.events.clear()
    message = resumed(
        harness, Said(TextDelta(" a"), TextDelta("nd half"), ReasoningDelta("So"), TextDelta("!")), times=1
    )
    assert harness.events[0] == MessageChanged("room", 2)
    parts: dict[int, str] = {}
    for event in harness.events:
        if isinstance(event, PartAdded):
            assert event.position not in parts
            parts[event.position] = event.text
        elif isinstance(event, PartGrew):
            parts[event.position] += event.text
    assert parts == {3: "Half and half", 4: "So", 5: "!"}
    assert [part.kind for part in message.parts] == ["reasoning", "text", "tool_call", "text", "reasoning", "text"]
    assert message.parts[3:] == (Text("Half and half"), Reasoning("So"), Text("!"))


def test_an_answer_that_goes_on_is_shown_whole_from_the_first_moment(harness: Harness) -> None:
    """What was said before never disappears, not while the model is only asked, not while it has no time."""
    harness.answered("one", cut("Half"))
    harness.will(busy(0.0))
    reply = harness.will(held())
    seen: list[tuple[str, str]] = []

    def look(event: RoomEvent) -> None:
        if isinstance(event, MessageChanged | TurnDelayed | PartAdded):
            seen.append((harness.message(2).text, harness.message(2).state))

    harness.listeners.append(look)
    resume(harness)
    reply.taken_in()
    assert {text for text, _ in seen} == {"Half"} and len(seen) == 4
    assert {state for _, state in seen} <= {"waiting", "streaming"}
    assert harness.message(2).text == "Half"
    reply.say(TextDelta(" more"))
    assert (harness.message(2).text, harness.message(2).state, harness.message(2).reason) == (
        "Half more",
        "streaming",
        "",
    )
    reply.end()
    harness.ended(2, times=2)


def test_an_answer_can_go_on_again_and_again(harness: Harness) -> None:
    """Each time from where it broke off, however it did, and tokens and seconds add up."""
    harness.answered("one", Said(TextDelta("1"), TokenCount(10, 1), ModelCut(CUT)))
    last = harness.message(2).usage
    endings = [ModelCut(CUT), ModelError("It broke."), ModelBusy("Busy.", None), ModelOverflow("Too long.")]
    for n, ending in enumerate(endings, 2):
        message = resumed(harness, Said(TextDelta(str(n)), TokenCount(10, 1), ending), times=n)
        assert (message.text, message.resumable) == ("123456"[:n], True)
        assert message.usage is not None and last is not None
        assert tokens(message) == (10 * n, n, False)
        assert message.usage.seconds > last.seconds and message.usage.speaking > last.speaking
        last = message.usage
    message = resumed(harness, words("6"), times=6)
    assert (message.text, message.state) == ("123456", "complete")
    assert tokens(message) is not None and message.usage is not None and message.usage.estimated


@pytest.mark.parametrize("partial", ["Half", "Half\n", " ", "\N{GRINNING FACE}"])
def test_a_stopped_answer_can_go_on(harness: Harness, partial: str) -> None:
    """A person may have changed their mind; each kind of blank is kept."""
    reply = harness.will(held(TextDelta(partial)))
    harness.ask("one")
    reply.taken_in()
    harness.stop()
    message = resumed(harness, words("\n more "))
    assert (message.state, message.text) == ("complete", partial + "\n more ")


def test_an_answer_that_the_server_went_down_in_can_go_on(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what was written of it."""
    monkeypatch.setattr("overseer.rooms.chat_room.SAVE_INTERVAL_SECONDS", 0)
    reply = harness.will(held(TextDelta("One")))
    harness.ask("one")
    reply.say(TextDelta(" two"))
    harness.restarted()
    assert (harness.message(2).state, harness.message(2).text) == ("interrupted", "One two")
    assert resumed(harness, words(" three"), times=1).text == "One two three"


def test_where_nothing_broke_off_there_is_nothing_to_go_on_with(harness: Harness) -> None:
    """An empty or cleared room, a complete answer, one without words, one that ends with a tool or a thought."""
    with pytest.raises(Outdated, match="nothing to go on with"):
        resume(harness)
    replies = [
        [words("Yes")],
        [Said(ModelError("It broke."))],
        [Said(TextDelta("I roll."), ToolRequest("c1", "roll_dice", "{}")), Said(ModelCut(CUT))],
        [Said(TextDelta("Half"), ReasoningDelta("Hm"), ModelCut(CUT))],
        [Said(ReasoningDelta("Hm"))],
    ]
    for one in replies:
        number = harness.answered("one", *one).answer
        before, told = harness.messages(), list(harness.events)
        assert not harness.message(number).resumable
        with pytest.raises(Outdated, match="nothing to go on with"):
            resume(harness)
        assert (harness.messages(), harness.events) == (before, told)
    harness.room.call(ChatRoom.clear)
    with pytest.raises(Outdated):
        resume(harness)
    assert harness.room.call(ChatRoom.idle)


def test_only_the_last_answer_can_go_on(harness: Harness) -> None:
    """One that broke off before it is history, and stays as it is."""
    harness.answered("one", cut("Half"))
    harness.answered("two")
    with pytest.raises(Outdated):
        resume(harness)
    assert harness.texts() == ["one", "Half", "two", "All right."]


def test_nothing_goes_on_while_an_answer_is_being_made(harness: Harness) -> None:
    """Neither beside another answer nor twice at once: the second click is told so."""
    harness.answered("one", cut("Half"))
    reply = harness.will(held(TextDelta(" more")))
    resume(harness)
    reply.taken_in()
    for change in (ChatRoom.resume, ChatRoom.retry):
        with pytest.raises(AnswerInProgress):
            harness.room.call(change)
    with pytest.raises(AnswerInProgress):
        harness.room.call(ChatRoom.edit, 1, "otherwise")
    reply.end()
    harness.ended(2, times=2)
    assert harness.texts() == ["one", "Half more"]


def test_of_many_who_click_at_once_one_goes_on(harness: Harness) -> None:
    """The others are told that it is being made, or is complete; the text is there once."""
    harness.answered("one", cut("Half"))
    harness.will(words(" more"))
    together = threading.Barrier(6)
    done: list[int] = []

    def click() -> None:
        together.wait(DEADLINE)
        with suppress(AnswerInProgress, Outdated):
            done.append(resume(harness))

    threads = [threading.Thread(target=click) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    harness.ended(2, times=2)
    assert (done, harness.texts()) == ([2], ["one", "Half more"])


def test_a_kill_while_it_goes_on_keeps_what_was_there_before(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its first new word, after it, and with all that was written since; it can go on again."""
    monkeypatch.setattr("overseer.rooms.chat_room.SAVE_INTERVAL_SECONDS", 3600)
    harness.answered("one", Said(TextDelta("Half"), TokenCount(10, 1), ModelCut(CUT)))
    before = harness.message(2)
    for said in ([], [TextDelta(" more")]):
        reply = harness.will(held())
        resume(harness)
        reply.taken_in()
        for delta in said:
            reply.say(delta)
        harness.restarted()
        message = harness.message(2)
        assert (message.state, message.reason, message.text) == ("interrupted", INTERRUPTED, "Half")
        assert (message.usage, message.model, message.resumable) == (before.usage, "scripted", True)
    monkeypatch.setattr("overseer.rooms.chat_room.SAVE_INTERVAL_SECONDS", 0)
    reply = harness.will(held(TextDelta(" more")))
    resume(harness)
    reply.say(TextDelta(" words"))
    harness.restarted()
    assert harness.message(2).text == "Half more words"
    assert resumed(harness, words("."), times=1).text == "Half more words."


def test_stop_while_it_goes_on_keeps_both_halves(harness: Harness) -> None:
    """Before its first new word, and after it; nothing that comes later is added."""
    harness.answered("one", cut("Half"))
    reply = harness.will(held())
    resume(harness)
    reply.taken_in()
    harness.stop()
    assert (harness.message(2).state, harness.message(2).parts) == ("stopped", (Text("Half"),))
    stubborn = harness.will(Said(TextDelta(" more"), held=True, stubborn=True))
    resume(harness)
    stubborn.taken_in()
    harness.stop()
    stubborn.say(TextDelta(" late"))
    stubborn.end()
    no_turns()
    assert (harness.message(2).state, harness.message(2).parts) == ("stopped", (Text("Half more"),))
    harness.restarted()
    assert harness.message(2).parts == (Text("Half more"),)


def test_stop_while_a_model_is_looked_for_keeps_the_name_of_the_one_that_spoke(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words that are there are still its own."""
    harness.answered("one", cut("Half"))
    looking, gate = threading.Event(), threading.Event()

    def pick(name: str) -> Script:
        looking.set()
        assert gate.wait(DEADLINE)
        return harness.model

    monkeypatch.setattr(harness, "_pick", pick)
    harness.restarted()
    resume(harness)
    assert looking.wait(DEADLINE)
    shown = harness.message(2).model
    harness.stop()
    gate.set()
    no_turns()
    assert (shown, harness.message(2).model, harness.message(2).text) == ("scripted", "scripted", "Half")


def test_clear_and_delete_while_it_goes_on_leave_nothing(harness: Harness) -> None:
    """Not a row, not a part, not a late word."""
    harness.answered("one", cut("Half"))
    reply = harness.will(Said(TextDelta(" more"), held=True, stubborn=True))
    resume(harness)
    reply.taken_in()
    harness.room.call(ChatRoom.clear)
    reply.say(TextDelta(" late"))
    reply.end()
    no_turns()
    assert harness.on_disk("SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM parts)") == [(0,)]
    harness.answered("two", cut("Half"))
    reply = harness.will(held(TextDelta(" more")))
    resume(harness)
    reply.taken_in()
    harness.facets.delete("room")
    no_turns()
    assert list(harness.directory.iterdir()) == []


def test_retry_after_it_went_on_begins_afresh(harness: Harness) -> None:
    """Neither half is left, nor what they took."""
    harness.answered("one", cut("Half"))
    resumed(harness, cut(" more"))
    reply = harness.will(held())
    harness.room.call(ChatRoom.retry)
    reply.taken_in()
    message = harness.message(2)
    assert (message.state, message.parts, message.usage, message.model) == ("waiting", (), None, "")
    assert [m.text for m in harness.model.asked[-1]] == ["one"]
    reply.say(TextDelta("New"), TokenCount(7, 1))
    reply.end()
    harness.ended(2, times=3)
    assert (harness.message(2).parts, tokens(harness.message(2))) == ((Text("New"),), (7, 1, False))


def test_after_an_edit_or_a_clear_there_is_nothing_old_to_go_on_with(harness: Harness) -> None:
    """Only what broke off since."""
    harness.answered("one", cut("Half"))
    harness.will(words("Whole"))
    harness.room.call(ChatRoom.edit, 1, "otherwise")
    harness.ended(2, times=2)
    with pytest.raises(Outdated):
        resume(harness)
    harness.will(cut("New half"))
    harness.room.call(ChatRoom.edit, 1, "again")
    harness.ended(2, times=3)
    assert resumed(harness, words(" and half"), times=4).text == "New half and half"
    harness.room.call(ChatRoom.clear)
    with pytest.raises(Outdated):
        resume(harness)


def test_an_answer_that_goes_on_may_use_tools(harness: Harness) -> None:
    """Its parts follow those that are there, and each step reads all of them."""
    harness.answered("one", cut("I"))
    message = resumed(harness, Said(TextDelta(" roll."), ToolRequest("c1", "get_current_time", "{}")), words("Done"))
    call = message.parts[1]
    assert isinstance(call, ToolCall) and call.state == "done"
    assert message.parts == (Text("I roll."), call, Text("Done"))
    assert harness.model.asked[-1][-1].parts == (Text("I roll."), call)
    harness.restarted()
    assert harness.message(2).parts == message.parts


def test_an_answer_that_goes_on_reads_less_of_the_room(harness: Harness) -> None:
    """What it said already takes its share, and an overflow halves the rest."""
    harness.restarted(limits=Limits(context_tokens=90))
    exchanges(harness, 3)
    harness.answered("question 3".ljust(24), cut("x" * 100))  # 29 tokens of 90, which leave six messages
    resumed(harness, cut("y"), number=8)
    assert [m.number for m in harness.model.asked[-1]] == [3, 4, 5, 6, 7, 8]
    resumed(harness, overflow(), words("z"), number=8, times=3)
    assert [m.number for m in harness.model.asked[-2]] == [3, 4, 5, 6, 7, 8]
    read = [m.number for m in harness.model.asked[-1]]
    assert read[0] > 3 and read[-2:] == [7, 8]
    assert harness.message(8).text == "x" * 100 + "yz"


def test_a_line_end_at_the_very_end_is_not_lost(harness: Harness) -> None:
    """It could have been the first half of a longer one, which never came: what goes on begins in a new line."""
    harness.answered("one", cut("- One\r"))
    assert resumed(harness, words("- Two")).text == "- One\n- Two"
    harness.answered("two", words("Yes\r"))
    assert harness.message(4).text == "Yes\n"


def test_a_file_that_is_locked_for_a_moment_costs_no_word(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the click and the turn another program takes the file: what was said before is still there at the end."""
    monkeypatch.setattr("overseer.storage.database.BUSY_SECONDS", 0)
    harness.answered("one", cut("Half"))
    with closing(sqlite3.connect(harness.file, isolation_level=None, check_same_thread=False)) as other:

        def take(event: RoomEvent) -> None:
            if isinstance(event, MessageChanged):
                other.execute("BEGIN IMMEDIATE")

        harness.listeners.append(take)
        with suppress(StorageFull):
            resume(harness)
        harness.listeners.clear()
        other.execute("ROLLBACK")
    harness.answered("two")
    assert harness.texts()[1].startswith("Half")
    assert all(message.finished for message in harness.messages())


def test_a_question_that_was_stored_is_answered_although_the_file_is_locked_for_a_moment(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent again with its key, as a browser does, it does not wait for ever."""
    monkeypatch.setattr("overseer.storage.database.BUSY_SECONDS", 0)
    with closing(sqlite3.connect(harness.file, isolation_level=None, check_same_thread=False)) as other:
        locked: list[RoomEvent] = []

        def take(event: RoomEvent) -> None:
            if not locked:
                locked.append(event)
                other.execute("BEGIN IMMEDIATE")

        reply = harness.will(held(TextDelta("Yes")))  # it ends only after the lock has, or it could not be stored
        harness.listeners.append(take)
        with suppress(StorageFull):
            harness.ask("one", key="k1")
        other.execute("ROLLBACK")
    reply.end()
    assert harness.ask("one", key="k1") == Asked(1, 2, repeated=True)
    no_turns()
    assert harness.states() == ["complete"]


# What it took


@pytest.mark.parametrize(
    ("replies", "took"),
    [
        ([words("x" * 40)], (4 + 1, 10, True)),
        ([Said(TextDelta("x" * 40), TokenCount(7, 9))], (7, 9, False)),
        ([Said(TextDelta("x"), TokenCount(7, 9), ModelCut(CUT))], (7, 9, False)),
        ([Said(TextDelta("x" * 8), ModelError("It broke."))], (4 + 1, 2, True)),
        ([Said(ReasoningDelta("x" * 8))], (4 + 1, 2, True)),
        ([Said(TokenCount(7, 0))], (7, 0, False)),
        ([Said(ModelError("It broke."))], None),
        ([Said()], None),
    ],
    ids=["estimated", "counted", "cut", "broken", "thought only", "counted only", "broken at once", "empty"],
)
def test_an_answer_knows_what_it_took(
    harness: Harness, replies: list[Said], took: tuple[int, int, bool] | None
) -> None:
    """The server's count, or an estimate; nothing where nothing came. It is in the file."""
    harness.answered("one", *replies)
    message = harness.message(2)
    assert tokens(message) == took
    if message.usage is not None:
        assert 0 <= message.usage.speaking <= message.usage.seconds < DEADLINE
    harness.restarted()
    assert harness.message(2) == message
    assert harness.message(1).usage is None


def test_the_steps_of_an_answer_are_added_up(harness: Harness) -> None:
    """Each reads all before it; one without a count makes the sum an estimate."""
    step = Said(ToolRequest("c1", "get_current_time", "{}"), TokenCount(10, 1))
    harness.answered("one", step, Said(TextDelta("Yes"), TokenCount(20, 2)))
    assert tokens(harness.message(2)) == (30, 3, False)
    step = Said(ToolRequest("c2", "get_current_time", "{}"), TokenCount(10, 1))
    harness.answered("two", step, words("x" * 16))
    took = tokens(harness.message(4))
    assert took is not None and took[0] > 10 and took[1:] == (5, True)


def test_a_stopped_answer_took_what_it_said(harness: Harness) -> None:
    """Estimated if the server never came to count; nothing for those that never began."""
    reply = harness.will(held(TextDelta("x" * 40)))
    harness.ask("one")
    harness.ask("two")
    reply.taken_in()
    harness.stop()
    no_turns()
    assert (tokens(harness.message(2)), harness.message(4).usage) == ((5, 10, True), None)


def test_a_stop_before_the_first_word_took_nothing(harness: Harness) -> None:
    """There is nothing to show."""
    reply = harness.will(held())
    harness.ask("one")
    reply.taken_in()
    harness.stop()
    assert harness.message(2).usage is None


def test_retry_takes_what_was_taken_before_away(harness: Harness) -> None:
    """At once, and for good if the new answer took nothing."""
    harness.answered("one", Said(TextDelta("x"), TokenCount(7, 9)))
    reply = harness.will(held())
    harness.room.call(ChatRoom.retry)
    reply.taken_in()
    assert harness.message(2).usage is None
    reply.end(ModelError("It broke."))
    harness.ended(2, times=2)
    assert harness.message(2).usage is None
    harness.restarted()
    assert harness.message(2).usage is None


def test_an_answer_that_went_on_for_nothing_took_what_it_took_before(harness: Harness) -> None:
    """The model broke before its first word: the words that are there cost what they did."""
    harness.answered("one", Said(TextDelta("x"), TokenCount(7, 9), ModelCut(CUT)))
    before = harness.message(2).usage
    assert isinstance(before, Usage)
    message = resumed(harness, Said(ModelError("It broke.")))
    assert (message.usage, message.text, message.state) == (before, "x", "failed")


def test_waiting_for_a_busy_model_is_no_time_of_the_answer(harness: Harness) -> None:
    """Else a rate or a duration would tell of the queue."""
    began = time.monotonic()
    harness.answered("one", busy(0.2), words("Yes"))
    took = time.monotonic() - began
    usage = harness.message(2).usage
    assert usage is not None and usage.seconds <= took - 0.2


# Endings of their own kind


@pytest.mark.parametrize("said", [[ReasoningDelta("Hm")], [ReasoningDelta("H"), ReasoningDelta("m")]])
def test_an_answer_of_thoughts_only_has_failed(harness: Harness, said: list[ReasoningDelta]) -> None:
    """With a sentence; the thoughts are kept, and Retry asks again."""
    harness.answered("one", Said(*said))
    message = harness.message(2)
    assert (message.state, message.parts) == ("failed", (Reasoning("Hm"),))
    assert "thought, but said nothing" in message.reason and "Retry" in message.reason
    harness.will(words("Yes"))
    harness.room.call(ChatRoom.retry)
    assert harness.ended(2, times=2) == "complete"


def test_an_answer_at_its_limit_is_ended_with_what_fits(harness: Harness) -> None:
    """No more is kept than is allowed, and the next question is answered."""
    harness.restarted(limits=Limits(answer_chars=10))
    harness.answered("one", words("12345", "67890", "1"))
    message = harness.message(2)
    assert (message.state, message.text) == ("failed", "1234567890")
    assert "10 characters" in message.reason
    harness.answered("two", words("1234567890"))
    assert harness.states() == ["failed", "complete"]


def test_an_answer_at_its_limit_can_be_gone_on_with(harness: Harness) -> None:
    """The limit is for servers that never end; a person who wants more gets as much again."""
    harness.restarted(limits=Limits(answer_chars=10))
    harness.answered("one", words("1234567890", "1"))
    assert "10 characters" in harness.message(2).reason and harness.message(2).resumable
    message = resumed(harness, words("abcdefghij", "k"))
    assert (message.state, message.text) == ("failed", "1234567890abcdefghij")


@pytest.mark.parametrize("end", [ChatRoom.stop, ChatRoom.clear])
@pytest.mark.parametrize("error", [ModelBusy("Busy.", 0.0), ModelOverflow("Too long."), ModelCut(CUT)])
def test_an_end_from_outside_wins_over_every_error(
    harness: Harness, end: Callable[[ChatRoom], None], error: Exception
) -> None:
    """A model that breaks in the moment it is stopped is not asked again, and says nothing more."""
    reply = harness.will(Said(held=True, stubborn=True))
    harness.ask("one")
    reply.taken_in()
    harness.room.call(end)
    told = list(harness.events)
    reply.end(error)
    no_turns()
    assert harness.events == told
    assert len(harness.model.asked) == 1
    assert harness.states() in (["stopped"], [])
    assert harness.room.call(ChatRoom.idle)
