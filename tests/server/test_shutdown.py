"""Shutdown: nothing that was acknowledged or shown is lost, and every tab is told to reconnect.

`Server.stop` fails if the server waits for something longer than a moment.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import requests

from overseer.storage.database import BUSY_SECONDS
from overseer.storage.instance_lock import room_file
from tests.support.model_server import ModelServer, Reply, held, silent, text
from tests.support.rooms import ask, fetch, new_room
from tests.support.server import DEADLINE, Server
from tests.support.tab import Tab

STREAMING_ROOMS = 5
ASKED_ROOMS = 3
WORD_INTERVAL_SECONDS = 0.005

OpenTab = Callable[..., Tab]


class EndlessModel:
    """Streams numbered words into every answer."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._stream, daemon=True)

    def answer(self, body: dict[str, Any]) -> Reply:
        self.replies.append(held())
        return self.replies[-1]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(DEADLINE)

    def _stream(self) -> None:
        number = 0
        while not self._stop.wait(WORD_INTERVAL_SECONDS):
            number += 1
            for reply in list(self.replies):
                reply.say(text(f"w{number} "))


class Client(threading.Thread):
    """Posts messages into a room, or creates rooms, until the server is gone. Keeps what was acknowledged."""

    def __init__(self, server: Server, room: str | None) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self.refused: list[requests.Response] = []
        self.enough = threading.Event()
        self.room = room
        self._server = server

    def run(self) -> None:
        number = 0
        with suppress(requests.RequestException):
            while not self.refused:
                number += 1
                question = f"Question {number} of {self.room}."
                path = "/rooms" if self.room is None else f"/rooms/{self.room}/messages"
                response = requests.post(self._server.url + path, {"text": question}, timeout=DEADLINE)
                if response.status_code != 201:
                    self.refused.append(response)
                elif self.room is None:
                    self.acknowledged.append(response.headers["Location"].rsplit("/", 1)[-1])
                else:
                    self.acknowledged.append(question)
                if number == 3:
                    self.enough.set()


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        return db.execute(sql).fetchall()


def test_sigterm_under_load_loses_nothing(server: Server, model_server: ModelServer, tab: OpenTab) -> None:
    """Answers stream, tabs read, rooms are created and asked. Everything acknowledged or shown is stored.

    The connections to models are closed, also to one that is silent.
    """
    model = EndlessModel()
    model_server.otherwise = model.answer
    silent_reply = model_server.will(silent())
    ask(server, new_room(server), "Go")
    assert silent_reply.begun.wait(DEADLINE)
    streaming = [new_room(server) for _ in range(STREAMING_ROOMS)]
    clients = [Client(server, new_room(server)) for _ in range(ASKED_ROOMS)] + [Client(server, None)]
    tabs = {room: tab(room) for room in streaming}
    for room in streaming:
        ask(server, room, "Count")
    model.start()
    for one in tabs.values():
        one.read_until("w9 ")
    for client in clients:
        client.start()
    for client in clients:
        assert client.enough.wait(DEADLINE)
    assert server.stop() == 0
    for client in clients:
        client.join(DEADLINE)
        assert not client.is_alive()
        assert all(answer.status_code == 503 and 'role="alert"' in answer.text for answer in client.refused)
    assert {one.read_to_close() for one in tabs.values()} == {1012}
    assert all(reply.closed.wait(DEADLINE) for reply in (silent_reply, *model.replies))
    model.stop()

    facets = server.instance / "facets"
    assert {path.suffix for path in facets.iterdir()} == {".sqlite"}, "every file was closed"
    listed = {row[0] for row in rows(server.instance / "overseer.sqlite", "SELECT id FROM rooms")}
    assert {path.stem.removeprefix("room-") for path in facets.iterdir()} == listed
    assert rows(server.instance / "overseer.sqlite", "SELECT in_order FROM runs") == [(1,)]
    for path in facets.iterdir():
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        assert rows(path, "SELECT number FROM messages WHERE state IN ('waiting', 'streaming')") == []
    for room, one in tabs.items():
        (stored,) = rows(facets / f"room-{room}.sqlite", "SELECT text FROM parts WHERE message = 2")
        numbers = [int(word[1:]) for word in stored[0].split()]
        shown = {int(number) for frame in one.frames for number in re.findall(r"\bw(\d+) ", frame)}
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "words are missing"
        assert max(shown) <= numbers[-1], "a word was shown and not stored"
    for client in clients[:-1]:
        path = facets / f"room-{client.room}.sqlite"
        questions = "SELECT text FROM parts JOIN messages ON message = number WHERE role = 'user' ORDER BY number"
        asked = [row[0] for row in rows(path, questions)]
        assert asked[: len(client.acknowledged)] == client.acknowledged
        assert len(asked) <= len(client.acknowledged) + 1, "only the last may lack its response"
    assert set(clients[-1].acknowledged) <= listed
    server.start()
    assert requests.get(f"{server.url}/rooms/{streaming[0]}", timeout=DEADLINE).ok


def test_files_locked_by_another_program_do_not_block_shutdown(
    server: Server, model_server: ModelServer, tab: OpenTab
) -> None:
    """The server waits for all of them together: one by one would take longer than `Server.stop` allows.

    The next run marks their answers as interrupted.
    """
    rooms = [new_room(server) for _ in range(int(DEADLINE / BUSY_SECONDS) + 1)]
    one = tab(rooms[-1])
    model_server.otherwise = lambda body: held(text("Half of it"))
    for room in rooms:
        ask(server, room, "Asked")
    one.read_until("Half of it")
    with ExitStack() as locks:
        for room in rooms:
            other = locks.enter_context(closing(sqlite3.connect(room_file(server.instance, room))))
            other.execute("BEGIN EXCLUSIVE")
        assert server.stop() == 0
    assert one.read_to_close() == 1012
    server.start()
    for room in rooms[-3:]:
        page = fetch(server, f"/rooms/{room}/messages")
        assert "Asked" in page and 'data-state="interrupted"' in page
    assert 'data-state="answering"' not in fetch(server, "/rooms")
