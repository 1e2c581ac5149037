"""The parsers of a streamed answer: reasoning in tags, reasoning in several fields, lists as content, token counts."""

from __future__ import annotations

from typing import Any

import pytest

from overseer.llm import Delta, ReasoningDelta, TextDelta, TokenCount, ToolRequest
from overseer.llm.finish import error_of_finish_reason
from overseer.llm.stream import StreamParser
from tests.support.deltas import joined

R, T = ReasoningDelta, TextDelta


def parse(*deltas: Any) -> list[Delta]:
    """Return the deltas of an answer whose chunks have these."""
    parser = StreamParser()
    found = [one for delta in deltas for one in parser.parse({"choices": [{"delta": delta}]})]
    return joined([*found, *parser.flush(), *parser.tool_requests()])


# Reasoning in fields


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "Hm.", "reasoning": "Hm.", "reasoning_details": [{"summary": "Hm."}]},
        {"reasoning_content": None, "reasoning": "", "reasoning_details": [{"text": "Hm."}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}, {"summary": "Hm."}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]},
    ],
    ids=lambda delta: "+".join(delta),
)
def test_reasoning_in_several_fields_is_yielded_once(delta: dict[str, Any]) -> None:
    assert parse(delta, delta, {"content": "Yes."}) == [R("Hm.Hm."), T("Yes.")]


def test_reasoning_summary_at_the_end_is_ignored() -> None:
    """OpenRouter sends one in another field."""
    details = {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm."}]}
    assert parse({"reasoning": "Hm."}, details, {"content": "Yes."}) == [R("Hm."), T("Yes.")]


def test_content_around_reasoning_in_a_field_keeps_its_order() -> None:
    assert parse({"reasoning": "Hm."}, {"content": "<think>"}, {"content": "b"}) == [R("Hm."), T("<think>b")]
    assert parse({"content": "\n"}, {"reasoning": "Hm."}, {"content": "Yes."}) == [R("Hm."), T("Yes.")]
    assert parse({"content": "<"}, {"reasoning": "Hm."}, {"content": "b>"}) == [T("<"), R("Hm."), T("b>")]


@pytest.mark.parametrize("odd", [None, 7, {"text": "x"}, [None], ["x"], [[]], [{"text": None}], [{}]])
def test_content_of_another_type_is_ignored(odd: object) -> None:
    assert parse({"content": odd, "reasoning": odd, "reasoning_details": odd}, {"content": "Yes."}) == [T("Yes.")]


def test_content_may_be_a_list_of_typed_parts() -> None:
    """Mistral sends such lists."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"type": "text", "text": "."}]}
    chunks = ([thinking], [{"type": "text", "text": "Yes"}], ".", [thinking])
    assert parse(*({"content": content} for content in chunks)) == [R("Hm."), T("Yes."), R("Hm.")]


def test_text_of_white_space_only_is_dropped() -> None:
    """Before reasoning, after it, between it, and at the end."""
    assert parse({"content": " \n"}, {"content": "\n"}) == []
    assert parse({"content": "\n"}, {"reasoning": "\n"}, {"reasoning": "Hm."}, {"content": " \n"}) == [R("\nHm.")]
    assert parse({"content": "<think>\n\n</think>\n\n"}) == []
    assert parse({"content": "<think>a</think>\n"}, {"content": " "}, {"content": "\n"}) == [R("a")]
    assert parse({"content": "    "}, {"content": "code\n"}, {"content": " "}) == [T("    code\n ")]
    assert parse({"content": "Yes."}, {"reasoning": "Hm."}, {"content": "\n"}) == [T("Yes."), R("Hm.")]
    assert parse(*[{"content": " "}] * 100_000) == []


# Chunks


def chunk(delta: object, **choice: object) -> dict[str, Any]:
    return {"choices": [{"delta": delta, **choice}]}


def parse_chunks(*chunks: dict[str, Any]) -> tuple[list[Delta], str]:
    """Return the deltas and the finish reason of an answer with these chunks."""
    parser = StreamParser()
    found = [one for chunk in chunks for one in parser.parse(chunk)]
    return joined([*found, *parser.flush(), *parser.tool_requests()]), parser.finish


CALL = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("last", [{}, {"delta": {}}, {"delta": None}, {"delta": {"content": ""}}])
def test_message_after_deltas_is_ignored(last: dict[str, Any]) -> None:
    """MiniMax repeats the whole answer in it."""
    whole = {"content": "Yes, sir.", "reasoning_content": "Hm.", "tool_calls": [CALL]}
    pieces = [{"role": "assistant", "reasoning_content": "Hm."}, {"content": "Yes, "}, {"content": "sir."}]
    deltas = list(map(chunk, [*pieces, {"tool_calls": [CALL]}]))
    repeated = {"choices": [{"message": whole, "finish_reason": "stop", **last}]}
    expected = ([R("Hm."), T("Yes, sir."), ToolRequest("a", "f", "{}")], "stop")
    assert parse_chunks(*deltas, repeated) == expected
    assert parse_chunks(chunk({"tool_calls": [CALL]}), repeated)[0] == [ToolRequest("a", "f", "{}")]
    if not last.get("delta"):
        assert parse_chunks(chunk({"role": "assistant"}), repeated) == expected


def test_message_in_every_chunk_is_joined() -> None:
    chunks = [{"choices": [{"message": {"content": word}}]} for word in ("Yes, ", "sir.")]
    assert parse_chunks(*chunks)[0] == [T("Yes, sir.")]


def test_second_choice_is_ignored() -> None:
    """With its text, its calls and its finish reason, also in a chunk of its own and before the first choice."""
    other = {"index": 1, "delta": {"content": "No.", "tool_calls": [CALL]}, "finish_reason": "length"}
    first = {"index": 0, "delta": {"content": "Yes."}}
    done = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks = [{"choices": choices} for choices in ([first, other], [other, first], [other], [done, other], [other])]
    assert parse_chunks(*chunks) == ([T("Yes.Yes.")], "stop")


@pytest.mark.parametrize("choices", [None, 7, True, "x", {}, [], [None], [[]], {"index": 0}, [{"delta": 7}], [7, {}]])
def test_choices_of_another_type_are_ignored(choices: object) -> None:
    assert parse_chunks({"choices": choices}, chunk({"content": "Yes."}))[0] == [T("Yes.")]


def test_choice_that_is_not_in_a_list_is_read() -> None:
    assert parse_chunks({"choices": {"index": 0, "delta": {"content": "Yes."}}})[0] == [T("Yes.")]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        *((one, None) for one in ("stop", "STOP", "end_turn", "tool_use", "tool_calls", "eos", "COMPLETE")),
        *((one, "length") for one in ("length", "MAX_TOKENS", "max_output_tokens", "maxTokens")),
        ("FinishReason.MAX_TOKENS", "length"),
        *((one, "filter") for one in ("content_filter", "SAFETY", "RECITATION", "sensitive", "PROHIBITED_CONTENT")),
        *((one, "aborted") for one in ("error", "ABORT", "insufficient_system_resource", "MALFORMED_FUNCTION_CALL")),
        ({"type": "MAX_TOKENS"}, "length"),
        ({"reason": "stop"}, None),
        ({"x": 1}, None),
        ("x" * 100_000, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_finish_reason_in_other_words_is_understood(reason: object, kind: str | None) -> None:
    _, finish = parse_chunks(chunk({"content": "Yes."}, finish_reason=reason))
    error = error_of_finish_reason(finish)
    assert finish and len(finish) < 100
    assert (kind is None) == (error is None) and (kind or "") in str(error)


@pytest.mark.parametrize("reason", [None, "", 0, 7, True, [], ["stop"]])
def test_finish_reason_of_another_type_is_none(reason: object) -> None:
    assert parse_chunks(chunk({"content": "Yes."}, finish_reason=reason)) == ([T("Yes.")], "")


@pytest.mark.parametrize(
    "usage",
    [
        "x",
        {"prompt_tokens": 1, "completion_tokens": None},
        {"prompt_tokens": 1, "completion_tokens": -1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": False},
        {"prompt_tokens": 2**63, "completion_tokens": 1},
    ],
)
def test_token_count_that_is_invalid_is_ignored(usage: object) -> None:
    assert list(StreamParser().parse({"choices": [], "usage": usage})) == []


def test_token_count_is_yielded_with_or_without_choices() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3, "completion_tokens_details": None}
    for choices in ([], None, [{"delta": {}, "finish_reason": "stop"}]):
        assert list(StreamParser().parse({"choices": choices, "usage": usage})) == [TokenCount(3, 0)]


def test_message_that_is_not_streamed_is_parsed() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    message = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm.", "tool_calls": [call]}
    parser = StreamParser()
    deltas = list(parser.parse({"choices": [{"message": message, "finish_reason": "tool_calls"}]}))
    assert [*deltas, *parser.tool_requests()] == [R("Hm."), T("Yes."), ToolRequest("a", "f", '{"x": 1}')]
    assert parser.finish == "tool_calls"


def test_tool_calls_have_different_ids_whatever_the_server_sends() -> None:
    calls = [{"id": "call-1", "function": {"name": "f"}}, {"function": {"name": "g"}}, {"function": {"name": "h"}}]
    requests = [delta for delta in parse({"tool_calls": calls}) if isinstance(delta, ToolRequest)]
    assert [request.name for request in requests] == ["f", "g", "h"]
    assert len({request.call_id for request in requests}) == 3


def test_tool_call_with_its_name_in_every_fragment_is_one_call() -> None:
    fragments = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": part}} for part in ('{"x"', ": 1}")]
    assert parse(*({"tool_calls": [fragment]} for fragment in fragments)) == [ToolRequest("a", "f", '{"x": 1}')]
