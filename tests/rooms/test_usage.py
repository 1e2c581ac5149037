"""What an answer takes: the server's own count where it gives one, else an estimate, over all steps."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overseer.domain.context import estimate_tokens, message_tokens
from overseer.domain.messages import Message, Text, Usage
from overseer.llm import Delta, ReasoningDelta, TextDelta, TokenCount, ToolRequest
from overseer.rooms.usage import UsageCounter

DEADLINE = 20.0
MOMENT = 0.1  # seconds to wait for what must not happen
HISTORY = (Message(1, "user", "complete", (Text("x" * 40),)),)  # 14 tokens
DELTAS: st.SearchStrategy[Delta] = st.one_of(
    st.builds(TextDelta, st.text()),
    st.builds(ReasoningDelta, st.text()),
    st.builds(ToolRequest, st.text(), st.text(), st.text()),
    st.builds(TokenCount, st.integers(0, 9999), st.integers(0, 9999)),
)


def step(meter: UsageCounter, *deltas: Delta, system: str = "", history: Sequence[Message] = HISTORY) -> Usage | None:
    """One step, heard to its end; returns what was taken until then."""
    meter.begin(system, history)
    for delta in deltas:
        meter.hear(delta)
    meter.end()
    return meter.usage()


def tokens(usage: Usage | None) -> tuple[int, int, bool]:
    """What of a usage does not hang on the clock."""
    assert usage is not None
    return usage.tokens_in, usage.tokens_out, usage.estimated


def test_nothing_heard_is_no_usage() -> None:
    """Not before a model is asked, not while it is silent, not when it was silent to the end."""
    meter = UsageCounter()
    assert meter.usage() is None
    meter.begin("Be brief.", HISTORY)
    assert meter.usage() is None
    meter.end()
    assert meter.usage() is None


def test_without_a_count_tokens_are_estimated() -> None:
    """Read: the prompt and the history. Written: all that was said, thought and asked of tools, as four bytes each."""
    said = [ReasoningDelta("x" * 5), TextDelta("é" * 2), TextDelta("\ud83d"), ToolRequest("c1", "roll", "{}")]
    assert tokens(step(UsageCounter(), *said, system="x" * 9)) == (3 + 14, 4, True)  # 5 + 4 + 1 + 6 bytes


def test_a_server_that_counts_is_believed() -> None:
    """Also when it counts before its first word, or nothing but a count comes."""
    assert tokens(step(UsageCounter(), TokenCount(7, 0), TextDelta("x" * 400), TokenCount(7, 9))) == (7, 9, False)
    assert tokens(step(UsageCounter(), TokenCount(5, 0))) == (5, 0, False)


def test_counts_of_a_server_that_counts_as_it_goes_are_not_added_up() -> None:
    """Each stands for all up to there."""
    assert tokens(step(UsageCounter(), TextDelta("a"), TokenCount(9, 1), TextDelta("b"), TokenCount(9, 2))) == (
        9,
        2,
        False,
    )


def test_steps_are_added_up() -> None:
    """Every step reads again, and one that is only estimated makes the sum an estimate."""
    meter = UsageCounter()
    assert tokens(step(meter, TextDelta("a"), TokenCount(10, 1))) == (10, 1, False)
    assert tokens(step(meter, TextDelta("b"), TokenCount(20, 2))) == (30, 3, False)
    assert tokens(step(meter, TextDelta("x" * 8))) == (44, 5, True)
    assert tokens(step(meter, TextDelta("c"), TokenCount(6, 5))) == (50, 10, True)


def test_a_step_that_said_nothing_takes_nothing() -> None:
    """A busy server was asked, and gave nothing; its seconds do not make the answer slow."""
    meter = UsageCounter()
    before = step(meter, TextDelta("a"), TokenCount(10, 1))
    assert step(meter) == before
    meter.begin("", HISTORY)
    assert meter.usage() == before


def test_an_answer_that_goes_on_adds_to_what_it_took_before() -> None:
    """Also one whose server did not count then, or not now."""
    before = Usage(10, 5, seconds=100.0, speaking=50.0, estimated=True)
    assert UsageCounter(before).usage() == before
    found = step(UsageCounter(before), TextDelta("a"), TokenCount(20, 2))
    assert tokens(found) == (30, 7, True)
    assert found is not None and found.seconds >= 100 and found.speaking >= 50


def test_seconds_are_taken_from_the_question_and_from_the_first_word() -> None:
    """Waiting for the first word is no speaking, and time goes on while it speaks."""
    meter = UsageCounter()
    meter.begin("", HISTORY)
    threading.Event().wait(0.03)
    meter.hear(TextDelta("a"))
    first = meter.usage()
    threading.Event().wait(0.02)
    later = meter.usage()
    assert first is not None and later is not None
    assert first.seconds >= 0.03 and first.speaking <= first.seconds - 0.03
    assert later.speaking >= 0.02 and later.seconds >= 0.05
    assert later.seconds - later.speaking == pytest.approx(first.seconds - first.speaking, abs=0.005)


def test_a_count_alone_is_no_speaking() -> None:
    """So an answer that came without a word has no rate."""
    found = step(UsageCounter(), TokenCount(5, 5))
    assert found is not None and found.speaking == 0.0 and found.rate is None


def test_a_rate_is_tokens_a_second_while_it_spoke() -> None:
    """None where there is nothing to divide, or next to nothing to divide by."""
    assert Usage(0, 50, seconds=10.0, speaking=5.0).rate == 10.0
    assert Usage(0, 0, seconds=10.0, speaking=5.0).rate is None
    assert Usage(0, 50, seconds=10.0, speaking=0.0).rate is None
    assert Usage(0, 50, seconds=10.0, speaking=0.001).rate is None


@given(st.lists(st.lists(DELTAS, max_size=4), max_size=4))
@settings(deadline=None)
def test_whatever_is_heard_the_sums_are_right(steps: list[list[Delta]]) -> None:
    """And never shrink on the way; seconds of speaking are part of all."""
    meter = UsageCounter()
    expected: list[tuple[int, int]] = []
    last = Usage()
    for said in steps:
        meter.begin("", HISTORY)
        for delta in said:
            meter.hear(delta)
            now = meter.usage()
            assert now is not None and 0 <= now.speaking <= now.seconds
        meter.end()
        counts = [delta for delta in said if isinstance(delta, TokenCount)]
        if counts:
            expected.append((counts[-1].tokens_in, counts[-1].tokens_out))
        elif said:
            texts = [d.name + d.arguments if isinstance(d, ToolRequest) else d.text for d in said]  # type: ignore[union-attr]
            expected.append((sum(map(message_tokens, HISTORY)), estimate_tokens("".join(texts))))
        found = meter.usage()
        assert (found is None) == (not expected)
        if found is not None:
            assert (found.tokens_in, found.tokens_out) == (sum(n for n, _ in expected), sum(n for _, n in expected))
            assert found.seconds >= last.seconds and found.speaking >= last.speaking
            last = found


def test_a_step_that_ends_while_somebody_looks_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop looks at the very moment in which it makes the step end."""
    meter = UsageCounter()
    meter.begin("", HISTORY)
    meter.hear(TextDelta("a"))
    meter.hear(TokenCount(10, 1))
    looker, ended = threading.current_thread(), threading.Event()
    turn = threading.Thread(target=lambda: (meter.end(), ended.set()))

    def end_in_the_middle(*args: int, **more: float) -> Usage:
        if threading.current_thread() is looker and turn.ident is None:
            turn.start()
            ended.wait(MOMENT)  # nothing tells when it has come as far as it can
        return Usage(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("overseer.rooms.usage.Usage", end_in_the_middle)
    assert tokens(meter.usage()) == (10, 1, False)
    turn.join(DEADLINE)
    assert tokens(meter.usage()) == (10, 1, False)
