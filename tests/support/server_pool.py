"""A process that has imported what `app.py` needs, and forks a server from it whenever a test asks for one.

Starting a server from scratch for each test would spend most of the time on imports. A forked server runs `main` of
`app.py` in a process of its own. `python -m tests.support.server_pool FD` is the pool.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
MAX_ORDER = 200_000  # bytes


class ServerPool:
    """Start the pool and order servers from it."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDEVMODE"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.server_pool", str(theirs.fileno())],
                cwd=ROOT,
                env=environment,
                pass_fds=[theirs.fileno()],
            )

    def server(self, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
        """A server with these arguments and this environment, by the `main` of a module."""
        reading, writing = os.pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        order = json.dumps([module, list(arguments), dict(environment)]).encode()
        with self._lock, theirs:
            socket.send_fds(self._orders, [order], [writing, theirs.fileno()])
        os.close(writing)
        return Child(ours, os.fdopen(reading, "r", encoding="utf-8", errors="replace"))

    def close(self) -> None:
        """End it; servers that still run are let be."""
        self._orders.close()
        self._process.wait(20)


class Child:
    """A server, as much of `subprocess.Popen` as is needed of it."""

    def __init__(self, told: socket.socket, stdout: IO[str]) -> None:
        self._told = told.makefile("r")
        told.close()
        self.stdout: IO[str] | None = stdout
        self.pid = int(self._told.readline())
        self._killed_by = 0
        self._code: int | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def poll(self) -> int | None:
        """Its exit code, if it has ended; the signal that killed it, as a negative number."""
        return self._code

    def send_signal(self, how: int) -> None:
        self._killed_by = how
        with suppress(ProcessLookupError):
            os.kill(self.pid, how)

    def wait(self, timeout: float) -> int:
        """The same, when it has ended."""
        if not self._ended.wait(timeout) or self._code is None:
            raise subprocess.TimeoutExpired("a server", timeout)
        return self._code

    def _wait(self) -> None:
        with self._told:
            said = self._told.read().strip()
        self._code = int(said) if said else -self._killed_by or 1
        self._ended.set()


def serve(orders: socket.socket) -> None:
    """Fork a server for each order, until nobody can order any more. Each tells its number, and how it ended."""
    fork, close = os.fork, os.close  # as they are before gevent puts its own in their place: its hub is for the servers
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    from gevent import monkey

    monkey.patch_all()
    importlib.import_module("app")
    from overseer.render.markdown import render
    from tests.support.templates import compile_all, compile_once

    compile_once()
    compile_all()
    render("```python\n1\n```")
    gc.collect()
    gc.freeze()

    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, MAX_ORDER, 2)
        if not order:
            return
        if fork():
            for descriptor in descriptors:
                close(descriptor)
            continue
        orders.close()
        out, told = descriptors
        os.write(told, b"%d\n" % os.getpid())
        os.dup2(out, 1)
        os.dup2(out, 2)
        close(out)
        module, arguments, environment = json.loads(order)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [module, *arguments]
        code = importlib.import_module(module).main()
        os.write(told, b"%d\n" % code)
        # As a process of multiprocessing ends: to take the interpreter apart would take longer than most tests.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
