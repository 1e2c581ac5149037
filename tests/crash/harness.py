"""The rounds: load, kill, start, look."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from tests.crash import files, reading
from tests.crash.caller import call
from tests.crash.case import Case
from tests.crash.clients import Client, Memory, Watcher
from tests.crash.expected_room import NEW_ROOM, ExpectedRoom
from tests.crash.files import Stored, StoredRoom
from tests.crash.log import Log, Shown, clock
from tests.crash.scripted_model import ScriptedModel
from tests.support.model_server import ModelServer
from tests.support.server import Server

CLIENTS, TABS = 5, 4
AIMED_AT = ("create", "delete", "delete", "clear", "clear", "edit", "edit", "rename", "ask", "retry", "stop")
EXPECTED = {
    "create": {201},
    "ask": {201, 202, 404},
    "rename": {200},
    "clear": {200},
    "edit": {200, 409},
    "stop": {200, 404},
    "retry": {201, 404, 409},
    "resume": {201, 409},
    "delete": {200},
    "open": {200, 404},
    "list": {200},
}
JOIN = 30.0


class Harness:
    """A server on an instance directory, with clients whose memory outlives its kills."""

    def __init__(self, instance: Path, *, seed: int) -> None:
        self.seed = seed
        self.kills = 0
        self.checked: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._memory = Memory(CLIENTS)
        self._model = ModelServer()
        self._choir = ScriptedModel(self._model)
        self._took: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=40))  # seconds, of each kind
        self._read = 0  # lines of the server's log
        environment = {"OPENAI_BASE_URL": self._model.url, "OPENAI_MODEL": "stand-in"}
        self._server = Server(instance, environment=environment)

    def __enter__(self) -> Harness:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.stop(signal.SIGKILL)
        self._choir.close()
        self._model.close()

    def round(self, number: int) -> list[str]:
        """Load the server, kill it, start it and look; returns what is wrong."""
        log = Log()
        seed = f"{self.seed}/{number}"
        people: list[Client | Watcher] = [
            *(Client(n, f"{number}-{n}", self._server.port, log, self._memory, seed) for n in range(CLIENTS)),
            *(Watcher(f"{number}-tab-{n}", self._server.port, log, self._memory, seed) for n in range(TABS)),
        ]
        threads = [threading.Thread(target=one.run, daemon=True) for one in people]
        for thread in threads:
            thread.start()
        self._await_an_instant(log)
        self._kill()
        killed_at = clock()
        log.release()
        for one in people:
            one.end()
        for thread in threads:
            thread.join(JOIN)
        while self._rng.random() < 0.2:  # a start may be killed too
            self._server.launch()
            time.sleep(self._rng.uniform(0.1, 1.2))
            self._kill()
        self._server.start()
        faults = [*log.faults, *self._choir.faults, *self._unexpected(log), *self._of_the_log()]
        self._model.requests.clear()
        self._model.headers.clear()
        return [*faults, *self._look(log, killed_at)]

    def _await_an_instant(self, log: Log) -> None:
        """Any instant; or, mostly, one while some client waits to hear that something is done."""
        time.sleep(self._rng.uniform(0.1, 0.9))
        if self._rng.random() < 0.3:
            return
        kind, alone = self._rng.choice(AIMED_AT), self._rng.random() < 0.7
        log.wait_for(kind, alone=alone, seconds=1.0)
        took = sorted(self._took[kind]) or [0.01]
        time.sleep(self._rng.uniform(0.0, 1.5) * took[len(took) // (8 if alone else 2)])

    def _kill(self) -> None:
        self._server.stop(signal.SIGKILL)
        self.kills += 1

    def _unexpected(self, log: Log) -> Iterator[str]:
        """Every answer is one that the contract has for it."""
        removers = [act for act in log.acts if act.kind in ("delete", "clear", "edit")]
        for act in log.acts:
            self.checked["requests"] += 1
            if act.acknowledged:
                self._took[act.kind].append(act.end - act.start)
            if not act.status:
                self.checked["requests without an answer"] += 1
            elif act.status not in EXPECTED[act.kind]:
                yield f"an unexpected answer: {act}"
            elif act.status == 404 and act.kind != "retry":
                # What was asked may be cleared away before it is shown.
                kinds = ("delete", "clear", "edit") if act.kind == "ask" else ("delete",)
                if not any(one.room == act.room and one.kind in kinds and one.start < act.end for one in removers):
                    yield f"not found, and nobody removed it: {act}"

    def _of_the_log(self) -> Iterator[str]:
        """The server noted no fault of its own."""
        lines, self._read = self._server.log[self._read :], len(self._server.log)
        first = next((n for n, line in enumerate(lines) if "Traceback" in line), None)
        if first is not None:
            yield "the server's log has a traceback:\n" + "".join(lines[max(0, first - 5) : first + 80])

    # After the start

    def _look(self, log: Log, killed_at: float) -> list[str]:
        stored = files.read(self._server.instance)
        faults = [*stored.faults, *self._of_files(stored), *self._of_answers(stored), *self._of_lists(log, stored)]
        faults += self._met(log, stored)
        memory = self._memory
        for room, book in {**memory.books, **memory.leaving}.items():
            acts = [act for act in log.acts if act.room == room]
            sights = [sight for sight in log.sights if sight.room == room]
            case = Case(book, stored.rooms.get(room), acts, sights, self._choir, killed_at)
            case.judge()
            self.checked += case.checked
            if case.faults:
                faults += [*case.faults, *case.account()]
            if case.stored is None:
                memory.books.pop(room, None)
            else:
                self.checked["rooms"] += 1
                book.look(case.stored, case.version)
                memory.books[room] = book
        memory.leaving.clear()
        memory.created.clear()
        return faults

    def _of_files(self, stored: Stored) -> Iterator[str]:
        """The directory: what belongs together is there together, and nothing else."""
        for name in stored.loose:
            yield f"{name} belongs to no room"
        for room in stored.rows.keys() - stored.rooms.keys():
            yield f"room {room} is in the registry and has no file"
        for room in stored.rooms.keys() - stored.rows.keys():
            yield f"room {room} has a file and is not in the registry"
        for room in stored.rows.keys() & stored.rooms.keys():
            row, file = stored.rows[room], stored.rooms[room]
            told = (row.name, row.messages, row.preview, row.pinned)
            if told != (true := (file.name, len(file.messages), file.preview, file.pinned)):
                yield f"room {room} is in the registry as {told} and is {true}"
            if row.answering or row.deleting or row.problem:
                yield f"room {room} is in the registry as answering, being deleted or broken: {row}"

    def _of_answers(self, stored: Stored) -> Iterator[str]:
        """What the server shows is what is stored."""
        body = call(self._server.port, "GET", "/rooms").body
        rows = {room: (count, state, name) for room, count, state, name, _ in reading.rows(body)}
        true = {room: (len(file.messages), "idle", file.name) for room, file in stored.rooms.items()}
        if rows != true:
            yield f"the list shows {rows}, and there is {true}"
        for room, file in stored.rooms.items():
            seen = self._pages(room)
            wanted = [Shown(one.number, one.role, one.state, " ".join(one.text.split())) for one in file.messages]
            if seen != wanted:
                yield f"room {room} shows {seen}, and has {wanted}"
        for room in self._memory.leaving.keys() - stored.rooms.keys():
            if (status := call(self._server.port, "GET", f"/rooms/{room}").status) != 404:
                yield f"room {room} was deleted, and answers {status}"

    def _pages(self, room: str) -> list[Shown]:
        seen: list[Shown] = []
        before = ""
        while True:
            body = call(self._server.port, "GET", f"/rooms/{room}/messages{before}").body
            seen = [*reading.messages(body), *seen]
            if not (earlier := re.search(r"[?]before=(\d+)", body)):
                return seen
            before = f"?before={earlier[1]}"

    def _of_lists(self, log: Log, stored: Stored) -> Iterator[str]:
        """What a list did not show is gone; what any fragment showed is there, or was deleted."""
        known = {room: -1.0 for room, book in self._memory.books.items() if book.base.name}
        known |= {act.room: act.end for act in log.acts if act.kind == "create" and act.acknowledged}
        self.checked["rooms created"] += len([act for act in log.acts if act.kind == "create" and act.acknowledged])
        for sight in log.lists:
            for room, since in known.items():
                if since < sight.since and room not in sight.rooms and room in stored.rooms:
                    yield f"room {room} was not in a list, and is there"
        deleted = {act.room for act in log.acts if act.kind == "delete"}
        for room in {sight.room for sight in log.sights} - stored.rooms.keys() - deleted:
            yield f"room {room} was shown, and is gone"

    def _met(self, log: Log, stored: Stored) -> Iterator[str]:
        """Rooms that nobody was told of: each is one whose making was begun and never answered."""
        memory = self._memory
        made = [setting for act, setting in memory.created if not act.status]
        for room in stored.rooms.keys() - memory.books.keys() - memory.leaving.keys():
            file = stored.rooms[room]
            setting = next((one for one in made if (one.name or NEW_ROOM) == file.name), None)
            if setting is None:
                yield f"room {room}, called {file.name!r}, was made by nobody, or twice"
                continue
            made.remove(setting)
            self.checked["unknown outcomes resolved"] += 1
            memory.books[room] = ExpectedRoom(room, self._rng.randrange(CLIENTS), [setting], base=StoredRoom())
            log.sights[:] = [sight for sight in log.sights if sight.room != room or sight.name]


def summary(harness: Harness, rounds: int, began: float) -> str:
    """One line for the end."""
    kinds = ("questions", "answers", "names", "edits", "clears", "stops", "deletions", "rooms created", "pushes")
    checked = harness.checked
    parts = ", ".join(f"{checked[kind]:,} {kind}" for kind in kinds)
    return (
        f"{harness.kills} kills in {rounds} rounds, {clock() - began:.0f} s. Acknowledged and checked: {parts}. "
        f"{checked['rooms']:,} rooms with {checked['messages']:,} questions looked at; of "
        f"{checked['requests']:,} requests {checked['requests without an answer']:,} had no answer, "
        f"{checked['unknown outcomes resolved']:,} outcomes found out."
    )


def run(instance: Path, *, rounds: int, seed: int, tell: Callable[[str], None]) -> list[str]:
    """So many rounds, or up to the first with a fault; returns what is wrong."""
    began = clock()
    with Harness(instance, seed=seed) as harness:
        for number in range(rounds):
            if faults := harness.round(number):
                return [f"seed {seed}, round {number}:", *faults]
            tell(f"{number + 1}/{rounds}")
        tell(summary(harness, rounds, began))
    return []
