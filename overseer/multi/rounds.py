"""Fair shares: the requests for one Overseer do not hold up those for others."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

ROUND_SECONDS = 0.02  # after which a round is over although a request of it is still being served


class Rounds:
    """Lets each Overseer begin one request in each round.

    Of many requests for one Overseer, those after the first wait, in order, and a request for another one passes them.
    While several Overseers have requests, a round lasts until those that it began are served. While only one has, it
    lasts until the event loop has come around, so that its requests overlap.
    """

    def __init__(self) -> None:
        # Reentrant: garbage collection may end a response that nobody has closed while this thread has the lock.
        self._lock = threading.RLock()
        self._begun: set[str] = set()  # the Overseers that have begun a request in this round
        self._waiting: dict[str, deque[threading.Event]] = {}
        self._served: dict[object, str] = {}  # the requests that are being served, and their Overseers
        self._wake = threading.Event()
        self._over = threading.Event()  # no request is being served
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin a new round whenever one is over."""
        threading.Thread(target=self._run, name="rounds", daemon=True).start()

    def stop(self) -> None:
        """Let all requests begin."""
        self._stopping.set()
        self._wake.set()

    @contextmanager
    def request(self, name: str) -> Iterator[None]:
        """Wait until a request for this Overseer may begin; it is served during the block."""
        self._enter(name)
        request = object()
        with self._lock:
            self._served[request] = name
        try:
            yield
        finally:
            with self._lock:
                self._served.pop(request, None)
                if not self._served:
                    self._over.set()

    def advance(self) -> bool:
        """Begin a new round with a request of each Overseer for which some wait. Return whether there was one."""
        with self._lock:
            turns = [queue.popleft() for queue in self._waiting.values()]
            self._begun = set(self._waiting)
            self._waiting = {name: queue for name, queue in self._waiting.items() if queue}
        for turn in turns:
            turn.set()
        return bool(turns)

    def _enter(self, name: str) -> None:
        with self._lock:
            if name not in self._begun or self._stopping.is_set():
                self._begun.add(name)
                self._wake.set()
                return
            turn = threading.Event()
            self._waiting.setdefault(name, deque()).append(turn)
        turn.wait()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            self._wait()
            while self.advance():
                self._wait()
        while self.advance():
            continue

    def _wait(self) -> None:
        """Return when the round is over."""
        time.sleep(0)  # the event loop comes around
        with self._lock:
            if len({*self._served.values(), *self._waiting}) < 2:
                return
            self._over.clear()
            if not self._served:
                return
        if not self._over.wait(ROUND_SECONDS):
            with self._lock:
                self._served.clear()  # they may wait for a model, or for a slow disk
