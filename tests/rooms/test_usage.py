"""Token and time usage of an answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer.domain.context import estimate_tokens
from overseer.domain.messages import Usage
from overseer.llm import Delta, ReasoningDelta, TextDelta, TokenCount, ToolRequest
from overseer.rooms.usage import UsageCounter
from tests.support.waiting import DEADLINE

RACE_SECONDS = 0.1  # how long a test waits for something that must not happen
DELTAS: st.SearchStrategy[Delta] = st.one_of(
    st.builds(TextDelta, st.text()),
    st.builds(ReasoningDelta, st.text()),
    st.builds(ToolRequest, st.text(), st.text(), st.text()),
    st.builds(TokenCount, st.integers(0, 9999), st.integers(0, 9999)),
)


def run_step(counter: UsageCounter, *deltas: Delta, estimated: int = 14) -> tuple[int, int, bool] | None:
    """Run one step. Return the tokens of all steps."""
    counter.start_step(estimated, 32_768)
    for delta in deltas:
        counter.add(delta)
    counter.end_step()
    return tokens(counter.usage())


def tokens(usage: Usage | None) -> tuple[int, int, bool] | None:
    return (usage.tokens_in, usage.tokens_out, usage.estimated) if usage else None


def test_usage_without_a_report_is_estimated() -> None:
    counter = UsageCounter()
    run_step(counter, ReasoningDelta("x" * 5), TextDelta("é" * 2), TextDelta("\ud83d"), estimated=17)
    assert tokens(counter.usage()) == (17, 3, True)  # 5 + 4 + 1 bytes
    assert run_step(UsageCounter(), ToolRequest("c1", "roll", "{}")) == (14, 2, True)  # 4 + 2 bytes


def test_usage_is_the_last_report_of_each_step_added_up() -> None:
    """One estimated step makes the sum an estimate; a step without output adds nothing."""
    counter = UsageCounter(Usage(100, 100, seconds=100.0, speaking=50.0))
    assert run_step(counter, TokenCount(7, 0), TextDelta("a"), TokenCount(7, 9)) == (107, 109, False)
    assert run_step(counter, TokenCount(3, 0)) == (110, 109, False)
    assert run_step(counter, TextDelta("x" * 8)) == (124, 111, True)
    before = counter.usage()
    assert before is not None and before.seconds >= 100 and before.speaking >= 50
    run_step(counter)
    counter.start_step(14, 32_768)
    assert counter.usage() == before


def test_usage_seconds_start_at_the_request_and_speaking_at_the_first_output() -> None:
    counter = UsageCounter()
    counter.start_step(14, 32_768)
    threading.Event().wait(0.03)
    counter.add(TextDelta("a"))
    first = counter.usage()
    threading.Event().wait(0.02)
    later = counter.usage()
    assert first is not None and later is not None
    assert first.seconds >= 0.03 and first.speaking <= first.seconds - 0.03
    assert later.speaking >= 0.02 and later.seconds >= 0.05


def test_usage_rate_is_output_tokens_per_second_of_speaking() -> None:
    """None for an answer that arrived at once."""
    assert Usage(0, 50, seconds=10.0, speaking=5.0).rate == 10.0
    for usage in (Usage(0, 0, seconds=10.0, speaking=5.0), Usage(0, 50, seconds=10.0, speaking=0.001)):
        assert usage.rate is None
    counter = UsageCounter()
    run_step(counter, TokenCount(5, 5))
    usage_without_text = counter.usage()
    assert usage_without_text is not None and usage_without_text.speaking == 0.0


@given(st.lists(st.lists(DELTAS, max_size=4), max_size=4))
def test_usage_never_shrinks_and_is_the_sum_of_the_steps(steps: list[list[Delta]]) -> None:
    counter = UsageCounter()
    expected: list[tuple[int, int]] = []
    last = Usage()
    for deltas in steps:
        counter.start_step(14, 32_768)
        for delta in deltas:
            counter.add(delta)
            now = counter.usage()
            assert now is not None and 0 <= now.speaking <= now.seconds
        counter.end_step()
        if tokens := expected_tokens(deltas):
            expected.append(tokens)
        found = counter.usage()
        assert (found is None) == (not expected)
        if found is not None:
            assert (found.tokens_in, found.tokens_out) == (sum(n for n, _ in expected), sum(n for _, n in expected))
            assert found.seconds >= last.seconds and found.speaking >= last.speaking
            last = found


def expected_tokens(deltas: Sequence[Delta]) -> tuple[int, int] | None:
    reports = [delta for delta in deltas if isinstance(delta, TokenCount)]
    if reports:
        return reports[-1].tokens_in, reports[-1].tokens_out
    texts = [d.name + d.arguments if isinstance(d, ToolRequest) else d.text for d in deltas]  # type: ignore[union-attr]
    return (14, estimate_tokens("".join(texts))) if deltas else None


def test_usage_that_is_read_while_a_step_ends_counts_the_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = UsageCounter()
    counter.start_step(14, 32_768)
    counter.add(TextDelta("a"))
    counter.add(TokenCount(10, 1))
    reader, ended = threading.current_thread(), threading.Event()

    def end_step() -> None:
        counter.end_step()
        ended.set()

    turn = threading.Thread(target=end_step)

    def end_during_the_read(*args: int, **kwargs: float) -> Usage:
        if threading.current_thread() is reader and turn.ident is None:
            turn.start()
            ended.wait(RACE_SECONDS)
        return Usage(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("overseer.rooms.usage.Usage", end_during_the_read)
    assert tokens(counter.usage()) == (10, 1, False)
    turn.join(DEADLINE)
    assert tokens(counter.usage()) == (10, 1, False)
