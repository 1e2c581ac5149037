"""Where the model starts to read a room, and edits that are based on an outdated view of it."""

from __future__ import annotations

import pytest

from overseer.domain.errors import AnswerInProgress, NoSuchMessage, Outdated
from overseer.domain.events import ContextStartMoved, MessagesDeleted, PartAdded
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
    harness.retry()
    harness.wait_for_end(12, times=2)
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
    harness.retry()
    harness.wait_for_end(12, times=2)
    assert (context_start(harness), moves(harness)) == (0, [11, 0])
    harness.restart(limits=LIMITS)
    add_exchanges(harness, 1)
    harness.script(text_reply("again".ljust(24)))
    harness.edit(3, "changed".ljust(24))
    harness.wait_for_end(4)
    assert (context_start(harness), moves(harness)) == (0, [9, 0])
    assert harness.model.request_numbers() == [1, 2, 3]
    add_exchanges(harness, 2)
    assert context_start(harness) == 3
    harness.clear()
    assert context_start(harness) == 0
    add_exchanges(harness, 3)
    assert harness.model.request_numbers()[0] == 19
    assert (context_start(harness), moves(harness)) == (0, [9, 0, 3])


def test_context_start_moves_once_more_after_an_overflow(harness: RoomHarness) -> None:
    add_exchanges(harness, 3)
    harness.answer("question".ljust(24), ScriptedReply(ModelOverflow("Too long.")), text_reply("Yes"))
    assert [request[0].number for request in harness.model.requests[-2:]] == [3, 7]
    assert (context_start(harness), moves(harness)) == (7, [3, 7])


# Edits


def test_edit_with_the_current_last_message_is_accepted(harness: RoomHarness) -> None:
    """A retry or another edit does not make the view outdated: it adds no messages."""
    add_exchanges(harness, 2)
    assert harness.call(ChatRoom.following, 1) == (2, 4)
    harness.retry()
    harness.wait_for_end(4, times=2)
    harness.edit(3, "changed", last=4)
    harness.wait_for_end(4, times=3)
    harness.edit(1, "changed", last=4)
    harness.wait_for_end(2, times=2)
    assert harness.texts() == ["changed", "All right."]
    assert harness.events_of(MessagesDeleted) == [MessagesDeleted("room")] * 2


def test_edit_with_another_last_message_changes_nothing(harness: RoomHarness) -> None:
    add_exchanges(harness, 2)
    before, events, requests = harness.messages(), list(harness.events), len(harness.model.requests)
    for last in (2, 0, 5, -1, MAX_NUMBER):
        with pytest.raises(Outdated, match="Read them, then edit again"):
            harness.edit(1, "changed", last=last)
    assert (harness.messages(), harness.events, len(harness.model.requests)) == (before, events, requests)
    harness.ask_held("question")
    for number in (2, 6):
        with pytest.raises(AnswerInProgress):
            harness.edit(1, "changed", last=number)
    harness.clear()
    with pytest.raises(NoSuchMessage):
        harness.edit(1, "changed", last=4)


def test_following_counts_the_messages_that_an_edit_deletes(harness: RoomHarness) -> None:
    add_exchanges(harness, 1)
    harness.clear()
    assert harness.call(ChatRoom.following, 1) == (0, 0)
    add_exchanges(harness, 3)
    assert [harness.call(ChatRoom.following, number) for number in (3, 5, 7)] == [(4, 8), (2, 8), (0, 8)]
    assert harness.call(ChatRoom.following, 3, enough=1) == (1, 8)
    harness.edit(5, "changed", last=8)
    harness.wait_for_end(6, times=2)
    assert len(harness.messages()) == 4


def test_after_returns_the_next_messages_in_order(harness: RoomHarness) -> None:
    add_exchanges(harness, 1)
    harness.clear()
    add_exchanges(harness, 3)
    found: list[int] = []
    while page := harness.call(ChatRoom.after, found[-1] if found else 0, limit=4):
        found += [message.number for message in page]
    assert found == [3, 4, 5, 6, 7, 8]
    assert harness.call(ChatRoom.after, 4, limit=4) == harness.messages()[2:]
    for number in (8, 9, MAX_NUMBER, MAX_NUMBER + 1, 10**30):
        assert harness.call(ChatRoom.after, number) == ()
    reply = harness.ask_held("one", TextDelta("One"))
    reply.send(TextDelta(" two"))
    growing = harness.call(ChatRoom.after, 8)[1]
    assert growing == harness.message(10) and (growing.text, growing.state) == ("One two", "streaming")
