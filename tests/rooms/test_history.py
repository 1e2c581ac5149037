"""The part of a conversation that fits into a model's context."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer.domain.context import ModelContext, message_tokens
from overseer.domain.messages import Message, Text
from overseer.llm import ModelOverflow
from overseer.rooms.history import ContextIsFull, History


def message(number: int, tokens: int) -> Message:
    """Return a question or an answer with so many estimated tokens."""
    role = "user" if number % 2 else "assistant"
    return Message(number, role, "complete", (Text("word" * (tokens - 4)),))  # type: ignore[arg-type]


def history(*tokens: int, budget: int = 100_000, system: str = "") -> History:
    messages = [message(number, count) for number, count in enumerate(tokens, 1)]
    return History(messages, budget=budget, limit=budget, system=system, tools=())


def numbers(found: History) -> list[int]:
    return [one.number for one in found.messages]


def overflow(needed: int | None = None, limit: int | None = None) -> ModelOverflow:
    return ModelOverflow("Too long.", needed=needed, limit=limit, said="No.")


def test_history_is_fitted_to_a_known_context_with_space_for_an_answer() -> None:
    found = history(100, 100, 100, 100, 100)
    assert not found.fit(ModelContext(), None) and numbers(found) == [1, 2, 3, 4, 5]
    assert not found.fit(ModelContext(1000), None) and numbers(found) == [1, 2, 3, 4, 5]
    assert found.fit(ModelContext(512), None) and numbers(found) == [3, 4, 5]  # a quarter is for the answer
    assert found.fit(ModelContext(512, ratio=2.0), None) and numbers(found) == [5]
    assert not found.fit(ModelContext(10), None) and numbers(found) == [5]


def test_history_is_fitted_beside_the_prompt_and_the_answer_so_far() -> None:
    found = history(100, 100, 100, system="word" * 100)
    assert found.fit(ModelContext(512), message(4, 100)) and numbers(found) == [3]


def test_history_shrinks_by_the_numbers_of_the_server() -> None:
    found = history(100, 100, 100, 100, 100)
    assert found.shrink(overflow(931, 512), None) and numbers(found) == [5]  # 500 * 384 / 931
    found = history(100, 100, 100, 100, 100)
    assert found.shrink(overflow(1000, 900), None) and numbers(found) == [3, 4, 5]


@given(st.lists(st.integers(5, 400), min_size=1, max_size=9), st.integers(1, 9000), st.integers(1, 9000), st.booleans())
def test_history_shrinks_until_the_question_is_left(tokens: list[int], needed: int, limit: int, named: bool) -> None:
    found = history(*tokens[: len(tokens) - (len(tokens) + 1) % 2])
    last, length = found.messages[-1], len(found.messages)
    while found.shrink(overflow(needed, limit) if named else overflow(), message(100, 50)):
        assert len(found.messages) < length and found.messages[0].role == "user"
        length = len(found.messages)
    assert list(found.messages) == [last]


@pytest.mark.parametrize(
    ("system", "advice"),
    [("", "Shorten it by about 59 %"), ("word" * 900, "Shorten the room’s instructions")],
    ids=["question", "system prompt"],
)
def test_history_says_by_how_much_a_question_is_too_long(system: str, advice: str) -> None:
    error = history(100, system=system).too_long(overflow(931, 512), None)
    numbers = "931 tokens, and the model reads 512"
    assert str(error) == f"Your message is too long for this model: {numbers}. {advice}, or choose another model."


def test_answer_that_fills_the_context_with_its_question_cannot_be_continued() -> None:
    found = history(100, 100, 100)
    assert found.can_continue(ModelContext(512), message(4, 300))
    assert not found.can_continue(ModelContext(512), message(4, 400))
    assert not found.can_continue(ModelContext(512, ratio=2.0), message(4, 300))
    assert found.can_continue(ModelContext(), message(4, 99_000)) and found.can_continue(ModelContext(512), None)
    assert isinstance(found.too_long(overflow(), message(4, 400)), ContextIsFull)
    assert message_tokens(message(4, 400)) == 400
