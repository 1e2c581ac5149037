"""What is done with rooms, where there are 10 of them, 1,000 and 10,000."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import websocket

from tests.bench.caller import PART, Answer, Caller
from tests.bench.figure import Figure, percentile, repeats
from tests.bench.files import furnish
from tests.bench.seeded_instance import seeded
from tests.support.tab import Tab

SIZES = (10, 1_000, 10_000)
ROUNDS, EACH, FEWER = 5, 80, 10
GROWTH = 1.5  # times as long as with ten rooms
TOLD = (10, 300, 10_000)
QUIET = 0.4  # seconds without a frame, after which none is to come

Taken = dict[int, list[list[float]]]  # for each number of rooms, the sorted milliseconds of each round


class Visitor:
    """Somebody who uses a server with so many rooms."""

    def __init__(self, caller: Caller, rooms: list[str]) -> None:
        self._caller = caller
        self._rooms = rooms
        self._chance = random.Random(len(rooms))
        self._newest = ""

    def create(self) -> Answer:
        answer = self._caller.call("POST", "/rooms", {"name": "Barn owls"}, PART)
        self._newest = answer.location
        return answer

    def open_any(self) -> Answer:
        return self._caller.call("GET", f"/rooms/{self._chance.choice(self._rooms)}")

    def switch_to_any(self) -> Answer:
        return self._caller.call("GET", f"/rooms/{self._chance.choice(self._rooms)}", headers=PART)

    def switch_back(self) -> Answer:
        return self._caller.call("GET", self._newest, headers=PART)

    def rename(self) -> Answer:
        return self._caller.call("PATCH", self._newest, {"name": "Owls of the barn"}, PART)

    def send(self) -> Answer:
        return self._caller.call("POST", f"{self._newest}/messages", {"text": "Who?"}, PART)

    def delete(self) -> Answer:
        return self._caller.call("DELETE", self._newest, headers=PART)

    def listen(self) -> None:
        """Wait for the answer: what comes next must not have to share the processor with it."""
        while b"complete" not in self._caller.call("GET", f"{self._newest}/messages/2", headers=PLAIN).body:
            time.sleep(0.002)


PLAIN = {"Accept-Encoding": "identity"}
FEW, MANY, MOST = SIZES
# What is done, how long it may take (ms), and beside how many rooms it may take GROWTH times as long where there are
# more: the first page of the list is full from 50 rooms on, and with more than 50 a room's file may have to be opened.
STEPS: tuple[tuple[str, Callable[[Visitor], Answer], float | None, int | None], ...] = (
    ("create a room", Visitor.create, 8.0, FEW),
    ("open the page of any room", Visitor.open_any, None, MANY),
    ("switch to any room", Visitor.switch_to_any, 5.0, MANY),
    ("switch to a room whose file is open", Visitor.switch_back, 5.0, FEW),
    ("rename a room", Visitor.rename, None, None),
    ("send a message, to its 201", Visitor.send, None, FEW),
    ("delete a room", Visitor.delete, None, None),
)


def figures(program: tuple[str, ...]) -> Iterator[Figure]:
    """How long each takes, beside how long where there are fewer rooms; and what tabs are told of a message."""
    with ExitStack() as stack:
        visitors = {size: stack.enter_context(visitor(program, size)) for size in SIZES}
        taken = rounds(visitors)
    for name, _, bound, base in STEPS:
        late = {
            size: {percent: tuple(percentile(one, percent) for one in found) for percent in (50, 99)}
            for size, found in taken[name].items()
        }
        for size, by_percent in late.items():
            yield Figure(f"{name}, {size:,} rooms, p50", by_percent[50], "ms", bound)
            yield Figure("the same, p99", by_percent[99], "ms")
        for size, beside in ((MANY, FEW), (MOST, FEW), (MOST, MANY)):
            if beside in (FEW, base):
                ratios = tuple(one / other for one, other in zip(late[size][99], late[beside][99], strict=True))
                limit = GROWTH if beside == base else None
                yield Figure(f"{name}, p99 at {size:,} rooms beside {beside:,}", ratios, "×", limit)
    sent = {size: told(program, size) for size in TOLD}
    for size, values in sent.items():
        bound = None if size == FEW else GROWTH * statistics.median(sent[FEW])
        yield Figure(f"a tab's list is told of a message elsewhere, {size:,} rooms", values, "KB", bound)


@contextmanager
def visitor(program: tuple[str, ...], rooms: int) -> Iterator[Visitor]:
    """Somebody at a server of their own."""
    ids: list[str] = []
    with (
        seeded(program, warm=False, furnish=lambda folder: ids.extend(furnish(folder, rooms))) as home,
        Caller(home.server.port) as caller,
    ):
        yield Visitor(caller, ids)


def rounds(visitors: dict[int, Visitor]) -> dict[str, Taken]:
    """How long everything took, done in turn by all of them, so that noise hits all alike."""
    taken: dict[str, Taken] = {name: {size: [] for size in visitors} for name, *_ in STEPS}
    for n in range(repeats(ROUNDS) + 1):  # the first is to warm up
        found: dict[str, dict[int, list[float]]] = {name: {size: [] for size in visitors} for name in taken}
        for _ in range(repeats(EACH, FEWER) if n else 5):
            for name, step, _, _ in STEPS:
                for size, one in visitors.items():
                    found[name][size].append(step(one).ms)
                    if step is Visitor.send:
                        one.listen()
        for name in taken if n else ():
            for size, values in found[name].items():
                taken[name][size].append(sorted(values))
    return taken


def told(program: tuple[str, ...], rooms: int) -> tuple[float, ...]:
    """The KB that a tab is sent when a question is asked and answered in a room that it has not open."""
    ids: list[str] = []
    with seeded(program, furnish=lambda folder: ids.extend(furnish(folder, rooms))) as home:
        tab = Tab(home.server.url, f"room={ids[0]}")
        tab.read_until('hx-target="#messages"')
        tab.socket.settimeout(QUIET)
        heard(tab)
        sent = []
        for _ in range(repeats(3)):
            for room in ids[1:3]:  # in turn, so that the one which is asked is not on top of the list
                with Caller(home.server.port) as caller:
                    caller.call("POST", f"/rooms/{room}/messages", {"text": "Who?"}, {"Prefer": "wait=20"})
                    sent.append(heard(tab) / 1024)
        tab.close()
    return tuple(sent)


def heard(tab: Tab) -> int:
    """The bytes that the tab is sent until nothing more comes."""
    size = 0
    try:
        while frame := tab.read():
            size += len(frame.encode())
    except websocket.WebSocketTimeoutException:
        return size
    raise AssertionError("the server closed a tab")
