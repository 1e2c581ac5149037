"""The real server, as a process of its own."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import requests

from tests.support.server_pool import Child, ServerPool

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0

StartServer = Callable[..., "Server"]


class Server:
    """`python app.py` on an instance directory. Restarts keep its port.

    A `server_pool` starts it in far less time. `altered` names alterations of `tests.support.altered`, each with its
    options.
    """

    def __init__(
        self,
        instance: Path,
        *,
        environment: dict[str, str] | None = None,
        host: str = "127.0.0.1",
        altered: Mapping[str, object] | None = None,
        server_pool: ServerPool | None = None,
    ) -> None:
        self._host = host
        self.instance = instance
        self.port = 0
        self.log: list[str] = []
        self._environment = environment or {}
        self._altered = altered
        self._server_pool = server_pool
        self._process: subprocess.Popen[str] | Child | None = None
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Server:
        """Start it and wait until it is ready."""
        lines = self.launch()
        while (line := lines.get(timeout=DEADLINE)) is not None:
            if found := re.search(r"ready on http://\S+:(\d+)", line):
                self.port = int(found[1])
                return self
        raise AssertionError("the server did not start:\n" + "".join(self.log))

    def launch(self) -> queue.SimpleQueue[str | None]:
        """Start it without waiting. Return a queue of the lines that it prints, with None at its end."""
        where = ("--host", self._host, "--port", str(self.port), "--instance", str(self.instance))
        clean = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("OPENAI_", "OLLAMA_", "OVERSEER_", "PYTHONDEVMODE"))
        }
        environment = {**clean, "PYTHONUNBUFFERED": "1", "ALTERED": json.dumps(self._altered), **self._environment}
        if self._server_pool is not None:
            module = "tests.support.altered" if self._altered else "app"
            self._process = self._server_pool.server(module, where, environment)
        else:
            program = ("-m", "tests.support.altered") if self._altered else ("app.py",)
            command = [sys.executable, *program, *where]
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(self._process, lines), daemon=True)
        self._reader.start()
        return lines

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal. Return its exit code."""
        assert self._process is not None and self._reader is not None
        if self._process.poll() is None:
            self._process.send_signal(how)
        code = self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def restart(self, how: signal.Signals = signal.SIGTERM) -> Server:
        """End it and start it again on the same port."""
        self.stop(how)
        return self.start()

    def _read(self, process: subprocess.Popen[str] | Child, lines: queue.SimpleQueue[str | None]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.log.append(line)
            lines.put(line)
        lines.put(None)


class HasURL(Protocol):
    """A model server."""

    @property
    def url(self) -> str: ...


@contextmanager
def running(
    instance: Path, model_server: HasURL, *, environment: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Server]:
    """Start a server that is answered by the model "stand-in" of a model server, and stop it at the end."""
    settings = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in", **(environment or {})}
    server = Server(instance, environment=settings, **options).start()
    try:
        yield server
    finally:
        server.stop()


def descriptors(server: Server) -> int:
    """Return the number of the server's open file descriptors."""
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def is_healthy(server: Server) -> bool:
    """Return whether the server responds."""
    return requests.get(f"{server.url}/healthz", timeout=DEADLINE).text == "ok"
