"""The parsers of a streamed answer: reasoning in tags, reasoning in several fields, lists as content, token counts."""

from __future__ import annotations

from typing import Any

import pytest

from overseer.llm import Delta, ReasoningDelta, TextDelta, TokenCount, ToolRequest
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


# Chunks


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
