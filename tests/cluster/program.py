"""Processes that a test kills, freezes and restarts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.waiting import until

START_SECONDS = 30.0
STOP_SECONDS = 30.0


class Program:
    """A process, started with the same command each time. Its output is appended to the file `log`.

    `exit_codes` has those of all its runs, negative for a signal. While `supervised`, it is started again when it has
    ended, as systemd would do.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        is_ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        before_start: Callable[[], None] = lambda: None,
        pass_fds: Sequence[int] = (),
        folder: Path | None = None,
    ) -> None:
        self.name, self._folder = name, folder
        self.log = log
        self.command = list(command)
        self.environment = dict(os.environ if environment is None else environment)
        self.exit_codes: list[int] = []
        self.supervised = False
        self._is_ready, self._before_start, self._pass_fds = is_ready, before_start, pass_fds
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._is_stopping = False

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start it without waiting."""
        with self._lock:
            if self.is_running:
                return
            self._before_start()
            self._is_stopping = False
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    self.command,
                    env=self.environment,
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=self._pass_fds,
                )
            self._process = process
            self._watcher = threading.Thread(target=self._watch, args=(process,), daemon=True)
            self._watcher.start()

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it is ready. Fails with what it printed if it ends before."""
        pid = self.pid

        def ready_or_ended() -> bool:
            if not self.is_running and not self.supervised and self.pid == pid:
                raise AssertionError(f"{self.name} ended with {self.exit_codes[-1:]}:\n{self.output[-3000:]}")
            return self._is_ready()

        until(ready_or_ended, seconds=seconds)

    def wait_until_ended(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until this run has ended. Return its exit code."""
        process = self._process
        assert process is not None, f"{self.name} was never started"
        return process.wait(seconds)

    def send(self, how: signal.Signals) -> None:
        """Send a signal. A process that has ended ignores it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(how)

    def kill(self) -> None:
        """End it by SIGKILL and wait for the end. If it is supervised, it starts again."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait(STOP_SECONDS)

    def freeze(self) -> None:
        """Stop it by SIGSTOP, and wait until it is stopped."""
        self.send(signal.SIGSTOP)
        until(lambda: not self.is_running or state_of(self.pid) == "T")

    def thaw(self) -> None:
        """Continue it after `freeze`."""
        self.send(signal.SIGCONT)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """End it for good. Return its exit code, or None if it was never started."""
        with self._lock:
            self._is_stopping = True
            process, watcher = self._process, self._watcher
        if process is None or watcher is None:
            return None
        self.send(how)
        self.send(signal.SIGCONT)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait(STOP_SECONDS)
        watcher.join(STOP_SECONDS)
        return code

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        self.exit_codes.append(process.wait())
        with self._lock:
            if self.supervised and not self._is_stopping and self._process is process:
                self.launch()


def state_of(pid: int) -> str:
    """Return the state of a process as the letter that Linux has for it: T is stopped, Z ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def accepts(port: int) -> bool:
    """Return whether something listens on a port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port() -> int:
    """Return a port on which nothing listens, below those that the system gives to connections."""
    return free_ports(1)[0]


def free_ports(count: int, *, partner: int = 0) -> list[int]:
    """Return ports on which nothing listens. With `partner`, that holds of port + `partner` too.

    They are below 32768, where Linux begins to give ports to connections: a restart must find its port free.
    """
    found: list[int] = []
    start = 10_000 + os.getpid() * 37 % 10_000
    for port in [*range(start, 22_000), *range(10_000, start)]:
        if port not in TAKEN and is_free(port) and (not partner or is_free(port + partner)):
            found.append(port)
            TAKEN.add(port)
            if len(found) == count:
                return found
    raise AssertionError("no ports are free")


TAKEN: set[int] = set()  # by this process, whether or not something listens already


def is_free(port: int) -> bool:
    """Return whether a port can be listened on."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class MissingPart(Exception):
    """A program that the cluster needs is not installed; the message says which."""


def executable(name: str, variable: str) -> str:
    """Return the path of a program: what the environment variable names, on PATH, or beside Python."""
    if found := os.environ.get(variable) or shutil.which(name):
        return found
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    raise MissingPart(f"{name} is not installed; `make pytest` installs it, or set {variable} to its path")
