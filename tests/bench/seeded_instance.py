"""The real server, its model and what they are asked, for the benchmarks."""

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
from tests.support.server import Server

PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class SeededInstance:
    """A server with its model."""

    server: Server
    model: Model

    def new_room(self) -> str:
        """A new room's id."""
        made = requests.post(f"{self.server.url}/rooms", timeout=PATIENCE)
        return made.headers["Location"][-12:]

    def ask(self, room: str, script: Script) -> None:
        """Have the model say this in the room."""
        url = f"{self.server.url}/rooms/{room}/messages"
        requests.post(url, {"text": str(script)}, timeout=PATIENCE).raise_for_status()

    def answered(self, room: str, script: Script) -> None:
        """The same, until it has said it."""
        url = f"{self.server.url}/rooms/{room}/messages"
        wait = {"Prefer": f"wait={PATIENCE:g}"}
        requests.post(url, {"text": str(script)}, headers=wait, timeout=PATIENCE).raise_for_status()


@contextmanager
def seeded(
    program: tuple[str, ...], *, warm: bool = True, furnish: Callable[[Path], object] = lambda folder: None
) -> Iterator[SeededInstance]:
    """The server by this program, on a directory of its own, with its model; what is loaded at first use is loaded.

    `furnish` puts into the directory what is to be there when the server starts.
    """
    with tempfile.TemporaryDirectory() as folder, Model() as model:
        furnish(Path(folder))
        environment = {"OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "stand-in"}
        server = Server(Path(folder), environment=environment, program=program).start()
        try:
            made = SeededInstance(server, model)
            if warm:
                made.answered(made.new_room(), Script(200))
            yield made
        finally:
            server.stop()


def cpu(pid: int) -> float:
    """The seconds of processor time that a process has used, all its threads together."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def memory(pid: int) -> float:
    """The bytes of memory that a process holds and shares with nobody."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Pss:",)))


def resident(pid: int) -> float:
    """The bytes of memory that a process holds, also those that it shares."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def until_quiet(pid: int) -> None:
    """Wait until the process does nothing any more."""
    before = cpu(pid)
    while True:
        time.sleep(0.3)
        if (now := cpu(pid)) - before < 0.003:
            return
        before = now
