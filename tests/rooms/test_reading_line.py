"""From where the model reads a room, what an edit would drop, and what came after a message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from overseer.domain.events import MessagesDropped, ReadingMoved, RoomEvent
from overseer.domain.messages import Text
from overseer.domain.settings import Changes
from overseer.llm import ModelOverflow, TextDelta
from overseer.rooms.chat_room import ChatRoom, Limits, NotNow
from overseer.rooms.overseer import Overseer
from overseer.storage.room_store import MAX_NUMBER, NoSuchMessage, Outdated
from tests.rooms.test_chat_room import House, Said, held, no_turns, words
from tests.support.model_server import ModelServer

EXCHANGE = 20  # tokens that each exchange of these tests takes


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house with one room, whose model reads two exchanges and a question."""
    house = House(tmp_path / "house")
    house.restarted(limits=Limits(context_tokens=2 * EXCHANGE + 10))
    yield house
    house.facets.close("the test is over")
    no_turns()


def exchanges(house: House, many: int) -> None:
    """So many questions with their answers."""
    for n in range(many):
        house.answered(f"question {n}".ljust(24), words(f"answer {n}".ljust(24)))


def line(house: House) -> int:
    """From which message the model reads the room; the same on every page of it."""
    found = {house.room.call(ChatRoom.messages, before=before, limit=2).reads_from for before in (None, 3, 1)}
    assert len(found) == 1
    assert house.on_disk("SELECT reads_from FROM room") == [(min(found),)]
    return min(found)


def moves(house: House) -> list[int]:
    """Where the line was told to have moved, in order."""
    return [event.number for event in house.events if isinstance(event, ReadingMoved)]


# The line


def test_there_is_no_line_while_all_is_read(house: House) -> None:
    """Not in a new room, not up to the last token."""
    assert line(house) == 0
    exchanges(house, 3)
    assert [m.number for m in house.model.asked[-1]] == [1, 2, 3, 4, 5]
    assert (line(house), moves(house)) == (0, [])


def test_the_line_moves_with_what_the_model_reads(house: House) -> None:
    """Each move is told once; the line is at the first message that was sent."""
    exchanges(house, 6)
    assert [asked[0].number for asked in house.model.asked] == [1, 1, 1, 3, 5, 7]
    assert moves(house) == [3, 5, 7]
    assert line(house) == 7


def test_a_line_that_stays_is_not_told_again(house: House) -> None:
    """Retry reads the same."""
    exchanges(house, 4)
    house.room.call(ChatRoom.retry)
    house.ended(8, times=2)
    assert moves(house) == [3]


def test_the_line_is_told_after_it_is_in_the_file_and_before_the_first_word(house: House) -> None:
    """While the answer still grows the page shows where it reads from."""
    exchanges(house, 3)
    seen: list[object] = []
    house.listeners.append(
        lambda event: seen.extend(
            house.on_disk("SELECT reads_from FROM room") if isinstance(event, ReadingMoved) else []
        )
    )
    reply = house.will(held())
    house.ask("question".ljust(24))
    reply.taken_in()
    assert seen == [(3,)]
    assert line(house) == 3
    reply.end()
    house.ended(8)


def test_the_line_survives_a_kill(house: House) -> None:
    """It is in the room's file, and nothing is told because a file was opened."""
    exchanges(house, 4)
    house.restarted(limits=Limits(context_tokens=2 * EXCHANGE + 10))
    assert (line(house), moves(house)) == (3, [])
    exchanges(house, 1)
    assert moves(house) == [5]


def test_the_line_goes_away_when_more_can_be_read(house: House) -> None:
    """A larger budget, or a shorter prompt; 0 is told as any move."""
    exchanges(house, 4)
    house.restarted()
    exchanges(house, 1)
    assert (line(house), moves(house)) == (0, [0])
    house.restarted(limits=Limits(context_tokens=300))
    house.room.call(ChatRoom.configure, Changes(system_prompt="x" * 4 * 280))
    house.answered("question".ljust(24), words("answer"))
    assert moves(house) == [11]
    house.room.call(ChatRoom.configure, Changes(system_prompt=""))
    house.room.call(ChatRoom.retry)
    house.ended(12, times=2)
    assert (line(house), moves(house)) == (0, [11, 0])


def test_clear_takes_the_line_away(house: House) -> None:
    """The numbers go on, and the first message of the room is all of it, whatever its number."""
    exchanges(house, 4)
    house.room.call(ChatRoom.clear)
    assert line(house) == 0
    exchanges(house, 3)
    assert house.model.asked[-1][0].number == 9
    assert (line(house), moves(house)) == (0, [3])
    exchanges(house, 1)
    assert (line(house), moves(house)) == (11, [3, 11])


def test_an_edit_of_what_is_above_the_line_takes_it_with_it(house: House) -> None:
    """It is never at a message that is not there any more."""
    exchanges(house, 6)
    house.will(words("anew".ljust(24)))
    house.room.call(ChatRoom.edit, 3, "otherwise".ljust(24))
    house.ended(4, times=2)
    assert (line(house), moves(house)) == (0, [3, 5, 7, 0])
    assert [m.number for m in house.model.asked[-1]] == [1, 2, 3]


def test_an_overflow_moves_the_line_down_and_says_so_once(house: House) -> None:
    """Beyond where the budget alone had put it."""
    exchanges(house, 3)
    house.answered("question".ljust(24), Said(ModelOverflow("Too long.")), words("Yes"))
    assert [asked[0].number for asked in house.model.asked[-2:]] == [3, 7]
    assert (line(house), moves(house)) == (7, [3, 7])


def test_an_overflow_where_all_fits_into_half_moves_no_line(house: House) -> None:
    """All of the room is 0, and not its first message."""
    house.answered("one", words("x"))
    house.answered("two", Said(ModelOverflow("Too long.")), words("Yes"))
    first = house.model.asked[-1][0].number
    assert line(house) == (0 if first == 1 else first)
    assert moves(house) == ([] if first == 1 else [first])


def test_a_question_that_waits_moves_the_line_when_its_turn_comes(house: House) -> None:
    """Not when it is asked: the answer before it still reads from further up."""
    exchanges(house, 2)
    reply = house.will(held())
    a, b = house.ask("question".ljust(24)), house.ask("question".ljust(24))
    reply.taken_in()
    assert (line(house), moves(house)) == (0, [])
    reply.say(TextDelta("answer".ljust(24)))
    reply.end()
    house.ended(a.answer)
    house.ended(b.answer)
    assert (line(house), moves(house)) == (3, [3])


# Editing what others may have overtaken


def test_an_edit_that_knows_the_last_message_is_done(house: House) -> None:
    """Nothing came in between."""
    exchanges(house, 2)
    count, last = house.room.call(ChatRoom.following, 1)
    assert (count, last) == (2, 4)
    house.room.call(ChatRoom.edit, 1, "otherwise", last=last)
    house.ended(2, times=2)
    assert house.texts() == ["otherwise", "All right."]


@pytest.mark.parametrize("last", [3, 2, 0, 5, -1, MAX_NUMBER])
def test_an_edit_that_was_overtaken_changes_nothing(house: House, last: int) -> None:
    """The person is told to look; no message, no event, no request."""
    exchanges(house, 2)
    before, told, asked = house.messages(), list(house.events), len(house.model.asked)
    with pytest.raises(Outdated, match="Look at it, and edit again"):
        house.room.call(ChatRoom.edit, 1, "otherwise", last=last)
    assert (house.messages(), house.events, len(house.model.asked)) == (before, told, asked)
    assert house.room.call(ChatRoom.idle)


def test_an_edit_after_somebody_else_asked_was_overtaken(house: House) -> None:
    """Also if the room was cleared since, and then it is no message at all."""
    exchanges(house, 1)
    _, last = house.room.call(ChatRoom.following, 1)
    exchanges(house, 1)
    with pytest.raises(Outdated):
        house.room.call(ChatRoom.edit, 1, "otherwise", last=last)
    house.room.call(ChatRoom.clear)
    with pytest.raises(NoSuchMessage):
        house.room.call(ChatRoom.edit, 1, "otherwise", last=last)
    assert house.messages() == ()


def test_a_retry_or_an_edit_overtakes_nobody(house: House) -> None:
    """The room's last message is the same: only what would be dropped unseen counts."""
    exchanges(house, 2)
    house.room.call(ChatRoom.retry)
    house.ended(4, times=2)
    house.room.call(ChatRoom.edit, 3, "otherwise", last=4)
    house.ended(4, times=3)
    assert house.texts()[2] == "otherwise"


def test_an_edit_that_names_no_last_message_is_done(house: House) -> None:
    """A script that knows what it wants."""
    exchanges(house, 3)
    house.room.call(ChatRoom.edit, 1, "otherwise", last=None)
    house.ended(2, times=2)
    assert house.texts() == ["otherwise", "All right."]
    assert house.heard(MessagesDropped) == [MessagesDropped("room", 1)]


def test_an_edit_while_an_answer_is_made_is_not_now_whatever_it_knows(house: House) -> None:
    """Right or overtaken, the person is told what to do first."""
    exchanges(house, 1)
    reply = house.will(held())
    house.ask("two")
    reply.taken_in()
    for last in (2, 4, None):
        with pytest.raises(NotNow):
            house.room.call(ChatRoom.edit, 1, "otherwise", last=last)
    reply.end()
    house.ended(4)


def test_following_counts_what_an_edit_would_drop(house: House) -> None:
    """Beside the answer that is made anew; numbers may have gaps."""
    exchanges(house, 1)
    house.room.call(ChatRoom.clear)
    assert house.room.call(ChatRoom.following, 1) == (0, 0)
    exchanges(house, 3)
    assert [house.room.call(ChatRoom.following, number) for number in (3, 5, 7)] == [(4, 8), (2, 8), (0, 8)]
    house.room.call(ChatRoom.edit, 5, "otherwise", last=8)
    house.ended(6, times=2)
    assert len(house.messages()) == 4, "two were dropped, as was said"
    assert house.room.call(ChatRoom.following, 3) == (2, 6)


def test_following_of_any_number_is_an_answer(house: House) -> None:
    """A form may send what it likes."""
    exchanges(house, 1)
    assert house.room.call(ChatRoom.following, 99) == (0, 2)
    assert house.room.call(ChatRoom.following, 10**18 - 1) == (0, 2)
    assert house.room.call(ChatRoom.following, -5) == (2, 2)


# What came after


def test_after_pages_in_order_without_gap_or_overlap(house: House) -> None:
    """From any number on, there or not, to the end and then nothing."""
    exchanges(house, 1)
    house.room.call(ChatRoom.clear)
    exchanges(house, 3)
    found: list[int] = []
    last = 0
    while page := house.room.call(ChatRoom.after, last, limit=4):
        assert len(page) <= 4
        found += [message.number for message in page]
        last = found[-1]
    assert found == [3, 4, 5, 6, 7, 8]
    assert house.room.call(ChatRoom.after, 4, limit=4) == house.messages()[2:]
    for beyond in (8, 9, 10**18, MAX_NUMBER, MAX_NUMBER + 1, 10**30):
        assert house.room.call(ChatRoom.after, beyond) == ()
    assert house.room.call(ChatRoom.after, -1) == house.messages()
    assert house.room.call(ChatRoom.after, 0, limit=0) == ()


def test_after_shows_the_growing_answer_as_it_is_now(house: House) -> None:
    """Every token at once, and those that wait behind it."""
    exchanges(house, 1)
    reply = house.will(held(TextDelta("One")))
    house.ask("two")
    house.ask("three")
    for word in ("", " two", " three"):
        if word:
            reply.say(TextDelta(word))
        else:
            reply.taken_in()
        question, growing, *rest = house.room.call(ChatRoom.after, 2)
        assert (question.number, growing.number, growing.state) == (3, 4, "streaming")
        assert growing == house.message(4)
        assert growing.text.endswith(word or "One")
    assert growing.parts == (Text("One two three"),)
    assert [message.state for message in rest] == ["complete", "waiting"]
    reply.end()
    house.ended(6)


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
