"""The parsers of a streamed answer: reasoning in tags, reasoning in several fields, lists as content, token counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from overseer.llm import Delta, ReasoningDelta, TextDelta, TokenCount, ToolRequest
from overseer.llm.stream import THINK_TAGS, StreamParser, ThinkTagParser
from tests.support.deltas import joined

OPEN, CLOSE = "<think>", "</think>"
R, T = ReasoningDelta, TextDelta


def parse_text(pieces: Iterable[str]) -> list[Delta]:
    """Return the deltas of content that arrives in these pieces."""
    parser = ThinkTagParser()
    deltas = [delta for piece in pieces for delta in parser.add(piece)]
    return joined([*deltas, *parser.flush()])


def parse(*deltas: Any) -> list[Delta]:
    """Return the deltas of an answer whose chunks have these."""
    parser = StreamParser()
    found = [one for delta in deltas for one in parser.parse({"choices": [{"delta": delta}]})]
    return joined([*found, *parser.flush(), *parser.tool_requests()])


def all_text(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta | ReasoningDelta))


def cut(text: str, at: Iterable[int]) -> list[str]:
    """Return the text in pieces that end at these places."""
    places = sorted({place % (len(text) + 1) for place in at})
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


# Texts that resemble tags.
TEXTS = st.lists(
    st.sampled_from(["<", ">", "/", "think", "thinking", "</", OPEN, CLOSE, "a", " ", "\n", "\r\n", "🦉", "</thi"]),
    max_size=8,
).map("".join)
CUTS = st.lists(st.integers(0, 200), max_size=8)


# Tags


@pytest.mark.parametrize(("opened", "closed"), THINK_TAGS.items())
def test_think_tags_may_be_split_anywhere(opened: str, closed: str) -> None:
    whole = f"{opened}Hm, a < b.{closed}Yes </b>."
    expected = [R("Hm, a < b."), T("Yes </b>.")]
    assert parse_text([whole]) == parse_text(whole) == expected
    assert [at for at in range(len(whole)) if parse_text([whole[:at], whole[at:]]) != expected] == []


@given(reasoning=TEXTS | st.none(), text=TEXTS, cuts=CUTS)
@example(reasoning="\nHm.\n", text="\n\nYes.", cuts=[7])
@example(reasoning="</", text="think>", cuts=[])
@example(reasoning=None, text="<thi", cuts=[1, 2, 3])
@example(reasoning=None, text="< think>", cuts=[2])
def test_think_tags_in_any_pieces_give_the_deltas_of_the_whole(
    reasoning: str | None, text: str, cuts: list[int]
) -> None:
    """No character is lost or repeated, except for one pair of tags and white space around them."""
    whole = text if reasoning is None else OPEN + reasoning + CLOSE + text
    deltas = parse_text([whole])
    assert parse_text(cut(whole, cuts)) == deltas
    tag = next((tag for tag in THINK_TAGS if whole.lstrip().startswith(tag)), None)
    if tag is None:
        assert all_text(deltas) == whole or (not whole.strip() and not deltas)
    else:
        thought, _, rest = whole.lstrip().removeprefix(tag).partition(THINK_TAGS[tag])
        assert "".join(all_text(deltas).split()) == "".join((thought + rest).split())


@pytest.mark.parametrize("text", ["<", "<thinks>", "< think>", "<thin", "a <think>b</think>", "</think>a"])
def test_think_tag_that_is_malformed_or_within_the_text_is_text(text: str) -> None:
    assert parse_text([text]) == parse_text(text) == [T(text)]


@pytest.mark.parametrize("reasoning", ["Hm", "Hm </thin", "Hm <"])
def test_think_tag_that_is_never_closed_makes_all_text_reasoning(reasoning: str) -> None:
    assert parse_text([OPEN + reasoning]) == parse_text(OPEN + reasoning) == [R(reasoning)]


def test_blank_lines_around_think_tags_are_dropped() -> None:
    assert parse_text(["\n", OPEN, "Hm.", CLOSE, "\n", "\n\n", "Yes.\n\n", " No."]) == [R("Hm."), T("Yes.\n\n No.")]
    assert parse_text([OPEN + "\r\n" + "Hm." + CLOSE]) == parse_text([OPEN, "\n\n", "Hm.", CLOSE]) == [R("Hm.")]
    assert parse_text("<think>\n\n</think>\n\nYes.") == [T("Yes.")], "empty reasoning is dropped"
    assert parse_text(["    code", "\n", "\n", "    more", "\n"]) == [T("    code\n\n    more\n")], "without tags, kept"


def test_second_pair_of_think_tags_is_text() -> None:
    assert parse_text("<think>a</think>b<think>c</think>") == [R("a"), T("b<think>c</think>")]


def test_text_is_held_back_only_while_it_may_be_part_of_a_tag() -> None:
    parser = ThinkTagParser()
    assert list(parser.add("<")) == []
    assert list(parser.add("b")) == [T("<b")]
    assert list(parser.add("<")) == [T("<")]
    parser = ThinkTagParser()
    assert list(parser.add("<think>Hm")) == [R("Hm")]
    assert list(parser.add(" </b")) == [R(" </b")]
    assert list(parser.add(" <")) == [R(" ")]
    assert list(parser.add("/think>Yes")) == [T("Yes")]


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
    assert parse({"reasoning": "Hm."}, {"content": OPEN}, {"content": "b"}) == [R("Hm."), T("<think>b")]
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
