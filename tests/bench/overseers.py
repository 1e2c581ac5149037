"""Several Overseers in one process: their memory, and how the load of one delays another."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from overseer.multi.directory import Directory
from tests.bench.caller import PART, Caller
from tests.bench.figure import Figure, percentile, repeats
from tests.bench.script import Script
from tests.bench.seeded_instance import SeededInstance, resident, seeded, until_quiet

KNOWN, OPEN = 10_000, 1_000
BUSY = 50  # clients of the Overseer that is busy
SECONDS = 3.0
SILENT = Script(1, rate=0.001)  # the first token comes after a thousand seconds
ROUNDS = 3
MB = 1_000_000
PLAIN = {"Accept-Encoding": "identity"}


def figures() -> Iterator[Figure]:
    """Yield figures of many Overseers, and of one beside a busy one."""
    yield from of_memory()
    yield from of_shares()


def of_memory() -> Iterator[Figure]:
    """Yield the memory of known and of open Overseers."""
    used = {}
    for known in (10, KNOWN):
        with several(*(f"n{number}" for number in range(known))) as home, Caller(home.server.port) as caller:
            caller.call("GET", "/o/n0/")
            until_quiet(home.server.pid)
            used[known] = resident(home.server.pid)
            if known == KNOWN:
                took = []
                for number in range(1, OPEN):
                    took.append(caller.call("GET", f"/o/n{number}/").ms)
                    caller.call("POST", f"/o/n{number}/rooms", {"name": "Kitchen"}, PART)
                until_quiet(home.server.pid)
                opened = resident(home.server.pid)
    each = (used[KNOWN] - used[10]) / KNOWN / MB
    yield Figure(f"memory for each of {KNOWN:,} known Overseers", (each,), "MB", 0.05)
    yield Figure(f"memory for each of {OPEN:,} open ones", ((opened - used[KNOWN]) / OPEN / MB,), "MB", 0.5)
    yield Figure("memory with all of them", (opened / MB,), "MB", 700)
    yield Figure("open an Overseer and its first page, p50", (percentile(sorted(took), 50),), "ms")
    yield Figure("the same, p99", (percentile(sorted(took), 99),), "ms")


def of_shares() -> Iterator[Figure]:
    """Yield how long a page takes while another Overseer is busy; a page of the busy one is for comparison."""
    with several("busy", "quiet") as home:
        rooms = [f"/o/busy/rooms/{new_room(home, 'busy')}" for _ in range(BUSY)]
        with Caller(home.server.port) as caller:
            for room in rooms:  # the questions wait behind one that is not answered
                caller.call("POST", f"{room}/messages", {"text": str(SILENT)}, PART)
        quiet = f"/o/quiet/rooms/{new_room(home, 'quiet')}"
        alone, one, many, own = [], [], [], []
        for _ in range(repeats(ROUNDS)):
            alone.append(read(home, quiet))
            with posting(home, rooms[:1]):
                one.append(read(home, quiet))
            with posting(home, rooms):
                many.append(read(home, quiet))
                own.append(read(home, rooms[0]))
    for percent in (50, 99):
        beside_one = tuple(percentile(took, percent) for took in one)
        yield Figure(f"read a page, p{percent}", tuple(percentile(took, percent) for took in alone), "ms")
        yield Figure(f"the same while another Overseer has 1 client that posts, p{percent}", beside_one, "ms")
        yield Figure(
            f"the same while it has {BUSY} clients that post, p{percent}",
            tuple(percentile(took, percent) for took in many),
            "ms",
            floor=percentile(sorted(beside_one), 50),
            times=3.0 if percent == 50 else None,
        )
        values = tuple(percentile(took, percent) for took in own)
        yield Figure(f"read a page of the busy one meanwhile, p{percent}", values, "ms")


@contextmanager
def several(*names: str) -> Iterator[SeededInstance]:
    """Start a server with Overseers of these names, without passwords."""

    def make(folder: Path) -> None:
        directory = Directory(folder)
        for name in names:
            directory.add(name, "")

    with seeded(warm=False, prepare=make, OVERSEER_MULTI="1") as home:
        yield home


def new_room(home: SeededInstance, name: str) -> str:
    """Create a room. Return its id."""
    with Caller(home.server.port) as caller:
        return caller.call("POST", f"/o/{name}/rooms", {"name": "Kitchen"}, PART).location[-12:]


def read(home: SeededInstance, path: str) -> list[float]:
    """Read a page again and again. Return the sorted milliseconds."""
    took, until = [], time.monotonic() + SECONDS
    with Caller(home.server.port) as caller:
        while time.monotonic() < until:
            took.append(caller.call("GET", path).ms)
    return sorted(took)


@contextmanager
def posting(home: SeededInstance, rooms: Sequence[str]) -> Iterator[None]:
    """Let a client post into each of the rooms during the block."""
    command = [sys.executable, "-m", "tests.bench.senders", str(home.server.port), "60", *rooms]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with Caller(home.server.port) as caller:
            while b"article" not in caller.call("GET", f"{rooms[-1]}/messages", None, PLAIN).body:
                continue
        yield
    finally:
        process.kill()
        process.wait()
