"""Messages a second that are stored durably and acknowledged, compared with the commits of SQLite alone."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import requests

from tests.bench.figure import Figure, repeated, repeats
from tests.bench.script import Script
from tests.bench.seeded_instance import SeededInstance, seeded
from tests.bench.senders import NOWHERE, acknowledged

CLIENTS = 8
ROUNDS = 5
SECONDS = 1.5
SILENT = Script(1, rate=0.001)  # the first token comes after a thousand seconds


def figures() -> Iterator[Figure]:
    """Yield figures of clients, each in its own room, that wait for the 201 of a message before they send the next."""
    with seeded() as home:
        for clients in (CLIENTS, 1):
            who = f"{clients} client{'s' * (clients > 1)}"
            nothing = repeated(lambda: acknowledged(home.server.port, SECONDS, [NOWHERE] * clients), 3)  # noqa: B023
            yield Figure(f"requests a second that store nothing, {who}", nothing, "/s")
            for silent in (True, False):
                rates, alone = [], []
                for _ in range(repeats(ROUNDS)):
                    rooms = [home.new_room() for _ in range(clients)]
                    for room in rooms if silent else ():
                        home.ask(room, SILENT)
                    alone.append(committed(home.server.instance))
                    rates.append(acknowledged(home.server.port, SECONDS, rooms))
                    for room in rooms:
                        stop(home, room)
                model = "while the model is silent" if silent else "each answered by a few words"
                yield Figure(
                    f"messages acknowledged a second, {who}, {model}",
                    tuple(rates),
                    "/s",
                    floor=statistics.median(alone),
                    times=0.5 if clients == CLIENTS and silent else None,
                    least=True,
                )


def stop(home: SeededInstance, room: str) -> None:
    """Delete the room with its queued answers."""
    requests.delete(f"{home.server.url}/rooms/{room}", timeout=60).raise_for_status()


def committed(folder: Path, seconds: float = 0.7) -> float:
    """Return the rows that SQLite commits a second, one at a time and durably."""
    with closing(sqlite3.connect(folder / "floor.sqlite", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE IF NOT EXISTS said (number INTEGER PRIMARY KEY, words TEXT NOT NULL)")
        count, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            db.execute("INSERT INTO said (words) VALUES ('Who eats voles?')")
            count += 1
    return count / seconds
