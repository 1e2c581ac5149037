"""The commands `backup` and `check`, and how a backup is restored."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
import pytest
import requests
from click.testing import Result

import app
from overseer import create_app
from overseer.domain.errors import InstanceError, NoSuchRoom
from overseer.rooms.overseer import Overseer
from overseer.storage.backup import BackupError, backup
from overseer.storage.check import Report, check
from overseer.storage.database import beside
from overseer.storage.instance_lock import room_file
from overseer.storage.snapshot import inspect
from tests.storage.rooms import create_room, listed
from tests.support.answers import Open
from tests.support.files import empty, execute, overwrite_last_page, write_junk
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import DEADLINE, ROOT, Server
from tests.support.tab import Tab
from tests.support.waiting import until


def run(*arguments: str, instance: Path) -> Result:
    """Run a command in this process."""
    return create_app(instance).test_cli_runner().invoke(args=arguments)


def content(overseer: Overseer) -> list[object]:
    """Return the list and all messages."""
    return [*listed(overseer), *(overseer.room(room.id).messages() for room in overseer.rooms().rooms)]


def back_up(overseer: Overseer, target: Path, during: Callable[[], None] = lambda: None) -> tuple[int, tuple[str, ...]]:
    """Back up and call `during` after the first room. Return the number of rooms, and the problems."""
    done = backup(overseer.directory, target, progress=lambda number, of: during() if number == 1 else None)
    return done.rooms, done.problems


def report_on(directory: Path) -> Report:
    return check(directory, progress=lambda done, of: None)


def faults(directory: Path) -> list[str]:
    return [finding.sentence for finding in report_on(directory).findings if finding.fault]


def files(directory: Path) -> dict[str, bytes]:
    """Return the files without the search index, which is not in a backup."""
    found = (path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("search.sqlite"))
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


# Backup


def test_backup_of_a_busy_server_is_complete_and_starts(
    server: Server, model_server: ModelServer, tmp_path: Path
) -> None:
    """Questions that were acknowledged before the backup are in it; an unfinished answer is interrupted."""
    url = f"{server.url}/rooms"
    rooms = [requests.post(url, {"name": f"Room {n}"}, timeout=DEADLINE).headers["Location"] for n in range(4)]
    streaming = model_server.will(held(text("Half of it")))
    requests.post(f"{server.url}{rooms[0]}/messages", {"text": "Speak"}, timeout=DEADLINE)
    with closing(Tab(server.url, f"room={rooms[0].rsplit('/', 1)[-1]}")) as tab:
        tab.read_until("Half of it")
    over, acknowledged = threading.Event(), dict.fromkeys(rooms[1:], 0)

    def ask(room: str) -> None:
        while not over.is_set():
            form = {"text": f"Question {acknowledged[room]}."}
            asked = requests.post(f"{server.url}{room}/messages", form, headers={"Prefer": "wait=20"}, timeout=DEADLINE)
            acknowledged[room] += asked.status_code == 201

    threads = [threading.Thread(target=ask, args=(room,)) for room in rooms[1:]]
    for thread in threads:
        thread.start()
    until(lambda: all(acknowledged.values()))
    before = dict(acknowledged)
    command = [sys.executable, "-m", "flask", "--app", "app", "backup", str(tmp_path / "backup")]
    environment = {**os.environ, "OVERSEER_INSTANCE": str(server.instance)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE)
    checked = run("check", instance=server.instance)
    over.set()
    for thread in threads:
        thread.join(DEADLINE)
    streaming.say(end())
    assert (done.returncode, done.stderr) == (0, "")
    size = sum(map(len, files(tmp_path / "backup").values()))
    assert done.stdout == f"Copied 4 rooms, {size:,} bytes, into {tmp_path / 'backup'}.\n"
    assert checked.exit_code == 0 and f"is in use by process {server.pid} on " in checked.output, checked.output
    assert "Checked 4 rooms: nothing is wrong." in run("check", str(tmp_path / "backup"), instance=tmp_path).output
    server.stop()
    server.instance.rename(tmp_path / "old")
    (tmp_path / "backup").rename(server.instance)
    server.start()
    for room, count in before.items():
        whole = requests.get(f"{server.url}{room}/messages", headers={"Accept": "text/markdown"}, timeout=DEADLINE).text
        assert all(whole.count(f"Question {n}.") == 1 for n in range(count))
    assert 'data-state="interrupted"' in requests.get(f"{server.url}{rooms[0]}/messages", timeout=DEADLINE).text
    page = requests.get(url, timeout=DEADLINE).text
    assert page.count("data-room=") == 4 and "answering" not in page
    server.stop()
    assert faults(tmp_path / "old") == faults(server.instance) == []


def test_backup_is_private_and_leaves_the_instance_unchanged(overseer: Overseer, tmp_path: Path) -> None:
    create_room(overseer, "Kitchen", "Hello")
    overseer.create("Cellar")
    overseer.close()
    overseer.open()  # so that no room is open
    before = {name: content for name, content in files(overseer.directory).items() if not name.endswith("-shm")}
    target = tmp_path / "new" / "backup"
    assert back_up(overseer, target) == (2, ())
    assert report_on(overseer.directory).findings == ()
    after = {name: content for name, content in files(overseer.directory).items() if not name.endswith("-shm")}
    assert after == before
    assert {stat.filemode(path.stat().st_mode) for path in target.rglob("*")} == {"drwx------", "-rw-------"}
    assert set(files(target)) == {name for name in before if name.endswith(".sqlite")}


def test_backup_during_which_rooms_change_is_consistent(overseer: Overseer, tmp_path: Path, opened: Open) -> None:
    """A deleted room is left out; a room that was renamed after the list was copied has its new name on a start."""
    rooms = sorted(create_room(overseer, f"Room {n}", "Hello") for n in range(3))

    def meanwhile() -> None:
        overseer.delete(rooms[1])
        overseer.create("New")
        overseer.room(rooms[2]).configure({}, name="Renamed")

    assert back_up(overseer, tmp_path / "backup", meanwhile) == (2, ())
    for path in (tmp_path / "backup" / "facets").iterdir():
        os.utime(path, (0, 0))  # also if the times say that the room is older than the list
    (finding,) = report_on(tmp_path / "backup").findings
    assert "newer than its row" in finding.sentence and not finding.fault
    restored = opened(tmp_path / "backup")
    assert {room.id for room in restored.rooms().rooms} == {rooms[0], rooms[2]}
    assert restored.record(rooms[2]).name == "Renamed"
    assert faults(overseer.directory) == []


def test_backup_copies_the_other_rooms_when_some_or_the_list_cannot_be_read(
    overseer: Overseer, tmp_path: Path, opened: Open
) -> None:
    """The exit code is 1."""
    junk, missing, intact, damaged = (create_room(overseer, name, "Hello") for name in ("a", "b", "c", "d"))
    overseer.close()
    write_junk(room_file(overseer.directory, junk))
    room_file(overseer.directory, missing).unlink()
    overwrite_last_page(room_file(overseer.directory, damaged))
    done = run("backup", str(tmp_path / "backup"), instance=overseer.directory)
    assert done.exit_code == 1 and "Copied 1 room, " in done.output
    for room, what in ((junk, "damaged"), (damaged, "damaged"), (missing, "missing")):
        assert f"room-{room}.sqlite is {what}" in done.output
    assert {path.name for path in (tmp_path / "backup" / "facets").iterdir()} == {f"room-{intact}.sqlite"}
    for name, harm in (("junk list", write_junk), ("no list", Path.unlink)):
        harm(overseer.directory / "overseer.sqlite")
        copied, problems = back_up(overseer, tmp_path / name)
        assert copied == 1 and "rebuilds the list" in problems[0]
        assert [room.id for room in opened(tmp_path / name).rooms().rooms] == [intact]


def test_backup_and_check_report_mistakes_with_a_sentence(
    overseer: Overseer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_room(overseer, "Kitchen", "Hello")
    before = set(files(overseer.directory))
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    (tmp_path / "link").symlink_to(overseer.directory)
    for target, sentence in {
        full: "is not empty",
        full / "file": "is not a directory",
        full / "file" / "below": "Nothing was kept",
        overseer.directory: "is inside",
        tmp_path / "link" / "backup": "is inside",
    }.items():
        with pytest.raises(BackupError, match=sentence):
            back_up(overseer, target)
    with pytest.raises(InstanceError, match="There are no rooms in"):
        backup(full, tmp_path / "new", progress=lambda done, of: None)
    assert set(files(overseer.directory)) == before and not (tmp_path / "new").exists()
    for command in ("backup", "check"):
        done = run(command, str(full), instance=overseer.directory)
        assert done.exit_code == 1 and done.output.startswith("Error: ") and done.output.count("\n") == 1
    monkeypatch.setenv("OVERSEER_CONTEXT_TOKENS", "many")
    with pytest.raises(click.ClickException, match="OVERSEER_CONTEXT_TOKENS"):
        app.create_app()


@pytest.mark.parametrize("exists", [True, False])
def test_backup_that_fails_leaves_the_target_as_it_was(overseer: Overseer, tmp_path: Path, *, exists: bool) -> None:
    for n in range(2):
        create_room(overseer, f"Room {n}")
    target = tmp_path / "backup"
    if exists:
        target.mkdir()
    with pytest.raises(BackupError, match="Nothing was kept"):
        back_up(overseer, target, lambda: shutil.rmtree(target / "facets"))  # as if the disk had been removed
    assert [path for path in (target, *target.rglob("*")) if path.exists()] == [target] * exists


# Reading a file that another process uses


def test_inspect_of_a_room_that_is_deleted_meanwhile_leaves_no_file(overseer: Overseer) -> None:
    for early in (True, False):
        room = create_room(overseer, "Kitchen", "Hello")
        path = room_file(overseer.directory, room)

        def delete(db: sqlite3.Connection, early: bool = early, room: str = room) -> None:
            if early:
                db.execute("SELECT name FROM room").fetchone()
            overseer.delete(room)
            db.execute("SELECT name FROM room").fetchone()

        with pytest.raises(FileNotFoundError):
            inspect(path, delete)
        assert list(path.parent.iterdir()) == []


def test_inspect_between_the_removal_of_the_log_and_of_the_file_leaves_no_file(overseer: Overseer) -> None:
    """SQLite creates the WAL file again."""
    path = room_file(overseer.directory, create_room(overseer, "Kitchen", "Hello"))
    overseer.close()
    beside(path, "-wal").touch()

    def remove(db: sqlite3.Connection) -> None:
        beside(path, "-wal").unlink()
        db.execute("SELECT name FROM room").fetchone()
        assert len(list(path.parent.iterdir())) == 3
        path.unlink()

    with pytest.raises(FileNotFoundError):
        inspect(path, remove)
    assert list(path.parent.iterdir()) == []


def test_inspect_repeats_the_query_when_a_file_without_log_changes_meanwhile(overseer: Overseer) -> None:
    """Such a file is read without a lock."""
    path = room_file(overseer.directory, create_room(overseer, "Kitchen", "Hello"))
    overseer.close()
    queries: list[int] = []

    def read_name(db: sqlite3.Connection) -> str:
        queries.append(1)
        if len(queries) == 1:
            execute(path, "UPDATE room SET name = 'Cellar'")
        return str(db.execute("SELECT name FROM room").fetchone()[0])

    assert inspect(path, read_name) == "Cellar"
    assert len(queries) == 2


# Restore


def test_restore_of_a_whole_backup(overseer: Overseer, tmp_path: Path, opened: Open) -> None:
    kitchen = create_room(overseer, "Kitchen", "Hello", "And now?")
    create_room(overseer, "Cellar", "Hello")
    overseer.room(kitchen).configure({"pinned": True})
    before = content(overseer)
    assert back_up(overseer, tmp_path / "backup") == (2, ())
    overseer.delete(kitchen)
    overseer.close()
    overseer.directory.rename(tmp_path / "old")
    subprocess.run(["cp", "-r", tmp_path / "backup", overseer.directory], check=True)
    again = opened(overseer.directory)
    assert content(again) == before
    assert again.room(create_room(again, "New", "Hello")).messages().messages[1].text == "All right."


@pytest.mark.parametrize("deleted", [True, False])
def test_restore_of_one_room(overseer: Overseer, tmp_path: Path, opened: Open, *, deleted: bool) -> None:
    kitchen, other = create_room(overseer, "Kitchen", "Hello"), create_room(overseer, "Other", "Hello")
    before = overseer.room(kitchen).messages()
    assert back_up(overseer, tmp_path / "backup") == (2, ())
    if deleted:
        overseer.delete(kitchen)
        with pytest.raises(NoSuchRoom):
            overseer.room(kitchen).messages()
    else:
        overseer.room(kitchen).configure({}, name="Cellar")
    overseer.close()
    shutil.copy(room_file(tmp_path / "backup", kitchen), room_file(overseer.directory, kitchen))
    again = opened(overseer.directory)
    assert again.room(kitchen).messages() == before
    again.sync_state(kitchen)
    assert again.record(kitchen).name == "Kitchen" and again.record(other).problem == ""


# Check


def test_check_after_a_kill_reports_what_the_next_start_corrects_and_no_fault(
    server: Server, model_server: ModelServer
) -> None:
    """An unfinished answer, a row that is older than its room, and a room that is not in the list."""
    room = requests.post(f"{server.url}/rooms", timeout=DEADLINE).headers["Location"].rsplit("/", 1)[-1]
    reply = model_server.will(held(text("Half of it")))
    requests.post(f"{server.url}/rooms/{room}/messages", {"text": "Speak"}, timeout=DEADLINE)
    assert reply.begun.wait(DEADLINE)
    server.stop(signal.SIGKILL)
    execute(server.instance / "overseer.sqlite", f"UPDATE rooms SET name = 'Older' WHERE id = '{room}'")
    path, unlisted = room_file(server.instance, room), room_file(server.instance, "0123456789ab")
    for suffix in ("", "-wal"):
        shutil.copy(beside(path, suffix), beside(unlisted, suffix))
    done = run("check", instance=server.instance)
    assert done.exit_code == 0, done.output
    for words in ("has an answer cut off", "is newer than its row", "is not in the list"):
        assert words in done.output and "The next start" in done.output
    assert done.output.endswith("Checked 2 rooms: nothing is wrong.\n")
    server.start()
    server.stop()
    assert report_on(server.instance).findings == ()


def test_check_finds_every_fault_and_says_what_to_do(overseer: Overseer) -> None:
    faulty = {
        "damaged": "is damaged",
        "junk": "is damaged",
        "missing": "is missing. Put back a copy from a backup, or delete",
        "miscounted": "it counts 7 messages in other versions and has 2 in all. Put back",
        "without head": "its last message, 9, is missing. Put back",
        "with a hole": "message 9 follows 7, which is missing. Put back",
        "with a cycle": "message 1 follows 2, which is not older. Put back",
        "orphaned parts": "a row of parts without its messages. Put back",
        "foreign": "is a database of another program. Move it",
        "newer": "was written by a newer version of Overseer. Update",
        "behind": "the list says 1",
        "index": "missing from index unfinished. Put back",
    }
    rooms = {name: create_room(overseer, name, "Hello") for name in (*faulty, "intact")}
    paths = {name: room_file(overseer.directory, room) for name, room in rooms.items()}
    overseer.close()
    overwrite_last_page(paths["damaged"])
    write_junk(paths["junk"])
    paths["missing"].unlink()
    execute(paths["miscounted"], "UPDATE room SET hidden = 7")
    execute(paths["without head"], "UPDATE room SET head = 9")
    execute(
        paths["with a hole"],
        "DELETE FROM parts WHERE message = 2",
        "UPDATE messages SET parent = 7, number = 9 WHERE number = 2",
        "UPDATE room SET head = 9",
    )
    execute(paths["with a cycle"], "UPDATE messages SET parent = 2 WHERE number = 1")
    execute(paths["orphaned parts"], "PRAGMA foreign_keys = OFF", "UPDATE parts SET message = 99 WHERE message = 1")
    execute(paths["foreign"], "PRAGMA application_id = 1")
    execute(paths["newer"], "PRAGMA user_version = 99")
    other = "UPDATE sqlite_schema SET sql = replace(sql, 'waiting', 'complete') WHERE name = 'unfinished'"
    execute(paths["index"], "PRAGMA writable_schema = ON", other)
    execute(overseer.directory / "overseer.sqlite", f"UPDATE rooms SET messages = 1 WHERE id = '{rooms['behind']}'")
    (overseer.directory / "facets" / "room-0123456789ab.sqlite-wal").touch()
    found = faults(overseer.directory)
    for name, words in faulty.items():
        assert [one for one in found if rooms[name] in one and words in one], (name, found)
    assert [one for one in found if one.startswith("room-0123456789ab.sqlite-wal belongs to no file. Move")]
    assert not [one for one in found if rooms["intact"] in one]
    done = run("check", instance=overseer.directory)
    assert done.exit_code == 1 and "Checked 13 rooms: " in done.output


@pytest.mark.parametrize("harm", [Path.unlink, write_junk, empty])
def test_check_reports_a_lost_list_and_checks_the_rooms(overseer: Overseer, harm: Callable[[Path], None]) -> None:
    create_room(overseer, "Kitchen", "Hello")
    overseer.close()
    harm(overseer.directory / "overseer.sqlite")
    (fault,) = faults(overseer.directory)
    assert fault.startswith("overseer.sqlite ")
    assert report_on(overseer.directory).rooms == 1


def test_check_of_a_running_instance_rechecks_before_it_reports_a_fault(
    overseer: Overseer, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = create_room(overseer, "Kitchen", "Hello")
    lag = "UPDATE rooms SET messages = 1"
    execute(overseer.directory / "overseer.sqlite", lag)
    with monkeypatch.context() as patched:
        patched.setattr("overseer.storage.check.time.sleep", lambda seconds: overseer.sync_state(room))
        report = report_on(overseer.directory)
    assert report.server and str(os.getpid()) in report.server and report.findings == ()
    execute(overseer.directory / "overseer.sqlite", lag)
    monkeypatch.setattr("overseer.storage.check.RECHECK_SECONDS", 0)
    assert "the list says 1" in faults(overseer.directory)[0]
