"""`flask --app app backup` and `check`, and what is done with a copy: restored whole, or a room of it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from overseer.domain.errors import NoSuchRoom
from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.overseer import Overseer
from overseer.storage.backup import BackupError, backup
from overseer.storage.check import Report, check
from overseer.storage.snapshot import inspect
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import DEADLINE, ROOT, Server
from tests.support.tab import Tab

Open = Callable[[Path], Overseer]


def flask(*arguments: str, instance: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", *arguments],
        cwd=ROOT,
        env={**os.environ, "OVERSEER_INSTANCE": str(instance), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


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


def said(overseer: Overseer, name: str, *questions: str) -> str:
    """A room where these were asked and answered; returns its id."""
    room = overseer.create(name).id
    for words in questions:
        overseer.ask(room, words)
        for thread in threading.enumerate():
            if thread.name == f"turn-{room}":
                thread.join(DEADLINE)
    return room


def all_of(overseer: Overseer) -> list[tuple[object, ...]]:
    """Everything that is shown, in its order: the list, and in each room every message."""
    return [
        (room.id, room.name, room.messages, room.preview, room.pinned, room.problem, overseer.messages(room.id))
        for room in overseer.rooms().rooms
    ]


def copied(overseer: Overseer, target: Path, during: Callable[[], None] = lambda: None) -> tuple[int, tuple[str, ...]]:
    """Back it up, with something that happens after the first room; returns the number of rooms, and problems."""
    done = backup(overseer.directory, target, progress=lambda number, of: during() if number == 1 else None)
    return done.rooms, done.problems


def checked(directory: Path) -> Report:
    return check(directory, progress=lambda done, of: None)


def faults(directory: Path) -> list[str]:
    return [finding.sentence for finding in checked(directory).findings if finding.fault]


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def room_file(directory: Path, room: str) -> Path:
    return directory / "facets" / f"room-{room}.sqlite"


def tell(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for sql in statements:
            db.execute(sql)


# A backup


def test_a_backup_under_load_is_whole_and_starts(server: Server, model_server: ModelServer, tmp_path: Path) -> None:
    """While rooms are asked and answers grow; what was acknowledged before is in it, and a server runs on it."""
    url = f"{server.url}/rooms"
    rooms = [requests.post(url, {"name": f"Room {n}"}, timeout=DEADLINE).headers["Location"] for n in range(6)]
    growing = model_server.will(held(text("Half of it")))
    requests.post(f"{server.url}{rooms[0]}/messages", {"text": "Speak"}, timeout=DEADLINE)
    tab = Tab(server.url, f"room={rooms[0].rsplit('/', 1)[-1]}")
    tab.read_until("Half of it")
    over, acknowledged = threading.Event(), dict.fromkeys(rooms[1:], 0)

    def ask(room: str) -> None:
        while not over.is_set():
            form, wait = {"text": f"Question {acknowledged[room]}."}, {"Prefer": "wait=20"}
            asked = requests.post(f"{server.url}{room}/messages", form, headers=wait, timeout=DEADLINE)
            acknowledged[room] += asked.status_code == 201

    threads = [threading.Thread(target=ask, args=(room,)) for room in rooms[1:]]
    for thread in threads:
        thread.start()
    before = dict(acknowledged)
    done = flask("backup", str(tmp_path / "backup"), instance=server.instance)
    looked_at = flask("check", instance=server.instance)
    over.set()
    for thread in threads:
        thread.join(DEADLINE)
    growing.say(end())
    tab.close()
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    size = sum(map(len, files(tmp_path / "backup").values()))
    assert done.stdout == f"Copied 6 rooms, {size:,} bytes, into {tmp_path / 'backup'}.\n"
    assert looked_at.returncode == 0 and f"process {server.pid}" in looked_at.stdout, looked_at.stdout
    copy = flask("check", str(tmp_path / "backup"), instance=server.instance)
    assert copy.returncode == 0 and "Checked 6 rooms: nothing is wrong." in copy.stdout, copy.stdout
    server.stop()
    restored = Server(
        tmp_path / "backup", environment={"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}
    )
    restored.start()
    try:
        for room, count in before.items():
            shown = requests.get(f"{restored.url}{room}/messages", timeout=DEADLINE).text
            assert all(shown.count(f"Question {n}.") == 1 for n in range(count)[-20:])
        assert 'data-state="interrupted"' in requests.get(f"{restored.url}{rooms[0]}/messages", timeout=DEADLINE).text
        listed = requests.get(f"{restored.url}/rooms", timeout=DEADLINE).text
        assert listed.count("data-room=") == 6 and "answering" not in listed
    finally:
        restored.stop()
    assert "Traceback" not in "".join(server.log + restored.log)
    assert faults(server.instance) == faults(tmp_path / "backup") == []


def test_a_backup_is_private_and_changes_nothing(overseer: Overseer, tmp_path: Path) -> None:
    """Nobody else may read it; and not a byte, nor a file, is another in the instance after it."""
    said(overseer, "Kitchen", "Hello")
    overseer.create("Cellar")
    overseer.close()
    overseer.open()  # so that no room is open
    before = {name: content for name, content in files(overseer.directory).items() if not name.endswith("-shm")}
    assert copied(overseer, tmp_path / "new" / "backup") == (2, ())
    assert checked(overseer.directory).findings == ()
    after = {name: content for name, content in files(overseer.directory).items() if not name.endswith("-shm")}
    assert after == before
    modes = {stat.filemode(path.stat().st_mode) for path in (tmp_path / "new" / "backup").rglob("*")}
    assert modes == {"drwx------", "-rw-------"}
    assert set(files(tmp_path / "new" / "backup")) == {name for name in before if name.endswith(".sqlite")}


def test_a_room_that_is_deleted_or_made_meanwhile_leaves_the_copy_in_order(
    overseer: Overseer, tmp_path: Path, opened: Open
) -> None:
    """The one is in neither list nor files; the other may be missing, and what is there agrees."""
    rooms = sorted(said(overseer, f"Room {n}", "Hello") for n in range(3))

    def meanwhile() -> None:
        overseer.delete(rooms[1])
        overseer.create("New")

    assert copied(overseer, tmp_path / "backup", meanwhile) == (2, ())
    assert checked(tmp_path / "backup").findings == ()
    assert {room.id for room in opened(tmp_path / "backup").rooms().rooms} == {rooms[0], rooms[2]}
    assert faults(overseer.directory) == []


def test_a_room_that_is_deleted_while_it_is_read_leaves_no_file(overseer: Overseer) -> None:
    """Whether something was read of it already or not, it is not there, and nothing is made beside nothing."""
    for early in (True, False):
        room = said(overseer, "Kitchen", "Hello")
        path = room_file(overseer.directory, room)

        def look(db: sqlite3.Connection, early: bool = early, room: str = room) -> None:
            if early:
                db.execute("SELECT name FROM room").fetchone()
            overseer.delete(room)
            db.execute("SELECT name FROM room").fetchone()

        with pytest.raises(FileNotFoundError):
            inspect(path, look)
        assert list(path.parent.iterdir()) == []


def test_a_reader_that_comes_in_the_middle_of_a_removal_leaves_no_file(overseer: Overseer) -> None:
    """The companions go first: a reader makes them anew, and the file goes after that."""
    path = room_file(overseer.directory, said(overseer, "Kitchen", "Hello"))
    overseer.close()
    path.with_name(f"{path.name}-wal").touch()

    def look(db: sqlite3.Connection) -> None:
        path.with_name(f"{path.name}-wal").unlink()
        db.execute("SELECT name FROM room").fetchone()
        assert len(list(path.parent.iterdir())) == 3
        path.unlink()

    with pytest.raises(FileNotFoundError):
        inspect(path, look)
    assert list(path.parent.iterdir()) == []


def test_a_file_that_is_changed_while_it_is_read_alone_is_read_again(overseer: Overseer) -> None:
    """A room that nobody had open is read without a lock: if somebody opens and closes it meanwhile, that is seen."""
    room = said(overseer, "Kitchen", "Hello")
    overseer.close()
    looks: list[int] = []

    def look(db: sqlite3.Connection) -> str:
        looks.append(1)
        if len(looks) == 1:
            tell(room_file(overseer.directory, room), "UPDATE room SET name = 'Cellar'")
        return str(db.execute("SELECT name FROM room").fetchone()[0])

    assert inspect(room_file(overseer.directory, room), look) == "Cellar"
    assert len(looks) == 2


def test_what_is_said_during_a_backup_is_taken_over_when_the_copy_is_started(
    overseer: Overseer, tmp_path: Path, opened: Open
) -> None:
    """The list is copied first: rooms that were copied later are newer, also when the copy says that it is older."""
    rooms = sorted(said(overseer, f"Room {n}", "Hello") for n in range(2))

    def meanwhile() -> None:
        overseer.rename(rooms[1], "Renamed")

    assert copied(overseer, tmp_path / "backup", meanwhile) == (2, ())
    for path in (tmp_path / "backup" / "facets").iterdir():
        os.utime(path, (0, 0))
    (finding,) = checked(tmp_path / "backup").findings
    assert "newer than its row" in finding.sentence and not finding.fault
    assert opened(tmp_path / "backup").room(rooms[1]).name == "Renamed"


def test_a_harmed_room_is_told_and_the_others_are_copied(overseer: Overseer, tmp_path: Path) -> None:
    """Also a missing one; the exit code is 1, so that nobody takes the copy for a whole one."""
    kitchen, cellar, attic, bath = (said(overseer, name, "Hello") for name in ("Kitchen", "Cellar", "Attic", "Bath"))
    overseer.close()
    room_file(overseer.directory, kitchen).write_bytes(b"This is no database. " * 100)
    room_file(overseer.directory, cellar).unlink()
    with room_file(overseer.directory, bath).open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"\x55" * 4096)
    done = flask("backup", str(tmp_path / "backup"), instance=overseer.directory)
    assert done.returncode == 1 and "Copied 1 room, " in done.stdout and "Traceback" not in done.stderr
    for room, what in ((kitchen, "damaged"), (bath, "damaged"), (cellar, "missing")):
        assert f"room-{room}.sqlite is {what}" in done.stderr
    assert {path.name for path in (tmp_path / "backup" / "facets").iterdir()} == {f"room-{attic}.sqlite"}


def test_rooms_are_copied_without_a_list_too(overseer: Overseer, tmp_path: Path, opened: Open) -> None:
    """A list that is damaged or missing keeps no room out of the backup."""
    said(overseer, "Kitchen", "Hello")
    before = all_of(overseer)
    overseer.close()
    (overseer.directory / "overseer.sqlite").write_bytes(b"This is no database. " * 100)
    rooms, problems = copied(overseer, tmp_path / "one")
    assert rooms == 1 and "rebuilds the list" in problems[0]
    (overseer.directory / "overseer.sqlite").unlink()
    assert copied(overseer, tmp_path / "two")[0] == 1
    for copy in (tmp_path / "one", tmp_path / "two"):
        assert all_of(opened(copy)) == before


def test_mistakes_are_told_with_a_sentence(overseer: Overseer, tmp_path: Path) -> None:
    """No rooms there, a directory that has something in it, one inside the instance, a file, a wrong setting."""
    said(overseer, "Kitchen", "Hello")
    before = set(files(overseer.directory))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "link").symlink_to(overseer.directory)
    mistakes = {
        tmp_path / "full": "is not empty",
        tmp_path / "full" / "file": "is not a directory",
        tmp_path / "full" / "file" / "below": "Nothing was kept",
        overseer.directory: "is inside",
        overseer.directory / "backup": "is inside",
        tmp_path / "link" / "backup": "is inside",
    }
    for target, sentence in mistakes.items():
        with pytest.raises(BackupError, match=sentence):
            copied(overseer, target)
    with pytest.raises(BackupError, match="There are no rooms in"):
        backup(tmp_path / "full", tmp_path / "new", progress=lambda done, of: None)
    assert set(files(overseer.directory)) == before and not (tmp_path / "new").exists()
    for done in (
        flask("backup", str(tmp_path / "full"), instance=overseer.directory),
        flask("check", str(tmp_path / "full"), instance=overseer.directory),
        flask("check", instance=overseer.directory, OVERSEER_CONTEXT_TOKENS="many"),
    ):
        assert done.returncode == 1 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


def test_a_backup_that_fails_leaves_nothing_behind(overseer: Overseer, tmp_path: Path) -> None:
    """Half of one is none: it is told, and the directory is as empty as it was."""
    for n in range(3):
        said(overseer, f"Room {n}", "Hello")
    for target, before in ((tmp_path / "there", [tmp_path / "there"]), (tmp_path / "new", [])):
        for path in before:
            path.mkdir()

        def fill(done: int, of: int, target: Path = target) -> None:
            shutil.rmtree(target / "facets")  # as if the disk had gone

        with pytest.raises(BackupError, match="Nothing was kept"):
            backup(overseer.directory, target, progress=fill)
        assert [path for path in (target, *target.rglob("*")) if path.exists()] == before


# Restoring


def test_a_backup_is_restored_by_copying_it_back(overseer: Overseer, tmp_path: Path, opened: Open) -> None:
    """Stop, move the old directory away, copy the backup into its place, start."""
    kitchen = said(overseer, "Kitchen", "Hello", "And now?")
    said(overseer, "Cellar", "Hello")
    overseer.configure(kitchen, {"pinned": True})
    before = all_of(overseer)
    assert copied(overseer, tmp_path / "backup") == (2, ())
    said(overseer, "Later")
    overseer.delete(kitchen)
    overseer.close()
    overseer.directory.rename(tmp_path / "old")
    subprocess.run(["cp", "-r", tmp_path / "backup", overseer.directory], check=True)
    again = opened(overseer.directory)
    assert all_of(again) == before
    assert again.messages(said(again, "New", "Hello")).messages[1].text == "All right."


@pytest.mark.parametrize("how", ["deleted", "there"])
def test_one_room_is_restored_by_copying_its_file_back(
    overseer: Overseer, tmp_path: Path, opened: Open, how: str
) -> None:
    """Whether the list still has the room or not: stop, remove its files, copy the file, start."""
    kitchen = said(overseer, "Kitchen", "Hello")
    other = said(overseer, "Other", "Hello")
    before = overseer.messages(kitchen)
    assert copied(overseer, tmp_path / "backup") == (2, ())
    said(overseer, "Kitchen", "And now?")
    if how == "deleted":
        overseer.delete(kitchen)
        with pytest.raises(NoSuchRoom):
            overseer.messages(kitchen)
    else:
        overseer.rename(kitchen, "Cellar")
    overseer.close()
    shutil.copy(room_file(tmp_path / "backup", kitchen), room_file(overseer.directory, kitchen))
    again = opened(overseer.directory)
    assert again.messages(kitchen) == before
    again.sync_state(kitchen)
    assert again.room(kitchen).name == "Kitchen" and again.room(other).problem == ""


# A check


def kill_in_mid_answer(server: Server, model_server: ModelServer) -> str:
    """A directory as kill -9 leaves it; returns the room."""
    room = requests.post(f"{server.url}/rooms", {"name": "Kitchen"}, timeout=DEADLINE).headers["Location"]
    reply = model_server.will(held(text("Half of it")))
    requests.post(f"{server.url}{room}/messages", {"text": "Speak"}, timeout=DEADLINE)
    assert reply.begun.wait(DEADLINE)
    server.stop(signal.SIGKILL)
    return room.rsplit("/", 1)[-1]


def test_what_the_next_start_puts_right_is_told_and_is_no_fault(server: Server, model_server: ModelServer) -> None:
    """After kill -9 in mid-answer, with a room whose row is lost and one that was not made to its end."""
    room = kill_in_mid_answer(server, model_server)
    tell(server.instance / "overseer.sqlite", f"UPDATE rooms SET name = 'Older' WHERE id = '{room}'")
    shutil.copy(room_file(server.instance, room), room_file(server.instance, "0123456789ab"))
    shutil.copy(f"{room_file(server.instance, room)}-wal", f"{room_file(server.instance, '0123456789ab')}-wal")
    done = flask("check", instance=server.instance)
    assert done.returncode == 0, done.stdout
    for words in ("has an answer cut off", "is newer than its row", "is not in the list"):
        assert words in done.stdout and "The next start" in done.stdout
    assert done.stdout.endswith("Checked 2 rooms: nothing is wrong.\n")
    server.start()
    server.stop()
    assert checked(server.instance).findings == ()


def test_every_fault_is_found_and_says_what_to_do(overseer: Overseer) -> None:
    """Damage that nobody came across yet, a missing file, a wrong count, one of another, a newer one, leftovers."""
    names = ("damaged", "junk", "missing", "miscounted", "orphaned parts", "another's", "newer", "behind", "index")
    rooms = {name: said(overseer, name, "Hello", "Again") for name in names}
    well = said(overseer, "well", "Hello")
    paths = {name: room_file(overseer.directory, room) for name, room in rooms.items()}
    overseer.close()
    with paths["damaged"].open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"\x55" * 4096)
    paths["junk"].write_bytes(b"This is no database. " * 100)
    paths["missing"].unlink()
    tell(paths["miscounted"], "UPDATE room SET messages = 7")
    tell(paths["orphaned parts"], "PRAGMA foreign_keys = OFF", "UPDATE parts SET message = 99 WHERE message = 1")
    tell(paths["another's"], "PRAGMA application_id = 1")
    tell(paths["newer"], "PRAGMA user_version = 99")
    other = "UPDATE sqlite_schema SET sql = replace(sql, 'waiting', 'complete') WHERE name = 'unfinished'"
    tell(paths["index"], "PRAGMA writable_schema = ON", other)
    tell(overseer.directory / "overseer.sqlite", f"UPDATE rooms SET messages = 1 WHERE id = '{rooms['behind']}'")
    (overseer.directory / "facets" / "room-0123456789ab.sqlite-wal").touch()
    found = faults(overseer.directory)
    for name, words in (
        ("damaged", "is damaged"),
        ("junk", "is damaged"),
        ("missing", "is missing. Put back a copy from a backup, or delete"),
        ("miscounted", "it counts 7 messages and has 4. Put back"),
        ("orphaned parts", "a row of parts without its messages. Put back"),
        ("another's", "is a database of another program. Move it"),
        ("newer", "was written by a newer version of Overseer. Update"),
        ("behind", "the list says 1"),
        ("index", "missing from index unfinished. Put back"),
    ):
        assert [one for one in found if rooms[name] in one and words in one], (name, found)
    assert [one for one in found if one.startswith("room-0123456789ab.sqlite-wal belongs to no file. Move")]
    assert not [one for one in found if well in one]
    done = flask("check", instance=overseer.directory)
    assert done.returncode == 1 and "Checked 10 rooms: " in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [None, b"This is no database. " * 100, b""])
def test_a_list_that_is_lost_is_a_fault_of_a_check(overseer: Overseer, content: bytes | None) -> None:
    """Missing, junk or empty; the rooms are looked at all the same."""
    said(overseer, "Kitchen", "Hello")
    overseer.close()
    path = overseer.directory / "overseer.sqlite"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (fault,) = faults(overseer.directory)
    assert fault.startswith("overseer.sqlite ")
    assert checked(overseer.directory).rooms == 1


def test_a_check_of_a_running_instance_does_not_call_a_change_a_fault(overseer: Overseer) -> None:
    """A row that lags behind its room for a moment is looked at again; one that stays behind is a fault."""
    room = said(overseer, "Kitchen", "Hello")
    tell(overseer.directory / "overseer.sqlite", "UPDATE rooms SET messages = 1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("overseer.storage.check.time.sleep", lambda seconds: overseer.sync_state(room))
        report = checked(overseer.directory)
    assert report.server and str(os.getpid()) in report.server and report.findings == ()
    tell(overseer.directory / "overseer.sqlite", "UPDATE rooms SET messages = 1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("overseer.storage.check.RECHECK_SECONDS", 0)
        assert "the list says 1" in faults(overseer.directory)[0]
