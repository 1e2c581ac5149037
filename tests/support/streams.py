"""Replies of a model server that are sent a few words at a time, many at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tests.support.model_server import Reply, end, held, text


class Streams:
    """Sends a piece of every reply at each interval, from one thread, and ends those that are complete."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval = interval_seconds
        self._lock = threading.Lock()
        self._left: list[tuple[Reply, list[str]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def add(self, pieces: Sequence[str]) -> Reply:
        """Return a reply that consists of these pieces."""
        reply = held()
        with self._lock:
            self._left.append((reply, list(pieces)[::-1]))
        return reply

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._over.wait(self._interval):
            with self._lock:
                streams = self._left = [(reply, left) for reply, left in self._left if not reply.closed.is_set()]
            for reply, left in streams:
                if left:
                    reply.say(text(left.pop()))
                else:
                    reply.say(end())
                    reply.hang_up()
                    reply.closed.set()
