"""How much of a conversation a model reads: the newest exchanges that fit, never without the last question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overseer.domain.context import MESSAGE_OVERHEAD_TOKENS, estimate_tokens, message_tokens, newest_within_budget
from overseer.domain.messages import Message, Part, Reasoning, Role, Text, ToolCall

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, WORDS), st.builds(Reasoning, WORDS), st.builds(ToolCall, WORDS, WORDS, WORDS, WORDS)
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Questions, most of them with an answer, the last one without; in reading order."""
    found: list[Message] = []

    def add(role: Role, parts: Sequence[Part]) -> None:
        found.append(Message(len(found) + 1, role, "complete", tuple(parts)))

    for answered in [*draw(st.lists(st.booleans(), max_size=8)), False]:
        add("user", [Text(draw(WORDS))])
        if answered:
            add("assistant", draw(st.lists(PARTS, max_size=3)))
    return found


class Upwards:
    """Messages from the last one up; `read` is how many were taken."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.read = 0
        self._messages = messages

    def __iter__(self) -> Iterator[Message]:
        for message in reversed(self._messages):
            self.read += 1
            yield message


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é" * 4, 2), ("\N{GRINNING FACE}", 1), ("x" * 4000, 1000)],
)
def test_a_token_is_estimated_as_four_bytes(text: str, tokens: int) -> None:
    """Of UTF-8, rounded up, so that no words are free."""
    assert estimate_tokens(text) == tokens


def test_all_of_a_message_counts_but_what_was_thought() -> None:
    """Thoughts are not sent again; the arguments and the result of a tool are."""
    parts = (Reasoning("x" * 4000), Text("x" * 40), ToolCall("c1", "roll", "x" * 80, "x" * 400, "done"), Text("x"))
    assert message_tokens(Message(2, "assistant", "complete", parts)) == MESSAGE_OVERHEAD_TOKENS + 10 + 20 + 100 + 1
    assert message_tokens(Message(2, "assistant", "failed", ())) == MESSAGE_OVERHEAD_TOKENS


def test_nothing_said_is_nothing_read() -> None:
    """An empty room is no error, whatever the budget."""
    for budget in (-1, 0, 1000):
        assert newest_within_budget([], budget) == ()


def test_an_answer_alone_is_read_all_the_same() -> None:
    """The last message is never left out, whoever said it."""
    answer = Message(2, "assistant", "complete", (Text("Yes"),))
    assert newest_within_budget([answer], 1000) == (answer,) == newest_within_budget([answer], -5)


@given(conversations(), st.integers(-50, 300))
@settings(deadline=None)
def test_what_is_read_is_the_end_of_the_conversation(messages: list[Message], budget: int) -> None:
    """Without a gap, in reading order, with the last question, and within the budget unless that alone is over it."""
    found = newest_within_budget(reversed(messages), budget)
    assert found and list(found) == messages[-len(found) :]
    assert len(found) == 1 or sum(map(message_tokens, found)) <= budget


@given(conversations(), st.integers(-50, 300))
@settings(deadline=None)
def test_what_is_read_begins_with_a_question(messages: list[Message], budget: int) -> None:
    """No answer stands without what it answers."""
    assert newest_within_budget(reversed(messages), budget)[0].role == "user"


@given(conversations(), st.integers(-50, 300))
@settings(deadline=None)
def test_no_exchange_is_left_out_that_fits(messages: list[Message], budget: int) -> None:
    """The whole one before what is read would be over the budget."""
    left = messages[: -len(newest_within_budget(reversed(messages), budget))]
    if left:
        begins = max(n for n, message in enumerate(left) if message.role == "user")
        assert sum(map(message_tokens, messages[begins:])) > budget


@given(conversations(), st.integers(-50, 300))
@settings(deadline=None)
def test_no_more_is_looked_at_than_needed(messages: list[Message], budget: int) -> None:
    """Up to the first message that does not fit: a room may have a hundred thousand."""
    upwards = Upwards(messages)
    newest_within_budget(upwards, budget)
    fits = next(
        (n for n in range(len(messages) + 1) if sum(map(message_tokens, messages[n:])) <= budget), len(messages)
    )
    assert upwards.read <= len(messages) - fits + 1 + (fits == len(messages))


@given(conversations(), st.integers(-50, 300), st.integers(0, 100))
@settings(deadline=None)
def test_a_larger_budget_reads_no_less(messages: list[Message], budget: int, more: int) -> None:
    """So that halving it can only help."""
    assert len(newest_within_budget(reversed(messages), budget)) <= len(
        newest_within_budget(reversed(messages), budget + more)
    )
