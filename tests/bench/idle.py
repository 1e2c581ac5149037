"""The memory and descriptors of idle tabs and rooms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.bench.caller import Caller
from tests.bench.figure import Figure
from tests.bench.files import create_rooms
from tests.bench.seeded_instance import memory, resident, seeded, until_quiet
from tests.bench.tabs import Watch

FEW, MANY = 2_000, 5_000  # tabs
ROOMS = 50  # the limit of idle rooms that stay open
MB = 1_000_000


def figures() -> Iterator[Figure]:
    """Yield the memory for each tab and each open room, and the descriptors."""
    ids: list[str] = []
    with seeded(prepare=lambda folder: ids.extend(create_rooms(folder, ROOMS + 2))) as home:
        server = home.server
        with Caller(server.port) as caller:
            for room in ids[:2]:  # load what is loaded at first use
                caller.call("GET", f"/rooms/{room}")
            until_quiet(server.pid)
            before = memory(server.pid)
            for room in ids[2:]:
                caller.call("GET", f"/rooms/{room}")
            until_quiet(server.pid)
            yield Figure(f"memory for each of {ROOMS} open rooms", ((memory(server.pid) - before) / ROOMS / 1e3,), "KB")
        with Watch(server.port, ids[-1:], each=1):
            until_quiet(server.pid)
            before, open_before = memory(server.pid), descriptors(server.pid)
            with Watch(server.port, ids[-1:], each=FEW):
                until_quiet(server.pid)
                each = (memory(server.pid) - before) / FEW / 1e3
                yield Figure(f"memory for each of {FEW:,} idle tabs", (each,), "KB", 60)
                each = (descriptors(server.pid) - open_before) / FEW
                yield Figure("descriptors for each of them", (each,), "")
                with Watch(server.port, ids[-1:], each=MANY - FEW):
                    until_quiet(server.pid)
                    yield Figure(f"memory with {MANY:,} idle tabs, all of it", (resident(server.pid) / MB,), "MB", 400)


def descriptors(pid: int) -> int:
    """Return the number of open files and sockets of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
