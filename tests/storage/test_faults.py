"""Faults made for real under the running server: a sentence, other rooms untouched, nothing acknowledged is lost."""

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
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import DEADLINE, Server
from tests.support.server_pool import ServerPool
from tests.support.tab import Tab

JUNK = b"This is no database. " * 1000
LETTERS = "x" * 100_000
OpenTab = Callable[..., Tab]


class Rooms:
    """What a person does over HTTP, and what they were told is stored."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.kept: dict[str, str] = {}

    def new(self, name: str) -> str:
        """Make a room; returns its id."""
        made = self.request("POST", "", name=name)
        assert made.status_code == 201, made.text
        room = made.headers["Location"].rsplit("/", 1)[-1]
        self.kept[room] = self.shown(room)
        return room

    def ask(self, room: str, words: str) -> None:
        """Ask, and note what is shown when the answer has ended."""
        asked = self.request("POST", f"/{room}/messages", text=words)
        assert asked.status_code == 201, asked.text
        self.kept[room] = self.shown(room)

    def request(self, method: str, path: str, **form: str) -> requests.Response:
        url = f"{self.server.url}/rooms{path}"
        return requests.request(method, url, data=form, headers={"Prefer": "wait=20"}, timeout=DEADLINE)

    def refused(self, status: int, method: str, path: str, **form: str) -> str:
        """The sentence of a request that is refused."""
        response = self.request(method, path, **form)
        assert response.status_code == status, response.text
        found = re.search(r'role="alert">\s*<p>(.*?)</p>', response.text)
        assert found, response.text
        sentence = re.sub(r" \(The log says more under \w+\.\)$", "", found[1])
        assert re.fullmatch(r"\S.{8,}[.…]", sentence) and not re.search(r"Traceback|sqlite3|Error\b|/tmp", sentence)
        return sentence

    def shown(self, room: str) -> str:
        shown = self.request("GET", f"/{room}/messages")
        assert shown.status_code == 200, shown.text
        return shown.text

    def listed(self) -> list[str]:
        """The rooms in the order of the list."""
        return re.findall(r' data-room="(\w+)"', requests.get(f"{self.server.url}/rooms", timeout=DEADLINE).text)

    def row(self, room: str) -> str:
        """What a room's row says."""
        page = requests.get(f"{self.server.url}/rooms", timeout=DEADLINE).text
        return re.findall(rf' data-room="{room}".*?row__preview[^>]*>(.*?)<', page, re.S)[0].strip()

    def file(self, room: str) -> Path:
        return self.server.instance / "facets" / f"room-{room}.sqlite"

    def are_whole(self) -> None:
        """Everything that was acknowledged is shown, now and after a restart."""
        assert requests.get(f"{self.server.url}/healthz", timeout=DEADLINE).ok
        listed = self.listed()
        assert {room: self.shown(room) for room in self.kept} == self.kept
        self.server.restart()
        assert {room: self.shown(room) for room in self.kept} == self.kept
        assert self.listed() == listed and set(listed) == set(self.kept)
        assert "Traceback" not in "".join(self.server.log)


@pytest.fixture
def rooms(server: Server) -> Rooms:
    """Two rooms where something was said, and the server that has not opened them since."""
    return settled(server)


def settled(server: Server) -> Rooms:
    rooms = Rooms(server)
    for name in ("Kitchen", "Cellar"):
        rooms.ask(rooms.new(name), f"In the {name}")
    server.restart()
    return rooms


# No room on the disk


@contextmanager
def quota(server: Server) -> Iterator[None]:
    """No file may grow: the system says what it says of a quota."""
    before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def filled(server: Server) -> Iterator[None]:
    """The disk has not a byte left."""
    filler = server.instance / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@pytest.fixture
def small(
    tmp_path: Path, model_server: ModelServer, server_pool: ServerPool
) -> Iterator[tuple[Server, Callable[..., AbstractContextManager[None]]]]:
    """A server on a small disk of its own, and how that is filled; a quota stands in where none may be mounted."""
    instance = tmp_path / "small"
    instance.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(instance)]
    mounted = shutil.which("mount") is not None and not subprocess.run(mount, capture_output=True).returncode
    settings = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}
    server = Server(instance, environment=settings, server_pool=server_pool).start()
    yield server, filled if mounted else quota
    server.stop()
    if mounted:
        subprocess.run(["umount", str(instance)], check=True)


def full_disk(rooms: Rooms, fill: Callable[..., AbstractContextManager[None]], model_server: ModelServer) -> None:
    (unopened, opened), server = rooms.kept, rooms.server
    rooms.ask(opened, "Are you there?")
    growing = rooms.new("Growing")
    reply = model_server.will(held(text("Half of it")))
    requests.post(f"{server.url}/rooms/{growing}/messages", {"text": "Speak"}, timeout=DEADLINE)
    tab = Tab(server.url, f"room={growing}")
    tab.read_until("Half of it")
    with fill(server):
        for method, path, form in (
            ("POST", f"/{opened}/messages", {"text": LETTERS}),
            ("GET", f"/{unopened}/messages", {}),  # its companions cannot be made
            ("POST", f"/{unopened}/messages", {"text": "Hello"}),
            ("POST", "", {"name": "One more"}),
        ):
            assert re.search("disk", rooms.refused(503, method, path, **form)), path
        assert rooms.shown(opened) == rooms.kept[opened]
        reply.say(text(LETTERS), end())
        tab.read_until(lambda frame: 'id="message-2"' in frame and 'data-state="failed"' in frame)
    tab.close()
    assert "Half of it" in rooms.shown(growing) and "not stored" in rooms.shown(growing)
    assert requests.post(f"{server.url}/rooms/{growing}/turn", timeout=DEADLINE).status_code == 201
    tab = Tab(server.url, f"room={growing}")
    tab.read_until(lambda frame: 'id="message-2"' in frame and 'data-state="complete"' in frame)
    tab.close()
    for room in (opened, unopened, growing):
        rooms.ask(room, "And now?")
        assert rooms.row(room) == "All right."
    rooms.are_whole()


def test_a_full_disk_passes_and_takes_nothing_away(
    small: tuple[Server, Callable[..., AbstractContextManager[None]]], model_server: ModelServer
) -> None:
    """503 with a sentence for whatever must be written, no room is called broken, and with space all goes on."""
    server, fill = small
    full_disk(settled(server), fill, model_server)


def test_a_quota_passes_like_a_full_disk(rooms: Rooms, model_server: ModelServer) -> None:
    """The system calls it another error, and a person needs the same sentence."""
    full_disk(rooms, quota, model_server)


# No rights


# Root is let in everywhere. Without these two capabilities it is not.
ORDINARY = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def ordinary(instance: Path, model_server: ModelServer) -> Iterator[Rooms]:
    """Rooms of a server that the rights of files bind, whoever runs it."""
    server = Server(
        instance,
        environment={"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"},
        launcher=(sys.executable, "-c", ORDINARY),
    )
    yield settled(server.start())
    server.stop()


def test_a_directory_that_became_read_only_passes(ordinary: Rooms) -> None:
    """A room that is open goes on; what needs a new file is 503 and says to check the rights."""
    unopened, opened = ordinary.kept
    ordinary.ask(opened, "Are you there?")
    folder = ordinary.server.instance / "facets"
    folder.chmod(0o500)
    try:
        ordinary.ask(opened, "Still?")
        for method, path, form in (
            ("POST", "", {"name": "One more"}),
            ("GET", f"/{unopened}/messages", {}),
            ("POST", f"/{unopened}/messages", {"text": "Hello"}),
        ):
            assert "Check the rights of the instance directory" in ordinary.refused(503, method, path, **form)
        # The files stay when they cannot be removed, and the next start tries again.
        assert "next start" in ordinary.refused(500, "DELETE", f"/{opened}")
    finally:
        folder.chmod(0o700)
    del ordinary.kept[opened]
    ordinary.ask(unopened, "And now?")
    ordinary.are_whole()
    assert not ordinary.file(opened).exists()


def test_a_start_in_a_read_only_directory_is_refused_with_a_sentence(ordinary: Rooms) -> None:
    """It ends with 1, and says which directory it is."""
    ordinary.server.stop()
    ordinary.server.instance.chmod(0o500)
    (ordinary.server.instance / "overseer.lock").chmod(0o400)
    try:
        with pytest.raises(AssertionError, match="did not start"):
            ordinary.server.start()
    finally:
        ordinary.server.stop()
        ordinary.server.instance.chmod(0o700)
        (ordinary.server.instance / "overseer.lock").chmod(0o600)
    assert ordinary.server.log[-1].startswith(f"{ordinary.server.instance} cannot be written")
    assert "Traceback" not in "".join(ordinary.server.log)
    ordinary.server.start()
    ordinary.are_whole()


# One file harmed while it is open


def remove(path: Path) -> None:
    path.unlink()


def remove_all(path: Path) -> None:
    for companion in path.parent.glob(f"{path.name}*"):
        companion.unlink()


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(JUNK)


def cut_short(path: Path) -> None:
    os.truncate(path, 4096)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(JUNK)
    other.rename(path)


HARM = (
    (remove, "is missing. Put back a copy"),
    (remove_all, "is missing. Put back a copy"),
    (overwrite, "damaged"),
    (cut_short, "damaged"),
    (empty, "damaged"),
    (replace, "damaged"),
)


def copy_of(path: Path) -> Path:
    """A copy of a room's file as a backup has it."""
    copy = path.parents[1] / "copy"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source, closing(sqlite3.connect(copy)) as to:
        source.backup(to)
    return copy


def put_back(copy: Path, path: Path) -> None:
    """As a person would: the harmed file away, the copy in its place."""
    path.unlink(missing_ok=True)
    copy.rename(path)


def test_a_file_that_is_harmed_while_it_is_open_is_noticed_at_once(server: Server) -> None:
    """Nothing more is acknowledged into it: the next request says so, as does the row, until a copy is put back."""
    rooms = Rooms(server)
    for harm, _ in HARM:
        rooms.ask(rooms.new(harm.__name__), "Hello")
    other = rooms.new("Other")
    server.restart()
    for room, (harm, sentence) in zip(list(rooms.kept), HARM, strict=False):
        rooms.shown(room)
        path = rooms.file(room)
        copy = copy_of(path)
        harm(path)
        for method, form in (("POST", {"text": "Lost?"}), ("GET", {}), ("POST", {"text": "Lost?"})):
            said = rooms.refused(500, method, f"/{room}/messages", **form)
            assert sentence in said and path.name in said, harm
        assert rooms.row(room) == said
        rooms.ask(other, "Are you there?")
        put_back(copy, path)
        assert rooms.shown(room) == rooms.kept[room], harm
        rooms.ask(room, "There again?")
        assert rooms.row(room) == "All right."
    rooms.are_whole()


@pytest.mark.parametrize("restarted", [False, True])
def test_logs_that_are_removed_under_the_server_take_nothing_with_them(server: Server, *, restarted: bool) -> None:
    """Who tidies up beside the files of a running server loses nothing that was said, before or after, by a kill."""
    rooms = Rooms(server)
    room = rooms.new("Tidied")
    rooms.ask(room, "Before?")
    if restarted:
        server.restart()
        rooms.shown(room)
    for log in server.instance.rglob("*-wal"):
        log.unlink()
    rooms.ask(room, "After?")
    server.restart(signal.SIGKILL)
    rooms.are_whole()


def test_a_file_that_is_removed_in_mid_answer_ends_the_answer(
    rooms: Rooms, model_server: ModelServer, tab: OpenTab
) -> None:
    """The model is let go, who asks is told, and nobody sees it go on into a file that is not there."""
    room, other = rooms.kept
    copy = copy_of(rooms.file(room))
    one = tab(room)
    reply = model_server.will(held(text("Half of it")))
    requests.post(f"{rooms.server.url}/rooms/{room}/messages", {"text": "Speak"}, timeout=DEADLINE)
    one.read_until("Half of it")
    rooms.file(room).unlink()
    assert "is missing" in rooms.refused(500, "GET", f"/{room}/messages")
    assert reply.closed.wait(DEADLINE)
    rooms.ask(other, "Are you there?")
    put_back(copy, rooms.file(room))
    rooms.ask(room, "There again?")
    rooms.are_whole()


def test_an_answer_whose_log_is_removed_is_shown_as_interrupted(
    rooms: Rooms, model_server: ModelServer, tab: OpenTab
) -> None:
    """The file is opened anew with the next request, and no tab shows an answer as growing that nobody makes."""
    room, _ = rooms.kept
    one = tab(room)
    reply = model_server.will(held(text("Half of it")))
    requests.post(f"{rooms.server.url}/rooms/{room}/messages", {"text": "Speak"}, timeout=DEADLINE)
    one.read_until("Half of it")
    rooms.file(room).with_name(f"{rooms.file(room).name}-wal").unlink()
    assert "Speak" in rooms.shown(room)
    one.read_until(lambda frame: 'id="message-4"' in frame and 'data-state="interrupted"' in frame)
    assert reply.closed.wait(DEADLINE)
    rooms.ask(room, "There again?")
    rooms.are_whole()


def test_a_file_that_another_program_wrote_in_goes_on(rooms: Rooms) -> None:
    """Somebody's `sqlite3` is no harm: what it did is there, and so is what is said after it."""
    room, _ = rooms.kept
    rooms.shown(room)
    with closing(sqlite3.connect(rooms.file(room), isolation_level=None)) as db:
        db.execute("UPDATE parts SET text = 'By another hand' WHERE message = 1")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert "By another hand" in rooms.shown(room)
    rooms.ask(room, "And now?")
    rooms.are_whole()


# Locked


HOLDS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """Another process holds the file's lock."""
    command = [sys.executable, "-c", HOLDS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()


def test_a_room_that_another_process_locks_can_be_tried_again(rooms: Rooms) -> None:
    """It can be read meanwhile, the others work, and afterwards it goes on."""
    room, other = rooms.kept
    rooms.shown(room)
    with held_by_another(rooms.file(room)):
        assert "locked by another program" in rooms.refused(503, "POST", f"/{room}/messages", text="Hello")
        assert rooms.shown(room) == rooms.kept[room]
        rooms.ask(other, "Are you there?")
    assert rooms.row(room) == "All right."
    rooms.ask(room, "And now?")
    rooms.are_whole()


def test_a_list_that_another_process_locks_catches_up(rooms: Rooms, model_server: ModelServer) -> None:
    """What is said meanwhile is in its room; the list has it with the next request, or after the next start."""
    room, _ = rooms.kept
    rooms.shown(room)
    for stopped in (False, True):
        words = f"Said meanwhile {stopped}."
        model_server.will(held(text(words), end())).hang_up()
        with held_by_another(rooms.server.instance / "overseer.sqlite"):
            rooms.ask(room, "Do you hear me?")
            assert words in rooms.kept[room]
            assert "locked by another program" in rooms.refused(503, "POST", "", name="One more")
            if stopped:
                rooms.server.stop()
        if stopped:
            rooms.server.start()
        assert rooms.row(room) == words
    rooms.are_whole()


# The list


def test_a_list_that_is_harmed_under_the_server_is_made_anew(rooms: Rooms) -> None:
    """Names, pins, counts and the order of what was last said are in the rooms' files; nobody has to do a thing."""
    kitchen, cellar = rooms.kept
    attic = rooms.new("Attic")
    assert rooms.request("PATCH", f"/{cellar}", pinned="1").ok
    for harm, _ in HARM:
        rooms.ask(kitchen, "Last of all")
        rows = {room: rooms.row(room) for room in rooms.kept}
        harm(rooms.server.instance / "overseer.sqlite")
        assert rooms.listed() == [cellar, kitchen, attic], harm
        assert {room: rooms.row(room) for room in rooms.kept} == rows
        rooms.ask(attic, "Are you there?")
        assert rooms.listed() == [cellar, attic, kitchen], harm
    assert list(rooms.server.instance.glob("overseer.sqlite.damaged-*"))
    rooms.are_whole()


# A file replaced during a transaction


class Replacing:
    """Commits to the disk, and what happens between one and the answer of whoever asked for it."""

    def __init__(self) -> None:
        self.then: Callable[[], object] | None = None

    def __call__(self, work: Callable[[], object]) -> object:
        result = work()
        then, self.then = self.then, None
        if then is not None:
            then()
        return result


@pytest.fixture
def commits() -> Replacing:
    """Every commit of the app goes through here."""
    return Replacing()


@pytest.fixture
def browser(instance: Path, model_server: ModelServer, commits: Replacing) -> Iterator[FlaskClient]:
    """A client of an app whose commits go there. It is in this process: a server's own could not be met so exactly."""
    app = create_app(instance, models=ModelSettings(base_url=model_server.url, name="stand-in"), run_in_thread=commits)
    app.extensions["overseer"].open()
    yield app.test_client()
    app.extensions["overseer"].close()


def post(browser: FlaskClient, room: str, words: str) -> TestResponse:
    return browser.post(f"/rooms/{room}/messages", data={"text": words}, headers={"Prefer": "wait=20"})


def remove_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize("harm", [None, remove_log])
def test_a_question_is_not_acknowledged_when_its_file_is_replaced_during_the_transaction(
    browser: FlaskClient, commits: Replacing, instance: Path, harm: Callable[[Path], None] | None
) -> None:
    """Who asks is told so; the next request goes to the file that is there now, and what that acknowledges is kept."""
    made = browser.post("/rooms", data={"name": "Kitchen"})
    room = made.headers["Location"].rsplit("/", 1)[-1]
    assert post(browser, room, "Before?").status_code == 201
    path = instance / "facets" / f"room-{room}.sqlite"
    copy = copy_of(path)
    commits.then = (lambda: harm(path)) if harm else (lambda: os.replace(copy, path))
    refused = post(browser, room, "During?")
    assert refused.status_code == 500 and "while it was open" in refused.text and "try again" in refused.text.lower()
    assert post(browser, room, "After?").status_code == 201
    shown = browser.get(f"/rooms/{room}/messages").text
    assert "Before?" in shown and "After?" in shown and 'data-state="waiting"' not in shown
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        kept = [row[0] for row in db.execute("SELECT text FROM parts WHERE text LIKE '%?'")]
    assert kept == (["Before?", "During?", "After?"] if harm else ["Before?", "After?"])


def test_a_room_is_not_acknowledged_when_the_list_is_replaced_during_the_transaction(
    browser: FlaskClient, commits: Replacing, instance: Path
) -> None:
    """The list that was put back goes on, and no room is lost or there twice."""
    assert browser.post("/rooms", data={"name": "Kitchen"}).status_code == 201
    path = instance / "overseer.sqlite"
    copy = copy_of(path)

    def after_the_first() -> None:
        commits.then = lambda: os.replace(copy, path)

    commits.then = after_the_first  # commit, which is that of the room's own file; the second is that of the list
    refused = browser.post("/rooms", data={"name": "Cellar"})
    assert refused.status_code == 500, refused.text
    assert browser.post("/rooms", data={"name": "Attic"}).status_code == 201
    listed = browser.get("/rooms").text
    assert "Kitchen" in listed and "Attic" in listed and "Cellar" not in listed


# A read that fails once


def test_a_question_is_answered_when_the_first_read_after_its_commit_fails(browser: FlaskClient) -> None:
    """It is stored, so it is 201 and never an error, and its answer begins by itself a moment later.

    No file fails for one read and is whole for the next, so SQLite is told to refuse one.
    """
    made = browser.post("/rooms", data={"name": "Kitchen"})
    room = made.headers["Location"].rsplit("/", 1)[-1]
    refused: list[str] = []

    def authorize(action: int, table: str | None, column: str | None, *_: str | None) -> int:
        if refused or (action, table, column) != (sqlite3.SQLITE_READ, "messages", "reason"):
            return sqlite3.SQLITE_OK
        refused.append("once")
        return sqlite3.SQLITE_DENY

    with browser.application.extensions["overseer"]._facet(room)._storage.read() as db:
        db.set_authorizer(authorize)
    asked = post(browser, room, "Are you there?")
    assert refused and asked.status_code == 201, asked.text
    assert 'data-state="complete"' in asked.text and "All right." in asked.text
