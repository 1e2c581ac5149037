"""Reasoning in tags within the text of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from overseer.llm import Delta, ReasoningDelta, ReasoningEnded, TextDelta
from overseer.llm.thoughts import TAGS, ThoughtParser
from tests.support.deltas import joined

R, T, ENDED = ReasoningDelta, TextDelta, ReasoningEnded()


def parse(pieces: Iterable[str]) -> list[Delta]:
    """Return the deltas of content that arrives in these pieces."""
    parser = ThoughtParser()
    deltas = [delta for piece in pieces for delta in parser.add(piece)]
    return joined([*deltas, *parser.flush()])


def cut(text: str, at: Iterable[int]) -> list[str]:
    """Return the text in pieces that end at these places."""
    places = sorted({place % (len(text) + 1) for place in at})
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def all_text(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, T | R))


PIECES = [
    "<",
    ">",
    "/",
    "`",
    "``",
    "```",
    "~~~",
    "\n",
    "\n\n",
    "\r\n",
    " ",
    "    ",
    "a",
    "🦉",
    "- ",
    "> ",
    "1. ",
    "x" * 30,
]
TAG_PIECES = [*TAGS, *TAGS.values(), "<think", "</thi", "[THI", "think>", "</"]
TEXTS = st.lists(st.sampled_from([*PIECES, *TAG_PIECES]), max_size=14).map("".join)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 400), max_size=12))
@example(text="<think>a `</think>` b</think>Yes", cuts=[20])
@example(text="`" * 250 + "\n<think>", cuts=[99, 100, 101])
@example(text="a </think>\nb", cuts=[10])
def test_thoughts_do_not_depend_on_how_the_text_is_cut(text: str, cuts: list[int]) -> None:
    """No character is lost or repeated, except for tags and white space around them."""
    deltas = parse([text])
    assert parse(cut(text, cuts)) == deltas and parse(text) == deltas
    found = "".join(all_text(deltas).split())
    left = "".join(text.split())
    tags = [tag for tag in (*TAGS, *TAGS.values()) if tag in text]
    for tag in tags:
        found, left = found.replace(tag, ""), left.replace(tag, "")
    assert len(found) <= len(left)
    if not tags:
        assert all_text(deltas) == text


@pytest.mark.parametrize(("opened", "closed"), TAGS.items())
@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ("OHm, a < b.CYes </b>.", [R("Hm, a < b."), T("Yes </b>.")]),
        ("\nO\nHm.\nC\n\nYes.\n\n No.", [T("\n"), R("Hm.\n"), T("Yes.\n\n No.")]),
        ("OaCbOcC", [R("a"), T("bOcC")]),
        ("OaCOcCb", [R("ac"), T("b")]),
        ("OaC\nYes.\nObC\nNo.", [R("a"), T("Yes.\n"), R("b"), T("No.")]),
        ("Yes.\n  Oa\r\nC\nNo.", [T("Yes.\n"), R("a\r\n"), T("No.")]),
        ("OHm", [R("Hm")]),
        ("OThe tag `C` ends it.CYes.", [R("The tag `C` ends it."), T("Yes.")]),
        ("So.\nC\n\nYes.", [T("So.\n"), ENDED, T("Yes.")]),
        ("So.CYes.", [T("So."), ENDED, T("Yes.")]),
        ("So. C\nYes.", [T("So. "), ENDED, T("Yes.")]),
        ("So.C", [T("So."), ENDED]),
        ("CYes.", [ENDED, T("Yes.")]),
        ("So.CYes.CNo.", [T("So."), ENDED, T("Yes.CNo.")]),
        ("So.\nCYes.\nOaC\nNo.", [T("So.\n"), ENDED, T("Yes.\n"), R("a"), T("No.")]),
    ],
)
def test_thoughts_are_separated_from_text(whole: str, expected: list[Delta], opened: str, closed: str) -> None:
    """O and C stand for the tags. They may be split anywhere."""

    def with_tags(text: str) -> str:
        return text.replace("O", opened).replace("C", closed)

    wanted = [type(one)(with_tags(one.text)) if isinstance(one, T | R) else one for one in expected]
    whole = with_tags(whole)
    assert parse([whole]) == parse(whole) == wanted
    assert [at for at in range(len(whole)) if parse([whole[:at], whole[at:]]) != wanted] == []


@pytest.mark.parametrize(
    "text",
    [
        "<",
        "<thinks>",
        "< think>",
        "<thin",
        "[think](http://x)",
        "a <think>b",
        "The tag </think> ends it.",
        "Use `</think>` and ``a ` </think>`` in code.",
        "`<think>`\n",
        "```\n<think>\na\n</think>\n```\n",
        "~~~xml\n<think>\n```\n</think>\n~~~ \nb",
        "````\n```\n<think>\n````",
        "- a\n  ```\n  <think>\n  ```",
        "> ```\n> <think>",
        "1. ```\n<think>\n</think>",
        "    <think>\n    </think> in an indented block",
        "a `b\n<think> c` d",
    ],
)
def test_thought_tag_within_code_or_a_sentence_is_text(text: str) -> None:
    assert parse([text]) == parse(text) == [T(text)]


@pytest.mark.parametrize(
    "before", ["```py\nx\n```\n", "```inline``` code\n", "a ` b\n\n", "`a`\n", "`" * 5 + "\n" + "`" * 5 + "\n"]
)
def test_thought_after_code_is_found(before: str) -> None:
    whole = before + "<think>a</think>b"
    assert parse([whole]) == parse(whole) == [T(before), R("a"), T("b")]


def test_text_is_held_back_only_while_it_may_be_part_of_a_tag() -> None:
    parser = ThoughtParser()
    assert list(parser.add("<")) == []
    assert list(parser.add("b")) == [T("<b")]
    assert list(parser.add(" <")) == [T(" ")]
    assert list(parser.add("3 ")) == [T("<3 ")]
    assert list(parser.add("\n <tho")) == [T("\n")]
    assert list(parser.add("ught>Hm")) == [R("Hm")]
    assert list(parser.add(" </b")) == [R(" </b")]
    assert list(parser.add(" <")) == [R(" ")]
    assert list(parser.add("/thought>Yes")) == [T("Yes")]
    assert list(parser.add(" <")) == [T(" <")], "no tag can follow within the line"


@pytest.mark.parametrize("text", ["`", "<", "[", "\n<", "`</think>`"])
def test_thoughts_of_long_text_that_is_almost_a_tag_are_parsed(text: str) -> None:
    """A parser that reads a line again for each piece would take minutes."""
    pieces = [text] * (60_000 // len(text))
    for begin in ("", "<think>"):
        parser = ThoughtParser()
        found = [list(parser.add(piece)) for piece in [begin, *pieces]]
        assert all_text([*chain(*found), *parser.flush()]).strip() == "".join(pieces).strip()
