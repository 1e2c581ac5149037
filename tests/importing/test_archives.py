"""Zips that nobody should trust."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from overseer.importing import archives
from overseer.importing.archives import ZipArchive
from overseer.importing.conversations import Conversation, Unreadable
from overseer.importing.exports import Export, Found, OwnRoom
from tests.support.exports import as_json, many, written, zipped


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "given"


def found(path: Path, name: str = "given.zip") -> list[Found]:
    return list(Export(path, name, scratch=path.with_name("scratch")).conversations())


def reasons(path: Path) -> Iterator[tuple[str, str]]:
    for one in found(path):
        if isinstance(one.content, Unreadable):
            yield one.place, str(one.content)


def test_zip_bomb_is_refused(place: Path) -> None:
    written(place, zipped({"conversations.json": b"[" + b" " * 50_000_000 + b"]", "good.json": as_json(many(1))}))
    one, other = found(place)
    assert one.place == "conversations.json" and "as in a zip bomb" in str(one.content)
    assert isinstance(other.content, Conversation)


def test_member_that_is_larger_than_the_zip_says_ends_there(place: Path) -> None:
    content = bytearray(zipped({"conversations.json": as_json(many(5))}))
    for mark, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):  # the size of the member, in both headers
        start = content.index(mark) + at
        content[start : start + 4] = struct.pack("<I", 100)
    written(place, bytes(content))
    assert any("cannot be read" in reason or "ends" in reason or "valid JSON" in reason for _, reason in reasons(place))


def test_zip_with_too_many_members_or_too_much_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(place, zipped({f"{number}.json": b"[]" for number in range(20)}))
    with monkeypatch.context() as patched:
        patched.setattr(archives, "MAX_MEMBERS", 10)
        assert list(reasons(place)) == [("given.zip", "The zip has more than 10 files.")]
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 10)
    with pytest.raises(Unreadable, match="holds more than"):
        ZipArchive(place)


def test_zip_that_is_cut_off_or_encrypted_says_so(place: Path) -> None:
    whole = zipped({"conversations.json": as_json(many(3))})
    written(place, whole[: len(whole) // 2])
    ((where, reason),) = reasons(place)
    assert where == "given.zip" and reason.startswith("The zip cannot be read (")
    encrypted = bytearray(whole)
    for mark, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        encrypted[encrypted.index(mark) + at] |= 1
    written(place, bytes(encrypted))
    assert [reason for _, reason in reasons(place)] == ["The zip is encrypted. Unpack it, and import what was in it."]


def test_damaged_member_does_not_keep_the_others_from_being_read(place: Path) -> None:
    content = bytearray(zipped({"a.json": as_json(many(30)), "b.json": as_json(many(1, first=50))}))
    content[200:260] = bytes(60)
    written(place, bytes(content))
    last = found(place)[-1].content
    assert isinstance(last, Conversation) and last.title == "Talk 50"


def test_names_that_climb_out_write_nothing(place: Path, tmp_path: Path) -> None:
    inner = zipped({"conversations.json": as_json(many(1))})
    written(place, zipped({"../../../evil.zip": inner, "/abs/evil.zip": inner, "..\\..\\evil.sqlite": b"x" * 200}))
    assert sum(isinstance(one.content, Conversation) for one in found(place)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def test_zips_within_zips_are_read_to_a_bound(place: Path) -> None:
    content = as_json(many(1))
    for _ in range(4):
        content = zipped({"conversations.json" if content.startswith(b"[") else "inner.zip": content})
    written(place, content)
    assert [reason for _, reason in reasons(place)] == ["It is a zip within a zip within a zip. Unpack it first."]


def test_file_without_an_extension_is_read_if_it_is_json(place: Path) -> None:
    """As those of AI Studio are, which are called as the prompt."""
    prompt = as_json({"runSettings": {}, "chunkedPrompt": {"chunks": [{"text": "Hi", "role": "user"}]}})
    written(place, zipped({"Takeout/Drive/A prompt": prompt, "Takeout/Drive/image": b"\x89PNG" + bytes(100)}))
    (one,) = found(place)
    assert isinstance(one.content, Conversation) and one.content.title == "A prompt"


def test_same_name_twice_is_read_once(place: Path) -> None:
    made = BytesIO()
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.json", as_json(many(1)))
        archive.writestr("a.json", as_json(many(1, first=2)))
    written(place, made.getvalue())
    assert len(found(place)) == 1


def test_zip_without_a_conversation_says_what_is_known(place: Path) -> None:
    written(place, zipped({"readme.txt": b"x", "user.json": as_json({"id": 1}), "a.json": b"[1, 2"}))
    told = dict(reasons(place))
    assert "ends within the list" in told["a.json, line 1"]
    written(place, zipped({"readme.txt": b"x", "user.json": as_json({"id": 1})}))
    assert "Known are exports of Overseer, ChatGPT" in dict(reasons(place))["given.zip"]


def test_database_that_is_of_nobody_we_know_says_so(place: Path) -> None:
    written(place, b"SQLite format 3\x00" + bytes(2000))
    ((_, reason),) = reasons(place)
    assert "neither a room of Overseer nor the log of llm" in reason


def test_database_that_claims_to_be_a_room_is_left_to_the_reader_of_rooms(place: Path) -> None:
    header = bytearray(b"SQLite format 3\x00" + bytes(2000))
    header[68:72] = (0x4F565252).to_bytes(4)
    written(place, zipped({"room.sqlite": bytes(header)}))
    (one,) = found(place)
    assert isinstance(one.content, OwnRoom) and one.place == "room.sqlite"
