"""What a start puts right: a list that is lost or damaged, a clock that was set back, summaries that are behind."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.chat_room import ChatRoom
from overseer.rooms.overseer import Overseer
from overseer.storage.database import Storage
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import DEADLINE

HOUR = 3600
Open = Callable[[Path], Overseer]


@pytest.fixture
def opened(model_server: ModelServer) -> Iterator[Open]:
    """Opens another Overseer on a directory, as a start would; all are closed."""
    overseers: list[Overseer] = []

    def open_it(directory: Path) -> Overseer:
        overseers.append(Overseer(directory, models=Models(ModelSettings(base_url=model_server.url, name="stand-in"))))
        overseers[-1].open()
        return overseers[-1]

    yield open_it
    for overseer in overseers:
        overseer.close()


def ask(overseer: Overseer, room: str, words: str) -> None:
    """Ask, and wait until the answer has ended."""
    overseer.ask(room, words)
    for thread in threading.enumerate():
        if thread.name == f"turn-{room}":
            thread.join(DEADLINE)


def listed(overseer: Overseer) -> list[tuple[object, ...]]:
    """The list as it is shown."""
    return [
        (room.id, room.name, room.messages, room.preview, room.answering, room.problem, room.pinned)
        for room in overseer.rooms().rooms
    ]


def room_file(directory: Path, room: str) -> Path:
    return directory / "facets" / f"room-{room}.sqlite"


def tell(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for sql in statements:
            db.execute(sql)


# A list that is lost


def junk(path: Path) -> None:
    path.write_bytes(b"This is no database. " * 100)


def damage(path: Path) -> None:
    """Its beginning is as it was, and what is listed is not."""
    with path.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"\x55" * 4096)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [junk, damage, cut_short, empty, remove])
def test_a_list_that_cannot_be_read_is_made_anew_in_its_order(
    overseer: Overseer, opened: Open, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """By what was last said, pinned rooms on top, with those times; a damaged file is kept, and the log says so."""
    rooms = [overseer.create(f"Room {n}").id for n in range(5)]
    for number in (2, 0, 4, 1, 3):
        ask(overseer, rooms[number], f"Hello {number}")
    overseer.configure(rooms[4], {"pinned": True})
    ask(overseer, rooms[0], "And now?")
    before = listed(overseer)
    times = {room.id: room.active_at for room in overseer.rooms().rooms}
    assert [row[0] for row in before] == [rooms[n] for n in (4, 0, 3, 1, 2)]
    overseer.close()
    # The order is that of the rooms' own times, and neither of their names nor of when they were looked at.
    for room in rooms:
        os.utime(room_file(overseer.directory, room), (HOUR * rooms.index(room), HOUR * rooms.index(room)))
    path = overseer.directory / "overseer.sqlite"
    harm(path)
    harmed = path.read_bytes() if path.exists() else b""
    again = opened(overseer.directory)
    assert listed(again) == before
    assert all(abs(room.active_at - times[room.id]) < 60_000 for room in again.rooms().rooms)
    kept = list(overseer.directory.glob("overseer.sqlite.damaged-*"))
    assert [one.read_bytes() for one in kept] == ([harmed] if harmed else [])
    assert all(re.fullmatch(r"overseer\.sqlite\.damaged-\d{8}T\d{6}Z", one.name) for one in kept)
    assert all(one.name in caplog.text for one in kept)
    ask(again, rooms[2], "Are you there?")
    assert [row[0] for row in listed(again)] == [rooms[n] for n in (4, 2, 0, 3, 1)]


def test_rooms_that_are_taken_in_keep_the_times_of_what_was_said(overseer: Overseer, opened: Open) -> None:
    """A list made anew has a room of last year among those of last year; one that is dropped in is on top."""
    old, new = overseer.create("Old").id, overseer.create("New").id
    for room in (new, old):
        ask(overseer, room, "Hello")
    overseer.close()
    year_ago = 1_700_000_000_000
    tell(
        room_file(overseer.directory, old), f"UPDATE messages SET created_at = {year_ago}, ended_at = {year_ago} + 1000"
    )
    (overseer.directory / "overseer.sqlite").unlink()
    again = opened(overseer.directory)
    assert [room.name for room in again.rooms().rooms] == ["New", "Old"]
    assert again.room(old).active_at == year_ago + 1000
    again.close()
    tell(overseer.directory / "overseer.sqlite", f"DELETE FROM rooms WHERE id = '{old}'")
    again = opened(overseer.directory)
    assert [room.name for room in again.rooms().rooms] == ["Old", "New"]
    assert again.room(old).active_at > year_ago + 1000


def test_a_room_that_cannot_be_read_is_left_alone_when_the_list_is_made_anew(overseer: Overseer, opened: Open) -> None:
    """The others are there; with its file put right the next start takes it in."""
    broken, other = overseer.create("Broken").id, overseer.create("Other").id
    overseer.close()
    path = room_file(overseer.directory, broken)
    content = path.read_bytes()
    junk(path)
    (overseer.directory / "overseer.sqlite").unlink()
    again = opened(overseer.directory)
    assert [room.id for room in again.rooms().rooms] == [other]
    again.close()
    path.write_bytes(content)
    assert {room.id for room in opened(overseer.directory).rooms().rooms} == {other, broken}


# A clock that was set back


def crashed(overseer: Overseer, room: str, copy: Path, *, log: bool) -> Path:
    """A directory as a crash leaves it whose list is older than the room, with or without the room's log."""
    copy.mkdir()
    shutil.copy(overseer.directory / "overseer.sqlite", copy)
    shutil.copy(overseer.directory / "overseer.sqlite-wal", copy)
    ask(overseer, room, "Said later")
    if not log:
        overseer.close()
    shutil.copytree(overseer.directory / "facets", copy / "facets")
    assert bool(list((copy / "facets").glob("*-wal"))) == log
    return copy


@pytest.mark.parametrize(
    ("log", "back"), [(True, True), (True, False), (False, True)], ids=["open", "open, on again", "closed"]
)
def test_no_summary_is_missed_for_a_clock_that_was_set_back(
    overseer: Overseer, tmp_path: Path, opened: Open, log: bool, back: bool
) -> None:
    """Where a room's file says that it is older than its summary although it is not."""
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Hello")
    copy = crashed(overseer, room, tmp_path / "crashed", log=log)
    if back:  # the list was written by a clock that is ahead of ours
        tell(copy / "overseer.sqlite", f"UPDATE rooms SET synced_at = synced_at + {HOUR * 1000}")
    for path in (copy / "facets").iterdir():
        os.utime(path, (0, 0))
    again = opened(copy)
    assert (again.room(room).messages, again.room(room).preview) == (4, "All right.")


def test_a_clock_that_was_set_back_changes_no_order(overseer: Overseer, opened: Open) -> None:
    """Messages by their number, rooms by what was last said, whatever the times in the files are."""
    rooms = [overseer.create(f"Room {n}").id for n in range(3)]
    for room in rooms:
        for words in ("one", "two"):
            ask(overseer, room, words)
    before, messages = listed(overseer), [one.number for one in overseer.messages(rooms[0]).messages]
    overseer.close()
    tell(room_file(overseer.directory, rooms[0]), "UPDATE messages SET created_at = 1000 - number, ended_at = 0")
    tell(overseer.directory / "overseer.sqlite", "UPDATE rooms SET active_at = 1000 - rank")
    again = opened(overseer.directory)
    assert listed(again) == before
    assert [one.number for one in again.messages(rooms[0]).messages] == messages
    ask(again, rooms[0], "three")
    assert [one.text for one in again.messages(rooms[0]).messages[::2]] == ["one", "two", "three"]
    assert again.rooms().rooms[0].id == rooms[0]


def test_a_start_after_a_crash_looks_into_the_rooms_that_were_open(
    tmp_path: Path, model_server: ModelServer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were closed had told all: ten thousand of them do not make it slow."""
    models = Models(ModelSettings(base_url=model_server.url, name="stand-in"))
    overseer = Overseer(tmp_path / "instance", models=models, open_facets=2)
    overseer.open()
    for n in range(12):
        ask(overseer, overseer.create(f"Room {n}").id, "Hello")
    before = listed(overseer)
    shutil.copytree(tmp_path / "instance", tmp_path / "crashed")
    overseer.close()
    looked_into: list[str] = []
    start = ChatRoom.__init__

    def noted(chat_room: ChatRoom, storage: Storage, room_id: str, **rest: object) -> None:
        looked_into.append(room_id)
        start(chat_room, storage, room_id, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ChatRoom, "__init__", noted)
    again = opened(tmp_path / "crashed")
    assert 1 <= len(looked_into) <= 4  # two may be open, and those that were just busy
    assert listed(again) == before


def test_a_room_that_was_put_back_is_listed_as_it_is(overseer: Overseer, tmp_path: Path, opened: Open) -> None:
    """From when it is opened: its file is another than the list knows."""
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Hello")
    overseer.close()
    shutil.copy(room_file(overseer.directory, room), tmp_path / "copy")
    overseer.open()
    overseer.clear(room)
    overseer.rename(room, "Cellar")
    overseer.close()
    shutil.copy(tmp_path / "copy", room_file(overseer.directory, room))
    again = opened(overseer.directory)
    assert (again.room(room).name, again.room(room).messages) == ("Cellar", 0)
    with closing(sqlite3.connect(overseer.directory / "overseer.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # a list that cannot be written keeps nobody out
        assert len(again.messages(room).messages) == 2
    again.open()
    assert (again.room(room).name, again.room(room).messages) == ("Kitchen", 2)


# A summary that could not be taken


def test_a_summary_that_could_not_be_taken_is_taken_after_the_next_start(overseer: Overseer, opened: Open) -> None:
    """An end in order does not say that all is in the list when it is not."""
    room = overseer.create("Kitchen").id
    with closing(sqlite3.connect(overseer.directory / "overseer.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ask(overseer, room, "Hello")
    assert overseer.room(room).messages == 0
    overseer.close()
    assert opened(overseer.directory).room(room).messages == 2


def test_a_start_that_breaks_lets_go_of_the_directory(
    overseer: Overseer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it was: the same process can try again."""
    overseer.close()
    with monkeypatch.context() as patched:
        patched.setattr(Overseer, "_recover", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened(overseer.directory)
    opened(overseer.directory)


# Privacy


def test_files_that_are_made_are_for_their_owner_only(tmp_path: Path, opened: Open) -> None:
    """The directory, the list, the lock, a room and its companions, with the usual umask."""
    before = os.umask(0o022)
    try:
        overseer = opened(tmp_path / "below" / "instance")
        overseer.create("Kitchen")
        modes = {
            str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode)
            for path in tmp_path.rglob("instance*/**/*")
        }
        modes[""] = stat.S_IMODE(overseer.directory.stat().st_mode)
    finally:
        os.umask(before)
    assert len(modes) == 9 and set(modes.values()) == {0o700, 0o600}, modes


def test_the_rights_of_what_is_there_are_left_alone(tmp_path: Path, opened: Open) -> None:
    """Somebody may want a group to read it."""
    (tmp_path / "facets").mkdir()
    opened(tmp_path).create("Kitchen")
    chosen = {path: 0o755 if path.is_dir() else 0o640 for path in (tmp_path, *tmp_path.rglob("*"))}
    for path, mode in chosen.items():
        path.chmod(mode)
    opened(tmp_path / "other").close()
    for path in chosen:
        assert stat.S_IMODE(path.stat().st_mode) == chosen[path]


# The log


def test_the_log_says_how_a_turn_ended(
    overseer: Overseer, model_server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its last state, whoever ended it."""
    caplog.set_level(logging.INFO)
    room = overseer.create("Kitchen").id
    ask(overseer, room, "Hello")
    model_server.will(held(b"junk")).hang_up()
    ask(overseer, room, "Hello")
    for end_it in (overseer.stop, overseer.clear):
        reply = model_server.will(held(text("Half")))
        overseer.ask(room, "Hello")
        assert reply.begun.wait(DEADLINE)
        end_it(room)
        for thread in threading.enumerate():
            if thread.name == f"turn-{room}":
                thread.join(DEADLINE)
        reply.say(end())
    found = re.findall(rf"turn {room}/(\d+) stand-in (\w+) \d+\.\ds", caplog.text)
    assert found == [("2", "complete"), ("4", "failed"), ("6", "stopped"), ("8", "cleared")]
