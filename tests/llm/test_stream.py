"""A streamed answer put together: thoughts in tags cut anywhere, two forms of one thought, lists for content."""

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


def said(pieces: Iterable[str]) -> list[Delta]:
    """What is made of content that comes in these pieces."""
    content = ThinkTagParser()
    deltas = [delta for piece in pieces for delta in content.add(piece)]
    return joined([*deltas, *content.rest()])


def heard(*deltas: Any) -> list[Delta]:
    """What is made of an answer of these deltas."""
    hearing = StreamParser()
    found = [one for delta in deltas for one in hearing.chunk({"choices": [{"delta": delta}]})]
    return joined([*found, *hearing.rest(), *hearing.requests()])


def texts(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta | ReasoningDelta))


def cut(text: str, at: Iterable[int]) -> list[str]:
    """A text in pieces that end at these places."""
    places = sorted({place % (len(text) + 1) for place in at})
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


# Alike to tags in every way, so that mistakes are likely.
WORDS = st.lists(
    st.sampled_from(
        ["<", ">", "/", "think", "thinking", "</", OPEN, CLOSE, "a", " ", "\n", "\r\n", "🦉", "<th", "</thi"]
    ),
    max_size=8,
).map("".join)
CUTS = st.lists(st.integers(0, 200), max_size=8)


# Tags


@pytest.mark.parametrize(("opened", "closed"), THINK_TAGS.items())
def test_a_thought_in_tags_may_be_split_anywhere(opened: str, closed: str) -> None:
    """In two pieces cut at each place, in single characters, and whole: the thought, then the text."""
    whole = f"{opened}Hm, a < b.{closed}Yes </b>."
    wanted = [R("Hm, a < b."), T("Yes </b>.")]
    assert said([whole]) == said(whole) == wanted
    assert [at for at in range(len(whole)) if said([whole[:at], whole[at:]]) != wanted] == []


@given(thought=WORDS, text=WORDS, cuts=CUTS)
@example(thought="\nHm.\n", text="\n\nYes.", cuts=[7])
@example(thought="</", text="think>", cuts=[])
def test_where_a_thought_is_split_makes_no_difference(thought: str, text: str, cuts: list[int]) -> None:
    """Whatever stands in it and after it, the pieces say what the whole says."""
    whole = OPEN + thought + CLOSE + text
    assert said(cut(whole, cuts)) == said([whole])


@given(text=WORDS, cuts=CUTS)
@example(text="<thi", cuts=[1, 2, 3])
@example(text="< think>", cuts=[2])
def test_where_a_text_is_split_makes_no_difference(text: str, cuts: list[int]) -> None:
    """Also if it only looks like a tag, or is not closed, or closes what was never opened."""
    assert said(cut(text, cuts)) == said([text])


@given(text=WORDS, cuts=CUTS)
def test_no_character_is_lost_or_told_twice(text: str, cuts: list[int]) -> None:
    """What comes out is what went in, but for one pair of tags and white space around them."""
    out = texts(said(cut(text, cuts)))
    tag = next((tag for tag in THINK_TAGS if text.lstrip().startswith(tag)), None)
    if tag is None:
        assert out == text or (not text.strip() and not out)
    else:
        thought, _, rest = text.lstrip().removeprefix(tag).partition(THINK_TAGS[tag])
        assert "".join(out.split()) == "".join((thought + rest).split())


@pytest.mark.parametrize(
    "text", ["<", "<thinks>", "< think>", "<thin", "a <think>b</think>", "<b>think</b>", "</think>a"]
)
def test_what_only_looks_like_a_tag_is_text(text: str) -> None:
    """A tag in mid-text is one that the model talks about."""
    assert said([text]) == said(text) == [T(text)]


@pytest.mark.parametrize("thought", ["Hm", "Hm </thin", "Hm <", "Hm </think"])
def test_a_tag_that_is_never_closed_is_all_thought(thought: str) -> None:
    """An answer that ends in mid-thought keeps it, to the last character."""
    assert said([OPEN + thought]) == said(OPEN + thought) == [R(thought)]


def test_blank_lines_around_the_tags_are_no_text() -> None:
    """Servers put some before, between and after them."""
    assert said(["\n", OPEN, "Hm.", CLOSE, "\n", "\n\n", "Yes.\n\n", " No."]) == [R("Hm."), T("Yes.\n\n No.")]


@pytest.mark.parametrize("blank", ["\n", "\n\n", "\r\n"])
def test_blank_lines_at_the_beginning_of_a_thought_are_left_out(blank: str) -> None:
    """Whether they come with the tag or in a piece of their own."""
    assert said([OPEN + blank + "Hm." + CLOSE]) == [R("Hm.")]
    assert said([OPEN, blank, "Hm.", CLOSE]) == [R("Hm.")]


def test_an_empty_thought_is_none() -> None:
    """Models that are told not to think say so with empty tags."""
    assert said(["<think>\n\n</think>\n\nYes."]) == said("<think>\n\n</think>\n\nYes.") == [T("Yes.")]


def test_only_the_first_pair_of_tags_is_a_thought() -> None:
    """Later ones are what the model writes about."""
    assert said("<think>a</think>b<think>c</think>") == [R("a"), T("b<think>c</think>")]


def test_text_comes_as_soon_as_it_is_certain() -> None:
    """Only what may be a part of a tag is held back."""
    content = ThinkTagParser()
    assert list(content.add("<")) == []
    assert list(content.add("b")) == [T("<b")]
    assert list(content.add("<")) == [T("<")]
    content = ThinkTagParser()
    assert list(content.add("<think>Hm")) == [R("Hm")]
    assert list(content.add(" </b")) == [R(" </b")]
    assert list(content.add(" <")) == [R(" ")]
    assert list(content.add("/think>Yes")) == [T("Yes")]


def test_white_space_in_a_text_is_kept() -> None:
    """Lines of code begin with some."""
    assert said(["    code", "\n", "\n", "    more", "\n"]) == [T("    code\n\n    more\n")]


# Thoughts of their own


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning_content": "Hm.", "reasoning": "Hm."},
        {"reasoning_content": "Hm.", "reasoning": "Hm.", "reasoning_details": [{"summary": "Hm."}]},
        {"reasoning_content": None, "reasoning": "", "reasoning_details": [{"text": "Hm."}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm."}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}, {"text": "Hm."}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]},
    ],
    ids=lambda delta: "+".join(delta),
)
def test_a_thought_is_never_told_twice(delta: dict[str, Any]) -> None:
    """A server that gives more than one form says the same in each."""
    assert heard(delta, delta, {"content": "Yes."}) == [R("Hm.Hm."), T("Yes.")]


def test_a_form_that_comes_later_is_not_told_again() -> None:
    """OpenRouter sums up what was thought, at the end."""
    details = {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm."}]}
    assert heard({"reasoning": "Hm."}, details, {"content": "Yes."}) == [R("Hm."), T("Yes.")]


def test_tags_after_a_thought_of_its_own_are_text() -> None:
    """A server that tells thoughts apart leaves none in the text."""
    assert heard({"reasoning": "Hm."}, {"content": OPEN}, {"content": "b"}) == [R("Hm."), T("<think>b")]


def test_white_space_before_a_thought_is_not_told_after_it() -> None:
    """Some servers begin with a blank line, then think."""
    assert heard({"content": "\n"}, {"reasoning": "Hm."}, {"content": "Yes."}) == [R("Hm."), T("Yes.")]


def test_what_was_held_back_before_a_thought_stays_before_the_text() -> None:
    """Nothing changes its place."""
    assert texts(heard({"content": "<"}, {"reasoning": "Hm."}, {"content": "b>"})) in ("<Hm.b>", "Hm.<b>")


@pytest.mark.parametrize("odd", [None, 7, True, {}, {"text": "x"}, [], [None], ["x"], [[]], [{"text": None}], [{}]])
def test_odd_content_says_nothing(odd: object) -> None:
    """Neither as a text nor as a thought."""
    assert heard({"content": odd, "reasoning": odd, "reasoning_details": odd}, {"content": "Yes."}) == [T("Yes.")]


def test_content_may_be_a_list_of_parts() -> None:
    """Mistral's: texts, and thoughts that are lists again."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"type": "text", "text": "."}]}
    assert heard(
        {"content": [thinking]},
        {"content": [{"type": "text", "text": "Yes"}]},
        {"content": "."},
        {"content": [thinking]},
    ) == [R("Hm."), T("Yes."), R("Hm.")]


# Chunks


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "x",
        [],
        {},
        {"prompt_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": None},
        {"prompt_tokens": 1, "completion_tokens": -1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": False},
        {"prompt_tokens": 2**63, "completion_tokens": 1},
    ],
)
def test_a_count_that_is_none_is_not_told(usage: object) -> None:
    """What cannot be a number of tokens is left to an estimate."""
    assert list(StreamParser().chunk({"choices": [], "usage": usage})) == []


def test_a_count_is_told_with_or_without_choices() -> None:
    """In a chunk of its own, and in the one that ends the answer."""
    usage = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3, "completion_tokens_details": None}
    for choices in ([], None, [{"delta": {}, "finish_reason": "stop"}]):
        assert list(StreamParser().chunk({"choices": choices, "usage": usage})) == [TokenCount(3, 0)]


def test_a_message_that_was_not_streamed_is_heard() -> None:
    """All of it at once."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    message = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm.", "tool_calls": [call]}
    hearing = StreamParser()
    deltas = [*hearing.chunk({"choices": [{"message": message, "finish_reason": "tool_calls"}]}), *hearing.requests()]
    assert deltas == [R("Hm."), T("Yes."), ToolRequest("a", "f", '{"x": 1}')]
    assert hearing.finish == "tool_calls"


def test_the_calls_of_one_answer_have_ids_of_their_own() -> None:
    """Also if a server gives none, or made up the name that another call has."""
    given = [{"id": "call-1", "function": {"name": "f"}}, {"function": {"name": "g"}}, {"function": {"name": "h"}}]
    requests = heard({"tool_calls": given})
    assert [request.name for request in requests if isinstance(request, ToolRequest)] == ["f", "g", "h"]
    assert len({request.call_id for request in requests if isinstance(request, ToolRequest)}) == 3


def test_a_name_that_is_repeated_in_every_piece_is_one_call() -> None:
    """As long as the id is, too."""
    pieces = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": part}} for part in ('{"x"', ": 1}")]
    assert heard(*({"tool_calls": [piece]} for piece in pieces)) == [ToolRequest("a", "f", '{"x": 1}')]
