"""Numbers that are too large to be written or to be times."""

from __future__ import annotations

import io

import pytest

from overseer.importing import values
from overseer.importing.json_items import JsonReader


@pytest.mark.parametrize("number", [10**400, -(10**400), 10**5000, float("inf"), float("nan")], ids=range(5))
def test_values_very_large_number_is_no_time(number: float) -> None:
    assert values.milliseconds(number) is None
    assert values.number(number) is None


def test_values_very_large_number_has_no_text() -> None:
    assert values.text(10**5000) == ""
    assert values.text(10**20) == "100000000000000000000"


def test_json_number_with_too_many_digits_does_not_keep_others_from_being_read() -> None:
    first, second = JsonReader(io.BytesIO(b'[{"a": ' + b"9" * 5000 + b'}, {"b": 1}]')).items()
    assert str(first.error) == "It has a number that is too long."
    assert second.value == {"b": 1}
