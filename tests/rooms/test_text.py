"""Room names, questions and idempotency keys from clients."""

from __future__ import annotations

import pytest

from overseer.domain.text import (
    MAX_KEY_CHARS,
    MAX_NAME_CHARS,
    MAX_TEXT_CHARS,
    NEW_ROOM,
    Invalid,
    TooLarge,
    idempotency_key,
    name_from_text,
    question,
    room_name,
)


@pytest.mark.parametrize(
    ("given", "normalised"),
    [
        ("  Kitchen\t\n  sink \u2028 ", "Kitchen sink"),
        (" " + "\N{GRINNING FACE}" * MAX_NAME_CHARS + " ", "\N{GRINNING FACE}" * MAX_NAME_CHARS),
        ("a\x1b[31mb\0", "a\ufffd[31mb\ufffd"),
        ("a\ud83d\x0bb", "a\ufffd b"),
        ("%_'; DROP TABLE rooms <b>", "%_'; DROP TABLE rooms <b>"),
    ],
)
def test_room_name_is_normalised_to_one_line(given: str, normalised: str) -> None:
    assert room_name(given) == normalised


@pytest.mark.parametrize("name", ["", " \t\n", "\u200b", "x" * (MAX_NAME_CHARS + 1)])
def test_room_name_that_is_invisible_or_too_long_is_rejected(name: str) -> None:
    length = f"at most {MAX_NAME_CHARS} characters; this one has {len(name)}"
    with pytest.raises(Invalid, match=length if "x" in name else "needs a name"):
        room_name(name)


@pytest.mark.parametrize(
    ("given", "normalised"),
    [
        ("  one\r\ntwo\rthree\n\tfour  ", "  one\ntwo\nthree\n\tfour  "),
        ("nul\0 bell\a half\ud83d", "nul\ufffd bell\ufffd half\ufffd"),
        ("x\r\n" * (MAX_TEXT_CHARS // 2), "x\n" * (MAX_TEXT_CHARS // 2)),
    ],
    ids=["line ends", "controls", "longest"],
)
def test_question_keeps_its_white_space_and_gets_plain_line_ends(given: str, normalised: str) -> None:
    assert question(given) == normalised


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        (" \n\t\r\n ", Invalid, "nothing to send"),
        ("x" * 200_001, TooLarge, "at most 200,000 characters; this one has 200,001"),
        (" " * 5_000_000, Invalid, "nothing to send"),
    ],
    ids=["blank", "too long", "long and blank"],
)
def test_question_that_is_blank_or_too_long_is_rejected(text: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        question(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "# How do I\n  **bake** a `cake` that is larger than the oven?",
            "How do I bake a cake that is larger than the…",
        ),
        ("***", NEW_ROOM),
        ("Fix this:\n\n```python\ndef f():\n  pass\n```\nThanks", "Fix this: def f(): pass Thanks"),
        ("Read [the docs](https://example.com/x) and ![a map](data:x)", "Read the docs and a map"),
        ("x" * 100, "x" * 48 + "…"),
        ("x" * 48, "x" * 48),
    ],
)
def test_name_from_text_is_the_first_words_without_markdown(text: str, name: str) -> None:
    assert name_from_text(text) == name


def test_idempotency_key_that_is_empty_is_none_and_too_long_is_rejected() -> None:
    assert (idempotency_key(None), idempotency_key(""), idempotency_key("k\0")) == (None, None, "k\ufffd")
    with pytest.raises(Invalid, match="at most 200 characters; this one has 201"):
        idempotency_key("k" * (MAX_KEY_CHARS + 1))
