"""The latency and cost of tokens for many tabs, compared with a bare fan-out of the same bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from urllib.parse import quote

import requests

from tests.bench.bare import Bare
from tests.bench.caller import PART, Caller
from tests.bench.figure import Figure, percentile, repeats
from tests.bench.script import Script
from tests.bench.seeded_instance import SeededInstance, cpu, seeded
from tests.bench.tabs import Seen, Watch

RATE = 50.0
MESSAGES_PER_SECOND = 200.0
BOUNDS: dict[int, tuple[float | None, float]] = {
    1: (1.0, 7.0),
    100: (None, 20.0),
    500: (None, 60.0),
    2000: (None, 250.0),
}


def figures() -> Iterator[Figure]:
    """Yield figures of tabs on one room, of tabs on many rooms, and of a room while another one is busy."""
    with seeded() as home:
        for tabs, (p50, p99) in BOUNDS.items():
            rounds = repeats(5 if tabs == 1 else 3)
            seen, spent = watched(home, [home.new_room() for _ in range(rounds)], tabs)
            size = seen[0].bytes // max(1, seen[0].reads)
            floor, floor_spent = bare(home, tabs, size) if tabs <= 500 else (None, None)
            times = {1: 2.0, 500: 3.0}.get(tabs)
            for name, percent, bound in (("p50", 50, p50), ("p99", 99, p99)):
                yield Figure(
                    f"token to socket, {tabs:,} tab{'s' * (tabs > 1)}, {RATE:g}/s, {name}",
                    tuple(percentile(one.late, percent) for one in seen),
                    "ms",
                    bound,
                    floor=percentile(floor.late, percent) if floor else None,
                    times=times if percent == (50 if tabs == 1 else 99) else None,
                )
            bound = 0.7 if tabs == 500 else None
            name = f"CPU time for that, {tabs:,} tab{'s' * (tabs > 1)}"
            yield Figure(name, spent, "s/s", bound, floor=floor_spent, times=3.0 if tabs == 500 else None)
        yield from with_a_busy_room(home)
        rooms = [home.new_room() for _ in range(100)]
        (one,), spent = watched(home, [rooms], 5)
        yield Figure(f"token to socket, 100 rooms × 5 tabs, each {RATE:g}/s, p50", (percentile(one.late, 50),), "ms")
        yield Figure("the same, p99", (percentile(one.late, 99),), "ms", 100)


def with_a_busy_room(home: SeededInstance) -> Iterator[Figure]:
    """Yield figures of a room with one tab, while another room with a tab receives messages at an even rate."""
    seen, rates = [], []
    for _ in range(3):
        busy, quiet = home.new_room(), home.new_room()
        home.ask(busy, Script(1, rate=0.001))  # a room answers one message at a time, so the others are queued
        with Watch(home.server.port, [busy], each=1), Messages(home.server.port, busy, MESSAGES_PER_SECOND) as messages:
            found, _ = watched(home, [quiet], 1)
            seen.append(found[0])
        rates.append(messages.rate)
    yield Figure(
        "messages a second that another room takes meanwhile", tuple(rates), "/s", 0.9 * MESSAGES_PER_SECOND, least=True
    )
    for percent, bound in ((50, None), (99, 50)):
        late = tuple(percentile(one.late, percent) for one in seen)
        yield Figure(f"token to socket while that room is busy, 1 tab, {RATE:g}/s, p{percent}", late, "ms", bound)


class Messages:
    """A context manager that posts messages into a room at a rate. `rate` is the rate that was achieved."""

    def __init__(self, port: int, room: str, wanted: float) -> None:
        self._caller, self._path, self._wanted = Caller(port), f"/rooms/{room}/messages", wanted
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.rate = 0.0

    def __enter__(self) -> Messages:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _send(self) -> None:
        began, sent = time.monotonic(), 0
        with self._caller:
            while not self._over.wait(max(0.0, began + sent / self._wanted - time.monotonic())):
                self._caller.call("POST", self._path, {"text": "Who eats voles?"}, PART)
                sent += 1
        self.rate = sent / (time.monotonic() - began)


def watched(
    home: SeededInstance, rounds: list[str] | list[list[str]], tabs: int, rate: float = RATE
) -> tuple[list[Seen], tuple[float, ...]]:
    """Return, for each round, what the tabs on each room received, and the CPU seconds per second."""
    seen, spent = [], []
    script = Script(tokens=round(4 * rate), rate=rate, form="stamped")
    for one in rounds:
        rooms = [one] if isinstance(one, str) else one
        watch = Watch(home.server.port, rooms, each=tabs)
        before, began = cpu(home.server.pid), time.monotonic()
        for room in rooms:
            home.ask(room, script)
        found = watch.seen()
        spent.append((cpu(home.server.pid) - before) / (found.last_at - began))
        assert found.tokens == [script.tokens] * (tabs * len(rooms)), "a tab did not see every token"
        seen.append(found)
    return seen, tuple(spent)


def bare(home: SeededInstance, tabs: int, size: int) -> tuple[Seen, float]:
    """Return the same for bare sockets with frames of `size` bytes."""
    script = Script(tokens=round(4 * RATE), rate=RATE, form="stamped")
    with Bare(home.model.port, size) as server:
        watch = Watch(server.port, ["none"], each=tabs)
        before, began = cpu(server.pid), time.monotonic()
        with requests.Session() as session:
            session.trust_env = False
            with suppress(requests.RequestException):  # "done" is not HTTP
                session.get(f"http://127.0.0.1:{server.port}/go?{quote(str(script))}", timeout=60)
        found = watch.seen()
        return found, (cpu(server.pid) - before) / (found.last_at - began)
