"""A process that has imported `app.py`, and forks a server whenever a test asks for one.

A server that starts from scratch spends most of its time on imports. A forked server runs the `main` of `app.py`, or
of another module, in a process of its own. `python -m tests.support.server_pool FD` is the pool.
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
MAX_REQUEST_BYTES = 200_000


class ServerPool:
    """Starts the pool process and requests servers from it."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
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
        """Start a server: the `main` of a module, with these arguments and this environment."""
        reading, writing = os.pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        request = json.dumps([module, list(arguments), dict(environment)]).encode()
        with self._lock, theirs:
            socket.send_fds(self._requests, [request], [writing, theirs.fileno()])
        os.close(writing)
        return Child(ours, os.fdopen(reading, "r", encoding="utf-8", errors="replace"))

    def close(self) -> None:
        """End the pool process. Servers that still run are not affected."""
        self._requests.close()
        self._process.wait(20)


class Child:
    """A server process, with a part of the interface of `subprocess.Popen`."""

    def __init__(self, reports: socket.socket, stdout: IO[str]) -> None:
        self._reports = reports.makefile("r")
        reports.close()
        self.stdout: IO[str] | None = stdout
        self.pid = int(self._reports.readline())
        self._killed_by = 0
        self._code: int | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs. That of a killed process is the negative signal number."""
        return self._code

    def send_signal(self, how: int) -> None:
        self._killed_by = how
        with suppress(ProcessLookupError):
            os.kill(self.pid, how)

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit code."""
        if not self._ended.wait(timeout) or self._code is None:
            raise subprocess.TimeoutExpired("a server", timeout)
        return self._code

    def _wait(self) -> None:
        with self._reports:
            code = self._reports.read().strip()
        self._code = int(code) if code else -self._killed_by or 1
        self._ended.set()


def serve(requests: socket.socket) -> None:
    """Fork a server for each request until the pool is closed. Each reports its process id and its exit code."""
    fork, close = os.fork, os.close  # before gevent replaces them: only the servers have a gevent hub
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the servers
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
        request, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 2)
        if not request:
            return
        if fork():
            for descriptor in descriptors:
                close(descriptor)
            continue
        requests.close()
        out, reports = descriptors
        os.write(reports, b"%d\n" % os.getpid())
        os.dup2(out, 1)
        os.dup2(out, 2)
        close(out)
        module, arguments, environment = json.loads(request)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [module, *arguments]
        try:
            code = importlib.import_module(module).main()
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
        os.write(reports, b"%d\n" % code)
        # Like multiprocessing, do not finalize the interpreter, which would take longer than most tests.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
