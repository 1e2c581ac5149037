"""Files become rooms: imported once, reported, in the list and in the search."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from overseer.domain.errors import NoSuchImport
from overseer.domain.messages import File
from overseer.domain.records import Import, Imported
from overseer.domain.search import parse
from overseer.importing import exports
from overseer.importing.conversations import Conversation, Files
from overseer.importing.exports import Export
from overseer.importing.formats import chatgpt as chatgpt_format
from overseer.rooms import imports
from overseer.rooms.imports import HERE, INTERRUPTED, JOB_FILE
from overseer.rooms.overseer import Overseer
from overseer.storage.check import check
from overseer.storage.instance_lock import room_file
from overseer.storage.room_copy import RoomCopy
from tests.support.answers import Open, ask
from tests.support.exports import as_json, chatgpt, many, written, zipped
from tests.support.model_server import ModelServer, answer
from tests.support.pictures import GIF
from tests.support.waiting import DEADLINE, until


def run(overseer: Overseer, *contents: bytes) -> tuple[Import, list[Imported]]:
    """Import files with these contents; return the import and its report."""
    import_id = begin(overseer, *contents)
    assert overseer.imports.wait(import_id, DEADLINE)
    return overseer.imports.find(import_id), overseer.imports.lines(import_id)


def begin(overseer: Overseer, *contents: bytes) -> str:
    directory = overseer.imports.new_directory()
    files = []
    for number, content in enumerate(contents, 1):
        path = directory / str(number)
        path.write_bytes(content)
        files.append((path, f"file-{number}"))
    return overseer.imports.start(directory, files)


def words(overseer: Overseer, room_id: str) -> list[str]:
    return [message.text for message in overseer.room(room_id).transcript()]


def outcomes(lines: list[Imported]) -> list[tuple[str, str, int]]:
    return [(line.outcome, line.name, line.messages) for line in lines]


def test_conversations_become_rooms(overseer: Overseer) -> None:
    done, lines = run(overseer, as_json([chatgpt("One", ["Hi", "Hello"]), chatgpt("Two", ["Ho"] * 4, number=2)]))
    assert (done.state, done.sentence) == ("done", "2 imported, 0 skipped, 0 failed.")
    assert outcomes(lines) == [("imported", "One", 2), ("imported", "Two", 4)]
    one, two = (line.room for line in lines)
    assert words(overseer, one) == ["Hi", "Hello"]
    message = overseer.room(one).message(2)
    assert (message.role, message.state, message.created_at) == ("assistant", "complete", 1_700_000_102_000)
    record = overseer.record(two)
    assert (record.name, record.messages, record.preview, record.active_at) == ("Two", 4, "Ho", 1_700_000_204_000)
    assert not list((overseer.directory / "imports").glob("*"))
    assert room_file(overseer.directory, one).stat().st_mode & 0o777 == 0o600


def test_imported_rooms_are_listed_by_their_last_activity_above_the_others(overseer: Overseer) -> None:
    here = overseer.create("Here").id
    overseer.room(here).configure({"pinned": True})
    other = overseer.create("Other").id
    _, lines = run(overseer, as_json(many(40)[::-1]))  # exports begin with the newest
    ids = [room.id for room in overseer.rooms().rooms]
    assert ids == [here, *(line.room for line in lines), other]
    assert overseer.record(here).pinned


def test_imported_room_goes_on_as_any_other_and_is_found(overseer: Overseer) -> None:
    _, lines = run(overseer, as_json([chatgpt("One", ["A medlar", "A quince"])]))
    ask(overseer, "And now?", room_id=lines[0].room)
    assert words(overseer, lines[0].room)[:3] == ["A medlar", "A quince", "And now?"]
    until(lambda: [hit.message for hit in overseer.search(parse("quince")).hits] == [2])


def test_second_import_adds_nothing_and_a_newer_export_only_what_is_new(overseer: Overseer) -> None:
    first = as_json([chatgpt("One", ["Hi", "Hello"]), chatgpt("Two", ["Ho", "Hum"], number=2)])
    _, before = run(overseer, first)
    done, lines = run(overseer, first)
    assert [(line.outcome, line.reason, line.room) for line in lines] == [("skipped", HERE, one.room) for one in before]
    assert done.sentence == "0 imported, 2 skipped, 0 failed."
    newer = [chatgpt("One", ["Hi", "Hello", "More", "Yes"]), chatgpt("Two", ["Ho", "Hum"], number=2)]
    _, lines = run(overseer, as_json(newer))
    assert outcomes(lines) == [("imported", "One", 2), ("skipped", "Two", 0)]
    assert words(overseer, before[0].room) == ["Hi", "Hello", "More", "Yes"]
    assert len(overseer.rooms().rooms) == 2
    assert not [one for one in check(overseer.directory, progress=lambda *_: None).findings if one.fault]


def test_newer_export_does_not_change_what_was_asked_here(overseer: Overseer) -> None:
    _, lines = run(overseer, as_json([chatgpt("One", ["Hi", "Hello"])]))
    room_id = lines[0].room
    answer = ask(overseer, "Asked here", room_id=room_id)
    run(overseer, as_json([chatgpt("One", ["Hi", "Hello", "Asked there", "Yes"])]))
    assert words(overseer, room_id) == ["Hi", "Hello", "Asked here", answer.text]
    assert overseer.room(room_id).message(5).text == "Asked there"
    assert overseer.room(room_id).message(5).versions.count == 2


def test_answer_that_was_missing_comes_with_a_newer_export(overseer: Overseer) -> None:
    _, lines = run(overseer, as_json([chatgpt("One", ["Hi"])]))
    assert outcomes(lines) == [("imported", "One", 1)]
    _, lines = run(overseer, as_json([chatgpt("One", ["Hi", "Hello"])]))
    assert outcomes(lines) == [("imported", "One", 1)]
    assert words(overseer, lines[0].room) == ["Hi", "Hello"]


def test_room_that_was_deleted_is_imported_again(overseer: Overseer) -> None:
    given = as_json([chatgpt("One", ["Hi", "Hello"])])
    _, lines = run(overseer, given)
    overseer.delete(lines[0].room)
    assert outcomes(run(overseer, given)[1]) == [("imported", "One", 2)]


def test_conversation_that_is_in_the_files_twice_is_one_room(
    overseer: Overseer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "SHOW_SECONDS", DEADLINE)  # all are taken at once
    _, lines = run(
        overseer,
        as_json([chatgpt("One", ["Hi", "Hello"]), chatgpt("One", ["Hi", "Hello", "More", "Yes"])]),
        as_json([chatgpt("One", ["Hi", "Hello"])]),
    )
    assert [line.outcome for line in lines] == ["imported", "imported", "skipped"]
    assert len({line.room for line in lines}) == 1
    assert words(overseer, lines[0].room) == ["Hi", "Hello", "More", "Yes"]


def test_what_cannot_be_read_is_reported_with_its_place(overseer: Overseer) -> None:
    good = chatgpt("Good", ["Hi", "Hello"], number=7)
    empty = as_json({"id": "x", "title": "Empty", "mapping": {}})
    broken = b'[{"mapping": {"a": }}, ' + as_json(good) + b', {"other": 1}, ' + empty + b"]"
    done, lines = run(overseer, broken, b"# No JSON", b"", b"PK\x03\x04 no zip", b"SQLite format 3\x00" + bytes(100))
    assert outcomes(lines)[1] == ("imported", "Good", 2)
    failed = [(line.place, line.reason) for line in lines if line.outcome == "failed"]
    assert failed[0] == ("file-1, item 1, line 1", "It is not valid JSON (Expecting value).")
    assert failed[1] == (
        "file-1, item 4, mapping",
        "The export has only the title of this conversation, not its messages.",
    )
    assert failed[2][1] == "This item is no conversation of a known format."
    assert [place for place, _ in failed[3:]] == ["file-2, line 1", "file-3", "file-4", "file-5"]
    assert all(reason.endswith(".") for _, reason in failed)
    assert done.count("failed") == 7


def test_nothing_imported_is_never_called_success(overseer: Overseer) -> None:
    done, lines = run(overseer, as_json([]), as_json({"some": "thing"}))
    assert done.sentence == "Nothing was imported. 0 imported, 0 skipped, 2 failed."
    assert all("Known are exports of Overseer, ChatGPT, Claude" in line.reason for line in lines)


def test_zip_is_read_member_by_member(overseer: Overseer) -> None:
    done, lines = run(
        overseer,
        zipped(
            {
                "x/conversations-001.json": as_json(many(2, first=3)),
                "x/conversations-000.json": as_json(many(2)),
                "user.json": as_json({"id": "me"}),
                "chat.html": b"<html>",
                "../../etc/cron.d/evil.json": as_json(many(1, first=9)),
                "inner.zip": zipped({"conversations.json": as_json(many(1, first=5))}),
            }
        ),
    )
    assert [line.name for line in lines] == [f"Talk {number}" for number in (9, 5, 1, 2, 3, 4)]
    assert done.state == "done" and done.count("imported") == 6


def test_rooms_of_overseer_come_back(overseer: Overseer, opened: Open, tmp_path: Path) -> None:
    """Also on another server; one that is still here is skipped."""
    room = overseer.create("Kitchen")
    ask(overseer, "Which fruit?", room_id=room.id)
    assert outcomes(run(overseer, exported(overseer, room.id, RoomCopy.jsonl))[1]) == [("skipped", "Kitchen", 0)]
    item = exported(overseer, room.id)
    assert outcomes(run(overseer, item)[1]) == [("skipped", "Kitchen", 0)]
    other = opened(tmp_path / "other")
    for outcome in ("imported", "skipped"):
        _, lines = run(other, item)
        assert [(line.outcome, line.room) for line in lines] == [(outcome, room.id)]
    assert words(other, room.id) == words(overseer, room.id)
    copied = room_file(other.directory, room.id)
    other.close()
    content = copied.read_bytes()
    third = opened(tmp_path / "third")
    for outcome in ("imported", "skipped"):
        assert [line.outcome for line in run(third, content)[1]] == [outcome]
    overseer.clear(room.id)
    ask(overseer, "Something else?", room_id=room.id)
    _, lines = run(overseer, item)  # the room does not have these messages any more
    assert lines[0].outcome == "imported" and lines[0].room != room.id


def exported(overseer: Overseer, room_id: str, form: Callable[[RoomCopy], BinaryIO] = RoomCopy.json) -> bytes:
    with overseer.export(room_id, form) as stream:
        return stream.read()


def test_import_that_is_cancelled_keeps_what_was_imported(overseer: Overseer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "BATCH", 1)
    import_id = begin(overseer, as_json(many(2000)))
    until(lambda: overseer.imports.find(import_id).count("imported") > 3)
    waiting = begin(overseer, as_json(many(1, first=5000)))
    overseer.imports.cancel(waiting)
    overseer.imports.cancel(import_id)
    found = overseer.imports.find(import_id)
    assert found.state == "cancelled" and "You cancelled this import" in found.sentence
    assert overseer.imports.find(waiting).sentence.startswith("Nothing was imported.")
    listed = found.count("imported")
    assert 3 < listed < 2000
    assert len(overseer.rooms(limit=3000).rooms) == listed == len(overseer.imports.lines(import_id))
    assert not (overseer.directory / "imports").exists()
    overseer.imports.cancel(import_id)  # which has ended
    with pytest.raises(NoSuchImport):
        overseer.imports.cancel("nothing")


def test_import_goes_on_after_a_restart(opened: Open, instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "BATCH", 1)
    overseer = opened(instance)
    import_id = begin(overseer, as_json(many(300)))
    waiting = begin(overseer, as_json(many(2, first=301)))
    until(lambda: overseer.imports.find(import_id).count("imported") > 3)
    overseer.close()
    again = opened(instance)
    assert again.imports.wait(import_id, DEADLINE) and again.imports.wait(waiting, DEADLINE)
    assert outcomes(again.imports.lines(import_id)) == [("imported", f"Talk {number}", 2) for number in range(1, 301)]
    assert again.imports.find(waiting).sentence == "2 imported, 0 skipped, 0 failed."
    assert len(again.rooms(limit=400).rooms) == 302


def test_import_whose_files_are_gone_has_failed(opened: Open, instance: Path) -> None:
    overseer = opened(instance)
    import_id = begin(overseer, as_json(many(3000)))
    overseer.close()
    (instance / "imports" / import_id / JOB_FILE).unlink()
    found = opened(instance).imports.find(import_id)
    assert (found.state, found.reason) == ("failed", INTERRUPTED)


def test_worker_that_dies_is_reported(overseer: Overseer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "WORKER", "overseer.nowhere")
    done, _ = run(overseer, as_json(many(1)))
    assert done.state == "failed" and done.reason.startswith("The import broke off: the process that reads the files")


def test_reports_of_the_last_imports_are_kept(overseer: Overseer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overseer.storage.import_log.KEPT", 2)
    ids = [begin(overseer, as_json(many(1))) for _ in range(3)]
    for one in ids:
        assert overseer.imports.wait(one, DEADLINE)
    assert [one.id for one in overseer.imports.all()] == ids[:0:-1]
    with pytest.raises(NoSuchImport):
        overseer.imports.find(ids[0])
    assert overseer.imports.lines(ids[0]) == []


def test_source_of_another_room_with_the_same_id_is_not_mixed_up(overseer: Overseer, monkeypatch: Any) -> None:
    """The ids are made of 48 bits of a digest, for which a file could be made that meets another's."""
    monkeypatch.setattr(imports, "room_ids", lambda source: ["0123456789ab", "0123456789ac"])
    _, first = run(overseer, as_json([chatgpt("One", ["Hi", "Hello"])]))
    _, second = run(overseer, as_json([chatgpt("Two", ["Hi", "Ho"], number=2)]))
    assert [line.room for line in first + second] == ["0123456789ab", "0123456789ac"]
    _, third = run(overseer, as_json([chatgpt("Three", ["Hi", "Ho"], number=3)]))
    assert [(line.outcome, line.reason) for line in third] == [("failed", "No id is free for it.")]


def test_hostile_text_stays_text(overseer: Overseer) -> None:
    nasty = "<script>alert(1)</script>\x00\ud800"
    given = json.dumps([chatgpt(nasty, [nasty, nasty])]).encode()
    _, lines = run(overseer, given)
    assert lines[0].name == "<script>alert(1)</script>\ufffd\ufffd"
    assert words(overseer, lines[0].room) == ["<script>alert(1)</script>\ufffd\ufffd"] * 2


def test_newer_export_of_overseer_adds_messages_with_all_that_they_have(
    overseer: Overseer, opened: Open, tmp_path: Path, model_server: ModelServer
) -> None:
    room = overseer.create("Kitchen")
    ask(overseer, "First?", room_id=room.id)
    other = opened(tmp_path / "other")
    run(other, exported(overseer, room.id))
    model_server.will(answer(f"Look: ![a dot](data:image/gif;base64,{b64encode(GIF).decode()}) done"))
    ask(overseer, "Second?", room_id=room.id)
    _, lines = run(other, exported(overseer, room.id))
    assert [(line.outcome, line.messages) for line in lines] == [("imported", 2)]
    here, there = (list(one.room(room.id).transcript()) for one in (overseer, other))
    assert here == there and here[3].usage is not None
    (picture,) = [part for part in there[3].parts if isinstance(part, File)]
    assert other.room(room.id).file(picture.sha256) == ("image/gif", GIF)


def test_reader_that_breaks_does_not_keep_the_others_from_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = chatgpt_format.read

    def broken(item: Mapping[str, Any], files: Files) -> Conversation:
        if item["title"] == "One":
            raise KeyError("a fault in the reader")
        return original(item, files)

    monkeypatch.setattr(chatgpt_format, "read", broken)
    path = written(tmp_path / "x.json", as_json([chatgpt("One", ["Hi", "Ho"]), chatgpt("Two", ["Hi", "Ho"], number=2)]))
    one, two = Export(path, "x.json", scratch=tmp_path / "scratch").conversations()
    assert str(one.content) == "It could not be read (KeyError)." and isinstance(two.content, Conversation)


def test_session_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MAX_SESSION_BYTES", 1_000_000)
    message = as_json({"type": "message", "message": {"role": "user", "content": "x" * 100_000}})
    session = as_json({"type": "session", "harness": "x", "id": "1"})
    path = written(tmp_path / "x.jsonl", b"\n".join([session, *[message] * 30]))
    (found,) = Export(path, "x.jsonl", scratch=tmp_path / "scratch").conversations()
    assert str(found.content) == "It has more than 1 MB in one piece."


def test_session_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    message = {"type": "message", "message": {"role": "user", "content": "Hi"}}
    lines = [as_json({"type": "session", "harness": "x", "id": "1"}), as_json(message), b'{"type": "mess']
    path = written(tmp_path / "x.jsonl", b"\n".join(lines))
    error, session = Export(path, "x.jsonl", scratch=tmp_path / "scratch").conversations()
    assert "not valid JSON" in str(error.content) and isinstance(session.content, Conversation)


def test_upload_that_a_crash_cut_off_is_removed_at_the_next_start(opened: Open, instance: Path) -> None:
    (instance / "imports" / "0123456789ab").mkdir(parents=True)
    opened(instance)
    assert not (instance / "imports").exists()
