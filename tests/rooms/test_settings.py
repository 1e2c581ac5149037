"""A room's settings out of a form: what can be kept is kept as one value, and the rest is refused in a sentence."""

from __future__ import annotations

import math
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from overseer.domain.settings import MAX_MODEL_CHARS, MAX_SYSTEM_PROMPT_CHARS, MAX_TEMPERATURE, Changes, parse_changes
from overseer.domain.text import INVALID_CHARACTERS, Invalid, TooLarge

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=50)  # halves of surrogate pairs too
NUMBERS = st.from_regex(r"[-+]?[0-9]{0,3}[.,_]?[0-9]{0,3}([eE][-+]?[0-9]{1,4})?", fullmatch=True)


def temperature(given: str) -> float | None:
    """The temperature that a form with this value sets."""
    return parse_changes({"temperature": given})["temperature"]


@pytest.mark.parametrize("form", [{}, {"name": "Kitchen", "key": "k", "Model": "x", "temperature ": "1"}])
def test_only_what_the_form_has_changes(form: dict[str, str]) -> None:
    """A field that is not there leaves its setting alone, and others are none of ours."""
    assert parse_changes(form) == {}


def test_an_empty_field_goes_back_to_what_it_was_at_first() -> None:
    """Blanks are as good as nothing."""
    for blank in ("", "  ", "\r\n", "\t", "\u3000"):
        found = parse_changes({"model": blank, "system_prompt": blank, "temperature": blank})
        assert found == Changes(model="", system_prompt="", temperature=None)


def test_a_name_is_kept_in_one_line() -> None:
    """However it was pasted."""
    assert parse_changes({"model": "  gpt-4o\r\n mini\u2028 "}) == {"model": "gpt-4o mini"}


def test_a_prompt_keeps_its_lines_and_loses_the_blanks_around_it() -> None:
    """A form sends its line ends as two characters; the file has them as one."""
    assert parse_changes({"system_prompt": "\r\n  Be brief.\r\n\r\n- a\r- b\n \r\n"}) == {
        "system_prompt": "Be brief.\n\n- a\n- b"
    }


def test_what_no_file_can_hold_is_replaced() -> None:
    """Controls and halves of a character; two halves are the character."""
    found = parse_changes({"model": "a\x00b\ud83d", "system_prompt": "a\x1bb\ud83d\ude00\udc00"})
    assert found == {"model": "a\ufffdb\ufffd", "system_prompt": "a\ufffdb\N{GRINNING FACE}\ufffd"}


@given(st.fixed_dictionaries({}, optional={"model": ANYTHING, "system_prompt": ANYTHING}))
@settings(deadline=None)
def test_any_words_can_be_stored_and_set_again(form: dict[str, str]) -> None:
    """And come out as they went in the second time: a form that is sent unchanged changes nothing."""
    found = parse_changes(form)
    assert found.keys() == form.keys()
    for value in found.values():
        assert isinstance(value, str)
        value.encode()
        assert not INVALID_CHARACTERS.search(value) and "\r" not in value and value == value.strip()
    assert parse_changes(found) == found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "most", "refused"),
    [("model", MAX_MODEL_CHARS, Invalid), ("system_prompt", MAX_SYSTEM_PROMPT_CHARS, TooLarge)],
)
def test_words_have_a_limit(field: str, most: int, refused: type[Exception]) -> None:
    """Counted as they are kept, and said in the sentence; the blanks around them are free."""
    assert parse_changes({field: " " + "x" * most + "\r\n"}) == {field: "x" * most}
    assert parse_changes({field: "\N{GRINNING FACE}" * most}) == {field: "\N{GRINNING FACE}" * most}
    for many in (most + 1, 4_000_000):
        with pytest.raises(refused, match=rf"{most:,}|{most}") as told:
            parse_changes({field: "x" * many})
        assert len(str(told.value)) < 200, "the sentence repeats what was sent"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("0", 0.0),
        ("0.7", 0.7),
        (" 1 ", 1.0),
        (".5", 0.5),
        ("2", MAX_TEMPERATURE),
        ("2.000", MAX_TEMPERATURE),
        ("1e-1", 0.1),
        ("+1", 1.0),
        ("1e-400", 0.0),
    ],
)
def test_a_temperature_is_a_number(given: str, meant: float) -> None:
    """Written in any of the usual ways."""
    assert temperature(given) == meant


@pytest.mark.parametrize(
    "given",
    ["nan", "inf", "-inf", "Infinity", "1e400", "-1e400", "0x1", "2.01", "-0.1", "-1e-300", "3", "9" * 5000]
    + ["0,7", "warm", "1 2", "1.2.3", "½", "1\x000", "\ud83d", "--1", "1e", "True", "None", "0b1", "1j"],
)  # fmt: skip
def test_what_is_no_temperature_is_refused(given: str) -> None:
    """With the limits and an example, whatever it was; nothing endless reaches a server."""
    with pytest.raises(Invalid, match=r"from 0 to 2, like 0\.7"):
        temperature(given)


@pytest.mark.parametrize("given", ["0_1", "0.1_5"])
def test_a_number_as_programs_write_it_is_no_temperature(given: str) -> None:
    """Who types 0_1 means 0.1 or nothing at all, and surely not 1."""
    with pytest.raises(Invalid):
        temperature(given)


def test_digits_of_other_scripts_are_what_they_are_or_refused() -> None:
    """An input method may well write full-width ones; they are never another number."""
    for value, meant in [("１", 1.0), ("０.７", 0.7), ("\u0661", 1.0)]:
        try:
            assert temperature(value) == meant
        except Invalid:
            continue


@given(st.one_of(ANYTHING, NUMBERS))
@example("-0")
@example("-0.0")
@example("-1e-400")
@settings(deadline=None)
def test_any_value_is_a_temperature_that_a_server_can_be_sent_or_is_refused(given: str) -> None:
    """From 0 to 2 and without a sign, so that the form shows it as a number that it takes."""
    try:
        found = temperature(given)
    except Invalid:
        return
    if found is None:
        assert not given.strip()
        return
    assert type(found) is float and 0 <= found <= MAX_TEMPERATURE
    assert math.copysign(1, found) == 1, "minus nothing"
    assert re.fullmatch(r"[0-9.e-]+", repr(found)) and temperature(repr(found)) == found


def test_endless_digits_are_read_in_no_time() -> None:
    """A form of megabytes holds up nobody."""
    began = time.monotonic()
    assert temperature("0." + "1" * 3_000_000) == pytest.approx(1 / 9)
    for endless in ("1" * 3_000_000, "1" * 3_000_000 + "x", "0." + "1" * 3_000_000 + "x", "1e" + "1" * 3_000_000):
        with pytest.raises(Invalid):
            temperature(endless)
    assert time.monotonic() - began < 20  # what is quadratic takes minutes


def test_one_bad_field_refuses_the_whole_form() -> None:
    """Nothing is half changed."""
    with pytest.raises(Invalid):
        parse_changes({"model": "gpt-4o", "temperature": "hot"})
