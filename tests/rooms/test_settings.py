"""Room settings from a form."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from overseer.domain.settings import MAX_MODEL_CHARS, MAX_SYSTEM_PROMPT_CHARS, MAX_TEMPERATURE, Changes, parse_changes
from overseer.domain.text import INVALID_CHARACTERS, Invalid, TooLarge

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=50)  # including lone surrogates
NUMBERS = st.from_regex(r"[-+]?[0-9]{0,3}[.,_]?[0-9]{0,3}([eE][-+]?[0-9]{1,4})?", fullmatch=True)


def temperature(value: str) -> float | None:
    return parse_changes({"temperature": value})["temperature"]


def test_changes_contain_only_the_fields_of_the_form() -> None:
    assert parse_changes({}) == parse_changes({"name": "Kitchen", "Model": "x", "temperature ": "1"}) == {}


def test_changes_with_blank_fields_reset_the_settings() -> None:
    for blank in ("", " \t\r\n", "\u3000"):
        found = parse_changes({"model": blank, "system_prompt": blank, "temperature": blank})
        assert found == Changes(model="", system_prompt="", temperature=None)


def test_model_and_system_prompt_are_normalised() -> None:
    """White space, line ends, control characters and lone surrogates."""
    found = parse_changes(
        {"model": "  gpt-4o\r\n mini\u2028 \x00\ud83d", "system_prompt": "\r\n Hi.\r\n\r- a\r\x1b \n"}
    )
    assert found == {"model": "gpt-4o mini \ufffd\ufffd", "system_prompt": "Hi.\n\n- a\n\ufffd"}
    assert parse_changes({"system_prompt": "\ud83d\ude00\udc00"}) == {"system_prompt": "\N{GRINNING FACE}\ufffd"}


@given(st.fixed_dictionaries({}, optional={"model": ANYTHING, "system_prompt": ANYTHING}))
def test_changes_can_be_stored_and_are_the_same_when_sent_again(form: dict[str, str]) -> None:
    found = parse_changes(form)
    assert found.keys() == form.keys()
    for value in found.values():
        assert isinstance(value, str)
        value.encode()
        assert not INVALID_CHARACTERS.search(value) and "\r" not in value and value == value.strip()
    assert parse_changes(found) == found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "maximum", "error"),
    [("model", MAX_MODEL_CHARS, Invalid), ("system_prompt", MAX_SYSTEM_PROMPT_CHARS, TooLarge)],
)
def test_model_or_system_prompt_over_its_limit_is_rejected(field: str, maximum: int, error: type[Exception]) -> None:
    assert parse_changes({field: " " + "x" * maximum + "\r\n"}) == {field: "x" * maximum}
    for length in (maximum + 1, 4_000_000):
        with pytest.raises(error, match=rf"{maximum:,}|{maximum}") as raised:
            parse_changes({field: "x" * length})
        assert len(str(raised.value)) < 200, "the sentence repeats the value"


@pytest.mark.parametrize(("value", "number"), [("0", 0.0), (" .5 ", 0.5), ("2.000", 2.0), ("+1", 1.0), ("1e-400", 0.0)])
def test_temperature_is_parsed(value: str, number: float) -> None:
    assert temperature(value) == number


@pytest.mark.parametrize(
    "value",
    ["nan", "-inf", "1e400", "0x1", "2.01", "-0.1", "9" * 5000, "0,7", "1\x000", "\ud83d", "1e", "0_1", "0.1_5"],
)
def test_temperature_that_is_not_a_number_from_0_to_2_is_rejected(value: str) -> None:
    with pytest.raises(Invalid, match=r"^Temperature must be between 0 and 2\. Leave empty for the default\.$"):
        temperature(value)
    with pytest.raises(Invalid):
        parse_changes({"model": "gpt-4o", "temperature": value})


@given(st.one_of(ANYTHING, NUMBERS))
@example("-0")
@example("-1e-400")
@example("\uff11")  # a full-width digit
def test_temperature_is_rejected_or_a_number_that_the_form_accepts_again(value: str) -> None:
    try:
        found = temperature(value)
    except Invalid:
        return
    if found is None:
        assert not value.strip()
        return
    assert type(found) is float and 0 <= found <= MAX_TEMPERATURE
    assert math.copysign(1, found) == 1, "it is -0.0"
    assert re.fullmatch(r"[0-9.e-]+", repr(found)) and temperature(repr(found)) == found


def test_temperature_with_millions_of_digits_is_parsed_in_linear_time() -> None:
    """A quadratic pattern would take minutes."""
    assert temperature("0." + "1" * 3_000_000) == pytest.approx(1 / 9)
    for value in ("1" * 3_000_000, "0." + "1" * 3_000_000 + "x", "1e" + "1" * 3_000_000):
        with pytest.raises(Invalid):
            temperature(value)
