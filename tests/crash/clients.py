"""The load: clients that make every kind of request, and tabs."""

from __future__ import annotations

import http.client
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode

import websocket

from tests.crash import html
from tests.crash.expected_room import ExpectedRoom
from tests.crash.history import History, ListObservation, Operation, clock
from tests.support.tab import Tab
from tests.support.waiting import DEADLINE

MAX_ROOMS = 14
ANSWER_WAIT = "wait=2"
FORM = "application/x-www-form-urlencoded"


class NoResponse(Exception):
    """The connection broke before a status line came."""


@dataclass(frozen=True, slots=True)
class Response:
    """`body` is empty if it was cut off."""

    status: int
    location: str
    body: str


def request(
    port: int,
    method: str,
    path: str,
    form: Mapping[str, str | Sequence[str]] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    operation: Operation | None = None,
) -> Response:
    """Make a request. The status line acknowledges the operation, even if the body is cut off. Raises NoResponse."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    body = urlencode(form, doseq=True).encode() if form is not None else None
    try:
        connection.request(method, path, body, {**({"Content-Type": FORM} if body else {}), **(headers or {})})
        response = connection.getresponse()
        location = response.headers.get("Location", "")
        if operation is not None:
            if operation.kind in ("ask", "edit") and response.status < 300:
                made = int(location.rsplit("/", 1)[-1])
                operation.number, operation.made = (made, 0) if operation.kind == "ask" else (operation.number, made)
            operation.end, operation.status = clock(), response.status
        with suppress(OSError, http.client.HTTPException):
            return Response(response.status, location, response.read().decode())
        return Response(response.status, location, "")
    except (OSError, http.client.HTTPException) as error:
        raise NoResponse from error
    finally:
        connection.close()


class Memory:
    """What outlives a round: the rooms, and the questions that clients have yet to repeat."""

    def __init__(self, clients: int) -> None:
        self.rooms: dict[str, ExpectedRoom] = {}
        self.deleting: dict[str, ExpectedRoom] = {}  # rooms whose deletion was begun
        self.unanswered: list[deque[Operation]] = [deque() for _ in range(clients)]  # with a key, without a response
        self.sent: list[deque[Operation]] = [deque(maxlen=12) for _ in range(clients)]  # with a key
        self.creating: list[tuple[Operation, str | None]] = []  # rooms that may exist


class Client:
    """Makes requests until the server is gone. The seed decides which ones, but not when."""

    def __init__(self, number: int, name: str, port: int, history: History, memory: Memory, seed: str) -> None:
        self._number, self._name, self._port = number, name, port
        self._history, self._memory = history, memory
        self._rng = random.Random(f"{seed} {name}")
        self._count = 0
        self._over = False

    def end(self) -> None:
        self._over = True

    def run(self) -> None:
        """Run in a thread of its own."""
        try:
            while not self._over and self._memory.unanswered[self._number]:
                self._send_again(self._memory.unanswered[self._number].popleft(), alone=True)
            while not self._over:
                self._act()
        except NoResponse:
            return
        except Exception as error:  # otherwise only the load would become smaller
            self._history.faults.append(f"client {self._name} failed: {error!r}")

    def _act(self) -> None:
        every = list(self._memory.rooms.values())
        mine = [room for room in every if room.owner == self._number]
        if not mine or (len(every) < MAX_ROOMS and self._rng.random() < 0.06):
            return self._create()
        own, any_room = self._rng.choice(mine), self._rng.choice(every)
        actions: list[tuple[int, Callable[[], None]]] = [
            (22, lambda: self._ask(own)),
            (22, lambda: self._ask(any_room)),
            (6, self._repeat),
            (10, lambda: self._rename(own)),
            (12 if len(own.questions) > 30 else 3, lambda: self._clear(own)),
            (8, lambda: self._edit(own)),
            (8, lambda: self._show(own)),
            (7, lambda: self._stop(any_room)),
            (6, lambda: self._restart_turn(own, "retry")),
            (4, lambda: self._restart_turn(own, "resume")),
            (3 if len(mine) > 1 else 0, lambda: self._delete(own)),
            (2, lambda: self._fork(own)),
            (3, lambda: self._search(own)),
            (4, lambda: self._open(any_room)),
            (3, self._list),
        ]
        self._rng.choices([action for _, action in actions], [weight for weight, _ in actions])[0]()

    def _new_text(self) -> str:
        self._count += 1
        return f"q{self._name}-{self._count} asks"

    def _create(self) -> None:
        name = f"Room {self._name}-{self._count} v0" if self._rng.random() < 0.6 else None
        self._count += 1
        operation = self._history.begin(Operation("create", text=name or ""))
        self._memory.creating.append((operation, name))
        response = self._request(operation, "POST", "/rooms", {} if name is None else {"name": name})
        if operation.acknowledged:
            self._memory.creating.remove((operation, name))
            operation.room = response.location.rsplit("/", 1)[-1]
            self._memory.rooms[operation.room] = ExpectedRoom(operation.room, self._number, [name])

    def _ask(self, room: ExpectedRoom) -> None:
        key = f"key {self._new_text()}" if self._rng.random() < 0.5 else None
        models = self._rng.choices((1, 2, 4), (80, 15, 5))[0]
        ask = Operation("ask", room.room, self._new_text(), key, models=models)
        if key and self._rng.random() < 0.15:
            return self._send_twice(ask)
        if key:
            self._memory.sent[self._number].append(ask)
        self._send(ask, alone=True)
        if ask.acknowledged and room.owner == self._number:
            room.questions.append(ask.number)
            room.models[ask.number] = models

    def _send(self, ask: Operation, *, alone: bool) -> None:
        form: dict[str, str | Sequence[str]] = {"text": ask.text, **({"key": ask.key} if ask.key else {})}
        if ask.models > 1:
            form["model"] = [f"model-{n}" for n in range(ask.models)]
        choices: tuple[dict[str, str], ...] = ({}, {"Prefer": ANSWER_WAIT}, {"Accept": "text/plain"})
        headers = self._rng.choices(choices, (90, 6, 4))[0] if alone else {}
        self._history.begin(ask)
        try:
            self._request(ask, "POST", f"/rooms/{ask.room}/messages", form, headers)
        except NoResponse:
            if ask.key and alone:
                self._memory.unanswered[self._number].append(ask)
            raise

    def _send_again(self, ask: Operation, *, alone: bool) -> None:
        if ask.room in self._memory.rooms:
            self._send(Operation("ask", ask.room, ask.text, ask.key, models=ask.models), alone=alone)

    def _send_twice(self, ask: Operation) -> None:
        """Send a question twice at the same time, as a proxy that retries."""

        def send_again() -> None:
            with suppress(NoResponse):
                self._send_again(ask, alone=False)

        twin = threading.Thread(target=send_again, daemon=True)
        twin.start()
        try:
            self._send(ask, alone=True)
        finally:
            twin.join()

    def _repeat(self) -> None:
        if sent := self._memory.sent[self._number]:
            self._send_again(self._rng.choice(sent), alone=True)

    def _rename(self, room: ExpectedRoom) -> None:
        version = len(room.names)
        name = f"Room {room.room} v{version}"
        room.names.append(name)
        operation = self._history.begin(Operation("rename", room.room, version=version))
        self._request(operation, "PATCH", f"/rooms/{room.room}", {"name": name})

    def _clear(self, room: ExpectedRoom) -> None:
        operation = self._history.begin(Operation("clear", room.room))
        self._request(operation, "DELETE", f"/rooms/{room.room}/messages")
        room.questions.clear()

    def _edit(self, room: ExpectedRoom) -> None:
        if not room.questions:
            return
        if self._rng.random() < 0.7:
            self._stop(room)
        # Mostly one of the last questions.
        number = self._rng.choice(room.questions[-3:] if self._rng.random() < 0.8 else room.questions)
        edit = self._history.begin(Operation("edit", room.room, self._new_text(), number=number))
        self._request(edit, "PATCH", f"/rooms/{room.room}/messages/{number}", {"text": edit.text})
        if edit.acknowledged:
            room.questions.append(edit.made)

    def _show(self, room: ExpectedRoom) -> None:
        """Switch to the version of a question that need not be shown now, or choose one of several answers to it."""
        if not room.questions:
            return
        if self._rng.random() < 0.7:
            self._stop(room)
        number = self._rng.choice(room.questions)
        if (models := room.models.get(number, 1)) > 1:
            number += self._rng.randint(0, models)
        show = self._history.begin(Operation("show", room.room, number=number))
        self._request(show, "PUT", f"/rooms/{room.room}/head", {"message": str(show.number)})

    def _fork(self, room: ExpectedRoom) -> None:
        """Fork a room, perhaps at one of its questions, and delete the fork."""
        form = {"upto": str(self._rng.choice(room.questions))} if room.questions and self._rng.random() < 0.5 else {}
        fork = self._history.begin(Operation("fork", text=room.room))
        response = self._request(fork, "POST", f"/rooms/{room.room}/fork", form)
        if fork.acknowledged:
            drop = self._history.begin(Operation("drop", response.location.rsplit("/", 1)[-1]))
            self._request(drop, "DELETE", response.location)

    def _search(self, room: ExpectedRoom) -> None:
        operation = self._history.begin(Operation("search"))
        self._request(operation, "GET", f"/search?q=asks&room={room.room}")

    def _stop(self, room: ExpectedRoom) -> None:
        operation = self._history.begin(Operation("stop", room.room))
        self._request(operation, "DELETE", f"/rooms/{room.room}/turn?all=1")

    def _restart_turn(self, room: ExpectedRoom, kind: str) -> None:
        if self._rng.random() < 0.7:
            self._stop(room)
        operation = self._history.begin(Operation(kind, room.room))
        form = {"resume": "1"} if kind == "resume" else {}
        response = self._request(operation, "POST", f"/rooms/{room.room}/turn", form)
        if operation.acknowledged:
            operation.number = int(response.location.rsplit("/", 1)[-1])

    def _delete(self, room: ExpectedRoom) -> None:
        self._memory.deleting[room.room] = self._memory.rooms.pop(room.room)
        operation = self._history.begin(Operation("delete", room.room))
        self._request(operation, "DELETE", f"/rooms/{room.room}")

    def _open(self, room: ExpectedRoom) -> None:
        operation = self._history.begin(Operation("open", room.room))
        self._request(operation, "GET", f"/rooms/{room.room}")

    def _list(self) -> None:
        operation = self._history.begin(Operation("list"))
        body = self._request(operation, "GET", "/rooms").body
        if body and 'id="rooms-more"' not in body:
            listed = frozenset(row[0] for row in html.rows(body))
            self._history.lists.append(ListObservation(operation.start, listed))

    def _request(
        self,
        operation: Operation,
        method: str,
        path: str,
        form: Mapping[str, str | Sequence[str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        response = request(self._port, method, path, form, headers, operation=operation)
        if operation.room and operation.acknowledged and response.body and "text/plain" not in (headers or {}).values():
            source = f"the response to a {operation.kind}"
            self._history.observations.append(html.observe(operation.room, source, response.body))
        return response


class Watcher:
    """A tab that records every frame; when its room is deleted, it opens another."""

    def __init__(self, name: str, port: int, history: History, memory: Memory, seed: str) -> None:
        self._port, self._history, self._memory = port, history, memory
        self._rng = random.Random(f"{seed} {name}")
        self._over = False

    def end(self) -> None:
        self._over = True

    def run(self) -> None:
        """Run in a thread of its own."""
        while not self._over and self._watch():
            continue

    def _watch(self) -> bool:
        rooms = list(self._memory.rooms)
        room = self._rng.choice([*rooms, None]) if rooms else None
        try:
            tab = Tab(f"http://127.0.0.1:{self._port}", f"room={room}" if room else "")
        except (OSError, websocket.WebSocketException):
            return False
        try:
            while (frame := tab.read()) is not None:
                self._history.observations.extend(html.observe_push(room, frame))
        except (OSError, websocket.WebSocketException):
            return False
        finally:
            tab.close()
        return tab.close_code == 4404
