"""A question that several models answer: their answers side by side, the turns that run at once, and the choice."""

from __future__ import annotations

import pytest

from overseer.domain.context import ModelContext
from overseer.domain.errors import AnswerInProgress, KeyReused, Outdated
from overseer.domain.events import MessageAdded, PathChanged, TurnEnded, TurnStarted
from overseer.llm import ModelCut, ModelError, TextDelta
from overseer.rooms.chat_room import INTERRUPTED, STOPPED, ChatRoom
from overseer.rooms.overseer import Overseer
from tests.support.room_harness import RoomHarness, ScriptedModel, ScriptedReply, held_reply, text_reply
from tests.support.waiting import until


def shown(harness: RoomHarness) -> list[list[int]]:
    """Return the numbers of the messages on the page; those in one list are side by side."""
    page = harness.call(ChatRoom.messages)
    return [[one.number for one in page.lanes(message)] for message in page.messages]


def test_every_model_answers_the_same_question_at_the_same_time(harness: RoomHarness) -> None:
    harness.answer("Hello?")
    first, second, third = held_reply(), held_reply(), held_reply()
    asked = harness.ask_several("Which?", ant=first, bee=second, cat=third)
    assert (asked.question, asked.answers) == (3, (4, 5, 6))
    assert harness.events[-1] == MessageAdded("room", 3, 4, (5, 6))
    third.send(TextDelta("Cat"))
    first.send(TextDelta("Ant"))
    second.send(TextDelta("Bee"))
    assert [harness.message(number).text for number in (4, 5, 6)] == ["Ant", "Bee", "Cat"]
    assert [harness.message(number).state for number in (4, 5, 6)] == ["streaming"] * 3
    assert shown(harness) == [[1], [2], [3], [4, 5, 6]]
    for number, name, reply in ((6, "cat", third), (4, "ant", first), (5, "bee", second)):
        assert harness.models[name].request_texts() == ["Hello?", "All right.", "Which?"]
        assert harness.is_answering()
        reply.end()
        assert harness.finished(number).asked_model == name
    assert not harness.is_answering()
    summary = harness.call(ChatRoom.summary)
    assert (summary.messages, summary.hidden, summary.preview) == (4, 2, "Ant")


def test_one_model_that_is_asked_answers_this_question_only(harness: RoomHarness) -> None:
    harness.configure(model="usual")
    asked = harness.ask_several("Which?", other=text_reply("Other"))
    assert harness.finished(asked.answer).text == "Other"
    assert shown(harness) == [[1], [2]]
    harness.answer("And now?")
    assert harness.picked_models == ["other", "usual"]


def test_chosen_answer_is_the_only_one_that_is_shown_and_gone_on_with(harness: RoomHarness) -> None:
    for number in harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee")).answers:
        harness.wait_for_end(number)
    harness.show(3)
    assert harness.events[-1] == PathChanged("room")
    assert shown(harness) == [[1], [3]]
    assert (harness.message(2).versions.later, harness.message(3).versions.earlier) == (3, 2)
    harness.answer("Why?")
    assert harness.model.request_texts() == ["Which?", "Bee", "Why?"]
    harness.show(2)
    assert shown(harness) == [[1], [2]]


def test_next_question_follows_the_first_answer_until_another_is_chosen(harness: RoomHarness) -> None:
    for number in harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee")).answers:
        harness.wait_for_end(number)
    harness.answer("Why?")
    assert harness.model.request_texts() == ["Which?", "Ant", "Why?"]
    assert shown(harness) == [[1], [2, 3], [4], [5]]
    harness.show(3)
    assert shown(harness) == [[1], [3]]
    harness.show(4)
    assert shown(harness) == [[1], [2], [4], [5]]


def test_question_waits_until_all_models_have_answered(harness: RoomHarness) -> None:
    first, second = held_reply(), held_reply()
    harness.ask_several("Which?", ant=first, bee=second)
    harness.ask("Why?")
    first.end(ModelError("Refused."))
    assert harness.finished(2).state == "failed"
    assert harness.message(5).queued
    second.end(ModelError("Refused."))
    assert harness.finished(3).state == "failed"
    assert harness.finished(5).text == "All right."


def test_several_models_that_are_queued_start_together(harness: RoomHarness) -> None:
    reply = harness.ask_held("Hello?")
    first, second = held_reply(), held_reply()
    harness.ask_several("Which?", ant=first, bee=second)
    assert harness.message(4).queued and harness.message(5).queued
    reply.end()
    second.send(TextDelta("Bee"))
    first.send(TextDelta("Ant"))
    assert [event.number for event in harness.events if isinstance(event, TurnStarted)] == [4, 5]


def test_one_of_the_answers_can_be_stopped_alone(harness: RoomHarness) -> None:
    first, second = held_reply(TextDelta("Ant")), held_reply(TextDelta("Bee"))
    harness.ask_several("Which?", ant=first, bee=second)
    first.wait_consumed()
    second.wait_consumed()
    harness.stop(3)
    assert second.closed.is_set() and not first.closed.is_set()
    assert (harness.message(3).state, harness.message(3).text, harness.message(3).reason) == ("stopped", "Bee", STOPPED)
    first.send(TextDelta(" and more"))
    assert harness.message(2).text == "Ant and more"
    harness.stop(3)
    harness.stop(99)
    assert harness.message(2).state == "streaming"


def test_stop_ends_all_answers_to_the_question_and_the_next_question_is_answered(harness: RoomHarness) -> None:
    first, second = held_reply(), held_reply()
    harness.ask_several("Which?", ant=first, bee=second)
    harness.ask("Why?")
    harness.stop()
    assert first.closed.is_set() and second.closed.is_set()
    assert [harness.message(number).state for number in (2, 3)] == ["stopped", "stopped"]
    assert harness.finished(5).text == "All right."
    assert [event.number for event in harness.events if isinstance(event, TurnEnded)] == [2, 3, 5]


def test_queued_question_is_removed_with_all_its_answers(harness: RoomHarness) -> None:
    reply = harness.ask_held("Hello?", TextDelta("Hi"))
    harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee"))
    harness.ask("Why?")
    harness.call(ChatRoom.withdraw, 3)
    assert shown(harness) == [[1], [2], [6], [7]]
    assert harness.query("SELECT count(*) FROM messages") == [(4,)]
    reply.end()
    harness.wait_for_end(7)
    assert harness.model.request_texts() == ["Hello?", "Hi", "Why?"] and not harness.models["ant"].requests


def test_question_that_one_model_is_answering_cannot_be_removed(harness: RoomHarness) -> None:
    harness.ask_several("Which?", ant=held_reply(), bee=held_reply())
    with pytest.raises(Outdated):
        harness.call(ChatRoom.withdraw, 1)


def test_retry_replaces_one_answer_in_its_place_while_others_are_generated(harness: RoomHarness) -> None:
    """The replaced answer stays, as a version. The same model is asked."""
    second = held_reply(TextDelta("Bee"))
    harness.ask_several("Which?", ant=ScriptedReply(TextDelta("An"), ModelCut("Cut off.")), bee=second)
    assert harness.finished(2).state == "interrupted"
    harness.models["ant"].replies.append(text_reply("Ant"))
    assert harness.retry(2) == 4
    assert (harness.finished(4).text, harness.message(4).asked_model) == ("Ant", "ant")
    assert shown(harness) == [[1], [4, 3]]
    assert harness.message(2).text == "An"
    with pytest.raises(AnswerInProgress):
        harness.retry(3)
    second.end()
    harness.wait_for_end(3)
    harness.models["bee"].replies.append(text_reply("Wasp"))
    assert harness.retry(3) == 5
    harness.wait_for_end(5)
    assert shown(harness) == [[1], [4, 5]]
    harness.show(5)
    assert harness.message(5).versions.count == 4


def test_answer_without_content_is_generated_again_in_its_place(harness: RoomHarness) -> None:
    asked = harness.ask_several("Which?", ant=text_reply("Ant"), bee=ScriptedReply(ModelError("Refused.")))
    for number in asked.answers:
        harness.wait_for_end(number)
    assert harness.retry(3) == 3
    assert harness.finished(3, times=2).text == "All right."
    assert harness.picked_models[-1] == "bee"


def test_answer_beside_the_last_one_can_be_continued(harness: RoomHarness) -> None:
    asked = harness.ask_several(
        "Which?", ant=text_reply("Ant"), bee=ScriptedReply(TextDelta("Be"), ModelCut("Cut off."))
    )
    for number in asked.answers:
        harness.wait_for_end(number)
    harness.models["bee"].replies.append(text_reply("e"))
    assert harness.resume(3) == 3
    assert harness.finished(3, times=2).text == "Bee"


def test_only_the_last_answers_can_be_generated_again(harness: RoomHarness) -> None:
    for number in harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee")).answers:
        harness.wait_for_end(number)
    harness.answer("Why?")
    for number in (1, 2, 3, 4, 99):
        with pytest.raises(Outdated):
            harness.retry(number)
    for number in (2, 3, 99):
        with pytest.raises(Outdated):
            harness.resume(number)


def test_switch_away_and_back_chooses_nothing(harness: RoomHarness) -> None:
    for number in harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee")).answers:
        harness.wait_for_end(number)
    harness.wait_for_end(harness.edit(1, "Who?").answer)
    page = harness.call(ChatRoom.messages_with, 3)
    assert page.hidden and [[one.number for one in page.lanes(message)] for message in page.messages] == [[1], [2, 3]]
    harness.show(1)
    assert shown(harness) == [[1], [2, 3]]
    harness.answer("Why?")
    assert harness.model.request_texts() == ["Which?", "Ant", "Why?"]


def test_answer_of_one_model_that_failed_is_generated_again_by_the_model_of_the_room(harness: RoomHarness) -> None:
    """A name that was mistyped is not asked again."""
    harness.wait_for_end(harness.ask_several("Which?", bad=ScriptedReply(ModelError("No such model."))).answer)
    harness.configure(model="usual")
    assert harness.finished(harness.retry(), times=2).text == "All right."
    assert harness.picked_models == ["bad", "usual"]


def test_start_of_the_context_is_that_of_the_first_answer(harness: RoomHarness) -> None:
    harness.answer("Hello?")
    harness.models["bee"] = short = ScriptedModel()
    short.context = ModelContext(tokens=4)
    for number in harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee")).answers:
        harness.wait_for_end(number)
    assert len(short.requests[0]) < len(harness.models["ant"].requests[0])
    assert harness.call(ChatRoom.context_start) == 0


def test_version_after_the_choice_is_generated_by_the_model_of_the_room(harness: RoomHarness) -> None:
    for number in harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee")).answers:
        harness.wait_for_end(number)
    harness.configure(model="usual")
    harness.show(3)
    harness.wait_for_end(harness.retry())
    assert harness.picked_models[-1] == "usual"


def test_repeated_key_returns_all_answers(harness: RoomHarness) -> None:
    asked = harness.call(ChatRoom.ask, "Which?", key="k", models=("ant", "bee"))
    again = harness.call(ChatRoom.ask, "Which?", key="k", models=("ant", "bee"))
    assert again.repeated and (again.question, again.answers) == (asked.question, asked.answers)
    with pytest.raises(KeyReused):
        harness.call(ChatRoom.ask, "Who?", key="k")


def test_answers_that_a_crash_cut_off_are_interrupted_and_stay_side_by_side(harness: RoomHarness) -> None:
    first, second = held_reply(TextDelta("Ant")), held_reply(TextDelta("Bee"))
    harness.ask_several("Which?", ant=first, bee=second)
    first.wait_consumed()
    second.wait_consumed()
    harness.call(ChatRoom.save)
    harness.restart()
    assert shown(harness) == [[1], [2, 3]]
    for number, text in ((2, "Ant"), (3, "Bee")):
        message = harness.message(number)
        assert (message.state, message.text, message.reason) == ("interrupted", text, INTERRUPTED)


@pytest.mark.parametrize("end", [ChatRoom.clear, ChatRoom.stop_all], ids=["clear", "stop all"])
def test_all_turns_end_at_once(harness: RoomHarness, end: object) -> None:
    first, second = held_reply(), held_reply()
    harness.ask_several("Which?", ant=first, bee=second)
    harness.call(end)  # type: ignore[arg-type]
    assert first.closed.is_set() and second.closed.is_set()
    assert not harness.is_answering()


def test_queued_answers_whose_turns_cannot_start_are_tried_again(
    harness: RoomHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overseer.rooms.chat_room.START_RETRY_DELAYS_SECONDS", (0.01, 3600.0))
    failing = True
    start = ChatRoom._start_turn

    def start_turn(room: ChatRoom, number: int, *args: object) -> None:
        if failing and number == 3:
            raise RuntimeError("can't start new thread")
        start(room, number, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ChatRoom, "_start_turn", start_turn)
    harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee"))
    assert harness.finished(2).text == "Ant"
    assert harness.message(3).queued
    failing = False
    harness.messages()
    assert harness.finished(3).text == "Bee"


def test_answer_whose_turn_cannot_start_can_be_stopped(harness: RoomHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overseer.rooms.chat_room.START_RETRY_DELAYS_SECONDS", (3600.0,))

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ChatRoom, "_start_turn", fail)
    harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee"))
    harness.stop(2)
    assert (harness.message(2).state, harness.message(3).queued) == ("stopped", True)
    harness.stop()
    assert harness.message(3).state == "stopped" and not harness.is_answering()


def test_fork_at_one_of_the_answers_goes_on_with_it(harness: RoomHarness, overseer: Overseer) -> None:
    room = overseer.create("Kitchen")
    asked = overseer.room(room.id).ask("Which?", models=["ant", "bee", "cat"])
    until(lambda: all(overseer.room(room.id).message(number).finished for number in asked.answers))
    whole, cut = overseer.fork(room.id), overseer.fork(room.id, upto=3)
    page = overseer.room(whole.id).messages()
    assert [one.number for one in page.lanes(page.messages[1])] == [2, 3, 4]
    page = overseer.room(cut.id).messages()
    assert [[one.number for one in page.lanes(message)] for message in page.messages] == [[1], [3]]


def test_question_leads_back_to_its_answers_side_by_side(harness: RoomHarness) -> None:
    for number in harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee")).answers:
        harness.wait_for_end(number)
    again = harness.retry(2)
    harness.wait_for_end(again)
    harness.show(2)
    assert shown(harness) == [[1], [2]]
    harness.show(1)
    assert shown(harness) == [[1], [again, 3]]
    harness.show(1)
    assert shown(harness) == [[1], [again, 3]]


def test_repeated_key_returns_the_answers_of_all_models_after_a_choice(harness: RoomHarness) -> None:
    asked = harness.call(ChatRoom.ask, "Which?", key="k", models=("ant", "bee", "cat"))
    for number in asked.answers:
        harness.wait_for_end(number)
    harness.show(3)
    assert harness.call(ChatRoom.ask, "Which?", key="k").answers == (2, 3, 4)


def test_question_is_removed_with_an_answer_that_was_stopped_before_it_began(harness: RoomHarness) -> None:
    reply = harness.ask_held("Hello?")
    asked = harness.ask_several("Which?", ant=text_reply("Ant"), bee=text_reply("Bee"))
    harness.stop(asked.answers[0])
    harness.call(ChatRoom.withdraw, asked.question)
    assert shown(harness) == [[1], [2]]
    reply.end()
    harness.wait_for_end(2)
