"""The rounds: load the server, kill it, start it, check."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from overseer.domain.errors import StorageError
from overseer.storage.check import check
from overseer.storage.search_index import SEARCH_FILE
from overseer.storage.snapshot import inspect
from tests.crash import html
from tests.crash.clients import Client, Memory, Watcher, request
from tests.crash.expected_room import NEW_ROOM, ExpectedRoom
from tests.crash.files import StoredRoom, indexed_texts, read_index, read_rooms
from tests.crash.history import History, ShownMessage, clock
from tests.crash.room_check import RoomCheck
from tests.crash.scripted_model import ScriptedModel
from tests.support.model_server import ModelServer
from tests.support.server import Server
from tests.support.server_pool import ServerPool
from tests.support.waiting import DEADLINE

CLIENTS, TABS = 5, 4
KILLED_DURING = (
    "create",
    "delete",
    "delete",
    "clear",
    "clear",
    "edit",
    "show",
    "fork",
    "drop",
    "rename",
    "ask",
    "retry",
    "stop",
)
EXPECTED_STATUS = {
    "create": {201},
    "ask": {201, 202, 404},
    "rename": {200},
    "clear": {200},
    "edit": {201, 409},
    "show": {200, 409},
    "stop": {200, 404},
    "retry": {201, 404, 409},
    "resume": {201, 409},
    "delete": {200},
    "fork": {201},
    "drop": {200},
    "search": {200, 503},
    "open": {200, 404},
    "list": {200},
}
JOIN_SECONDS = 30.0
FORK = "(fork)"


class Harness:
    """A server on an instance directory, and clients that remember what was acknowledged when it is killed."""

    def __init__(self, instance: Path, *, seed: int, server_pool: ServerPool | None = None) -> None:
        self.seed = seed
        self.kills = 0
        self.checked: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._memory = Memory(CLIENTS)
        self._model_server = ModelServer()
        self._model = ScriptedModel(self._model_server)
        self._durations: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=40))  # seconds, by kind
        self._log_lines_read = 0
        environment = {"OPENAI_BASE_URL": self._model_server.url, "OPENAI_MODEL": "stand-in"}
        self._server = Server(instance, environment=environment, server_pool=server_pool)

    def __enter__(self) -> Harness:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.stop(signal.SIGKILL)
        self._model.close()
        self._model_server.close()

    def round(self, number: int) -> list[str]:
        """Load the server, kill it, start it and check. Return the faults."""
        history, seed, port = History(), f"{self.seed}/{number}", self._server.port
        actors: list[Client | Watcher] = [
            *(Client(n, f"{number}-{n}", port, history, self._memory, seed) for n in range(CLIENTS)),
            *(Watcher(f"{number}-tab-{n}", port, history, self._memory, seed) for n in range(TABS)),
        ]
        threads = [threading.Thread(target=actor.run, daemon=True) for actor in actors]
        for thread in threads:
            thread.start()
        self._wait_for_the_moment(history)
        self._kill()
        killed_at = clock()
        history.resume()
        for actor in actors:
            actor.end()
        for thread in threads:
            thread.join(JOIN_SECONDS)
        while self._rng.random() < 0.2:  # kill during a start too
            self._server.launch()
            time.sleep(self._rng.uniform(0.1, 1.2))
            self._kill()
        self._server.start()
        faults = [*history.faults, *self._model.faults, *self._check_statuses(history), *self._check_log()]
        self._model_server.requests.clear()
        self._model_server.headers.clear()
        return [*faults, *self._check_rooms(history, killed_at)]

    def _wait_for_the_moment(self, history: History) -> None:
        """Wait for a random time, or, mostly, until some operation has begun and not ended."""
        time.sleep(self._rng.uniform(0.1, 0.9))
        if self._rng.random() < 0.3:
            return
        kind, alone = self._rng.choice(KILLED_DURING), self._rng.random() < 0.7
        history.wait_for(kind, alone=alone, seconds=1.0)
        durations = sorted(self._durations[kind]) or [0.01]
        time.sleep(self._rng.uniform(0.0, 1.5) * durations[len(durations) // (8 if alone else 2)])

    def _kill(self) -> None:
        self._server.stop(signal.SIGKILL)
        self.kills += 1

    def _check_statuses(self, history: History) -> Iterator[str]:
        removers = [one for one in history.operations if one.kind in ("delete", "clear")]
        for operation in history.operations:
            self.checked["requests"] += 1
            if operation.acknowledged:
                self._durations[operation.kind].append(operation.end - operation.start)
            if not operation.status:
                self.checked["requests without a response"] += 1
            elif operation.status not in EXPECTED_STATUS[operation.kind]:
                yield f"an unexpected status: {operation}"
            elif operation.status == 404 and operation.kind != "retry":
                # A question may be cleared before its response is rendered.
                kinds = ("delete", "clear") if operation.kind == "ask" else ("delete",)
                if not any(
                    one.room == operation.room and one.kind in kinds and one.start < operation.end for one in removers
                ):
                    yield f"not found, but not removed: {operation}"

    def _check_log(self) -> Iterator[str]:
        lines, self._log_lines_read = self._server.log[self._log_lines_read :], len(self._server.log)
        first = next((n for n, line in enumerate(lines) if "Traceback" in line), None)
        if first is not None:
            yield "the server's log has a traceback:\n" + "".join(lines[max(0, first - 5) : first + 80])

    # After the start

    def _check_rooms(self, history: History, killed_at: float) -> list[str]:
        stored = read_rooms(self._server.instance)
        report = check(self._server.instance, progress=lambda done, of: None)
        faults = [finding.sentence for finding in report.findings]
        faults += [*self._check_forks(history, stored), *self._check_index(stored)]
        faults += [*self._check_pages(stored), *self._check_lists(history, stored), *self._adopt(history, stored)]
        memory = self._memory
        for room, expected in {**memory.rooms, **memory.deleting}.items():
            operations = [operation for operation in history.operations if operation.room == room]
            observations = [observation for observation in history.observations if observation.room == room]
            one = RoomCheck(expected, stored.get(room), operations, observations, self._model, killed_at)
            one.run()
            self.checked += one.checked
            if one.faults:
                faults += [*one.faults, *one.account()]
            if one.stored is None:
                memory.rooms.pop(room, None)
            else:
                self.checked["rooms"] += 1
                expected.reset(one.stored, one.version)
                memory.rooms[room] = expected
        memory.deleting.clear()
        memory.creating.clear()
        return faults

    def _check_pages(self, stored: dict[str, StoredRoom]) -> Iterator[str]:
        """The server shows exactly the stored path of each room."""
        body = request(self._server.port, "GET", "/rooms").body
        rows = {room: (count, state, name) for room, count, state, name in html.rows(body)}
        wanted_rows = {room: (len(file.path), "idle", file.name) for room, file in stored.items()}
        if rows != wanted_rows:
            yield f"the list shows {rows}, but {wanted_rows} is stored"
        for room, file in stored.items():
            shown = self._messages(room)
            wanted = [ShownMessage(one.number, one.role, one.state, " ".join(one.text.split())) for one in file.shown]
            if shown != wanted:
                yield f"room {room} shows {shown}, but {wanted} is stored"
        for room in self._memory.deleting.keys() - stored.keys():
            if (status := request(self._server.port, "GET", f"/rooms/{room}").status) != 404:
                yield f"room {room} was deleted, but has status {status}"

    def _check_forks(self, history: History, stored: dict[str, StoredRoom]) -> Iterator[str]:
        """Forks that were not deleted again are whole. Deletes them, and leaves them out of `stored`."""
        dropped = {one.room for one in history.operations if one.kind == "drop" and one.acknowledged}
        self.checked["forks"] += sum(one.kind == "fork" and one.acknowledged for one in history.operations)
        for room, file in list(stored.items()):
            if not file.name.endswith(FORK):
                continue
            if room in dropped:
                yield f"the fork {room} was deleted, but exists"
            for fault in file.faults:
                yield f"the fork {room} has a fault: {fault}"
            parents = {message.parent for message in file.messages}
            if any(message.role == "user" and message.number not in parents for message in file.messages):
                yield f"the fork {room} has a question without an answer"
            request(self._server.port, "DELETE", f"/rooms/{room}")
            del stored[room]

    def _check_index(self, stored: dict[str, StoredRoom]) -> Iterator[str]:
        """After some time the search index has exactly the texts of the rooms."""
        path = self._server.instance / SEARCH_FILE
        wanted = {room: indexed_texts(self._server.instance, room) for room in stored}
        found: object = None
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            with suppress(StorageError, FileNotFoundError):
                found = inspect(path, read_index)
            if found == wanted:
                self.checked["indexes"] += 1
                return
            time.sleep(0.05)
        yield f"the index has {found}, but {wanted} is stored"

    def _messages(self, room: str) -> list[ShownMessage]:
        shown: list[ShownMessage] = []
        before = ""
        while True:
            body = request(self._server.port, "GET", f"/rooms/{room}/messages{before}").body
            shown = [*html.messages(body), *shown]
            if not (earlier := re.search(r"[?]before=(\d+)", body)):
                return shown
            before = f"?before={earlier[1]}"

    def _check_lists(self, history: History, stored: dict[str, StoredRoom]) -> Iterator[str]:
        """A room that was missing from a list is gone; a room that was shown exists or was deleted."""
        known = {room: -1.0 for room, expected in self._memory.rooms.items() if expected.base.name}
        created = [one for one in history.operations if one.kind == "create" and one.acknowledged]
        known |= {create.room: create.end for create in created}
        self.checked["rooms created"] += len(created)
        for shown in history.lists:
            for room, since in known.items():
                if since < shown.since and room not in shown.rooms and room in stored:
                    yield f"room {room} was missing from a list, but exists"
        deleted = {one.room for one in history.operations if one.kind in ("delete", "drop")}
        deleted |= {one.room for one in history.observations if one.name and one.name.endswith(FORK)}
        for room in {observation.room for observation in history.observations} - stored.keys() - deleted:
            yield f"room {room} was shown, but is gone"

    def _adopt(self, history: History, stored: dict[str, StoredRoom]) -> Iterator[str]:
        """Remember rooms whose creation had no response."""
        memory = self._memory
        unknown = [name for operation, name in memory.creating if not operation.status]
        for room in stored.keys() - memory.rooms.keys() - memory.deleting.keys():
            name = stored[room].name
            given = name if name in unknown else None
            if given not in unknown or (given is None and name != NEW_ROOM):
                yield f"room {room}, called {name!r}, was not created, or was created twice"
                continue
            unknown.remove(given)
            self.checked["unknown outcomes resolved"] += 1
            memory.rooms[room] = ExpectedRoom(room, self._rng.randrange(CLIENTS), [given])
            history.observations[:] = [one for one in history.observations if one.room != room or one.name]


def summary(harness: Harness, rounds: int, began: float) -> str:
    """Return one line for the end of a run."""
    kinds = (
        "questions",
        "questions to several models",
        "answers",
        "names",
        "edits",
        "paths",
        "forks",
        "indexes",
        "clears",
        "stops",
        "deletions",
        "rooms created",
        "pushes",
    )
    checked = harness.checked
    parts = ", ".join(f"{checked[kind]:,} {kind}" for kind in kinds)
    return (
        f"{harness.kills} kills in {rounds} rounds, {clock() - began:.0f} s. Acknowledged and checked: {parts}. "
        f"{checked['rooms']:,} rooms with {checked['messages']:,} questions compared. Of "
        f"{checked['requests']:,} requests {checked['requests without a response']:,} had no response; "
        f"{checked['unknown outcomes resolved']:,} outcomes were found out."
    )


def run(
    instance: Path,
    *,
    rounds: int,
    seed: int,
    progress: Callable[[str], None] = lambda line: None,
    server_pool: ServerPool | None = None,
) -> list[str]:
    """Run rounds up to the first with a fault. Return its faults."""
    began = clock()
    with Harness(instance, seed=seed, server_pool=server_pool) as harness:
        for number in range(rounds):
            if faults := harness.round(number):
                return [f"seed {seed}, round {number}:", *faults]
            progress(f"{number + 1}/{rounds}")
        progress(summary(harness, rounds, began))
    return []
