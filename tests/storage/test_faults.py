"""Real faults under a running server: a clear sentence, other rooms unaffected, nothing acknowledged is lost."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from overseer import create_app
from overseer.llm.choice import ModelSettings
from overseer.storage import instance_lock
from overseer.web.extensions import instance as instance_of
from tests.storage.conftest import SHORT_WAITS
from tests.support.files import (
    column,
    copy_database,
    empty,
    execute,
    overwrite,
    remove,
    remove_wal,
    remove_with_companions,
    replace_by_junk,
    truncate,
)
from tests.support.model_server import ModelServer, Reply, answer, end, held, text
from tests.support.server import DEADLINE, Server, StartServer
from tests.support.tab import Tab

LONG_TEXT = "x" * 100_000

OpenTab = Callable[..., Tab]


class Rooms:
    """Makes requests to a server and remembers what was acknowledged."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.acknowledged: dict[str, str] = {}  # the messages that were shown, by room

    def create(self, name: str) -> str:
        created = self.request("POST", "", name=name)
        assert created.status_code == 201, created.text
        room = created.headers["Location"].rsplit("/", 1)[-1]
        self.acknowledged[room] = self.messages(room)
        return room

    def ask(self, room: str, words: str) -> None:
        """Ask and wait for the end of the answer."""
        asked = self.request("POST", f"/{room}/messages", text=words)
        assert asked.status_code == 201, asked.text
        self.acknowledged[room] = self.messages(room)

    def begin(self, room: str, model_server: ModelServer, tab: Tab) -> Reply:
        """Ask and wait for the first words of an answer that goes on."""
        reply = model_server.will(held(text("Half of it")))
        requests.post(f"{self.server.url}/rooms/{room}/messages", {"text": "Speak"}, timeout=DEADLINE)
        tab.read_until("Half of it")
        return reply

    def request(self, method: str, path: str, **form: str) -> requests.Response:
        url = f"{self.server.url}/rooms{path}"
        return requests.request(method, url, data=form, headers={"Prefer": "wait=20"}, timeout=DEADLINE)

    def error(self, status: int, method: str, path: str, **form: str) -> str:
        """Return the sentence of a request that fails with this status."""
        response = self.request(method, path, **form)
        assert response.status_code == status, response.text
        found = re.search(r'role="alert">\s*<p>(.*?)</p>', response.text)
        assert found, response.text
        assert not re.search(r"Traceback|sqlite3|Error\b|/tmp", found[1])
        return re.sub(r" \(See \w+ in the server log\.\)$", "", found[1])

    def messages(self, room: str) -> str:
        shown = self.request("GET", f"/{room}/messages")
        assert shown.status_code == 200, shown.text
        return shown.text

    def listed(self) -> list[str]:
        """Return the ids of the rooms in the order of the list."""
        return re.findall(r' data-room="(\w+)"', self.request("GET", "").text)

    def preview(self, room: str) -> str:
        found = re.search(rf' data-room="{room}".*?<a [^>]*title="(.*?)"', self.request("GET", "").text, re.S)
        assert found
        return found[1].strip()

    def file(self, room: str) -> Path:
        return instance_lock.room_file(self.server.instance, room)

    def copy(self, room: str) -> Path:
        return copy_database(self.file(room), self.server.instance / "copy")

    def put_back(self, copy: Path, room: str) -> None:
        self.file(room).unlink(missing_ok=True)
        copy.rename(self.file(room))

    def check(self) -> None:
        """Compare the server with everything that was acknowledged, now and after a restart."""
        listed = self.listed()
        assert {room: self.messages(room) for room in self.acknowledged} == self.acknowledged
        self.server.restart()
        assert {room: self.messages(room) for room in self.acknowledged} == self.acknowledged
        assert self.listed() == listed and set(listed) == set(self.acknowledged)


def two_rooms(server: Server) -> Rooms:
    rooms = Rooms(server)
    for name in ("Kitchen", "Cellar"):
        rooms.ask(rooms.create(name), f"In the {name}")
    server.restart()
    return rooms


@pytest.fixture
def rooms(server: Server) -> Rooms:
    """Two rooms with messages, which the server has not opened since its start."""
    return two_rooms(server)


# A full disk


@contextmanager
def quota(server: Server) -> Iterator[None]:
    """Limit the size of files: the system reports the same error for a quota."""
    before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def filled(server: Server) -> Iterator[None]:
    """Fill the disk to the last byte."""
    filler = server.instance / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@pytest.fixture
def small_disk(instance: Path) -> Iterator[None]:
    """Mounts a small disk for the instance."""
    instance.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(instance)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield
    subprocess.run(["umount", "--lazy", str(instance)], check=True)


def check_full_disk(
    rooms: Rooms, fill: Callable[[Server], AbstractContextManager[None]], model_server: ModelServer
) -> None:
    (unopened, opened), server = rooms.acknowledged, rooms.server
    rooms.ask(opened, "Are you there?")
    streaming = rooms.create("Streaming")
    with closing(Tab(server.url, f"room={streaming}")) as tab:
        reply = rooms.begin(streaming, model_server, tab)
        with fill(server):
            for method, path, form in (
                ("POST", f"/{opened}/messages", {"text": LONG_TEXT}),
                ("GET", f"/{unopened}/messages", {}),  # SQLite cannot create the WAL file
                ("POST", f"/{unopened}/messages", {"text": "Hello"}),
                ("POST", "", {"name": "One more"}),
            ):
                assert "disk" in rooms.error(503, method, path, **form), path
            assert rooms.messages(opened) == rooms.acknowledged[opened]
            reply.say(text(LONG_TEXT), end())
            tab.read_until(lambda frame: 'id="message-2"' in frame and 'data-state="failed"' in frame)
        shown = rooms.messages(streaming)
        assert "Half of it" in shown and "not stored" in shown
        assert requests.post(f"{server.url}/rooms/{streaming}/turn", timeout=DEADLINE).status_code == 201
        tab.read_until(lambda frame: 'id="message-3"' in frame and 'data-state="complete"' in frame)
    for room in (opened, unopened, streaming):
        rooms.ask(room, "And now?")
        assert rooms.preview(room) == "All right."
    rooms.check()


def test_full_disk_rejects_writes_until_there_is_space_again(
    small_disk: None, instance: Path, start_server: StartServer, model_server: ModelServer
) -> None:
    check_full_disk(two_rooms(start_server(altered=SHORT_WAITS)), filled, model_server)


def test_exceeded_quota_rejects_writes_like_a_full_disk(rooms: Rooms, model_server: ModelServer) -> None:
    check_full_disk(rooms, quota, model_server)


# File permissions


ORDINARY_USER = {**SHORT_WAITS, "ordinary_user": {}}


def test_read_only_folder_rejects_what_needs_a_new_file(instance: Path, start_server: StartServer) -> None:
    rooms = two_rooms(start_server(altered=ORDINARY_USER))
    unopened, opened = rooms.acknowledged
    rooms.ask(opened, "Are you there?")
    folder = instance / "facets"
    folder.chmod(0o500)
    try:
        rooms.ask(opened, "Still?")
        for method, path, form in (
            ("POST", "", {"name": "One more"}),
            ("GET", f"/{unopened}/messages", {}),
            ("POST", f"/{unopened}/messages", {"text": "Hello"}),
        ):
            assert "Check the permissions of the instance directory" in rooms.error(503, method, path, **form)
        assert "next start" in rooms.error(500, "DELETE", f"/{opened}")  # the next start removes the files
    finally:
        folder.chmod(0o700)
    del rooms.acknowledged[opened]
    rooms.ask(unopened, "And now?")
    rooms.check()
    assert not rooms.file(opened).exists()


def test_start_in_a_read_only_directory_fails_with_a_sentence(instance: Path, start_server: StartServer) -> None:
    server = start_server(altered=ORDINARY_USER)
    server.stop()
    (instance / "overseer.lock").chmod(0o400)
    instance.chmod(0o500)
    try:
        with pytest.raises(AssertionError, match="did not start"):
            server.start()
    finally:
        instance.chmod(0o700)
        (instance / "overseer.lock").chmod(0o600)
    assert server.log[-1].startswith(f"{instance} cannot be written")
    server.stop()
    server.start()


# Damaged and removed files

HARM = (
    (remove, "is missing. Put back a copy"),
    (remove_with_companions, "is missing. Put back a copy"),
    (overwrite, "damaged"),
    (truncate, "damaged"),
    (empty, "damaged"),
    (replace_by_junk, "damaged"),
)


def test_open_file_that_is_harmed_is_reported_until_a_copy_is_put_back(server: Server) -> None:
    """No write into it is acknowledged: the next request and the row in the list say what is wrong."""
    rooms = Rooms(server)
    for harm, _ in HARM:
        rooms.ask(rooms.create(harm.__name__), "Hello")
    other = rooms.create("Other")
    server.restart()
    for room, (harm, sentence) in zip(list(rooms.acknowledged), HARM, strict=False):
        rooms.messages(room)
        copy = rooms.copy(room)
        harm(rooms.file(room))
        for method, form in (("POST", {"text": "Lost?"}), ("GET", {}), ("POST", {"text": "Lost?"})):
            said = rooms.error(500, method, f"/{room}/messages", **form)
            assert sentence in said and rooms.file(room).name in said, harm
        assert rooms.preview(room) == said
        rooms.ask(other, "Are you there?")
        rooms.put_back(copy, room)
        assert rooms.messages(room) == rooms.acknowledged[room], harm
        rooms.ask(room, "There again?")
        assert rooms.preview(room) == "All right."
    rooms.check()


def test_removed_logs_lose_nothing_even_when_the_server_is_killed(server: Server) -> None:
    """Whether the file was opened by the request that created the room or by a later start."""
    rooms = Rooms(server)
    room = rooms.create("Tidied")
    for _ in range(2):
        rooms.ask(room, "Before?")
        for log in server.instance.rglob("*-wal"):
            log.unlink()
        rooms.ask(room, "After?")
        server.restart(signal.SIGKILL)
        rooms.check()


def test_file_or_log_that_is_removed_during_an_answer_ends_the_answer(
    rooms: Rooms, model_server: ModelServer, tab: OpenTab
) -> None:
    """The request to the model is aborted. A room that lost its WAL file shows the answer as interrupted."""
    removed, logless = rooms.acknowledged
    copy = rooms.copy(removed)
    reply = rooms.begin(removed, model_server, tab(removed))
    rooms.file(removed).unlink()
    assert "is missing" in rooms.error(500, "GET", f"/{removed}/messages")
    assert reply.closed.wait(DEADLINE)
    rooms.put_back(copy, removed)
    rooms.ask(removed, "There again?")
    one = tab(logless)
    reply = rooms.begin(logless, model_server, one)
    remove_wal(rooms.file(logless))
    assert "Speak" in rooms.messages(logless)
    one.read_until(lambda frame: 'id="message-4"' in frame and 'data-state="interrupted"' in frame)
    assert reply.closed.wait(DEADLINE)
    rooms.ask(logless, "There again?")
    rooms.check()


def test_file_that_another_program_changes_stays_usable(rooms: Rooms) -> None:
    room, _ = rooms.acknowledged
    rooms.messages(room)
    edit = "UPDATE parts SET text = 'By another hand' WHERE message = 1"
    execute(rooms.file(room), edit, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert "By another hand" in rooms.messages(room)
    rooms.ask(room, "And now?")
    rooms.check()


def test_list_that_is_harmed_under_the_server_is_rebuilt_from_the_rooms(rooms: Rooms) -> None:
    """Names, pins, counts and the order of the last activity are stored in the rooms' files."""
    kitchen, cellar = rooms.acknowledged
    attic = rooms.create("Attic")
    assert rooms.request("PATCH", f"/{cellar}", pinned="1").ok
    for harm, _ in HARM:
        rooms.ask(kitchen, "Last of all")
        previews = {room: rooms.preview(room) for room in rooms.acknowledged}
        harm(rooms.server.instance / "overseer.sqlite")
        assert rooms.listed() == [cellar, kitchen, attic], harm
        assert {room: rooms.preview(room) for room in rooms.acknowledged} == previews
        rooms.ask(attic, "Are you there?")
        assert rooms.listed() == [cellar, attic, kitchen], harm
    assert list(rooms.server.instance.glob("overseer.sqlite.damaged-*"))
    rooms.check()


# Locked files

HOLD_LOCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    command = [sys.executable, "-c", HOLD_LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "locked\n"
        yield
        process.stdin.close()


def test_room_that_is_locked_can_be_read_and_rejects_writes_until_it_is_unlocked(rooms: Rooms) -> None:
    room, other = rooms.acknowledged
    rooms.messages(room)
    with locked_by_another_process(rooms.file(room)):
        assert "locked by another program" in rooms.error(503, "POST", f"/{room}/messages", text="Hello")
        assert rooms.messages(room) == rooms.acknowledged[room]
        rooms.ask(other, "Are you there?")
    assert rooms.preview(room) == "All right."
    rooms.ask(room, "And now?")
    rooms.check()


def test_list_that_is_locked_is_updated_by_the_next_request_or_start(rooms: Rooms, model_server: ModelServer) -> None:
    room, _ = rooms.acknowledged
    rooms.messages(room)
    for stopped in (False, True):
        words = f"Said meanwhile {stopped}."
        model_server.will(answer(words))
        with locked_by_another_process(rooms.server.instance / "overseer.sqlite"):
            rooms.ask(room, "Do you hear me?")
            assert words in rooms.acknowledged[room]
            assert "locked by another program" in rooms.error(503, "POST", "", name="One more")
            if stopped:
                rooms.server.stop()
        if stopped:
            rooms.server.start()
        assert rooms.preview(room) == words
    rooms.check()


# Faults at an exact point of a request, in an app inside the test process


class CommitHook:
    """Commits, and then calls `then` once."""

    def __init__(self) -> None:
        self.then: Callable[[], object] | None = None

    def __call__(self, commit: Callable[[], object]) -> object:
        result = commit()
        then, self.then = self.then, None
        if then is not None:
            then()
        return result


@pytest.fixture
def commits() -> CommitHook:
    """Makes every commit of the app."""
    return CommitHook()


@pytest.fixture
def browser(instance: Path, model_server: ModelServer, commits: CommitHook) -> Iterator[FlaskClient]:
    app = create_app(instance, models=ModelSettings(base_url=model_server.url, name="stand-in"), run_in_thread=commits)
    instance_of(app).overseer.open()
    yield app.test_client()
    instance_of(app).overseer.close()


def ask(browser: FlaskClient, room: str, words: str) -> TestResponse:
    return browser.post(f"/rooms/{room}/messages", data={"text": words}, headers={"Prefer": "wait=20"})


def create(browser: FlaskClient) -> str:
    return browser.post("/rooms", data={"name": "Kitchen"}).headers["Location"].rsplit("/", 1)[-1]


@pytest.mark.parametrize("harm", [None, remove_wal])
def test_question_is_not_acknowledged_when_its_file_is_replaced_during_the_transaction(
    browser: FlaskClient, commits: CommitHook, instance: Path, harm: Callable[[Path], None] | None
) -> None:
    """The next request uses the file that is at the path then, and keeps what it acknowledges."""
    room = create(browser)
    assert ask(browser, room, "Before?").status_code == 201
    path = instance_lock.room_file(instance, room)
    copy = copy_database(path, instance / "copy")
    commits.then = (lambda: harm(path)) if harm else (lambda: os.replace(copy, path))
    failed = ask(browser, room, "During?")
    assert failed.status_code == 500 and "while it was open" in failed.text and "try again" in failed.text.lower()
    assert ask(browser, room, "After?").status_code == 201
    shown = browser.get(f"/rooms/{room}/messages").text
    assert "Before?" in shown and "After?" in shown and 'data-state="waiting"' not in shown
    stored = column(path, "SELECT text FROM parts WHERE text LIKE '%?'")
    assert stored == (["Before?", "During?", "After?"] if harm else ["Before?", "After?"])


def test_room_is_not_acknowledged_when_the_list_is_replaced_during_the_transaction(
    browser: FlaskClient, commits: CommitHook, instance: Path
) -> None:
    create(browser)
    path = instance / "overseer.sqlite"
    copy = copy_database(path, instance / "copy")

    def after_first_commit() -> None:  # the first commit is to the room's file, the second to the list
        commits.then = lambda: os.replace(copy, path)

    commits.then = after_first_commit
    failed = browser.post("/rooms", data={"name": "Cellar"})
    assert failed.status_code == 500, failed.text
    assert browser.post("/rooms", data={"name": "Attic"}).status_code == 201
    listed = browser.get("/rooms").text
    assert "Kitchen" in listed and "Attic" in listed and "Cellar" not in listed


def test_question_is_answered_when_the_first_read_after_its_commit_fails(browser: FlaskClient) -> None:
    """The question is stored, so the response is 201 and the answer begins a moment later."""
    room = create(browser)
    denied: list[str] = []

    def authorize(action: int, table: str | None, column: str | None, *_: str | None) -> int:
        if denied or (action, table, column) != (sqlite3.SQLITE_READ, "messages", "reason"):
            return sqlite3.SQLITE_OK
        denied.append("once")
        return sqlite3.SQLITE_DENY

    with instance_of(browser.application).overseer._facet(room).storage.read() as db:
        db.set_authorizer(authorize)
    asked = ask(browser, room, "Are you there?")
    assert denied and asked.status_code == 201, asked.text
    assert 'data-state="complete"' in asked.text and "All right." in asked.text
