"""Forks: a room whose file is a copy of another one's, cut after a message."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from overseer.domain.errors import NoSuchMessage, NoSuchRoom, StorageUnavailable
from overseer.domain.records import MAX_NUMBER, Room
from overseer.domain.text import MAX_NAME_CHARS
from overseer.rooms.overseer import Overseer
from overseer.storage.database import beside, save_copy
from overseer.storage.instance_lock import room_file
from tests.storage.rooms import ask
from tests.support.answers import Open
from tests.support.files import column
from tests.support.model_server import ModelServer, answer, held, text
from tests.support.waiting import join_turn_threads, until


def texts(overseer: Overseer, room: Room) -> list[str]:
    return [message.text for message in overseer.room(room.id).messages().messages]


@pytest.fixture
def room(overseer: Overseer, model_server: ModelServer) -> Room:
    """A room with the messages 1 to 4, of which 3 has another version, 5, with an answer."""
    room = overseer.create("Kitchen")
    model_server.will(answer("First."), answer("Second."), answer("Edited."))
    ask(overseer, room.id, "One?")
    ask(overseer, room.id, "Two?")
    overseer.room(room.id).edit(3, "Three?")
    join_turn_threads(room.id)
    return overseer.record(room.id)


def test_fork_has_all_versions_and_names_its_origin(overseer: Overseer, room: Room) -> None:
    fork = overseer.fork(room.id)
    assert (fork.name, fork.forked_from, fork.forked_at, fork.origin) == ("Kitchen (fork)", room.id, 6, "Kitchen")
    assert texts(overseer, fork) == texts(overseer, room) == ["One?", "First.", "Three?", "Edited."]
    assert (fork.messages, fork.hidden) == (room.messages, room.hidden) == (4, 2)
    assert overseer.rooms().rooms[0].id == fork.id
    ask(overseer, fork.id, "And then?")
    overseer.room(fork.id).show(3)
    assert texts(overseer, fork) == ["One?", "First.", "Two?", "Second."]
    assert texts(overseer, room) == ["One?", "First.", "Three?", "Edited."]
    overseer.room(room.id).configure({}, name="Cellar")
    assert overseer.record(fork.id).origin == "Cellar"
    overseer.delete(room.id)
    assert overseer.record(fork.id).origin is None
    assert texts(overseer, fork)[0] == "One?"


@pytest.mark.parametrize(
    ("upto", "shown", "hidden"),
    [
        (6, ["One?", "First.", "Three?", "Edited."], 2),
        (2, ["One?", "First."], 0),
        (4, ["One?", "First.", "Two?", "Second."], 2),
    ],
)
def test_fork_is_cut_after_a_message(overseer: Overseer, room: Room, upto: int, shown: list[str], hidden: int) -> None:
    """Of any version; what does not follow it is kept."""
    fork = overseer.fork(room.id, upto=upto)
    assert texts(overseer, fork) == shown
    assert (fork.messages, fork.hidden, fork.forked_at) == (len(shown), hidden, upto)
    assert overseer.record(room.id).messages == 4
    ask(overseer, fork.id, "And then?")
    assert texts(overseer, fork)[-1] == "All right."


def test_fork_at_a_question_offers_to_answer_it(overseer: Overseer, room: Room) -> None:
    fork = overseer.fork(room.id, upto=1)
    last = overseer.room(fork.id).messages().messages[-1]
    assert (last.state, last.reason) == ("stopped", "The room was forked here. Retry answers the question.")
    assert fork.forked_at == 1
    overseer.room(fork.id).retry()
    join_turn_threads(fork.id)
    assert texts(overseer, fork) == ["One?", "All right."]


def test_fork_during_an_answer_has_what_had_arrived(overseer: Overseer, room: Room, model_server: ModelServer) -> None:
    """Also of a tool call. The answer of the original goes on."""
    reply = model_server.will(held(text("Half")))
    number = overseer.room(room.id).ask("Go on", key="k").answer
    until(lambda: overseer.room(room.id).message(number).text == "Half")
    fork = overseer.fork(room.id)
    copied = overseer.room(fork.id).messages().messages[-1]
    assert (copied.text, copied.state) == ("Half", "interrupted") and "forked during" in copied.reason
    assert not fork.answering and overseer.record(room.id).answering
    reply.say(text(" and half."))
    until(lambda: overseer.room(room.id).message(number).text == "Half and half.")
    reply.hang_up()
    join_turn_threads(room.id)
    assert not overseer.room(fork.id).ask("Another", key="k").repeated, "the key belongs to the original"
    join_turn_threads(fork.id)


@pytest.mark.parametrize("upto", [0, -1, 7, MAX_NUMBER])
def test_fork_at_a_message_that_is_not_there_creates_nothing(overseer: Overseer, room: Room, upto: int) -> None:
    files = sorted((overseer.directory / "facets").iterdir())
    with pytest.raises(NoSuchMessage, match=f"no message {upto}"):
        overseer.fork(room.id, upto=upto)
    assert sorted((overseer.directory / "facets").iterdir()) == files and len(overseer.rooms().rooms) == 1
    with pytest.raises(NoSuchRoom):
        overseer.fork("0123456789ab")


def test_fork_of_an_empty_room_and_of_one_with_a_long_name(overseer: Overseer) -> None:
    fork = overseer.fork(overseer.create("x" * MAX_NAME_CHARS).id)
    assert len(fork.name) == MAX_NAME_CHARS and fork.name.endswith("x (fork)")
    assert (fork.messages, fork.forked_at) == (0, None)
    assert overseer.fork(overseer.create().id).name == "New room (fork)"


def test_fork_that_cannot_be_written_leaves_nothing(
    overseer: Overseer, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = {path.name for path in (overseer.directory / "facets").iterdir()}
    with monkeypatch.context() as patched, pytest.raises(StorageUnavailable, match="disk is full"):
        patched.setattr("overseer.storage.snapshot.save_copy", full)
        overseer.fork(room.id)
    assert {path.name for path in (overseer.directory / "facets").iterdir()} == before


def test_fork_of_a_room_that_is_deleted_meanwhile_leaves_nothing(
    overseer: Overseer, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that stayed would be a room after the next start."""

    def copied(db: sqlite3.Connection, target: Path, change: Callable[[sqlite3.Connection], None]) -> None:
        save_copy(db, target, change)
        overseer.delete(room.id)

    monkeypatch.setattr("overseer.storage.snapshot.save_copy", copied)
    with pytest.raises(NoSuchRoom):
        overseer.fork(room.id)
    assert list((overseer.directory / "facets").iterdir()) == [] and overseer.rooms().rooms == ()


def test_fork_that_a_crash_left_out_of_the_list_is_adopted(
    overseer: Overseer, room: Room, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its name and its origin: its file gets its own name when it is complete."""
    monkeypatch.setattr(Overseer, "_add", lambda *_: None)
    overseer.fork(room.id, upto=2)
    overseer.close()
    monkeypatch.undo()
    again = opened(overseer.directory)
    (fork,) = [one for one in again.rooms().rooms if one.id != room.id]
    assert (fork.name, fork.forked_from, fork.forked_at, fork.messages) == ("Kitchen (fork)", room.id, 2, 2)


def test_copy_that_a_crash_left_is_removed_by_the_next_start(overseer: Overseer, opened: Open) -> None:
    overseer.close()
    left = [overseer.directory / "facets" / f"room-0123456789ab.sqlite.partial{end}" for end in ("", "-journal")]
    for path in left:
        path.write_bytes(b"half of it")
    opened(overseer.directory)
    assert not [path for path in left if path.exists()]


def test_fork_is_a_file_of_its_own(overseer: Overseer, room: Room) -> None:
    fork = overseer.fork(room.id)
    overseer.close()
    path = room_file(overseer.directory, fork.id)
    assert not [suffix for suffix in ("-wal", "-shm", ".partial") if beside(path, suffix).exists()]
    assert path.stat().st_mode & 0o777 == 0o600
    assert column(Path(path), "PRAGMA integrity_check") == ["ok"]
