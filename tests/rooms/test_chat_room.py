"""ChatRoom: questions, events, storage, commands and queries of one room."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from overseer.domain.errors import (
    AnswerInProgress,
    KeyReused,
    NoSuchMessage,
    Outdated,
    StorageError,
    StorageUnavailable,
)
from overseer.domain.events import (
    MessageAdded,
    MessageChanged,
    MessagesDeleted,
    PartAdded,
    PartChanged,
    PathChanged,
    RoomConfigured,
    RoomEvent,
    TurnEnded,
    TurnStarted,
)
from overseer.domain.messages import Reasoning, Text, ToolCall, Versions
from overseer.domain.records import Asked
from overseer.llm import Delta, ModelCut, ModelError, ReasoningDelta, TextDelta, ToolRequest
from overseer.rooms import chat_room
from overseer.rooms.chat_room import INTERRUPTED, STOPPED, ChatRoom
from overseer.tools.toolbox import tool
from tests.rooms.conftest import MakeHarness
from tests.support.calls import count_calls
from tests.support.files import execute
from tests.support.room_harness import RoomHarness, ScriptedReply, held_reply, text_reply
from tests.support.waiting import DEADLINE, join_turn_threads, until

RACE_SECONDS = 0.1  # how long a test waits for something that must not happen

# Questions


def test_message_numbers_are_never_reused(harness: RoomHarness) -> None:
    """Neither after a clear nor after a restart."""
    assert (harness.ask("one"), harness.ask("two")) == (Asked(1, 2), Asked(3, 4))
    harness.wait_for_end(4)
    harness.clear()
    assert harness.messages() == ()
    harness.restart()
    assert harness.ask("three") == Asked(5, 6)
    harness.wait_for_end(6)
    assert [message.number for message in harness.messages()] == [5, 6]


def test_ask_that_cannot_store_the_answer_row_stores_nothing(harness: RoomHarness) -> None:
    trigger = "CREATE TRIGGER broken BEFORE INSERT ON messages WHEN new.role = 'assistant'"
    execute(harness.file, f"{trigger} BEGIN SELECT raise(ABORT, 'no answer'); END")
    with pytest.raises(StorageError, match="no answer"):
        harness.ask("one")
    execute(harness.file, "DROP TRIGGER broken")
    assert harness.query("SELECT number FROM messages") == harness.query("SELECT message FROM parts") == []
    assert harness.events == []
    harness.answer("two")
    assert harness.texts() == ["two", "All right."]


def test_parts_are_stored_as_shown_and_sent_to_the_model(harness: RoomHarness) -> None:
    @tool
    def roll() -> str:
        """Roll."""
        return "5\nexactly"

    harness.restart(roll)
    request = ToolRequest("c1", "roll", "{}")
    reply = ScriptedReply(ReasoningDelta("Hm, "), ReasoningDelta("dice."), TextDelta("I roll."), request)
    harness.answer("Roll\n\n*please* \N{GRINNING FACE}", reply, text_reply("You rolled", " 5."))
    shown = harness.messages()
    question, answer = shown
    call = ToolCall("c1", "roll", "{}", "5\nexactly", "done")
    assert question.parts == (Text("Roll\n\n*please* \N{GRINNING FACE}"),)
    assert answer.parts == (Reasoning("Hm, dice."), Text("I roll."), call, Text("You rolled 5."))
    assert answer.text == "I roll.\n\nYou rolled 5."
    assert (question.role, answer.role, answer.state, answer.model) == ("user", "assistant", "complete", "scripted")
    assert answer.ended_at is not None and answer.ended_at >= answer.created_at > 0
    assert harness.model.requests[1] == (question, replace(harness.model.requests[1][1], parts=answer.parts[:3]))
    harness.restart()
    assert harness.messages() == shown
    harness.answer("two")
    assert harness.model.request_texts() == [question.text, answer.text, "two"]


def test_turns_run_one_at_a_time_in_the_order_of_the_questions(harness: RoomHarness) -> None:
    reply = harness.ask_held("A", TextDelta("Half"))
    harness.ask("B")
    harness.ask("C")
    assert harness.states() == ["streaming", "waiting", "waiting"]
    assert len(harness.model.requests) == 1
    harness.script(text_reply("to B"), text_reply("to C"))
    reply.send(TextDelta(" to A"))
    reply.end()
    assert [harness.wait_for_end(number) for number in (2, 4, 6)] == ["complete"] * 3
    assert harness.texts() == ["A", "Half to A", "B", "to B", "C", "to C"]
    assert harness.model.request_texts(1) == ["A", "Half to A", "B"]
    order = [event.number for event in harness.events if isinstance(event, PartAdded | TurnEnded)]
    assert order == [2, 2, 4, 4, 6, 6]


def test_idempotency_key_that_is_used_again_stores_nothing(harness: RoomHarness) -> None:
    """Neither while the answer grows nor after a restart. A different text is rejected."""
    reply = harness.script(held_reply(TextDelta("Half")))
    first = harness.ask("one", key="k1")
    assert harness.ask("one", key="k1") == replace(first, repeated=True)
    reply.end()
    harness.wait_for_end(2)
    harness.restart()
    assert harness.ask("one", key="k1") == Asked(1, 2, repeated=True)
    with pytest.raises(KeyReused, match="new key"):
        harness.ask("two", key="k1")
    assert harness.texts() == ["one", "Half"]
    assert (harness.events, len(harness.model.requests)) == ([], 1)
    assert harness.ask("one", key="k2") == Asked(3, 4)


# Events


def test_events_are_emitted_after_the_commit(harness: RoomHarness) -> None:
    seen: list[tuple[str, list[tuple[object, ...]]]] = []

    def read_file(event: RoomEvent) -> None:
        match event:
            case MessageAdded(_, question, answer):
                sql = f"SELECT number, role, state FROM messages WHERE number IN ({question}, {answer}) ORDER BY 1"
            case PartAdded(_, number, position, "tool_call") | PartChanged(_, number, position):
                sql = f"SELECT call ->> 'state', text FROM parts WHERE message = {number} AND position = {position}"
            case TurnEnded(_, number):
                sql = (
                    "SELECT state, group_concat(text, '|') FROM messages LEFT JOIN parts ON number = message"
                    f" WHERE number = {number}"
                )
            case MessageChanged(_, number):
                sql = f"SELECT state FROM messages WHERE number = {number}"
            case PathChanged() | MessagesDeleted():
                sql = "SELECT head FROM room"
            case RoomConfigured():
                sql = "SELECT name FROM room"
            case _:
                return
        seen.append((type(event).__name__, harness.query(sql)))

    @tool
    def ring() -> str:
        """Ring."""
        return "dong"

    harness.restart(ring)
    harness.listeners.append(read_file)
    harness.answer("one", ScriptedReply(ToolRequest("c1", "ring", "{}")), text_reply("rang"))
    harness.answer("two", ScriptedReply(TextDelta("half"), ModelError("broke")))
    harness.resume()
    harness.wait_for_end(4, times=2)
    harness.edit(1, "changed")
    harness.wait_for_end(6)
    harness.show(3)
    harness.script(held_reply())
    harness.retry()
    harness.stop()
    harness.configure("Cellar")
    harness.clear()
    assert seen == [
        ("MessageAdded", [(1, "user", "complete"), (2, "assistant", "waiting")]),
        ("PartAdded", [("running", "")]),
        ("PartChanged", [("done", "dong")]),
        ("TurnEnded", [("complete", "dong|rang")]),
        ("MessageAdded", [(3, "user", "complete"), (4, "assistant", "waiting")]),
        ("TurnEnded", [("failed", "half")]),
        ("MessageChanged", [("waiting",)]),
        ("TurnEnded", [("complete", "halfAll right.")]),
        ("PathChanged", [(6,)]),
        ("TurnEnded", [("complete", "All right.")]),
        ("PathChanged", [(4,)]),
        ("PathChanged", [(7,)]),
        ("TurnEnded", [("stopped", None)]),
        ("RoomConfigured", [("Cellar",)]),
        ("MessagesDeleted", [(None,)]),
    ]


# A growing answer


def test_growing_answer_is_shown_before_it_is_written(harness: RoomHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_room, "SAVE_INTERVAL_SECONDS", 3600)
    reply = harness.ask_held("one")
    assert harness.message(2).state == "waiting"
    for delta, text in ((TextDelta("One"), "One"), (TextDelta(" two"), "One two")):
        reply.send(delta)
        message = harness.message(2)
        assert (message.text, message.state, message.model) == (text, "streaming", "scripted")
        assert harness.messages()[1] == harness.call(ChatRoom.path, 2)[1] == message
    assert harness.is_answering()
    assert harness.query("SELECT text FROM parts WHERE message = 2") == []
    reply.send(ReasoningDelta("Hm"))
    assert harness.query("SELECT kind, text FROM parts WHERE message = 2") == [("text", "One two")]
    reply.end()
    harness.wait_for_end(2)
    assert harness.query("SELECT text FROM parts WHERE message = 2") == [("One two",), ("Hm",)]
    assert not harness.is_answering()


def test_growing_text_is_written_when_the_save_interval_has_passed(
    harness: RoomHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_room, "SAVE_INTERVAL_SECONDS", 0)
    reply = harness.ask_held("one", TextDelta("One"))
    sql = "SELECT text, state, model FROM parts JOIN messages ON number = message WHERE number = 2"
    for delta, text in ((" two", "One two"), (" three", "One two three")):
        reply.send(TextDelta(delta))
        assert harness.query(sql) == [(text, "streaming", "scripted")]


def test_token_that_arrives_during_a_read_is_neither_lost_nor_doubled(
    harness: RoomHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = harness.ask_held("one", TextDelta("One"))
    reply.send(TextDelta(" two"))
    reader, deltas, blocked = threading.current_thread(), [TextDelta(" three")], threading.Event()

    def send_during_replace(part: Text, **changes: str) -> Text:
        if deltas and threading.current_thread() is reader:
            reply.send_nowait(deltas.pop())
            blocked.wait(RACE_SECONDS)
        return replace(part, **changes)

    monkeypatch.setattr("overseer.rooms.turn.replace", send_during_replace)
    assert harness.message(2).text.startswith("One two")
    assert not deltas
    reply.wait_consumed()
    reply.end()
    assert harness.finished(2).parts == (Text("One two three"),)


def test_crash_interrupts_answers_and_keeps_what_was_written(
    harness: RoomHarness, make_harness: MakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the files is what a killed process leaves."""
    monkeypatch.setattr(chat_room, "SAVE_INTERVAL_SECONDS", 0)
    harness.answer("zero")
    reply = harness.ask_held("one", TextDelta("One"))
    harness.ask("two")
    reply.send(TextDelta(" two"))
    shutil.copytree(harness.directory, tmp_path / "crashed")
    crashed = make_harness("crashed")
    assert crashed.states() == ["complete", "interrupted", "interrupted"]
    assert crashed.texts() == ["zero", "All right.", "one", "One two", "two", ""]
    assert [crashed.message(number).reason for number in (4, 6)] == [INTERRUPTED] * 2
    assert crashed.message(4).ended_at is not None
    assert crashed.model.requests == []
    assert crashed.retry() == 6
    assert crashed.wait_for_end(6) == "complete"
    assert crashed.ask("three") == Asked(7, 8)


# Stop and errors


def test_room_with_many_queued_questions_takes_as_many_calls(harness: RoomHarness) -> None:
    """To ask, and to read a queued answer."""
    reply = harness.ask_held("first")

    def calls() -> tuple[int, int]:
        answer = harness.ask("another").answer
        return count_calls(lambda: harness.ask("another")), count_calls(lambda: harness.message(answer))

    harness.ask("one that is queued")
    few = calls()
    for _ in range(200):
        harness.ask("another")
    many = calls()
    harness.stop_all()
    assert reply.closed.is_set()
    assert all(more < less + 50 for less, more in zip(few, many, strict=True)), (few, many)


def test_stop_all_keeps_parts_and_ends_queued_answers(harness: RoomHarness) -> None:
    reply = harness.ask_held("A", ReasoningDelta("Hm"), TextDelta("Half an"))
    harness.ask("B")
    reply.send(TextDelta(" answer"))
    harness.stop_all()
    assert reply.closed.is_set()
    assert harness.states() == ["stopped", "stopped"]
    stopped, queued = harness.message(2), harness.message(4)
    assert (stopped.parts, stopped.model) == ((Reasoning("Hm"), Text("Half an answer")), "scripted")
    assert queued.parts == ()
    assert all(message.reason == STOPPED and message.ended_at for message in (stopped, queued))
    assert harness.events[-2:] == [TurnEnded("room", 2, "stopped"), TurnEnded("room", 4, "stopped")]
    assert len(harness.model.requests) == 1
    assert harness.answer("C").state == "complete"
    assert harness.model.request_texts() == ["A", "Half an answer", "B", "", "C"]
    before, events = harness.messages(), list(harness.events)
    harness.stop_all()  # nothing runs
    harness.stop()
    assert (harness.messages(), harness.events) == (before, events)


def test_stop_ends_the_running_answer_and_starts_the_next(harness: RoomHarness) -> None:
    reply = harness.ask_held("A", TextDelta("Half"))
    second = harness.script(held_reply(TextDelta("Next")))
    harness.ask("B")
    harness.ask("C")
    assert [harness.message(number).queued for number in (2, 4, 6)] == [False, True, True]
    harness.stop()
    assert reply.closed.is_set()
    assert (harness.message(2).state, harness.message(2).text) == ("stopped", "Half")
    assert TurnStarted("room", 4) in harness.events and not harness.message(4).queued
    second.wait_consumed()
    harness.stop()
    assert harness.finished(6).state == "complete"
    assert harness.states() == ["stopped", "stopped", "complete"]


def test_stop_ends_an_answer_whose_turn_could_not_start(harness: RoomHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StorageUnavailable("busy")

    with monkeypatch.context() as patch:
        patch.setattr("overseer.rooms.chat_room.ChatRoom._start_turn", fail)
        harness.ask("A")
        harness.ask("B")
        harness.stop()
    assert harness.message(2).state == "stopped"
    harness.messages()
    assert harness.finished(4).state == "complete"


def test_withdrawn_question_is_deleted_with_its_answer(harness: RoomHarness) -> None:
    reply = harness.ask_held("A", TextDelta("Half"))
    harness.ask("B", key="b")
    harness.ask("C")
    harness.call(ChatRoom.withdraw, 3)
    assert harness.texts() == ["A", "Half", "C", ""]
    for number in (1, 3, 99):
        with pytest.raises((Outdated, NoSuchMessage)):
            harness.call(ChatRoom.withdraw, number)
    assert not harness.ask("B", key="b").repeated
    reply.end()
    assert harness.finished(8).state == "complete"
    assert harness.model.request_texts()[-5:] == ["A", "Half", "C", "All right.", "B"]


def test_stop_during_the_request_closes_the_reply(harness: RoomHarness) -> None:
    reply = harness.script(held_reply())
    harness.model.on_request = harness.stop
    harness.ask("one")
    assert harness.wait_for_end(2) == "stopped"
    assert reply.closed.wait(DEADLINE / 2), "it is only closed when it ends"
    join_turn_threads()
    assert harness.texts() == ["one", ""]


@pytest.mark.parametrize("end", [ChatRoom.stop, ChatRoom.clear])
def test_deltas_after_stop_or_clear_are_ignored(harness: RoomHarness, end: Callable[[ChatRoom], None]) -> None:
    """Also while the next answer is being generated."""
    late = harness.ask_held("A", TextDelta("Before"), uncloseable=True)
    harness.call(end)
    count = len(harness.events)
    current = harness.ask_held("B", TextDelta("Next"))
    late.send(TextDelta(" after"), ToolRequest("c1", "roll_dice", "{}"))
    late.end()
    current.end()
    harness.wait_for_end(4)
    join_turn_threads()
    assert "after" not in " ".join(harness.texts())
    assert harness.message(4).parts == (Text("Next"),)
    assert not [event for event in harness.events[count:] if getattr(event, "number", None) == 2]


@pytest.mark.parametrize(
    ("items", "state", "reason"),
    [
        ([ModelError("Load a model, then Retry.")], "failed", "Load a model, then Retry."),
        ([TextDelta("Half"), ModelCut("It broke off.")], "interrupted", "It broke off."),
        ([], "failed", "The model returned an empty answer."),
    ],
)
def test_model_error_ends_the_answer_with_its_sentence(
    harness: RoomHarness, items: list[Delta | Exception], state: str, reason: str
) -> None:
    answer = harness.answer("one", ScriptedReply(*items))
    assert (answer.state, answer.reason) == (state, reason)
    assert answer.text == ("Half" if len(items) == 2 else "") and answer.ended_at is not None
    assert harness.answer("two").state == "complete"


def test_internal_error_ends_one_answer_and_is_logged(harness: RoomHarness, caplog: pytest.LogCaptureFixture) -> None:
    broken = harness.ask_held("A", TextDelta("Half"))
    harness.ask("B")
    broken.end(ZeroDivisionError("a secret detail"))
    assert (harness.wait_for_end(2), harness.wait_for_end(4)) == ("failed", "complete")
    assert harness.texts() == ["A", "Half", "B", "All right."]
    assert harness.message(2).reason.startswith("Something went wrong. See ")
    assert "a secret detail" in caplog.text and "turn room/2 broke" in caplog.text


@pytest.mark.parametrize(
    "deltas",
    [
        [TextDelta("a\ud83d"), TextDelta("\ude00b"), ReasoningDelta("a\ud83d"), ReasoningDelta("b")],
        [ToolRequest("c1", "echo", '{"word": "\\ud83d"}'), ToolRequest("c1", "echo", '{"\\ud83d": 1}')],
        [ToolRequest("c\ud83d", "ec\ud83do", "\ud83d")],
    ],
    ids=["text", "result", "call"],
)
def test_lone_surrogate_from_a_model_is_replaced(harness: RoomHarness, deltas: list[Delta]) -> None:
    @tool
    def echo(word: str) -> str:
        """Say it again."""
        return word

    harness.restart(echo)
    answer = harness.answer("one", ScriptedReply(*deltas))
    assert answer.state == "complete"
    str(answer.parts).encode()
    if isinstance(deltas[0], TextDelta):
        assert answer.parts == (Text("a\N{GRINNING FACE}b"), Reasoning("a\ufffdb"))


def test_full_disk_fails_the_answer_and_the_room_works_when_there_is_space(
    harness: RoomHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Stop closes the model's connection even while nothing can be written."""
    monkeypatch.setattr(chat_room, "SAVE_INTERVAL_SECONDS", 0)
    first, second = held_reply(TextDelta("x")), held_reply(TextDelta("y"))
    harness.script(first, second)
    harness.ask("one")
    harness.ask("two")
    first.wait_consumed()
    harness.fill_disk()
    first.send(TextDelta("x" * 100_000))
    first.end()
    assert harness.wait_for_end(2) == "failed"
    assert "could not be stored" in caplog.text
    failed = harness.message(2)
    assert (failed.state, failed.text) == ("failed", "x" * 100_001) and "disk is full" in failed.reason
    second.wait_consumed()
    with suppress(StorageUnavailable):
        harness.stop()
    assert second.closed.is_set() and not harness.is_answering()
    with pytest.raises(StorageUnavailable):
        harness.ask("x" * 100_000)
    harness.free_disk()
    harness.answer("three")
    harness.restart()
    assert harness.texts() == ["one", "x" * 100_001, "two", "y", "three", "All right."]
    assert harness.states() == ["failed", "stopped", "complete"]


def test_stop_all_ends_queued_answers_while_the_file_is_locked(harness: RoomHarness) -> None:
    harness.ask_held("one", TextDelta("Half"))
    harness.ask("two")
    with harness.locked():
        with pytest.raises(StorageUnavailable):
            harness.stop_all()
        assert harness.wait_for_end(2) == harness.wait_for_end(4) == "stopped"
        assert harness.states() == ["stopped", "stopped"]
    harness.retry()
    assert harness.wait_for_end(4, times=2) == "complete"
    assert harness.query("SELECT state FROM messages WHERE role = 'assistant'") == [("stopped",), ("complete",)]


STORED = "SELECT state, text FROM messages JOIN parts ON message = number WHERE role = 'assistant'"


def test_answer_that_could_not_be_stored_is_stored_by_itself(
    harness: RoomHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_room, "SAVE_RETRY_DELAYS_SECONDS", (0.001, 0.01))
    harness.ask_held("one", TextDelta("Half"))
    with harness.locked():
        with pytest.raises(StorageUnavailable):
            harness.stop()
        assert harness.query(STORED) == []
    until(lambda: harness.query(STORED) == [("stopped", "Half")])
    assert harness.call(ChatRoom.idle)


def test_second_stop_stores_what_the_first_could_not(harness: RoomHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_room, "SAVE_RETRY_DELAYS_SECONDS", (3600.0,))
    harness.ask_held("one", TextDelta("Half"))
    with harness.locked(), pytest.raises(StorageUnavailable):
        harness.stop()
    harness.stop()
    assert harness.query(STORED) == [("stopped", "Half")]


# Tools


def test_tool_errors_fail_the_call_and_not_the_answer(harness: RoomHarness) -> None:
    """A tool that raises, one that ends its thread, an unknown one, and arguments that are not JSON."""

    @tool
    def explode(word: str) -> str:
        """Explode."""
        raise RuntimeError(f"boom {word}")

    @tool
    def leave() -> str:
        """End the thread."""
        raise SystemExit(1)

    @tool
    def ring() -> str:
        """Ring."""
        return "dong"

    harness.restart(explode, leave, ring)
    calls = [("explode", '{"word": "now"}'), ("leave", "{}"), ("fly", "{}"), ("ring", "{x"), ("ring", "")]
    requests = [ToolRequest(f"c{n}", name, arguments) for n, (name, arguments) in enumerate(calls)]
    answer = harness.answer("one", ScriptedReply(*requests), text_reply("Done."))
    assert (answer.state, answer.parts[-1], len(harness.model.requests)) == ("complete", Text("Done."), 2)
    found = [part for part in answer.parts if isinstance(part, ToolCall)]
    assert [call.state for call in found] == ["failed"] * 4 + ["done"]
    assert found[0] == ToolCall("c0", "explode", '{"word": "now"}', "RuntimeError: boom now", "failed")
    assert "no tool named 'fly'" in found[2].result
    assert harness.model.requests[1][-1].parts == tuple(found)


def test_turn_ends_after_five_steps(harness: RoomHarness) -> None:
    answer = harness.answer("one", *[ScriptedReply(ToolRequest(f"c{n}", "roll_dice", "{}")) for n in range(10)])
    assert len(harness.model.requests) == 5
    assert [part.kind for part in answer.parts] == ["tool_call"] * 5
    assert answer.state == "failed" and "5 times" in answer.reason


@pytest.mark.parametrize("how", ["return", "stop", "crash", "full disk"])
def test_tool_that_is_running_when_the_answer_ends_is_abandoned(
    harness: RoomHarness, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room can be read and asked meanwhile, and the file shows the call as running."""
    started, gate = threading.Event(), threading.Event()

    @tool
    def wait() -> str:
        """Wait."""
        started.set()
        assert gate.wait(DEADLINE)
        return "waited"

    harness.restart(wait)
    harness.script(ScriptedReply(ToolRequest("c1", "wait", "{}")))
    harness.ask("one")
    assert started.wait(DEADLINE)
    assert harness.message(2).parts == (ToolCall("c1", "wait", "{}", "", "running"),)
    assert harness.query("SELECT call ->> 'state' FROM parts WHERE message = 2") == [("running",)]
    call = ToolCall("c1", "wait", "{}", "Abandoned: the answer ended before the tool did.", "abandoned")
    if how == "return":
        call = replace(call, result="waited", state="done")
        gate.set()
    elif how == "crash":
        harness.facets.abort("room", "killed")
    elif how == "stop":
        harness.stop()
    else:
        with monkeypatch.context() as patch:
            patch.setattr("overseer.storage.room_store.RoomStore.finish_answer", no_space)
            with pytest.raises(StorageUnavailable):
                harness.stop()
            assert harness.message(2).parts == (call,)
    join_turn_threads()
    assert harness.message(2).parts[0] == call
    gate.set()
    harness.answer("two")
    harness.restart(wait)
    assert harness.message(2).parts[0] == call and harness.message(2).finished


def no_space(*args: object, **kwargs: object) -> None:
    raise StorageUnavailable("The disk is full.")


# Retry, edit, clear and delete


def test_retry_makes_another_version_of_the_last_answer(harness: RoomHarness) -> None:
    harness.answer("one", text_reply("first"))
    harness.answer("two", ScriptedReply(ReasoningDelta("Hm"), TextDelta("Half"), ModelError("broke")))
    reply = harness.script(held_reply())
    assert harness.retry() == 5
    reply.wait_consumed()
    waiting = harness.message(5)
    assert (waiting.state, waiting.parts, waiting.parent, waiting.versions) == ("waiting", (), 3, Versions(2, 2, 4))
    reply.send(TextDelta("Whole"))
    reply.end()
    assert harness.finished(5).parts == (Text("Whole"),)
    assert harness.model.request_texts() == ["one", "first", "two"]
    assert harness.events_of(PathChanged) == [PathChanged("room")]
    harness.restart()
    assert harness.texts() == ["one", "first", "two", "Whole"]
    partial = harness.message(4)
    assert (partial.parts, partial.state) == ((Reasoning("Hm"), Text("Half")), "failed")
    assert partial.versions == Versions(1, 2, None, 5)


def test_retry_of_an_answer_without_content_uses_its_row(harness: RoomHarness) -> None:
    harness.answer("one", ScriptedReply(ModelError("broke")))
    assert harness.retry() == 2
    answer = harness.finished(2, times=2)
    assert (answer.text, answer.reason, answer.versions) == ("All right.", "", Versions())


def test_edit_makes_another_version_of_a_question(harness: RoomHarness) -> None:
    for text in ("one", "two", "three"):
        harness.answer(text, text_reply(f"to {text}"))
    harness.script(text_reply("again"))
    assert harness.edit(3, "changed") == Asked(7, 8)
    assert harness.events_of(PathChanged) == [PathChanged("room")]
    assert harness.wait_for_end(8) == "complete"
    assert harness.texts() == ["one", "to one", "changed", "again"]
    assert harness.model.request_texts() == ["one", "to one", "changed"]
    assert harness.ask("four") == Asked(9, 10)
    harness.wait_for_end(10)
    assert harness.texts() == ["one", "to one", "changed", "again", "four", "All right."]
    assert harness.message(3).versions == Versions(1, 2, None, 7)
    harness.show(3)
    assert harness.texts() == ["one", "to one", "two", "to two", "three", "to three"]


def test_retry_and_edit_without_their_question_are_rejected(harness: RoomHarness) -> None:
    """In an empty or cleared room, and for a number that is not a question."""
    with pytest.raises(NoSuchMessage, match="no question"):
        harness.retry()
    harness.answer("one")
    harness.clear()
    with pytest.raises(NoSuchMessage):
        harness.retry()
    harness.answer("two")
    before = harness.messages()
    for number in (-1, 0, 1, 4, 99, 2**63 - 1):
        with pytest.raises(NoSuchMessage, match=f"no question {number}"):
            harness.edit(number, "changed")
        if number != 4:
            with pytest.raises(NoSuchMessage):
                harness.message(number)
    assert harness.messages() == before
    assert harness.events_of(PathChanged) == []


def test_retry_edit_and_resume_during_a_turn_are_rejected(harness: RoomHarness) -> None:
    reply = harness.ask_held("one")
    for _ in ("before the first token", "after it"):
        for command in (harness.retry, harness.resume, lambda: harness.edit(1, "changed"), lambda: harness.show(1)):
            with pytest.raises(AnswerInProgress, match="Stop it, or wait"):
                command()
        reply.send(TextDelta(" more"))
    reply.end()
    harness.wait_for_end(2)
    assert harness.texts() == ["one", " more more"]


def test_clear_during_a_turn_closes_the_reply_and_deletes_everything(harness: RoomHarness) -> None:
    reply = harness.ask_held("one", TextDelta("Half"))
    harness.ask("two")
    harness.clear()
    assert reply.closed.is_set()
    join_turn_threads()
    assert harness.messages() == () and not harness.is_answering()
    assert harness.query("SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM parts)") == [(0,)]
    assert harness.events[-1] == MessagesDeleted("room")
    harness.answer("three")
    assert harness.model.request_texts() == ["three"]


def test_clear_that_cannot_be_written_changes_nothing(harness: RoomHarness) -> None:
    reply = harness.ask_held("one", TextDelta("Half"))
    with harness.locked(), pytest.raises(StorageUnavailable, match="locked by another program"):
        harness.clear()
    reply.send(TextDelta(" and half"))
    reply.end()
    assert harness.wait_for_end(2) == "complete"
    assert harness.texts() == ["one", "Half and half"]


# Queries


def test_pages_of_messages_have_no_gap_or_overlap(harness: RoomHarness) -> None:
    page = harness.call(ChatRoom.messages)
    assert (page.messages, page.more, page.end) == ((), False, 0)
    harness.answer("deleted")
    harness.clear()
    for n in range(5):
        harness.answer(f"question {n}", text_reply(f"answer {n}"))

    def numbers(before: int | None, limit: int = 4) -> tuple[list[int], bool, int]:
        page = harness.call(ChatRoom.messages, before=before, limit=limit)
        return [message.number for message in page.messages], page.more, page.end

    assert numbers(None) == numbers(2**63 - 1) == ([9, 10, 11, 12], True, 12)
    assert numbers(9) == ([5, 6, 7, 8], True, 12)
    assert numbers(5) == ([3, 4], False, 12)
    assert numbers(None, limit=10) == (list(range(3, 13)), False, 12)
    assert [numbers(before)[0] for before in (3, 0, -5)] == [[], [], []]


def test_room_is_evicted_only_when_it_is_idle(harness: RoomHarness) -> None:
    """The same handle then reopens it, with everything that was stored."""
    room = harness.room
    assert harness.call(ChatRoom.idle)
    reply = harness.ask_held("one", TextDelta("Half"))
    assert not harness.call(ChatRoom.idle) and not room.evict()
    reply.end()
    harness.wait_for_end(2)
    join_turn_threads()
    before = harness.messages()
    assert room.evict()
    assert room.call(ChatRoom.messages).messages == before
    assert room.evict()
    room.call(ChatRoom.ask, "two")
    assert harness.wait_for_end(4) == "complete"
    assert harness.states() == ["complete", "complete"]


# Turns that cannot be started


class Unreadable:
    """Lets SQLite's authorizer deny the next `times` reads of a column: of one that is only read to start a turn."""

    def __init__(
        self, harness: RoomHarness, times: int = 1_000_000, column: tuple[str, str] = ("messages", "continuable")
    ) -> None:
        self.times = times
        self._column = column
        self.denied = threading.Event()
        harness.settings()
        with harness.storage.read() as db:
            db.set_authorizer(self._authorize)

    def _authorize(self, action: int, table: str | None, column: str | None, *_: str | None) -> int:
        if (action, table, column) != (sqlite3.SQLITE_READ, *self._column) or not self.times:
            return sqlite3.SQLITE_OK
        self.times -= 1
        self.denied.set()
        return sqlite3.SQLITE_DENY


@pytest.fixture
def no_start_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer that retries to start a turn does not fire during the test."""
    monkeypatch.setattr(chat_room, "START_RETRY_DELAYS_SECONDS", (3600.0, 3600.0))


def start_timer() -> threading.Timer:
    (timer,) = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    return timer


def test_turn_that_cannot_be_started_is_started_by_the_timer(harness: RoomHarness) -> None:
    """Also the turn of a question that was queued behind another."""
    unreadable = Unreadable(harness, times=1)
    harness.ask("one", key="k")
    assert unreadable.denied.is_set()
    assert harness.wait_for_end(2) == "complete"
    reply = harness.ask_held("two", TextDelta("First"))
    harness.ask("three")
    unreadable = Unreadable(harness, times=2)
    reply.end()
    assert harness.wait_for_end(6) == "complete"
    assert unreadable.denied.is_set() and harness.states() == ["complete"] * 3


@pytest.mark.parametrize("command", ["retry", "edit", "resume"])
def test_retry_edit_or_resume_that_cannot_start_its_turn_is_started_by_the_timer(
    harness: RoomHarness, command: str
) -> None:
    harness.answer("one", ScriptedReply(TextDelta("Half"), ModelCut("It broke off.")))
    Unreadable(harness, times=2, column=("room", "system_prompt"))
    if command == "edit":
        answer = harness.finished(harness.edit(1, "changed").answer)
    elif command == "retry":
        answer = harness.finished(harness.retry())
    else:
        answer = harness.finished(harness.resume(), times=2)
    assert (answer.state, answer.text) == ("complete", "HalfAll right." if command == "resume" else "All right.")


@pytest.mark.usefixtures("no_start_retry")
@pytest.mark.parametrize("command", ["the same key", "another question", "a read", "a retry"])
def test_turn_that_cannot_be_started_is_started_by_the_next_call(harness: RoomHarness, command: str) -> None:
    Unreadable(harness, times=1)
    first = harness.ask("one", key="k")
    assert harness.is_answering()
    if command == "the same key":
        assert harness.ask("one", key="k") == replace(first, repeated=True)
    elif command == "another question":
        harness.wait_for_end(harness.ask("two").answer)
    elif command == "a read":
        harness.messages()
    else:
        with pytest.raises(AnswerInProgress):
            harness.retry()
    assert harness.wait_for_end(2) == "complete"
    assert set(harness.states()) == {"complete"}


@pytest.mark.usefixtures("no_start_retry")
@pytest.mark.parametrize("command", ["retry", "edit"])
def test_withdrawn_version_leaves_the_one_before(harness: RoomHarness, command: str) -> None:
    """A question that was edited, or an answer asked for again, while the turn cannot start."""
    harness.answer("one", text_reply("first"))
    harness.answer("two", text_reply("second"))
    unreadable = Unreadable(harness, column=("room", "system_prompt"))
    if command == "retry":
        harness.retry()
        question = 3
    else:
        question = harness.edit(1, "changed").question
    unreadable.times = 0
    harness.call(ChatRoom.withdraw, question)
    assert harness.texts() == ["one", "first", "two", "second"]
    assert harness.call(ChatRoom.summary).hidden == 0 and harness.call(ChatRoom.idle)


def test_resume_of_an_answer_that_is_not_shown_any_more_is_refused(harness: RoomHarness) -> None:
    harness.answer("one", ScriptedReply(TextDelta("Half"), ModelCut("It broke off.")))
    harness.edit(1, "changed")
    harness.wait_for_end(4)
    with pytest.raises(Outdated):
        harness.call(ChatRoom.resume, 2)


def test_turn_that_can_never_be_started_ends_as_failed(
    harness: RoomHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So does the next one. Retry works when the file can be read again."""
    monkeypatch.setattr(chat_room, "START_RETRY_DELAYS_SECONDS", (0.001, 0.001))
    unreadable = Unreadable(harness)
    harness.ask("one")
    harness.ask("two")
    assert harness.wait_for_end(2) == harness.wait_for_end(4) == "failed"
    unreadable.times = 0
    assert harness.call(ChatRoom.idle) and not harness.is_answering()
    reason = harness.message(4).reason
    assert reason.startswith("The answer could not be started. room.sqlite could not be used")
    assert reason.endswith("Retry asks again.")
    assert "turn room/2 could not be started" in caplog.text
    assert harness.query("SELECT state FROM messages WHERE role = 'assistant'") == [("failed",), ("failed",)]
    harness.retry()
    assert harness.wait_for_end(4, times=2) == "complete"


@pytest.mark.usefixtures("no_start_retry")
@pytest.mark.parametrize("how", ["stop", "clear", "crash"])
def test_queued_turn_that_cannot_be_started_is_ended_with_its_timer(harness: RoomHarness, how: str) -> None:
    unreadable = Unreadable(harness)
    harness.ask("one")
    timer = start_timer()
    assert not harness.room.evict()
    if how == "stop":
        harness.stop()
        assert harness.wait_for_end(2) == "stopped" and harness.call(ChatRoom.idle)
        unreadable.times = 0
        harness.retry()
        assert harness.wait_for_end(2, times=2) == "complete"
    elif how == "clear":
        harness.clear()
        assert harness.call(ChatRoom.idle)
    else:
        harness.restart()
        assert harness.states() == ["interrupted"]
    timer.join(DEADLINE)
    assert not timer.is_alive()


def test_answer_without_a_free_thread_ends_as_failed(harness: RoomHarness) -> None:
    before = threading.stack_size(2**46)  # more than there is, so that no thread can be started
    try:
        harness.ask("one")
    finally:
        threading.stack_size(before)
    assert harness.wait_for_end(2) == "failed" and "Retry asks again" in harness.message(2).reason
    harness.retry()
    assert harness.wait_for_end(2, times=2) == "complete"
