"""How late a token comes to each of many tabs, and what it costs, beside a bare fan-out of the same bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote

import requests

from tests.bench.bare import Bare
from tests.bench.figure import Figure, percentile
from tests.bench.house import House, cpu, house
from tests.bench.script import Script
from tests.bench.tabs import Seen, Watch

RATE = 50.0
BOUNDS: dict[int, tuple[float | None, float]] = {
    1: (1.0, 7.0),
    100: (None, 20.0),
    500: (None, 60.0),
    2000: (None, 250.0),
}


def figures(program: tuple[str, ...]) -> Iterator[Figure]:
    """Tabs on one room, tabs on many, and a room beside a busy one."""
    with house(program) as home:
        for tabs, (p50, p99) in BOUNDS.items():
            rounds = 5 if tabs == 1 else 3
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
            name = f"processor for that, {tabs:,} tab{'s' * (tabs > 1)}"
            yield Figure(name, spent, "s/s", bound, floor=floor_spent, times=3.0 if tabs == 500 else None)
        rooms = [home.new_room() for _ in range(100)]
        (one,), spent = watched(home, [rooms], 5)
        yield Figure(f"token to socket, 100 rooms × 5 tabs, each {RATE:g}/s, p50", (percentile(one.late, 50),), "ms")
        yield Figure("the same, p99", (percentile(one.late, 99),), "ms", 250)


def watched(
    home: House, rounds: list[str] | list[list[str]], tabs: int, rate: float = RATE
) -> tuple[list[Seen], tuple[float, ...]]:
    """What so many tabs on each room saw of an answer, and the seconds of processor a second, for each round."""
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


def bare(home: House, tabs: int, size: int) -> tuple[Seen, float]:
    """The same by bare sockets, with frames of so many bytes."""
    script = Script(tokens=round(4 * RATE), rate=RATE, form="stamped")
    with Bare(home.model.port, tabs, size) as server:
        watch = Watch(server.port, ["none"], each=tabs)
        before, began = cpu(server.pid), time.monotonic()
        with requests.Session() as session:
            session.trust_env = False
            with suppress(requests.RequestException):  # "done" is no HTTP
                session.get(f"http://127.0.0.1:{server.port}/go?{quote(str(script))}", timeout=60)
        found = watch.seen()
        return found, (cpu(server.pid) - before) / (found.last_at - began)
