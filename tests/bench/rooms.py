"""Requests for rooms on servers with 10, 1,000 and 10,000 rooms."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import websocket

from tests.bench.caller import PART, Answer, Caller
from tests.bench.figure import Figure, percentile, repeats
from tests.bench.files import create_rooms
from tests.bench.seeded_instance import seeded
from tests.support.tab import Tab

SIZES = (10, 1_000, 10_000)
ROUNDS, EACH, FEWER = 5, 80, 10
MAX_GROWTH = 1.5  # relative to ten rooms
PUSHED_SIZES = (10, 300, 10_000)
QUIET_SECONDS = 0.4  # without a frame, after which no more are expected

Durations = dict[int, list[list[float]]]  # sorted milliseconds of each round, by number of rooms


class Visitor:
    """A user of a server."""

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
        """Wait for the answer, so that the next request does not share the CPU with it."""
        while b"complete" not in self._caller.call("GET", f"{self._newest}/messages/2", headers=PLAIN).body:
            time.sleep(0.002)


PLAIN = {"Accept-Encoding": "identity"}
FEW, MANY, MOST = SIZES
# A name, the request, its bound (ms), and the number of rooms that MAX_GROWTH is relative to: the first page of the
# list is full from 50 rooms on, and with more than 50 rooms a file may have to be opened.
STEPS: tuple[tuple[str, Callable[[Visitor], Answer], float | None, int | None], ...] = (
    ("create a room", Visitor.create, 8.0, FEW),
    ("open the page of any room", Visitor.open_any, None, MANY),
    ("switch to any room", Visitor.switch_to_any, 5.0, MANY),
    ("switch to a room whose file is open", Visitor.switch_back, 5.0, FEW),
    ("rename a room", Visitor.rename, None, None),
    ("send a message, to its 201", Visitor.send, None, FEW),
    ("delete a room", Visitor.delete, None, None),
)


def figures() -> Iterator[Figure]:
    """Yield how long each request takes, also relative to fewer rooms, and what a message pushes to other tabs."""
    with ExitStack() as stack:
        visitors = {size: stack.enter_context(visitor(size)) for size in SIZES}
        taken = rounds(visitors)
    for name, _, bound, base in STEPS:
        late = {
            size: {percent: tuple(percentile(one, percent) for one in found) for percent in (50, 99)}
            for size, found in taken[name].items()
        }
        for size, by_percent in late.items():
            yield Figure(f"{name}, {size:,} rooms, p50", by_percent[50], "ms", bound)
            yield Figure("the same, p99", by_percent[99], "ms")
        for size, fewer in ((MANY, FEW), (MOST, FEW), (MOST, MANY)):
            if fewer in (FEW, base):
                ratios = tuple(one / other for one, other in zip(late[size][99], late[fewer][99], strict=True))
                limit = MAX_GROWTH if fewer == base else None
                yield Figure(f"{name}, p99 at {size:,} rooms relative to {fewer:,}", ratios, "×", limit)
    sent = {size: pushed(size) for size in PUSHED_SIZES}
    for size, values in sent.items():
        bound = None if size == FEW else MAX_GROWTH * statistics.median(sent[FEW])
        yield Figure(f"bytes sent to a tab's list for a message in another room, {size:,} rooms", values, "KB", bound)


@contextmanager
def visitor(rooms: int) -> Iterator[Visitor]:
    """Start a server with `rooms` rooms for one visitor."""
    ids: list[str] = []
    with (
        seeded(warm=False, prepare=lambda folder: ids.extend(create_rooms(folder, rooms))) as home,
        Caller(home.server.port) as caller,
    ):
        yield Visitor(caller, ids)


def rounds(visitors: dict[int, Visitor]) -> dict[str, Durations]:
    """Return the durations. Visitors take turns, so that noise affects all of them equally."""
    taken: dict[str, Durations] = {name: {size: [] for size in visitors} for name, *_ in STEPS}
    for n in range(repeats(ROUNDS) + 1):  # the first round fills caches
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


def pushed(rooms: int) -> tuple[float, ...]:
    """Return the KB that a tab is sent when another room gets a message and its answer."""
    ids: list[str] = []
    with seeded(prepare=lambda folder: ids.extend(create_rooms(folder, rooms))) as home:
        tab = Tab(home.server.url, f"room={ids[0]}")
        tab.read_until('hx-target="#messages"')
        tab.socket.settimeout(QUIET_SECONDS)
        received(tab)
        sent = []
        for _ in range(repeats(3)):
            for room in ids[1:3]:  # alternate, so that the room is not on top of the list
                with Caller(home.server.port) as caller:
                    caller.call("POST", f"/rooms/{room}/messages", {"text": "Who?"}, {"Prefer": "wait=20"})
                    sent.append(received(tab) / 1024)
        tab.close()
    return tuple(sent)


def received(tab: Tab) -> int:
    """Return the number of bytes that the tab is sent until no more frames come."""
    size = 0
    try:
        while frame := tab.read():
            size += len(frame.encode())
    except websocket.WebSocketTimeoutException:
        return size
    raise AssertionError("the server closed a tab")
