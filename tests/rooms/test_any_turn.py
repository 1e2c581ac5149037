"""Whatever models say and people do, in whatever order: what is stored is what was said, and every turn ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer.domain.errors import Outdated
from overseer.domain.events import PartAdded, PartGrew
from overseer.domain.messages import Message, Part, Reasoning, State, Text, ToolCall
from overseer.llm import Delta, ModelBusy, ModelCut, ModelError, ReasoningDelta, TextDelta, ToolRequest
from overseer.rooms.chat_room import ChatRoom
from overseer.rooms.turn import MAX_STEPS, RETRY_DELAYS_SECONDS
from overseer.tools.registry import tool
from tests.rooms.test_chat_room import Harness, Said, no_turns

WORDS = st.text("ab \n\N{GRINNING FACE}", min_size=1, max_size=4)
DELTAS: st.SearchStrategy[Delta] = st.one_of(
    st.builds(TextDelta, WORDS),
    st.builds(TextDelta, WORDS),
    st.builds(ReasoningDelta, WORDS),
    st.builds(ToolRequest, st.just("c"), st.just("ring"), st.just("{}")),
)
ERRORS: st.SearchStrategy[ModelError | None] = st.one_of(
    st.none(),
    st.sampled_from([ModelCut("It broke off."), ModelError("It broke."), ModelBusy("Busy.", 0.0)]),
)
REPLIES = st.lists(st.tuples(st.lists(DELTAS, max_size=4), ERRORS), max_size=4)
ACTIONS = st.lists(st.tuples(st.sampled_from(["ask", "resume", "resume", "retry", "edit"]), REPLIES), max_size=5)

Reply = tuple[list[Delta], ModelError | None]


@tool
def ring() -> str:
    """Ring."""
    return "dong"


@dataclass(frozen=True)
class Answer:
    """What an answer has to be: its parts, its state and the tokens that were written."""

    parts: tuple[Part, ...] = ()
    state: State = "waiting"
    tokens: int = 0


def made(begun: Answer, replies: Sequence[Reply]) -> Answer:
    """The answer that comes of these replies, told in the plainest way."""
    parts = list(begun.parts)
    tokens = begun.tokens
    left = iter([*replies, *[([TextDelta("All"), TextDelta(" right.")], None)] * 30])
    for _ in range(MAX_STEPS):
        for tries in range(len(RETRY_DELAYS_SECONDS) + 1):
            deltas, error = next(left)
            spoke = [delta for delta in deltas if not isinstance(delta, ToolRequest)]
            requests = [delta for delta in deltas if isinstance(delta, ToolRequest)]
            said = "".join(delta.text for delta in spoke) + "".join(one.name + one.arguments for one in requests)
            tokens += -(-len(said.encode()) // 4)
            if not isinstance(error, ModelBusy) or spoke or tries == len(RETRY_DELAYS_SECONDS):
                break
        for delta in spoke:
            kind = Text if isinstance(delta, TextDelta) else Reasoning
            if parts and isinstance(parts[-1], kind):
                parts[-1] = replace(parts[-1], text=parts[-1].text + delta.text)
            else:
                parts.append(kind(delta.text))
        if error is not None:
            return Answer(tuple(parts), "interrupted" if isinstance(error, ModelCut) else "failed", tokens)
        if not requests:
            empty = all(isinstance(part, Reasoning) for part in parts)
            return Answer(tuple(parts), "failed" if empty else "complete", tokens)
        parts += [ToolCall("c", "ring", "{}", "dong", "done") for _ in requests]
    return Answer(tuple(parts), "failed", tokens)


def as_answer(message: Message) -> Answer:
    return Answer(message.parts, message.state, message.usage.tokens_out if message.usage else 0)


def heard(harness: Harness, number: int, begun: Sequence[Part]) -> list[str]:
    """What somebody who heard every event has of an answer's words."""
    found: list[str] = [part.text if not isinstance(part, ToolCall) else "" for part in begun]
    for event in harness.events:
        if isinstance(event, PartAdded) and event.number == number:
            assert event.position in (len(found), len(begun) - 1)
            found[event.position :] = [event.text]
        elif isinstance(event, PartGrew) and event.number == number:
            assert event.position == len(found) - 1
            found[event.position] += event.text
    return found


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """A harness whose model can ring."""
    harness = Harness(tmp_path / "harness")
    harness.restarted(ring)
    yield harness
    harness.facets.close("the test is over")
    no_turns()


@given(actions=ACTIONS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_said_and_done_is_what_is_stored(harness: Harness, actions: list[tuple[str, list[Reply]]]) -> None:
    """Parts, states and tokens, as shown, as told and as found after a kill; nothing waits for ever."""
    harness.room.call(ChatRoom.clear)
    expected: list[Answer] = []
    for action, replies in actions:
        harness.events.clear()
        harness.model.replies.clear()
        harness.model.replies.extend(Said(*deltas, *[error] if error else []) for deltas, error in replies)
        messages = harness.messages()
        begun = Answer()
        if action == "ask" or not expected:
            number = harness.ask("question").answer
            expected.append(begun)
        elif action == "resume":
            if not messages[-1].resumable:
                with pytest.raises(Outdated):
                    harness.room.call(ChatRoom.resume)
                continue
            begun = expected[-1]
            number = harness.room.call(ChatRoom.resume)
        elif action == "retry":
            number = harness.room.call(ChatRoom.retry)
        else:
            number = messages[1].number
            del expected[1:]
            harness.room.call(ChatRoom.edit, messages[0].number, "otherwise", last=messages[-1].number)
        harness.ended(number)
        no_turns()
        expected[-1] = made(begun, replies)
        assert as_answer(harness.message(number)) == expected[-1]
        assert heard(harness, number, begun.parts) == [
            "" if isinstance(part, ToolCall) else part.text for part in expected[-1].parts
        ]
    assert [as_answer(message) for message in harness.messages()[1::2]] == expected
    shown = harness.messages()
    harness.restarted(ring)
    assert harness.messages() == shown
    assert harness.room.call(ChatRoom.idle)
