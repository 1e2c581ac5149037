"""Where the model starts to read a room, and edits that are based on an outdated view of it."""

from __future__ import annotations

import pytest

from overseer.domain.events import ContextStartMoved, PartAdded
from overseer.domain.records import MAX_NUMBER
from overseer.llm import ModelOverflow, TextDelta
from overseer.rooms.chat_room import ChatRoom, Limits
from tests.support.room_harness import RoomHarness, ScriptedReply, text_reply

LIMITS = Limits(context_tokens=50)  # two exchanges of 20 tokens and a question


@pytest.fixture(autouse=True)
def small_context(harness: RoomHarness) -> None:
    harness.restart(limits=LIMITS)


def add_exchanges(harness: RoomHarness, count: int) -> None:
    for n in range(count):
        harness.answer(f"question {n}".ljust(24), text_reply(f"answer {n}".ljust(24)))


def context_start(harness: RoomHarness) -> int:
    """Return the first message that the model reads, which is the same on every page and in the file."""
    found = {harness.call(ChatRoom.messages, before=before, limit=2).context_start for before in (None, 3, 1)}
    found |= {harness.call(ChatRoom.context_start)}
    (number,) = found
    assert harness.query("SELECT reads_from FROM room") == [(number,)]
    return number


def moves(harness: RoomHarness) -> list[int]:
    return [event.number for event in harness.events_of(ContextStartMoved)]


def test_context_start_moves_when_the_room_exceeds_the_context(harness: RoomHarness) -> None:
    assert context_start(harness) == 0
    add_exchanges(harness, 3)
    assert harness.model.request_numbers() == [1, 2, 3, 4, 5]
    assert (context_start(harness), moves(harness)) == (0, [])
    add_exchanges(harness, 3)
    assert [request[0].number for request in harness.model.requests] == [1, 1, 1, 3, 5, 7]
    assert (context_start(harness), moves(harness)) == (7, [3, 5, 7])
    harness.wait_for_end(harness.retry())
    assert moves(harness) == [3, 5, 7], "a retry reads the same"
    harness.restart(limits=LIMITS)
    assert (context_start(harness), moves(harness)) == (7, [])


def test_context_start_is_stored_and_emitted_before_the_first_token(harness: RoomHarness) -> None:
    """For a queued question, when its turn starts and not when it is asked."""
    add_exchanges(harness, 2)
    stored: list[object] = []
    harness.listeners.append(
        lambda event: (
            stored.extend(harness.query("SELECT reads_from FROM room"))
            if isinstance(event, ContextStartMoved)
            else None
        )
    )
    reply = harness.ask_held("question".ljust(24))
    harness.ask("question".ljust(24))
    assert (context_start(harness), moves(harness)) == (0, [])
    reply.send(TextDelta("answer".ljust(24)))
    reply.end()
    harness.wait_for_end(8)
    assert (stored, context_start(harness), moves(harness)) == ([(3,)], 3, [3])
    first_part = next(event for event in harness.events if isinstance(event, PartAdded) and event.number == 8)
    assert harness.events.index(ContextStartMoved("room", 3)) < harness.events.index(first_part)


def test_context_start_returns_to_0_when_more_fits(harness: RoomHarness) -> None:
    """With a larger context, a shorter system prompt, after an edit and after a clear."""
    add_exchanges(harness, 4)
    harness.restart()
    add_exchanges(harness, 1)
    assert (context_start(harness), moves(harness)) == (0, [0])
    harness.restart(limits=Limits(context_tokens=300))
    harness.configure(system_prompt="x" * 4 * 280)
    harness.answer("question".ljust(24), text_reply("answer"))
    assert moves(harness) == [11]
    harness.configure(system_prompt="")
    harness.wait_for_end(harness.retry())
    assert (context_start(harness), moves(harness)) == (0, [11, 0])
    harness.restart(limits=LIMITS)
    add_exchanges(harness, 1)
    harness.script(text_reply("again".ljust(24)))
    asked = harness.edit(3, "changed".ljust(24))
    harness.wait_for_end(asked.answer)
    assert (context_start(harness), moves(harness)) == (0, [9, 0])
    assert harness.model.request_numbers() == [1, 2, asked.question]
    add_exchanges(harness, 2)
    assert context_start(harness) == asked.question
    last = harness.messages()[-1].number
    harness.clear()
    assert context_start(harness) == 0
    add_exchanges(harness, 3)
    assert harness.model.request_numbers()[0] == last + 1
    assert (context_start(harness), moves(harness)) == (0, [9, 0, asked.question])


def test_context_start_moves_once_more_after_an_overflow(harness: RoomHarness) -> None:
    add_exchanges(harness, 3)
    harness.answer("question".ljust(24), ScriptedReply(ModelOverflow("Too long.")), text_reply("Yes"))
    assert [request[0].number for request in harness.model.requests[-2:]] == [3, 7]
    assert (context_start(harness), moves(harness)) == (7, [3, 7])


# Paths


def test_path_returns_the_next_messages_in_order(harness: RoomHarness) -> None:
    add_exchanges(harness, 1)
    harness.clear()
    add_exchanges(harness, 3)
    found: list[int] = []
    while page := harness.call(ChatRoom.path, 8, after=len(found), limit=4):
        found += [message.number for message in page]
    assert found == [3, 4, 5, 6, 7, 8]
    assert harness.call(ChatRoom.path, 8, after=2, limit=4) == harness.messages()[2:]
    assert [message.number for message in harness.call(ChatRoom.path, 6)] == [3, 4, 5, 6]
    for count in (6, 7, MAX_NUMBER - 100):
        assert harness.call(ChatRoom.path, 8, after=count) == ()
    assert harness.call(ChatRoom.path, None) == harness.call(ChatRoom.path, 99) == ()
    reply = harness.ask_held("one", TextDelta("One"))
    reply.send(TextDelta(" two"))
    growing = harness.call(ChatRoom.path, 10, after=6)[1]
    assert growing == harness.message(10) and (growing.text, growing.state) == ("One two", "streaming")
