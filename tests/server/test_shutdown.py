"""SIGTERM under load: nothing that was acknowledged or shown is lost, nobody waits, and everything is put away."""

from __future__ import annotations

import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
import requests

from overseer.domain.errors import StorageFull
from overseer.live.hub import Hub
from tests.support.model_server import ModelServer, Reply, held, text
from tests.support.server import DEADLINE, Server
from tests.support.tab import Tab

ANSWERING = 10  # rooms whose answer grows
ASKED = 4  # rooms that are asked again and again
PACE = 0.005  # seconds between two words

OpenTab = Callable[..., Tab]


class Speakers:
    """Says numbered words into every answer, each at its own pace, until they are all closed."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)

    def answer(self, body: object) -> Reply:
        self.replies.append(held())
        return self.replies[-1]

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(DEADLINE)

    def _speak(self) -> None:
        number = 0
        while not self._over.wait(PACE):
            number += 1
            for reply in list(self.replies):
                reply.say(text(f"w{number} "))


class Client(threading.Thread):
    """Does one thing again and again until the server is gone; keeps what was acknowledged."""

    def __init__(self, server: Server, room: str | None) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self.refused: list[requests.Response] = []
        self.enough = threading.Event()
        self._server, self._room = server, room

    def run(self) -> None:
        number = 0
        with suppress(requests.RequestException):
            while True:
                number += 1
                if self._room is None:
                    answer = requests.post(f"{self._server.url}/rooms", {"name": f"Room {number}"}, timeout=DEADLINE)
                    told = answer.headers.get("Location", "").rsplit("/", 1)[-1]
                else:
                    told = f"Question {number} of {self._room}."
                    url = f"{self._server.url}/rooms/{self._room}/messages"
                    answer = requests.post(url, {"text": told}, timeout=DEADLINE)
                if answer.status_code != 201:
                    self.refused.append(answer)
                    break
                self.acknowledged.append(told)
                if number == 3:
                    self.enough.set()


def new_room(server: Server) -> str:
    made = requests.post(f"{server.url}/rooms", {"name": "Room"}, timeout=DEADLINE)
    return made.headers["Location"].rsplit("/", 1)[-1]


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        return db.execute(sql).fetchall()


def test_sigterm_under_load_loses_nothing(server: Server, model_server: ModelServer, tab: OpenTab) -> None:
    """Answers grow, tabs read, rooms are made and asked: what was said is kept, and the process ends soon, with 0."""
    speakers = Speakers()
    model_server.otherwise = speakers.answer
    growing = [new_room(server) for _ in range(ANSWERING)]
    clients = [Client(server, new_room(server)) for _ in range(ASKED)] + [Client(server, None)]
    tabs = {room: tab(room) for room in growing}
    for room in growing:
        requests.post(f"{server.url}/rooms/{room}/messages", {"text": "Count"}, timeout=DEADLINE)
    speakers.begin()
    for one in tabs.values():
        one.read_until("w9 ")
    for client in clients:
        client.start()
    for client in clients:
        assert client.enough.wait(DEADLINE)
    began = time.monotonic()
    assert server.stop() == 0
    took = time.monotonic() - began
    for client in clients:
        client.join(DEADLINE)
        assert not client.is_alive()
        assert all(answer.status_code == 503 and 'role="alert"' in answer.text for answer in client.refused)
    assert {one.read_to_close() for one in tabs.values()} == {1012}
    speakers.end()
    assert took < 15, "something was waited for"
    assert "Traceback" not in "".join(server.log)

    facets = server.instance / "facets"
    assert {path.suffix for path in facets.iterdir()} == {".sqlite"}, "every file was closed"
    listed = {str(row[0]): row[1:] for row in rows(server.instance / "overseer.sqlite", "SELECT * FROM rooms")}
    assert {path.stem.removeprefix("room-") for path in facets.iterdir()} == listed.keys()
    assert rows(server.instance / "overseer.sqlite", "SELECT in_order FROM runs") == [(1,)]
    for path in facets.iterdir():
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        assert rows(path, "SELECT number FROM messages WHERE state IN ('waiting', 'streaming')") == []
    for room, one in tabs.items():
        (kept,) = rows(facets / f"room-{room}.sqlite", "SELECT text FROM parts WHERE message = 2")
        shown = {int(number) for frame in one.frames for number in re.findall(r"\bw(\d+) ", frame)}
        words = str(kept[0]).split()
        first = int(words[0][1:])
        assert words == [f"w{number}" for number in range(first, first + len(words))], "not what was said"
        assert max(shown) < first + len(words), "what was shown is not kept"
    for client in clients[:-1]:
        path = facets / f"room-{client._room}.sqlite"
        questions = "SELECT text FROM parts JOIN messages ON message = number WHERE role = 'user' ORDER BY number"
        stored = [row[0] for row in rows(path, questions)]
        assert stored[: len(client.acknowledged)] == client.acknowledged
        assert len(stored) <= len(client.acknowledged) + 1, "one may have been stored without its answer getting out"
    assert set(clients[-1].acknowledged) <= listed.keys()
    server.start()
    assert requests.get(f"{server.url}/rooms/{growing[0]}", timeout=DEADLINE).ok


def test_files_that_another_program_locks_hold_up_no_end(
    server: Server, model_server: ModelServer, tab: OpenTab
) -> None:
    """They are waited for a moment, all together; tabs are sent to come back, and what was acknowledged is there."""
    rooms = [new_room(server) for _ in range(12)]
    replies = [held(text("Half of it")) for _ in rooms]
    model_server.will(*replies)
    for room in rooms:
        requests.post(f"{server.url}/rooms/{room}/messages", {"text": "Asked"}, timeout=DEADLINE)
    assert all(reply.begun.wait(DEADLINE) for reply in replies)
    tabs = [tab(room) for room in rooms]
    for one in tabs:
        one.read_until("Half of it")
    with ExitStack() as locks:
        for room in rooms:
            other = locks.enter_context(closing(sqlite3.connect(server.instance / "facets" / f"room-{room}.sqlite")))
            other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 15, "they were waited for one after the other"
    assert {one.read_to_close() for one in tabs} == {1012}
    assert "Traceback" not in "".join(server.log)
    server.start()
    for room in rooms:
        shown = requests.get(f"{server.url}/rooms/{room}/messages", timeout=DEADLINE).text
        assert "Asked" in shown and 'data-state="interrupted"' in shown
    listed = requests.get(f"{server.url}/rooms", timeout=DEADLINE).text
    assert 'data-state="answering"' not in listed


class Gone:
    """What renders for a tab when nothing can be read any more."""

    def list_frame(self, *_: object, **__: object) -> bytes:
        raise StorageFull("The server is shutting down. Try again in a moment.")


class Ws:
    """What an outlet uses of a WebSocket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.connected, self.event = sock, True, threading.Event()


def test_a_tab_that_is_served_when_nothing_can_be_read_any_more_is_sent_to_come_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The end of the server, or a list that is gone, is no fault of ours: 1012, and a line in the log."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(DEADLINE)
    hub = Hub(lambda prefix: Gone())  # type: ignore[arg-type, return-value]
    hub.join(Ws(ours), None, "", room_revision="", list_revision="")
    frame = theirs.recv(200)
    hub.close()
    ours.close()
    theirs.close()
    assert int.from_bytes(frame[2:4], "big") == 1012
    assert "cannot serve a tab: The server is shutting down" in caplog.text and "Traceback" not in caplog.text
