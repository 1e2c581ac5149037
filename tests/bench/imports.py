"""An import of a large export: its speed and memory, and the tokens of others meanwhile."""

from __future__ import annotations

import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import requests

from tests.bench.fanout import watched
from tests.bench.figure import Figure, percentile, repeats
from tests.bench.seeded_instance import TIMEOUT_SECONDS, SeededInstance, resident, seeded, until_quiet
from tests.support.exports import chatgpt

CONVERSATIONS, FEWER = 10_000, 500
MESSAGES = 6
WORDS = " ".join(topics.values()).split()
MESSAGE_WORDS = 250
MB = 1_000_000
SAMPLE_SECONDS = 0.1


def figures() -> Iterator[Figure]:
    """Yield the figures of an export of ChatGPT with 10,000 conversations, of about 100 MB."""
    with tempfile.TemporaryDirectory() as folder, seeded() as home:
        path = Path(folder) / "conversations.json"
        count = repeats(CONVERSATIONS, FEWER)
        write_export(path, count)
        size = path.stat().st_size / MB
        until_quiet(home.server.pid)
        before = resident(home.server.pid)
        with Peak(home.server.pid) as peak:
            began = time.time()
            report = upload(home, path)
            late: list[float] = []
            while state(home, report)["state"] in ("waiting", "running"):
                seen, _ = watched(home, [home.new_room()], 1)
                late += seen[0].late
        done = state(home, report)
        assert done["imported"] == count
        took = done["ended_at"] / 1000 - began
        name = f"import of {count:,} conversations of ChatGPT, {size:.0f} MB"
        yield Figure(name, (size / took,), "MB/s", 5, least=True)
        yield Figure("memory for that above idle, of both processes", ((peak.bytes - before) / MB,), "MB", 150)
        late.sort()
        yield Figure("token to socket meanwhile, 1 tab, 50/s, p50", (percentile(late, 50),), "ms")
        yield Figure("the same, p99", (percentile(late, 99),), "ms", 50)


def write_export(path: Path, count: int) -> None:
    """Write an export with so many conversations."""
    words = random.Random(1)
    with path.open("w") as file:
        for number in range(count):
            texts = [" ".join(words.choices(WORDS, k=MESSAGE_WORDS)) for _ in range(MESSAGES)]
            file.write(("," if number else "[") + json.dumps(chatgpt(f"Talk {number}", texts, number=number)))
        file.write("]")


def upload(home: SeededInstance, path: Path) -> str:
    """Begin the import of a file. Return the address of its report."""
    with path.open("rb") as file:
        response = requests.post(
            f"{home.server.url}/import",
            files={"file": file},
            headers={"Prefer": "respond-async"},
            timeout=TIMEOUT_SECONDS,
        )
    return home.server.url + response.headers["Location"]


def state(home: SeededInstance, report: str) -> dict[str, Any]:
    """Return the report without its lines."""
    found: dict[str, Any] = requests.get(
        report, {"limit": "0"}, headers={"Accept": "application/json"}, timeout=TIMEOUT_SECONDS
    ).json()
    return found


class Peak:
    """Samples the memory of a process and its children. `bytes` is the largest sum so far."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.bytes = 0.0

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
            total = resident(self._pid)
            for child in children:
                with suppress(OSError, IndexError):
                    total += resident(int(child))
            self.bytes = max(self.bytes, total)
