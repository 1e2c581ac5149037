"""The context of a model: estimated tokens and the newest messages that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer.domain.context import MESSAGE_OVERHEAD_TOKENS, estimate_tokens, message_tokens, newest_within_budget
from overseer.domain.messages import Message, Part, Reasoning, Role, Text, ToolCall

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, WORDS), st.builds(Reasoning, WORDS), st.builds(ToolCall, WORDS, WORDS, WORDS, WORDS)
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Questions in reading order, most of them with an answer, the last one without."""
    found: list[Message] = []

    def add(role: Role, parts: Sequence[Part]) -> None:
        found.append(Message(len(found) + 1, role, "complete", tuple(parts)))

    for answered in [*draw(st.lists(st.booleans(), max_size=8)), False]:
        add("user", [Text(draw(WORDS))])
        if answered:
            add("assistant", draw(st.lists(PARTS, max_size=3)))
    return found


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é" * 4, 2)])
def test_estimate_tokens_counts_four_bytes_as_one_token(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def test_message_tokens_count_text_and_tool_calls_but_not_reasoning() -> None:
    parts = (Reasoning("x" * 4000), Text("x" * 40), ToolCall("c1", "roll", "x" * 80, "x" * 400, "done"), Text("x"))
    expected = MESSAGE_OVERHEAD_TOKENS + 10 + 20 + 100 + 1
    assert message_tokens(Message(2, "assistant", "complete", parts)) == expected
    assert message_tokens(Message(2, "assistant", "failed", ())) == MESSAGE_OVERHEAD_TOKENS


def test_newest_within_budget_of_an_empty_room_is_empty() -> None:
    assert newest_within_budget([], -1) == newest_within_budget([], 1000) == ()


@given(conversations(), st.integers(-50, 300))
def test_newest_within_budget_is_the_longest_end_of_the_conversation_that_fits(
    messages: list[Message], budget: int
) -> None:
    """It starts with a question, contains the last message, and reads no more messages than needed."""
    read = 0

    def newest_first() -> Iterator[Message]:
        nonlocal read
        for message in reversed(messages):
            read += 1
            yield message

    found = newest_within_budget(newest_first(), budget)
    assert found and list(found) == messages[-len(found) :]
    assert found[0].role == "user"
    assert len(found) == 1 or sum(map(message_tokens, found)) <= budget
    if left := messages[: -len(found)]:
        exchange = max(n for n, message in enumerate(left) if message.role == "user")
        assert sum(map(message_tokens, messages[exchange:])) > budget
    starts = range(len(messages) + 1)
    fits = next((n for n in starts if sum(map(message_tokens, messages[n:])) <= budget), len(messages))
    assert read <= len(messages) - fits + 1 + (fits == len(messages))
