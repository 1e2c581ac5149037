"""The real server with a stand-in model, and measurements of processes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.bench.model import Model
from tests.bench.script import Script
from tests.support.server import Server, running

TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class SeededInstance:
    """A server with its model."""

    server: Server
    model: Model

    def new_room(self) -> str:
        """Create a room. Return its id."""
        made = requests.post(f"{self.server.url}/rooms", timeout=TIMEOUT_SECONDS)
        return made.headers["Location"][-12:]

    def ask(self, room: str, script: Script) -> None:
        """Post a script into the room."""
        url = f"{self.server.url}/rooms/{room}/messages"
        requests.post(url, {"text": str(script)}, timeout=TIMEOUT_SECONDS).raise_for_status()

    def answered(self, room: str, script: Script) -> None:
        """Post a script into the room, and wait for the end of the answer."""
        url = f"{self.server.url}/rooms/{room}/messages"
        wait = {"Prefer": f"wait={TIMEOUT_SECONDS:g}"}
        requests.post(url, {"text": str(script)}, headers=wait, timeout=TIMEOUT_SECONDS).raise_for_status()


@contextmanager
def seeded(
    *, warm: bool = True, prepare: Callable[[Path], object] = lambda folder: None, **environment: str
) -> Iterator[SeededInstance]:
    """Start a server with its model.

    `prepare` fills the instance directory before. Keyword arguments in capitals are environment
    variables. `warm` posts a message, which loads what is loaded at first use.
    """
    with tempfile.TemporaryDirectory() as folder, Model() as model:
        prepare(Path(folder))
        with running(Path(folder), model, environment=environment) as server:
            made = SeededInstance(server, model)
            if warm:
                made.answered(made.new_room(), Script(200))
            yield made


def cpu(pid: int) -> float:
    """Return the CPU time of all threads of a process, in seconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def memory(pid: int) -> float:
    """Return the proportional set size of a process, in bytes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Pss:",)))


def resident(pid: int) -> float:
    """Return the resident set size of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def until_quiet(pid: int) -> None:
    """Wait until the process is idle."""
    before = cpu(pid)
    while True:
        time.sleep(0.3)
        if (now := cpu(pid)) - before < 0.003:
            return
        before = now
