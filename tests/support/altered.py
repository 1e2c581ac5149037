"""`app.py` with alterations: short timeouts, slow disks, tools that hang, faults.

`python -m tests.support.altered` takes the flags of `app.py`, and ALTERED in the environment: a JSON object with the
names of functions of this module and their arguments.
"""

from __future__ import annotations

from gevent import monkey

if __name__ == "__main__":
    monkey.patch_all()

import ctypes
import gc
import json
import os
import resource
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CAPABILITY_VERSION = 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
HELD = ".held"


# Connections


def timeouts(**seconds: float) -> None:
    """Set the timeouts of the HTTP server, which are one second unless given."""
    from overseer.server.wsgi_server import BoundedServer, Timeouts

    BoundedServer.timeouts = Timeouts(**{**dict.fromkeys(Timeouts.__dataclass_fields__, 1.0), **seconds})


def descriptors(limit: int) -> None:
    """Limit the open files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def limit_loopback() -> None:
    """Apply limits per client to all loopback addresses but 127.0.0.1."""
    from overseer.server import connection_limits

    connection_limits.is_loopback = lambda address: address == "127.0.0.1"  # type: ignore[attr-defined]


def ping(seconds: float) -> None:
    """Set the time between two pings of a WebSocket."""
    from overseer.web import websocket

    websocket.PING_SECONDS = seconds  # type: ignore[assignment]


def broken_hub() -> None:
    """Let `Hub.join` fail."""
    from overseer.live.hub import Hub

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault in the hub")

    Hub.join = fail  # type: ignore[method-assign,assignment]


def temporary_rooms(seconds: float) -> None:
    """Delete temporary rooms after this time."""
    from overseer.rooms.temporary import TemporaryRooms

    start = TemporaryRooms.start

    def start_with(rooms: TemporaryRooms, room_ids: Iterable[str]) -> None:
        rooms._seconds = seconds
        start(rooms, room_ids)

    TemporaryRooms.start = start_with  # type: ignore[method-assign,assignment]


def share_ends_at_join() -> None:
    """Revoke each share that a visitor connects to, after it was found and before the hub knows the tab."""
    from overseer.live.hub import Hub

    original = Hub.join_share

    def join_share(hub: Any, ws: Any, share: Any, *args: Any, **options: Any) -> Any:
        from overseer.web.extensions import overseer

        overseer().room(share.room_id).revoke_share(share.number)
        return original(hub, ws, share, *args, **options)

    Hub.join_share = join_share  # type: ignore[method-assign,assignment]


def overseers(idle_seconds: float, sweep_seconds: float) -> None:
    """Close Overseers that are idle for this time, and look for them in this interval."""
    from overseer.multi import instances

    instances.SWEEP_SECONDS = sweep_seconds
    vars(instances.Instances)["__init__"].__kwdefaults__["idle_seconds"] = idle_seconds


def no_sanitizer() -> None:
    """Let HTML in Markdown through, so that only the content policy is left."""
    from overseer.render import markdown

    vars(markdown)["sanitize"] = lambda html: html
    markdown._parser().options["html"] = True


# Storage


def short_waits() -> None:
    """Wait less for a locked file, and save streaming answers more often."""
    from overseer.rooms import chat_room
    from overseer.storage import database

    database.BUSY_SECONDS = 0.05
    chat_room.SAVE_INTERVAL_SECONDS = 0.2


def ordinary_user() -> None:
    """Drop root's right to read and write every file: call `capset` for this thread and the threads that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, as two words each
    assert libc.capget(header, sets) == 0
    for at in range(3):
        sets[at] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    assert libc.capset(header, sets) == 0


def slow_disk() -> None:
    """Let a commit to `room-<id>.sqlite` write into the file `room-<id>.sqlite.held`, and wait while that exists."""
    from overseer.storage.database import Storage

    wait = monkey.get_original("time", "sleep")
    execute = Storage._execute_commit

    def commit(storage: Storage, db: sqlite3.Connection) -> None:
        marker = storage.path.with_name(storage.path.name + HELD)
        while marker.exists():
            with suppress(FileNotFoundError), marker.open("r+") as file:
                file.write("waiting")
            wait(0.01)
        execute(storage, db)

    Storage._execute_commit = commit  # type: ignore[method-assign, assignment]


@contextmanager
def held_commits(instance: Path, room_id: str) -> Iterator[Path]:
    """Hold commits to a room on a slow disk. Yield a file that is not empty once a commit waits."""
    marker = instance / "facets" / f"room-{room_id}.sqlite{HELD}"
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink()


# Tools


def slow_tools(folder: str) -> None:
    """Offer tools that hang until `folder` contains the file `stop`. They report their start and end there."""
    from overseer.rooms import overseer
    from overseer.tools.toolbox import tool

    def hang(seconds: float) -> str:
        directory = Path(folder)
        (directory / "started").touch()
        while not (directory / "stop").exists():
            if seconds:
                time.sleep(seconds)
        (directory / "returned").touch()
        return "returned"

    @tool
    def sleep_long() -> str:
        """Wait, like a tool that asks another server."""
        return hang(0.1)

    @tool
    def compute_long() -> str:
        """Compute without a pause."""
        return hang(0)

    setattr(overseer, "TOOLS", (sleep_long, compute_long))  # noqa: B010


# Measurement


def counts(file: str) -> None:
    """Write the numbers of greenlets and objects to a file on SIGUSR1. Use small caches, which are full in minutes."""
    from gevent import get_hub, signal_handler

    from overseer import application
    from overseer.live import hub

    get_hub()
    application.FRAGMENT_CACHE_BYTES = 1_000_000
    hub.ROOMS_REMEMBERED = 50
    signal_handler(signal.SIGUSR1, write_counts, Path(file))


def write_counts(path: Path) -> None:
    """Write the counts, and then give the file its name, so that it is never read half-written."""
    from greenlet import greenlet  # type: ignore[import-untyped]

    objects = gc.get_objects()
    greenlets = [one for one in objects if isinstance(one, greenlet)]
    types = Counter(kind.__name__ for kind in map(type, objects) if str(kind.__module__).startswith("overseer"))
    counts = {"greenlets": sum(not one.dead for one in greenlets), "objects": len(objects), "types": types}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(counts))
    os.replace(partial, path)


def main() -> int:
    import app

    for name, options in json.loads(os.environ["ALTERED"]).items():
        globals()[name](**options)
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
