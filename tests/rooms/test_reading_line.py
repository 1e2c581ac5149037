"""From where the model reads a room, what an edit would drop, and what came after a message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from overseer.domain.errors import AnswerInProgress, NoSuchMessage, Outdated
from overseer.domain.events import MessagesDropped, ReadingMoved, RoomEvent
from overseer.domain.messages import Text
from overseer.domain.records import MAX_NUMBER
from overseer.domain.settings import Changes
from overseer.llm import ModelOverflow, TextDelta
from overseer.rooms.chat_room import ChatRoom, Limits
from overseer.rooms.overseer import Overseer
from tests.rooms.test_chat_room import Harness, Said, held, no_turns, words
from tests.support.model_server import ModelServer

EXCHANGE = 20  # tokens that each exchange of these tests takes


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """A harness with one room, whose model reads two exchanges and a question."""
    harness = Harness(tmp_path / "harness")
    harness.restarted(limits=Limits(context_tokens=2 * EXCHANGE + 10))
    yield harness
    harness.facets.close("the test is over")
    no_turns()


def exchanges(harness: Harness, many: int) -> None:
    """So many questions with their answers."""
    for n in range(many):
        harness.answered(f"question {n}".ljust(24), words(f"answer {n}".ljust(24)))


def line(harness: Harness) -> int:
    """From which message the model reads the room; the same on every page of it."""
    found = {harness.room.call(ChatRoom.messages, before=before, limit=2).reads_from for before in (None, 3, 1)}
    assert len(found) == 1
    assert harness.on_disk("SELECT reads_from FROM room") == [(min(found),)]
    return min(found)


def moves(harness: Harness) -> list[int]:
    """Where the line was told to have moved, in order."""
    return [event.number for event in harness.events if isinstance(event, ReadingMoved)]


# The line


def test_there_is_no_line_while_all_is_read(harness: Harness) -> None:
    """Not in a new room, not up to the last token."""
    assert line(harness) == 0
    exchanges(harness, 3)
    assert [m.number for m in harness.model.asked[-1]] == [1, 2, 3, 4, 5]
    assert (line(harness), moves(harness)) == (0, [])


def test_the_line_moves_with_what_the_model_reads(harness: Harness) -> None:
    """Each move is told once; the line is at the first message that was sent."""
    exchanges(harness, 6)
    assert [asked[0].number for asked in harness.model.asked] == [1, 1, 1, 3, 5, 7]
    assert moves(harness) == [3, 5, 7]
    assert line(harness) == 7


def test_a_line_that_stays_is_not_told_again(harness: Harness) -> None:
    """Retry reads the same."""
    exchanges(harness, 4)
    harness.room.call(ChatRoom.retry)
    harness.ended(8, times=2)
    assert moves(harness) == [3]


def test_the_line_is_told_after_it_is_in_the_file_and_before_the_first_word(harness: Harness) -> None:
    """While the answer still grows the page shows where it reads from."""
    exchanges(harness, 3)
    seen: list[object] = []
    harness.listeners.append(
        lambda event: seen.extend(
            harness.on_disk("SELECT reads_from FROM room") if isinstance(event, ReadingMoved) else []
        )
    )
    reply = harness.will(held())
    harness.ask("question".ljust(24))
    reply.taken_in()
    assert seen == [(3,)]
    assert line(harness) == 3
    reply.end()
    harness.ended(8)


def test_the_line_survives_a_kill(harness: Harness) -> None:
    """It is in the room's file, and nothing is told because a file was opened."""
    exchanges(harness, 4)
    harness.restarted(limits=Limits(context_tokens=2 * EXCHANGE + 10))
    assert (line(harness), moves(harness)) == (3, [])
    exchanges(harness, 1)
    assert moves(harness) == [5]


def test_the_line_goes_away_when_more_can_be_read(harness: Harness) -> None:
    """A larger budget, or a shorter prompt; 0 is told as any move."""
    exchanges(harness, 4)
    harness.restarted()
    exchanges(harness, 1)
    assert (line(harness), moves(harness)) == (0, [0])
    harness.restarted(limits=Limits(context_tokens=300))
    harness.room.call(ChatRoom.configure, Changes(system_prompt="x" * 4 * 280))
    harness.answered("question".ljust(24), words("answer"))
    assert moves(harness) == [11]
    harness.room.call(ChatRoom.configure, Changes(system_prompt=""))
    harness.room.call(ChatRoom.retry)
    harness.ended(12, times=2)
    assert (line(harness), moves(harness)) == (0, [11, 0])


def test_clear_takes_the_line_away(harness: Harness) -> None:
    """The numbers go on, and the first message of the room is all of it, whatever its number."""
    exchanges(harness, 4)
    harness.room.call(ChatRoom.clear)
    assert line(harness) == 0
    exchanges(harness, 3)
    assert harness.model.asked[-1][0].number == 9
    assert (line(harness), moves(harness)) == (0, [3])
    exchanges(harness, 1)
    assert (line(harness), moves(harness)) == (11, [3, 11])


def test_an_edit_of_what_is_above_the_line_takes_it_with_it(harness: Harness) -> None:
    """It is never at a message that is not there any more."""
    exchanges(harness, 6)
    harness.will(words("anew".ljust(24)))
    harness.room.call(ChatRoom.edit, 3, "otherwise".ljust(24))
    harness.ended(4, times=2)
    assert (line(harness), moves(harness)) == (0, [3, 5, 7, 0])
    assert [m.number for m in harness.model.asked[-1]] == [1, 2, 3]


def test_an_overflow_moves_the_line_down_and_says_so_once(harness: Harness) -> None:
    """Beyond where the budget alone had put it."""
    exchanges(harness, 3)
    harness.answered("question".ljust(24), Said(ModelOverflow("Too long.")), words("Yes"))
    assert [asked[0].number for asked in harness.model.asked[-2:]] == [3, 7]
    assert (line(harness), moves(harness)) == (7, [3, 7])


def test_an_overflow_where_all_fits_into_half_moves_no_line(harness: Harness) -> None:
    """All of the room is 0, and not its first message."""
    harness.answered("one", words("x"))
    harness.answered("two", Said(ModelOverflow("Too long.")), words("Yes"))
    first = harness.model.asked[-1][0].number
    assert line(harness) == (0 if first == 1 else first)
    assert moves(harness) == ([] if first == 1 else [first])


def test_a_question_that_waits_moves_the_line_when_its_turn_comes(harness: Harness) -> None:
    """Not when it is asked: the answer before it still reads from further up."""
    exchanges(harness, 2)
    reply = harness.will(held())
    a, b = harness.ask("question".ljust(24)), harness.ask("question".ljust(24))
    reply.taken_in()
    assert (line(harness), moves(harness)) == (0, [])
    reply.say(TextDelta("answer".ljust(24)))
    reply.end()
    harness.ended(a.answer)
    harness.ended(b.answer)
    assert (line(harness), moves(harness)) == (3, [3])


# Editing what others may have overtaken


def test_an_edit_that_knows_the_last_message_is_done(harness: Harness) -> None:
    """Nothing came in between."""
    exchanges(harness, 2)
    count, last = harness.room.call(ChatRoom.following, 1)
    assert (count, last) == (2, 4)
    harness.room.call(ChatRoom.edit, 1, "otherwise", last=last)
    harness.ended(2, times=2)
    assert harness.texts() == ["otherwise", "All right."]


@pytest.mark.parametrize("last", [3, 2, 0, 5, -1, MAX_NUMBER])
def test_an_edit_that_was_overtaken_changes_nothing(harness: Harness, last: int) -> None:
    """The person is told to look; no message, no event, no request."""
    exchanges(harness, 2)
    before, told, asked = harness.messages(), list(harness.events), len(harness.model.asked)
    with pytest.raises(Outdated, match="Look at it, and edit again"):
        harness.room.call(ChatRoom.edit, 1, "otherwise", last=last)
    assert (harness.messages(), harness.events, len(harness.model.asked)) == (before, told, asked)
    assert harness.room.call(ChatRoom.idle)


def test_an_edit_after_somebody_else_asked_was_overtaken(harness: Harness) -> None:
    """Also if the room was cleared since, and then it is no message at all."""
    exchanges(harness, 1)
    _, last = harness.room.call(ChatRoom.following, 1)
    exchanges(harness, 1)
    with pytest.raises(Outdated):
        harness.room.call(ChatRoom.edit, 1, "otherwise", last=last)
    harness.room.call(ChatRoom.clear)
    with pytest.raises(NoSuchMessage):
        harness.room.call(ChatRoom.edit, 1, "otherwise", last=last)
    assert harness.messages() == ()


def test_a_retry_or_an_edit_overtakes_nobody(harness: Harness) -> None:
    """The room's last message is the same: only what would be dropped unseen counts."""
    exchanges(harness, 2)
    harness.room.call(ChatRoom.retry)
    harness.ended(4, times=2)
    harness.room.call(ChatRoom.edit, 3, "otherwise", last=4)
    harness.ended(4, times=3)
    assert harness.texts()[2] == "otherwise"


def test_an_edit_that_names_no_last_message_is_done(harness: Harness) -> None:
    """A script that knows what it wants."""
    exchanges(harness, 3)
    harness.room.call(ChatRoom.edit, 1, "otherwise", last=None)
    harness.ended(2, times=2)
    assert harness.texts() == ["otherwise", "All right."]
    assert harness.heard(MessagesDropped) == [MessagesDropped("room", 1)]


def test_an_edit_while_an_answer_is_made_is_not_now_whatever_it_knows(harness: Harness) -> None:
    """Right or overtaken, the person is told what to do first."""
    exchanges(harness, 1)
    reply = harness.will(held())
    harness.ask("two")
    reply.taken_in()
    for last in (2, 4, None):
        with pytest.raises(AnswerInProgress):
            harness.room.call(ChatRoom.edit, 1, "otherwise", last=last)
    reply.end()
    harness.ended(4)


def test_following_counts_what_an_edit_would_drop(harness: Harness) -> None:
    """Beside the answer that is made anew; numbers may have gaps."""
    exchanges(harness, 1)
    harness.room.call(ChatRoom.clear)
    assert harness.room.call(ChatRoom.following, 1) == (0, 0)
    exchanges(harness, 3)
    assert [harness.room.call(ChatRoom.following, number) for number in (3, 5, 7)] == [(4, 8), (2, 8), (0, 8)]
    harness.room.call(ChatRoom.edit, 5, "otherwise", last=8)
    harness.ended(6, times=2)
    assert len(harness.messages()) == 4, "two were dropped, as was said"
    assert harness.room.call(ChatRoom.following, 3) == (2, 6)


def test_following_of_any_number_is_an_answer(harness: Harness) -> None:
    """A form may send what it likes."""
    exchanges(harness, 1)
    assert harness.room.call(ChatRoom.following, 99) == (0, 2)
    assert harness.room.call(ChatRoom.following, 10**18 - 1) == (0, 2)
    assert harness.room.call(ChatRoom.following, -5) == (2, 2)


# What came after


def test_after_pages_in_order_without_gap_or_overlap(harness: Harness) -> None:
    """From any number on, there or not, to the end and then nothing."""
    exchanges(harness, 1)
    harness.room.call(ChatRoom.clear)
    exchanges(harness, 3)
    found: list[int] = []
    last = 0
    while page := harness.room.call(ChatRoom.after, last, limit=4):
        assert len(page) <= 4
        found += [message.number for message in page]
        last = found[-1]
    assert found == [3, 4, 5, 6, 7, 8]
    assert harness.room.call(ChatRoom.after, 4, limit=4) == harness.messages()[2:]
    for beyond in (8, 9, 10**18, MAX_NUMBER, MAX_NUMBER + 1, 10**30):
        assert harness.room.call(ChatRoom.after, beyond) == ()
    assert harness.room.call(ChatRoom.after, -1) == harness.messages()
    assert harness.room.call(ChatRoom.after, 0, limit=0) == ()


def test_after_shows_the_growing_answer_as_it_is_now(harness: Harness) -> None:
    """Every token at once, and those that wait behind it."""
    exchanges(harness, 1)
    reply = harness.will(held(TextDelta("One")))
    harness.ask("two")
    harness.ask("three")
    for word in ("", " two", " three"):
        if word:
            reply.say(TextDelta(word))
        else:
            reply.taken_in()
        question, growing, *rest = harness.room.call(ChatRoom.after, 2)
        assert (question.number, growing.number, growing.state) == (3, 4, "streaming")
        assert growing == harness.message(4)
        assert growing.text.endswith(word or "One")
    assert growing.parts == (Text("One two three"),)
    assert [message.state for message in rest] == ["complete", "waiting"]
    reply.end()
    harness.ended(6)


def test_an_overseer_forwards_all_of_it(overseer: Overseer, model_server: ModelServer) -> None:
    """Settings, what follows, what came after, an edit that was overtaken, and Continue."""
    room_id = overseer.create("Kitchen").id
    events: list[RoomEvent] = []
    overseer.subscribe(events.append)
    overseer.ask(room_id, "one")
    no_turns()
    assert overseer.following(room_id, 1) == (0, 2)
    assert [message.number for message in overseer.after(room_id, 1)] == [2]
    with pytest.raises(Outdated):
        overseer.edit(room_id, 1, "otherwise", last=1)
    with pytest.raises(Outdated):
        overseer.resume(room_id)
    overseer.edit(room_id, 1, "otherwise", last=2)
    no_turns()
    assert [message.text for message in overseer.messages(room_id).messages] == ["otherwise", "All right."]
    assert overseer.messages(room_id).reads_from == 0
    assert not any(isinstance(event, ReadingMoved) for event in events)
    assert len(model_server.requests) == 2
