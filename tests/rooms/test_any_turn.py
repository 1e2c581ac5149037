"""Properties of turns: whatever models and people do, what is stored is what was shown, and every turn ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer.domain.errors import Outdated
from overseer.domain.events import PartAdded, PartGrew, TurnEnded
from overseer.domain.messages import File, Message, Part, Reasoning, State, Text, ToolCall
from overseer.llm import (
    Delta,
    ModelBusy,
    ModelCut,
    ModelError,
    PictureFound,
    ReasoningDelta,
    ReasoningEnded,
    TextDelta,
    ToolRequest,
)
from overseer.rooms.chat_room import ChatRoom
from overseer.rooms.retries import RETRY_DELAYS_SECONDS
from overseer.rooms.turn import MAX_STEPS
from overseer.tools.toolbox import tool
from tests.support.room_harness import RoomHarness, ScriptedReply
from tests.support.waiting import join_turn_threads

WORDS = st.text("ab \n\N{GRINNING FACE}", min_size=1, max_size=4)
DELTAS: st.SearchStrategy[Delta] = st.one_of(
    st.builds(TextDelta, WORDS),
    st.builds(TextDelta, WORDS),
    st.builds(ReasoningDelta, WORDS),
    st.builds(ToolRequest, st.just("c"), st.just("ring"), st.just("{}")),
    st.just(ReasoningEnded()),
    st.just(PictureFound(b"picture", "image/png", 3, 2)),
)
ERRORS: st.SearchStrategy[ModelError | None] = st.one_of(
    st.none(),
    st.sampled_from([ModelCut("It broke off."), ModelError("It broke."), ModelBusy("Busy.", 0.0)]),
)
PICTURE = File(sha256(b"picture").hexdigest(), "image/png", "", 3, 2)
REPLIES = st.lists(st.tuples(st.lists(DELTAS, max_size=4), ERRORS), max_size=4)
ACTIONS = st.lists(st.tuples(st.sampled_from(["ask", "resume", "resume", "retry", "edit"]), REPLIES), max_size=5)

Reply = tuple[list[Delta], ModelError | None]


@tool
def ring() -> str:
    """Ring."""
    return "dong"


@dataclass(frozen=True)
class Answer:
    """The expected parts, state and output tokens of an answer."""

    parts: tuple[Part, ...] = ()
    state: State = "waiting"
    tokens: int = 0


def expected_answer(partial: Answer, replies: Sequence[Reply]) -> Answer:
    """Return the answer that these replies make, by the simplest possible model of a turn."""
    parts = list(partial.parts)
    tokens = partial.tokens
    default: Reply = ([TextDelta("All"), TextDelta(" right.")], None)
    left = iter([*replies, *[default] * 30])
    for _ in range(MAX_STEPS):
        for retries in range(len(RETRY_DELAYS_SECONDS) + 1):
            deltas, error = next(left)
            texts = [delta for delta in deltas if isinstance(delta, TextDelta | ReasoningDelta | PictureFound)]
            requests = [delta for delta in deltas if isinstance(delta, ToolRequest)]
            output = "".join(delta.text for delta in texts) + "".join(one.name + one.arguments for one in requests)
            tokens += -(-len(output.encode()) // 4)
            if not isinstance(error, ModelBusy) or texts or retries == len(RETRY_DELAYS_SECONDS):
                break
        first = len(parts)
        for delta in deltas:
            if isinstance(delta, ReasoningEnded) and len(parts) > first and isinstance(last := parts[-1], Text):
                parts[-1] = Reasoning(last.text)
            elif isinstance(delta, PictureFound):
                parts.append(PICTURE)
            elif isinstance(delta, TextDelta | ReasoningDelta):
                kind = Text if isinstance(delta, TextDelta) else Reasoning
                if parts and isinstance(last := parts[-1], kind):
                    parts[-1] = replace(last, text=last.text + delta.text)
                else:
                    parts.append(kind(delta.text))
        if error is not None:
            return Answer(tuple(parts), "interrupted" if isinstance(error, ModelCut) else "failed", tokens)
        if not requests:
            calls = [position for position, part in enumerate(parts) if isinstance(part, ToolCall)]
            empty = not any(isinstance(part, Text | File) for part in parts[calls[-1] + 1 if calls else 0 :])
            return Answer(tuple(parts), "failed" if empty else "complete", tokens)
        parts += [ToolCall("c", "ring", "{}", "dong", "done") for _ in requests]
    return Answer(tuple(parts), "failed", tokens)


def as_answer(message: Message) -> Answer:
    return Answer(message.parts, message.state, message.usage.tokens_out if message.usage else 0)


def part_texts(parts: Sequence[Part]) -> list[str]:
    return ["" if isinstance(part, ToolCall | File) else part.text for part in parts]


def texts_from_events(harness: RoomHarness, number: int, partial: Sequence[Part]) -> list[str]:
    """Return the texts of an answer's parts, put together from the events."""
    found = part_texts(partial)
    for event in harness.events:
        if isinstance(event, PartAdded) and event.number == number:
            assert event.position in (len(found), len(found) - 1, len(partial) - 1)
            found[event.position :] = [event.text]
        elif isinstance(event, PartGrew) and event.number == number:
            assert event.position == len(found) - 1
            found[event.position] += event.text
    assert isinstance(harness.events[-1], TurnEnded)
    return found


@given(actions=ACTIONS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_turns_store_what_their_events_showed(harness: RoomHarness, actions: list[tuple[str, list[Reply]]]) -> None:
    """Parts, states and tokens are as expected, as emitted, and the same after a kill."""
    harness.restart(ring)
    harness.clear()
    expected: list[Answer] = []
    for action, replies in actions:
        harness.events.clear()
        harness.model.replies.clear()
        harness.model.replies.extend(ScriptedReply(*deltas, *[error] if error else []) for deltas, error in replies)
        messages = harness.messages()
        partial = Answer()
        if action == "ask" or not expected:
            number = harness.ask("question").answer
            expected.append(partial)
        elif action == "resume":
            if not messages[-1].resumable:
                with pytest.raises(Outdated):
                    harness.resume()
                continue
            partial = expected[-1]
            number = harness.resume()
        elif action == "retry":
            number = harness.retry()
        else:
            del expected[1:]
            number = harness.edit(messages[0].number, "changed").answer
        harness.wait_for_end(number)
        join_turn_threads()
        expected[-1] = expected_answer(partial, replies)
        assert as_answer(harness.message(number)) == expected[-1]
        assert texts_from_events(harness, number, partial.parts) == part_texts(expected[-1].parts)
    assert [as_answer(message) for message in harness.messages()[1::2]] == expected
    shown = harness.messages()
    harness.restart(ring)
    assert harness.messages() == shown
    assert harness.call(ChatRoom.idle)
