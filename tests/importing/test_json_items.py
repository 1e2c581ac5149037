"""The values of a JSON file are read one by one."""

from __future__ import annotations

import json
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer.importing import json_items
from overseer.importing.conversations import Unreadable
from overseer.importing.json_items import Item, JsonReader

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=4), VALUES, min_size=1, max_size=3), max_size=6)


class Slow(BytesIO):
    """A stream that returns a few bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(7, size or 7))


def read(data: bytes | str) -> list[Item]:
    return list(JsonReader(Slow(data if isinstance(data, bytes) else data.encode())).items())


def values(data: bytes | str) -> list[object]:
    return [item.value for item in read(data)]


def errors(data: bytes | str) -> list[tuple[str, str]]:
    return [(item.place, str(item.error)) for item in read(data) if item.error is not None]


@given(OBJECTS, st.sampled_from([None, 1]), st.booleans())
def test_values_of_a_list_are_read(objects: list[object], indent: int | None, ascii_only: bool) -> None:
    data = json.dumps(objects, indent=indent, ensure_ascii=ascii_only)
    assert values(data.encode("utf-8", "surrogatepass")) == objects or not ascii_only
    assert values("\ufeff" + json.dumps(objects)) == objects
    assert values(json.dumps({"conversations": objects})) == objects


@given(OBJECTS.filter(bool))
def test_values_on_lines_are_read(objects: list[object]) -> None:
    assert values("\n".join(json.dumps(one) for one in objects)) == objects


def test_object_is_one_value() -> None:
    assert values('{"title": "x", "conversations": [1]}') == [{"title": "x", "conversations": [1]}]


@pytest.mark.parametrize("broken", ['{"a": nope}', '{"a" 1}', '{"a": [1, 2}, 3]}', '{"a": "\\q"}', "{'a': 1}"])
def test_broken_value_does_not_keep_the_others_from_being_read(broken: str) -> None:
    found = read(f'[{{"first": "]}}"}},\n{broken},\n{{"last": 1}}]')
    assert found[0].value == {"first": "]}"}
    assert found[-1].value == {"last": 1}
    assert found[1].place.startswith("item 2, line 2") and "not valid JSON" in str(found[1].error)


def test_not_a_number_is_nothing() -> None:
    assert values('[{"a": NaN, "b": Infinity}]') == [{"a": None, "b": None}]


def test_file_that_is_cut_off_gives_what_is_whole() -> None:
    found: list[Item] = []
    with pytest.raises(Unreadable, match="ends within the list, after 2 items"):
        for item in JsonReader(Slow(b'[{"a": 1}, {"b": "x')).items():
            found.append(item)
    assert found[0].value == {"a": 1} and found[1].error is not None
    with pytest.raises(Unreadable, match="after 1 items"):
        list(JsonReader(BytesIO(b'[{"a": 1},')).items())


def test_file_that_is_no_json_says_so() -> None:
    for data in (b"# A heading\n", b"\x00\x01\x02", b"<html>"):
        with pytest.raises(Unreadable, match="not JSON"):
            list(JsonReader(BytesIO(data)).items())
    with pytest.raises(Unreadable, match="empty"):
        list(JsonReader(BytesIO(b" \n ")).items())


def test_value_that_is_too_large_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_items, "CHUNK_BYTES", 100)
    monkeypatch.setattr(json_items, "MAX_ITEM_CHARS", 1000)
    large = json.dumps({"a": 'x"]}\\' * 2000})
    found = read(f'[{{"first": 1}}, {large}, {{"last": 1}}]')
    assert [item.value for item in found] == [{"first": 1}, None, {"last": 1}]
    assert str(found[1].error).startswith("It is larger than")


def test_value_of_very_many_values_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_items, "CHUNK_BYTES", 100)
    monkeypatch.setattr(json_items, "MAX_ITEM_COST", 50_000)
    found = read(f'[{json.dumps(list(range(2000)))}, {{"last": 1}}]')
    assert [item.value for item in found] == [None, {"last": 1}]
    assert "more values" in str(found[0].error)


def test_value_that_is_nested_too_deeply_is_skipped() -> None:
    found = read("[" + '{"a":[' * 50_000 + "]}" * 50_000 + ', {"last": 1}]')
    assert found[-1].value == {"last": 1} and "nested too deeply" in str(found[0].error)


def test_halves_of_a_character_are_joined_between_pieces() -> None:
    assert values('["ä😀" , "𝒳"]'.encode()) == ["ä😀", "𝒳"]


def test_place_of_a_value_on_a_line_is_its_line() -> None:
    assert [item.place for item in read('{"a": 1}\n\n{"b": 2}\n')] == ["line 1", "line 3"]
    assert errors('{"a": 1}\n{"b": \n{"c": 3}')[0][0].startswith("line 2")
