"""What a start corrects: a lost or damaged list, a clock that was set back, summaries that are out of date."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from overseer.rooms.chat_room import ChatRoom
from overseer.rooms.overseer import Overseer
from overseer.storage.database import Storage
from overseer.storage.instance_lock import room_file
from tests.storage.rooms import ask, create_room, listed
from tests.support.answers import Open
from tests.support.files import empty, execute, overwrite_last_page, truncate, write_junk
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import DEADLINE
from tests.support.waiting import join_turn_threads, until

HOUR_SECONDS = 3600


@pytest.fixture(autouse=True)
def _short_busy_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overseer.storage.database.BUSY_SECONDS", 0.02)


# A lost list


@pytest.mark.parametrize("harm", [write_junk, overwrite_last_page, truncate, empty, Path.unlink])
def test_list_that_cannot_be_read_is_rebuilt_in_its_order(
    overseer: Overseer, opened: Open, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """By the last activity, pinned rooms first. A damaged file is kept, and the log names it."""
    rooms = [overseer.create(f"Room {n}").id for n in range(4)]
    for number in (2, 0, 3, 1):
        ask(overseer, rooms[number], f"Hello {number}")
    overseer.room(rooms[3]).configure({"pinned": True})
    before = listed(overseer)
    times = {room.id: room.active_at for room in overseer.rooms().rooms}
    assert [row[0] for row in before] == [rooms[n] for n in (3, 1, 0, 2)]
    overseer.close()
    for n, room in enumerate(rooms):  # the order is not that of the files
        os.utime(room_file(overseer.directory, room), (HOUR_SECONDS * n, HOUR_SECONDS * n))
    path = overseer.directory / "overseer.sqlite"
    harm(path)
    harmed = path.read_bytes() if path.exists() else b""
    again = opened(overseer.directory)
    assert listed(again) == before
    assert all(abs(room.active_at - times[room.id]) < 60_000 for room in again.rooms().rooms)
    kept = list(overseer.directory.glob("overseer.sqlite.damaged-*"))
    assert [one.read_bytes() for one in kept] == ([harmed] if harmed else [])
    for one in kept:
        assert re.fullmatch(r"overseer\.sqlite\.damaged-\d{8}T\d{6}Z", one.name) and one.name in caplog.text
    ask(again, rooms[2], "Are you there?")
    assert [row[0] for row in listed(again)] == [rooms[n] for n in (3, 2, 1, 0)]


def test_rebuilt_list_keeps_times_of_activity_and_an_adopted_room_goes_to_the_top(
    overseer: Overseer, opened: Open
) -> None:
    old, new = overseer.create("Old").id, overseer.create("New").id
    for room in (new, old):
        ask(overseer, room, "Hello")
    overseer.close()
    year_ago = 1_700_000_000_000
    execute(
        room_file(overseer.directory, old), f"UPDATE messages SET created_at = {year_ago}, ended_at = {year_ago} + 1000"
    )
    (overseer.directory / "overseer.sqlite").unlink()
    again = opened(overseer.directory)
    assert [room.name for room in again.rooms().rooms] == ["New", "Old"]
    assert again.record(old).active_at == year_ago + 1000
    again.close()
    execute(overseer.directory / "overseer.sqlite", f"DELETE FROM rooms WHERE id = '{old}'")
    again = opened(overseer.directory)
    assert [room.name for room in again.rooms().rooms] == ["Old", "New"]
    assert again.record(old).active_at > year_ago + 1000


def test_rebuilt_list_leaves_out_a_damaged_room_until_its_file_is_repaired(overseer: Overseer, opened: Open) -> None:
    damaged, other = overseer.create("Damaged").id, overseer.create("Other").id
    overseer.close()
    path = room_file(overseer.directory, damaged)
    content = path.read_bytes()
    write_junk(path)
    (overseer.directory / "overseer.sqlite").unlink()
    again = opened(overseer.directory)
    assert [room.id for room in again.rooms().rooms] == [other]
    again.close()
    path.write_bytes(content)
    assert {room.id for room in opened(overseer.directory).rooms().rooms} == {other, damaged}


# Summaries after a crash


@pytest.mark.parametrize(("open_at_crash", "clock_set_back"), [(True, True), (True, False), (False, True)], ids=repr)
def test_summary_that_a_crash_made_out_of_date_is_read_again_whatever_the_clock_says(
    overseer: Overseer, tmp_path: Path, opened: Open, *, open_at_crash: bool, clock_set_back: bool
) -> None:
    room = create_room(overseer, "Kitchen", "Hello")
    copy = tmp_path / "crashed"
    copy.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(overseer.directory / f"overseer.sqlite{suffix}", copy)
    ask(overseer, room, "Said later")
    if not open_at_crash:
        overseer.close()
    shutil.copytree(overseer.directory / "facets", copy / "facets")
    assert bool(list((copy / "facets").glob("*-wal"))) == open_at_crash
    if clock_set_back:  # the list was written by a clock ahead of the present one
        execute(copy / "overseer.sqlite", f"UPDATE rooms SET synced_at = synced_at + {HOUR_SECONDS * 1000}")
    for path in (copy / "facets").iterdir():
        os.utime(path, (0, 0))
    again = opened(copy)
    assert (again.record(room).messages, again.record(room).preview) == (4, "All right.")


def test_clock_that_is_set_back_changes_no_order(overseer: Overseer, opened: Open) -> None:
    """Messages are ordered by number and rooms by rank."""
    rooms = [create_room(overseer, f"Room {n}", "one", "two") for n in range(2)]
    before, messages = listed(overseer), [one.number for one in overseer.room(rooms[0]).messages().messages]
    overseer.close()
    execute(room_file(overseer.directory, rooms[0]), "UPDATE messages SET created_at = 1000 - number, ended_at = 0")
    execute(overseer.directory / "overseer.sqlite", "UPDATE rooms SET active_at = 1000 - rank")
    again = opened(overseer.directory)
    assert listed(again) == before
    assert [one.number for one in again.room(rooms[0]).messages().messages] == messages
    ask(again, rooms[0], "three")
    assert [one.text for one in again.room(rooms[0]).messages().messages[::2]] == ["one", "two", "three"]
    assert again.rooms().rooms[0].id == rooms[0]


def test_start_after_a_crash_opens_only_the_rooms_that_were_open(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    overseer = opened(tmp_path / "instance", open_facets=2)
    for n in range(8):
        create_room(overseer, f"Room {n}", "Hello")
    before = listed(overseer)
    shutil.copytree(tmp_path / "instance", tmp_path / "crashed")
    overseer.close()
    opened_rooms: list[str] = []
    init = ChatRoom.__init__

    def record(chat_room: ChatRoom, storage: Storage, room_id: str, **rest: object) -> None:
        opened_rooms.append(room_id)
        init(chat_room, storage, room_id, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ChatRoom, "__init__", record)
    again = opened(tmp_path / "crashed")
    assert 1 <= len(opened_rooms) <= 4  # two open ones, and those that had just been busy
    assert listed(again) == before


def test_summary_of_a_restored_room_is_updated_when_the_room_is_opened(
    overseer: Overseer, tmp_path: Path, opened: Open
) -> None:
    """Also when the list cannot be written at that moment: the next request writes it."""
    room = create_room(overseer, "Kitchen", "Hello")
    overseer.close()
    shutil.copy(room_file(overseer.directory, room), tmp_path / "copy")
    overseer.open()
    overseer.room(room).clear()
    overseer.room(room).configure({}, name="Cellar")
    overseer.close()
    shutil.copy(tmp_path / "copy", room_file(overseer.directory, room))
    again = opened(overseer.directory)
    assert (again.record(room).name, again.record(room).messages) == ("Cellar", 0)
    with closing(sqlite3.connect(overseer.directory / "overseer.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert len(again.room(room).messages().messages) == 2
    again.open()
    assert (again.record(room).name, again.record(room).messages) == ("Kitchen", 2)


def test_start_that_fails_unlocks_the_directory(
    overseer: Overseer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    overseer.close()
    with monkeypatch.context() as patched:
        patched.setattr(Overseer, "_recover", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened(overseer.directory)
    opened(overseer.directory)


# File modes and the WAL file


def test_new_files_are_private_and_the_modes_of_existing_ones_are_kept(tmp_path: Path, opened: Open) -> None:
    directory = tmp_path / "below" / "instance"
    before = os.umask(0o022)
    try:
        overseer = opened(directory)
        overseer.create("Kitchen")
        until(lambda: (directory / "search.sqlite-shm").exists())
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.rglob("*"))}
        overseer.close()
    finally:
        os.umask(before)
    assert len(modes) == 12 and set(modes.values()) == {0o700, 0o600}, modes
    chosen = {path: 0o755 if path.is_dir() else 0o640 for path in (directory, *directory.rglob("*"))}
    for path, mode in chosen.items():
        path.chmod(mode)
    opened(directory).close()
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in chosen} == chosen


def test_log_has_the_outcome_of_every_turn(
    overseer: Overseer, model_server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    room = create_room(overseer, "Kitchen", "Hello")
    model_server.will(held(b"junk")).hang_up()
    ask(overseer, room, "Hello")
    for end_turn in (overseer.room(room).stop, overseer.room(room).clear):
        reply = model_server.will(held(text("Half")))
        overseer.room(room).ask("Hello")
        assert reply.begun.wait(DEADLINE)
        end_turn()
        join_turn_threads(room)
        reply.say(end())
    found = re.findall(rf"turn {room}/(\d+) stand-in (\w+) \d+\.\ds", caplog.text)
    assert found == [("2", "complete"), ("4", "failed"), ("6", "stopped"), ("8", "cleared")]
