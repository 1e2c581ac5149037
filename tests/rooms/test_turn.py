"""Turns: busy models, contexts that are too long, continued answers, usage and limits."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

import pytest

from overseer.domain.context import ModelContext, estimate_tokens
from overseer.domain.errors import AnswerInProgress, Outdated, StorageUnavailable
from overseer.domain.events import ContextStartMoved, MessageChanged, PartAdded, RoomEvent, TurnDelayed, TurnEnded
from overseer.domain.messages import Message, Reasoning, Text, ToolCall
from overseer.domain.records import Asked
from overseer.llm import (
    Delta,
    ModelBusy,
    ModelCut,
    ModelError,
    ModelOverflow,
    ReasoningDelta,
    TextDelta,
    TokenCount,
    ToolRequest,
)
from overseer.rooms import chat_room, turn
from overseer.rooms.chat_room import INTERRUPTED, STOPPED, ChatRoom, Limits
from overseer.rooms.retries import MAX_RETRY_DELAY_SECONDS, RETRY_DELAYS_SECONDS
from overseer.tools.toolbox import TOOLS, tool
from tests.support.room_harness import (
    RoomHarness,
    ScriptedModel,
    ScriptedReply,
    held_reply,
    text_reply,
)
from tests.support.waiting import DEADLINE, join_turn_threads, until

LONG_SECONDS = 50.0  # a delay that no test waits for
CUT = "It broke off."
TOOL_TOKENS = sum(4 + estimate_tokens(one.name + one.description + json.dumps(one.parameters)) for one in TOOLS)
QUESTION_TOKENS = 4 + 1 + TOOL_TOKENS  # of a request with "one"


def busy(seconds: float | None = 0.0, *deltas: Delta) -> ScriptedReply:
    return ScriptedReply(*deltas, ModelBusy("The server is busy.", seconds, said="Later!"))


def overflow(*deltas: Delta) -> ScriptedReply:
    return ScriptedReply(*deltas, ModelOverflow("The conversation is too long.", said="512!"))


def cut(*texts: str) -> ScriptedReply:
    return ScriptedReply(*map(TextDelta, texts), ModelCut(CUT))


def tokens(message: Message) -> tuple[int, int, bool] | None:
    usage = message.usage
    return (usage.tokens_in, usage.tokens_out, usage.estimated) if usage else None


def resume(harness: RoomHarness, *replies: ScriptedReply, number: int = 2, times: int = 2) -> Message:
    """Continue the last answer. Return it when it has ended, by default for the second time."""
    harness.model.replies.extend(replies)
    assert harness.resume() == number
    return harness.finished(number, times)


def no_retry_delays(monkeypatch: pytest.MonkeyPatch, retries: int = 3) -> None:
    monkeypatch.setattr("overseer.rooms.retries.RETRY_DELAYS_SECONDS", (0.0,) * retries)


@pytest.fixture
def delayed(harness: RoomHarness) -> RoomHarness:
    """A room whose first turn waits for a busy model, with a second question in the queue."""
    harness.script(busy(LONG_SECONDS))
    harness.ask("one")
    harness.ask("two")
    harness.wait_for(TurnDelayed)
    return harness


# A busy model


@pytest.mark.parametrize("named", [True, False])
def test_busy_model_is_asked_again_after_the_delay(
    harness: RoomHarness, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the seconds that the server names, or else after the default ones."""
    monkeypatch.setattr("overseer.rooms.retries.RETRY_DELAYS_SECONDS", (LONG_SECONDS,) * 3 if named else (0.05, 0.01))
    times: list[float] = []
    harness.model.on_request = lambda: times.append(time.monotonic())
    answer = harness.answer("one", busy(0.05 if named else None), busy(0.0 if named else None), text_reply("Yes"))
    assert len(times) == 3 and times[1] - times[0] >= 0.05
    assert (answer.state, answer.parts, answer.reason, answer.retry_at) == ("complete", (Text("Yes"),), "", None)
    assert {tuple(message.text for message in request) for request in harness.model.requests} == {("one",)}
    assert answer.usage is not None and answer.usage.seconds <= time.monotonic() - times[0] - 0.05, "no waiting time"


def test_delayed_answer_shows_the_reason_and_the_time_of_the_retry(delayed: RoomHarness) -> None:
    """They are only in memory. Meanwhile the room takes questions and is not evicted."""
    now = time.time_ns() // 1_000_000
    message = delayed.message(2)
    assert (message.state, message.parts) == ("waiting", ())
    assert message.reason == "The server is busy. Retrying, up to 3 times."
    assert message.retry_at is not None and now < message.retry_at <= now + LONG_SECONDS * 1000
    assert delayed.messages()[1] == message == delayed.call(ChatRoom.path, 2, after=1)[0]
    assert delayed.query("SELECT state, reason FROM messages WHERE number = 2") == [("waiting", "")]
    assert (delayed.message(4).state, delayed.message(4).reason) == ("waiting", "")
    assert delayed.is_answering() and not delayed.room.evict()
    assert delayed.ask("three") == Asked(5, 6)
    with pytest.raises(AnswerInProgress):
        delayed.retry()


def test_model_that_stays_busy_is_asked_four_times(harness: RoomHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each delay is announced by an event, with the number of retries that are left, and so is its end."""
    no_retry_delays(monkeypatch)
    shown: list[tuple[str, bool]] = []

    def read(event: RoomEvent) -> None:
        if isinstance(event, TurnDelayed):
            message = harness.message(2)
            shown.append((message.reason.removeprefix("The server is busy. "), message.retry_at is not None))

    harness.listeners.append(read)
    answer = harness.answer("one", *[busy(seconds) for seconds in (None, 0.0, None, 0.0)])
    retries = ["Retrying, up to 3 times.", "Retrying, up to 2 times.", "Retrying, one last time."]
    assert shown == [item for reason in retries for item in ((reason, True), ("", False))]
    assert len(harness.model.requests) == 4 == len(RETRY_DELAYS_SECONDS) + 1
    assert (answer.state, answer.parts, answer.usage, answer.retry_at) == ("failed", (), None, None)
    assert "Retry" in answer.reason and "Later!" in answer.reason
    harness.listeners.clear()
    assert harness.answer("two").state == "complete"


def test_busy_model_that_sent_text_is_not_asked_again(harness: RoomHarness) -> None:
    for delta, part in ((TextDelta("Half"), Text("Half")), (ReasoningDelta("Hm"), Reasoning("Hm"))):
        answer = harness.answer("one", busy(0.0, delta))
        assert (answer.state, answer.parts) == ("failed", (part,)) and "is busy" in answer.reason
    assert len(harness.model.requests) == 2
    assert harness.events_of(TurnDelayed) == []


def test_retry_delay_over_the_maximum_fails_the_answer(harness: RoomHarness) -> None:
    answer = harness.answer("one", busy(MAX_RETRY_DELAY_SECONDS + 0.1))
    assert (answer.state, len(harness.model.requests)) == ("failed", 1)
    assert re.search(r"Wait \d+ s, then Retry", answer.reason)
    harness.script(busy(MAX_RETRY_DELAY_SECONDS))
    harness.ask("two")
    harness.wait_for(TurnDelayed)


@pytest.mark.parametrize("how", ["stop", "clear", "delete", "close"])
def test_delay_ends_at_once_with_its_turn(delayed: RoomHarness, how: str) -> None:
    events = list(delayed.events)
    if how == "stop":
        delayed.stop_all()
        events += [TurnEnded("room", 2, "stopped"), TurnEnded("room", 4, "stopped")]
    elif how == "clear":
        delayed.clear()
    elif how == "delete":
        delayed.facets.delete("room")
    else:
        delayed.facets.close("the server was shut down")
    join_turn_threads()
    assert len(delayed.model.requests) == 1
    if how == "delete":
        assert list(delayed.directory.iterdir()) == []
        return
    assert delayed.events[: len(events)] == events and len(delayed.events_of(TurnDelayed)) == 1
    state = {"stop": ("stopped", STOPPED), "close": ("interrupted", INTERRUPTED)}.get(how)
    found = [(message.state, message.reason, message.retry_at, message.usage) for message in delayed.messages()[1::2]]
    assert found == ([(*state, None, None)] * 2 if state else [])
    reply = delayed.ask_held("three", TextDelta("New"))
    streaming = delayed.message(6)
    assert (streaming.state, streaming.reason, streaming.retry_at) == ("streaming", "", None)
    reply.end()
    assert delayed.finished(6).text == "New"


def test_busy_model_after_a_tool_call_repeats_only_the_request(harness: RoomHarness) -> None:
    calls: list[str] = []

    @tool
    def count() -> str:
        """Count."""
        calls.append("call")
        return str(len(calls))

    harness.restart(count)
    first = ScriptedReply(TextDelta("I count."), ToolRequest("c1", "count", "{}"), TokenCount(10, 1))
    answer = harness.answer("one", first, busy(), busy(), ScriptedReply(TextDelta("One"), TokenCount(20, 2)))
    call = ToolCall("c1", "count", "{}", "1", "done")
    assert answer.parts == (Text("I count."), call, Text("One"))
    assert (calls, answer.state, tokens(answer)) == (["call"], "complete", (30, 3, False))
    assert harness.model.requests[1] == harness.model.requests[2] == harness.model.requests[3]
    harness.script(ScriptedReply(TextDelta("I count."), ToolRequest("c1", "count", "{}")), busy(LONG_SECONDS))
    harness.ask("two")
    harness.wait_for(TurnDelayed, times=5)
    message = harness.message(4)
    assert (message.state, message.text, message.retry_at is not None) == ("streaming", "I count.", True)
    harness.stop()
    message = harness.message(4)
    assert (message.state, message.reason, message.retry_at, len(message.parts)) == ("stopped", STOPPED, None, 2)


def test_every_step_has_its_own_retries(harness: RoomHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    no_retry_delays(monkeypatch, retries=1)
    steps = [(busy(), ScriptedReply(ToolRequest(f"c{n}", "get_current_time", "{}"))) for n in range(20)]
    answer = harness.answer("one", *[reply for step in steps for reply in step])
    assert (answer.state, len(harness.model.requests)) == ("failed", 2 * turn.MAX_STEPS)


def loading(seconds: float | None = None) -> ScriptedReply:
    return ScriptedReply(ModelBusy("The model is still loading (503).", seconds, loading=True))


def test_model_that_loads_is_asked_until_the_time_is_over(
    harness: RoomHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often; the delay shows for how long it has been loading."""
    monkeypatch.setattr("overseer.rooms.retries.LOADING_DELAY_SECONDS", 0.001)
    harness.restart(limits=Limits(loading_seconds=DEADLINE))
    answer = harness.answer("one", *[loading() for _ in range(20)], text_reply("Yes"))
    assert (answer.state, answer.text, len(harness.model.requests)) == ("complete", "Yes", 21)
    harness.script(loading(LONG_SECONDS))
    harness.ask("two")
    until(lambda: harness.message(4).reason == "The model is loading… 0 s")
    assert (harness.message(4).state, harness.message(4).retry_at) == ("waiting", None)
    harness.stop()
    harness.restart(limits=Limits(loading_seconds=0.0))
    answer = harness.answer("three", loading())
    assert (answer.state, answer.reason) == (
        "failed",
        "The model is still loading (503). Wait a moment, then Retry.",
    )


def test_answer_shows_how_many_answers_the_model_gives_first(
    harness: RoomHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "QUEUE_POLL_SECONDS", 0.01)
    reply = harness.script(held_reply())
    reply.ahead = 2
    harness.ask("one")
    until(lambda: harness.message(2).reason == "Waiting for the model: 2 answers ahead")
    reply.ahead = 1
    until(lambda: harness.message(2).reason == "Waiting for the model: 1 answer ahead")
    reply.send(TextDelta("At last"))
    assert (harness.message(2).state, harness.message(2).reason) == ("streaming", "")
    reply.end()
    assert harness.finished(2).state == "complete"


# A context that is too long


def test_history_is_shortened_before_a_request_if_the_context_is_known(long_room: RoomHarness) -> None:
    long_room.model.context = ModelContext(TOOL_TOKENS + 60)
    answer = long_room.answer("question 4".ljust(24), text_reply("Yes"))
    assert long_room.model.request_numbers(0) == [9] and answer.state == "complete"
    assert long_room.call(ChatRoom.context_start) == 9
    assert answer.usage is not None
    assert (answer.usage.context_used, answer.usage.context_limit) == (TOOL_TOKENS + 10 + 1, TOOL_TOKENS + 60)


def test_counted_tokens_of_a_request_are_noted_beside_the_estimate(harness: RoomHarness) -> None:
    harness.answer("one", ScriptedReply(TextDelta("Yes"), TokenCount(70, 9)))
    assert harness.model.prompt_counts == [(QUESTION_TOKENS, 70)]


def test_answer_that_fills_the_context_cannot_be_continued(harness: RoomHarness) -> None:
    harness.model.context = ModelContext(QUESTION_TOKENS + 100)
    answer = harness.answer("one", cut("word" * 20))
    assert (answer.reason, answer.resumable) == (CUT, True)
    answer = resume(harness, cut("word" * 70))
    reason = "The answer fills the model’s context. Start a new room to go on."
    assert (answer.state, answer.reason, answer.resumable) == ("interrupted", reason, False)
    with pytest.raises(Outdated):
        harness.resume()
    harness.restart()
    assert harness.message(2) == answer
    answer = harness.answer("two", cut("word"))
    answer = resume(harness, overflow(), overflow(), number=4)
    assert (answer.state, answer.reason, answer.resumable) == ("failed", reason, False)
    assert harness.finished(harness.retry()).continuable


@pytest.fixture
def long_room(harness: RoomHarness) -> RoomHarness:
    """A room with four exchanges of 20 tokens, and a budget of 90 tokens."""
    harness.restart(limits=Limits(context_tokens=90))
    for n in range(4):
        harness.answer(f"question {n}".ljust(24), text_reply(f"answer {n}".ljust(24)))
    harness.model.requests.clear()
    return harness


def test_overflow_halves_the_history_until_the_question_is_left(long_room: RoomHarness) -> None:
    answer = long_room.answer("question 4".ljust(24), overflow(), text_reply("Yes"))
    assert [long_room.model.request_numbers(n) for n in (0, 1)] == [[1, 2, 3, 4, 5, 6, 7, 8, 9], [7, 8, 9]]
    assert (answer.state, answer.text, answer.reason) == ("complete", "Yes", "")
    assert long_room.events_of(ContextStartMoved) == [ContextStartMoved("room", 7)]
    assert long_room.call(ChatRoom.messages).context_start == 7
    assert len(long_room.messages()) == 10
    replies = [busy(), *[overflow() for _ in range(3)], text_reply("never")]
    answer = long_room.answer("question 5".ljust(24), *replies)
    assert [long_room.model.request_numbers(n)[0] for n in range(-4, 0)] == [3, 3, 9, 11]
    reason = "Your message is too long for this model. Shorten it, or choose another model. The server said: “512!”"
    assert (answer.state, answer.reason, answer.parts) == ("failed", reason, ())
    assert answer.usage is None


def test_overflow_far_below_the_budget_halves_the_history(long_room: RoomHarness) -> None:
    long_room.restart(limits=Limits(context_tokens=32_000))
    answer = long_room.answer("question 4".ljust(24), overflow(), text_reply("Yes"))
    assert len(long_room.model.requests[1]) < len(long_room.model.requests[0])
    assert (long_room.model.request_numbers()[-1], answer.state) == (9, "complete")


def test_overflow_of_a_single_question_fails_the_answer(harness: RoomHarness) -> None:
    assert harness.answer("x" * 400, overflow(), overflow()).state == "failed"
    assert harness.call(ChatRoom.context_start) == 0 and harness.events_of(ContextStartMoved) == []


def test_overflow_after_the_first_token_fails_the_answer(harness: RoomHarness) -> None:
    answer = harness.answer("one", overflow(TextDelta("Half")))
    assert (answer.state, answer.reason) == ("failed", "The conversation is too long.")
    assert answer.parts == (Text("Half"),) and len(harness.model.requests) == 1


def test_overflow_after_a_tool_call_keeps_the_call(long_room: RoomHarness) -> None:
    request = ToolRequest("c1", "get_current_time", "{}")
    answer = long_room.answer("question 4".ljust(24), ScriptedReply(request), overflow(), text_reply("Yes"))
    assert long_room.model.request_numbers() == [7, 8, 9, 10]
    assert [part.kind for part in answer.parts] == ["tool_call", "text"]


# Resume


def test_resume_appends_to_the_text_in_the_same_row(harness: RoomHarness) -> None:
    harness.answer("zero")
    before = harness.answer("one", cut("One two", " thr"))
    assert (before.state, before.reason, before.resumable) == ("interrupted", CUT, True)
    after = resume(harness, text_reply("ee", " four\n"), number=4)
    assert (after.parts, after.state, after.reason) == ((Text("One two three four\n"),), "complete", "")
    assert (after.created_at, after.resumable) == (before.created_at, False)
    request = harness.model.requests[-1]
    assert [(message.number, message.text) for message in request][2:] == [(3, "one"), (4, "One two thr")]
    harness.restart()
    assert harness.message(4) == after
    assert harness.query("SELECT position, text FROM parts WHERE message = 4") == [(0, "One two three four\n")]


def test_resumed_answer_is_shown_whole_from_the_start(harness: RoomHarness) -> None:
    harness.answer("one", cut("Half"))
    seen: list[str] = []

    def read(event: RoomEvent) -> None:
        if isinstance(event, MessageChanged | TurnDelayed | PartAdded):
            seen.append(harness.message(2).text)

    harness.listeners.append(read)
    reply = harness.script(busy(), held_reply())
    harness.resume()
    reply.wait_consumed()
    assert seen == ["Half"] * 4
    assert harness.message(2).text == "Half"
    reply.send(TextDelta(" more"))
    message = harness.message(2)
    assert (message.text, message.state, message.reason) == ("Half more", "streaming", "")


def test_resume_is_possible_after_every_kind_of_ending(harness: RoomHarness) -> None:
    """Tokens and seconds add up."""
    last = harness.answer("one", ScriptedReply(TextDelta("1"), TokenCount(10, 1), ModelCut(CUT))).usage
    errors = [ModelCut(CUT), ModelError("It broke."), ModelBusy("Busy.", None), ModelOverflow("Too long.")]
    for n, error in enumerate(errors, 2):
        message = resume(harness, ScriptedReply(TextDelta(str(n)), TokenCount(10, 1), error), times=n)
        assert (message.text, message.resumable, tokens(message)) == ("12345"[:n], True, (10 * n, n, False))
        assert message.usage is not None and last is not None
        assert message.usage.seconds > last.seconds and message.usage.speaking > last.speaking
        last = message.usage
    broken = resume(harness, ScriptedReply(ModelError("It broke.")), times=6)
    assert (broken.usage, broken.text, broken.state) == (last, "12345", "failed")
    reply = harness.script(held_reply(TextDelta("\n")))
    harness.resume()
    reply.wait_consumed()
    harness.stop()
    message = resume(harness, text_reply(" 6 "), times=8)
    assert (message.text, message.state) == ("12345\n 6 ", "complete")
    assert message.usage is not None and message.usage.estimated


def test_resume_of_an_answer_that_did_not_break_off_in_text_is_rejected(harness: RoomHarness) -> None:
    with pytest.raises(Outdated, match="not cut off"):
        harness.resume()
    endings = [
        [text_reply("Yes")],
        [ScriptedReply(ModelError("It broke."))],
        [ScriptedReply(TextDelta("I roll."), ToolRequest("c1", "roll_dice", "{}")), cut()],
        [ScriptedReply(TextDelta("Half"), ReasoningDelta("Hm"), ModelCut(CUT))],
    ]
    for replies in endings:
        answer = harness.answer("one", *replies)
        before, events = harness.messages(), list(harness.events)
        assert not answer.resumable
        with pytest.raises(Outdated, match="not cut off"):
            harness.resume()
        assert (harness.messages(), harness.events) == (before, events)
    harness.answer("two", cut("Half"))
    harness.answer("three")  # an older answer is not resumed
    with pytest.raises(Outdated):
        harness.resume()
    harness.clear()
    with pytest.raises(Outdated):
        harness.resume()


def test_resume_from_several_threads_continues_the_answer_once(harness: RoomHarness) -> None:
    harness.answer("one", cut("Half"))
    harness.script(text_reply(" more"))
    barrier = threading.Barrier(6)
    resumed: list[int] = []

    def press() -> None:
        barrier.wait(DEADLINE)
        with suppress(AnswerInProgress, Outdated):
            resumed.append(harness.resume())

    threads = [threading.Thread(target=press) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    harness.wait_for_end(2, times=2)
    assert (resumed, harness.texts()) == ([2], ["one", "Half more"])


def test_crash_of_a_resumed_answer_keeps_its_first_part(harness: RoomHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_room, "SAVE_INTERVAL_SECONDS", 3600)
    before = harness.answer("one", ScriptedReply(TextDelta("Half"), TokenCount(10, 1), ModelCut(CUT)))
    for deltas in ([], [TextDelta(" more")]):
        reply = harness.script(held_reply())
        harness.resume()
        reply.send(*deltas)
        harness.restart()
        message = harness.message(2)
        assert (message.state, message.reason, message.text) == ("interrupted", INTERRUPTED, "Half")
        assert (message.usage, message.model, message.resumable) == (before.usage, "scripted", True)
    monkeypatch.setattr(chat_room, "SAVE_INTERVAL_SECONDS", 0)
    reply = harness.script(held_reply(TextDelta(" more")))
    harness.resume()
    reply.send(TextDelta(" words"))
    harness.restart()
    assert harness.message(2).text == "Half more words"
    assert resume(harness, text_reply("."), times=1).text == "Half more words."


def test_stop_of_a_resumed_answer_keeps_both_texts(harness: RoomHarness) -> None:
    harness.answer("one", cut("Half"))
    reply = harness.script(held_reply())
    harness.resume()
    reply.wait_consumed()
    harness.stop()
    assert (harness.message(2).state, harness.message(2).parts) == ("stopped", (Text("Half"),))
    late = harness.script(held_reply(TextDelta(" more"), uncloseable=True))
    harness.resume()
    late.wait_consumed()
    harness.stop()
    late.send(TextDelta(" late"))
    late.end()
    join_turn_threads()
    harness.restart()
    assert (harness.message(2).state, harness.message(2).parts) == ("stopped", (Text("Half more"),))


def test_stop_before_the_model_is_picked_keeps_the_name_of_the_earlier_model(harness: RoomHarness) -> None:
    harness.answer("one", cut("Half"))
    picking, gate = threading.Event(), threading.Event()

    def pick(name: str) -> ScriptedModel:
        picking.set()
        assert gate.wait(DEADLINE)
        return harness.model

    harness.pick_model = pick  # type: ignore[method-assign]
    harness.restart()
    harness.resume()
    assert picking.wait(DEADLINE)
    shown = harness.message(2).model
    harness.stop()
    gate.set()
    join_turn_threads()
    assert (shown, harness.message(2).model, harness.message(2).text) == ("scripted", "scripted", "Half")


def test_retry_of_a_resumed_answer_starts_from_nothing(harness: RoomHarness) -> None:
    harness.answer("one", ScriptedReply(TextDelta("x"), TokenCount(7, 9), ModelCut(CUT)))
    resume(harness, cut(" more"))
    reply = harness.script(held_reply())
    number = harness.retry()
    reply.wait_consumed()
    message = harness.message(number)
    assert (message.state, message.parts, message.usage, message.model) == ("waiting", (), None, "")
    assert harness.model.request_texts() == ["one"]
    reply.end(ModelError("It broke."))
    assert harness.finished(number).usage is None
    harness.restart()
    assert harness.message(number).usage is None


def test_resumed_answer_counts_against_the_context(long_room: RoomHarness) -> None:
    long_room.answer("question 4".ljust(24), cut("x" * 100))  # 29 tokens of 90, which leave six messages
    resume(long_room, cut("y"), number=10)
    assert long_room.model.request_numbers() == [5, 6, 7, 8, 9, 10]
    message = resume(long_room, overflow(), text_reply("z"), number=10, times=3)
    assert long_room.model.request_numbers(-2) == [5, 6, 7, 8, 9, 10]
    numbers = long_room.model.request_numbers()
    assert numbers[0] > 5 and numbers[-2:] == [9, 10]
    assert message.text == "x" * 100 + "yz"


def test_carriage_return_at_the_end_becomes_a_line_feed(harness: RoomHarness) -> None:
    harness.answer("one", cut("- One\r"))
    assert resume(harness, text_reply("- Two")).text == "- One\n- Two"
    assert harness.answer("two", text_reply("Yes\r")).text == "Yes\n"


def test_resume_while_the_file_is_locked_for_a_moment_loses_nothing(
    harness: RoomHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program locks the file between the commit and the start of the turn."""
    monkeypatch.setattr("overseer.storage.database.BUSY_SECONDS", 0)
    harness.answer("one", cut("Half"))
    with closing(sqlite3.connect(harness.file, isolation_level=None, check_same_thread=False)) as other:

        def lock(event: RoomEvent) -> None:
            if isinstance(event, MessageChanged):
                other.execute("BEGIN IMMEDIATE")

        harness.listeners.append(lock)
        reply = harness.script(held_reply(TextDelta(" more")))  # it ends when the file is unlocked
        with suppress(StorageUnavailable):
            harness.resume()
        other.execute("ROLLBACK")
    reply.end()
    harness.wait_for_end(2, times=2)
    join_turn_threads()
    assert (harness.states(), harness.texts()) == (["complete"], ["one", "Half more"])


# Usage


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (text_reply("x" * 40), (QUESTION_TOKENS, 10, True)),
        (ScriptedReply(TextDelta("x"), TokenCount(7, 9), ModelCut(CUT)), (7, 9, False)),
        (ScriptedReply(ReasoningDelta("x" * 8), ModelError("It broke.")), (QUESTION_TOKENS, 2, True)),
        (ScriptedReply(TokenCount(7, 0)), (7, 0, False)),
        (ScriptedReply(ModelError("It broke.")), None),
    ],
    ids=["estimated", "reported", "failed", "reported without text", "nothing"],
)
def test_usage_is_stored_with_the_answer(
    harness: RoomHarness, reply: ScriptedReply, expected: tuple[int, int, bool] | None
) -> None:
    answer = harness.answer("one", reply)
    assert tokens(answer) == expected
    if answer.usage is not None:
        assert 0 <= answer.usage.speaking <= answer.usage.seconds < DEADLINE
    harness.restart()
    assert harness.message(2) == answer and harness.message(1).usage is None


def test_usage_of_a_stopped_answer_is_estimated(harness: RoomHarness) -> None:
    harness.ask_held("one", TextDelta("x" * 40))
    harness.ask("two")
    harness.stop_all()
    assert (tokens(harness.message(2)), harness.message(4).usage) == ((QUESTION_TOKENS, 10, True), None)
    harness.ask_held("three")
    harness.stop()
    assert harness.message(6).usage is None


# Final states


def test_answer_of_reasoning_only_is_failed(harness: RoomHarness) -> None:
    answer = harness.answer("one", ScriptedReply(ReasoningDelta("H"), ReasoningDelta("m")))
    assert (answer.state, answer.parts, answer.resumable) == ("failed", (Reasoning("Hm"),), False)
    assert "sent reasoning but no text" in answer.reason and "Retry" in answer.reason


def test_answer_over_the_limit_is_ended_and_can_be_resumed(harness: RoomHarness) -> None:
    """A resumed answer may grow by the limit again."""
    harness.restart(limits=Limits(answer_chars=10))
    assert harness.answer("zero", text_reply("1234567890")).state == "complete"
    answer = harness.answer("one", text_reply("12345", "67890", "1"))
    assert (answer.state, answer.text) == ("failed", "1234567890") and "10 characters" in answer.reason
    answer = resume(harness, text_reply("abcdefghij", "k"), number=4)
    assert (answer.state, answer.text) == ("failed", "1234567890abcdefghij")


@pytest.mark.parametrize("end", [ChatRoom.stop, ChatRoom.clear])
@pytest.mark.parametrize("error", [ModelBusy("Busy.", 0.0), ModelOverflow("Too long."), ModelCut(CUT)])
def test_model_error_after_stop_or_clear_is_ignored(
    harness: RoomHarness, end: Callable[[ChatRoom], None], error: Exception
) -> None:
    reply = harness.ask_held("one", uncloseable=True)
    harness.call(end)
    events = list(harness.events)
    reply.end(error)
    join_turn_threads()
    assert (harness.events, len(harness.model.requests)) == (events, 1)
    assert harness.states() in (["stopped"], []) and harness.call(ChatRoom.idle)
