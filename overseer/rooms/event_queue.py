"""The events of one room on their way from the room to the listeners."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class EventQueue(Generic[T]):
    """Passes what is put on it to `deliver_one`, in order and one at a time.

    Putting and delivering are two steps. A room puts events on the queue under its lock, which keeps them in the order
    of the commits, and they are delivered after the lock was released: what a listener waits for, the room does not.
    """

    __slots__ = (
        "__weakref__",
        "_deliver_one",
        "_delivered",
        "_deliverer",
        "_delivering",
        "_putting",
        "_waiting",
        "last",
    )

    def __init__(self, deliver_one: Callable[[T], None]) -> None:
        self.last = 0  # the number of the item that was put last; they count from 1
        self._delivered = 0
        self._deliver_one = deliver_one
        self._waiting: deque[tuple[int, T]] = deque()
        self._putting = threading.Lock()
        self._delivering = threading.Lock()
        self._deliverer = 0  # the thread that holds the lock

    @property
    def is_delivered(self) -> bool:
        """Whether everything was delivered to its end."""
        return self._delivered == self.last

    def put(self, item: T) -> None:
        """Add an item to the end of the queue. Never waits for a delivery."""
        # A room puts under its lock, the Overseer without: numbers must not come out of order.
        with self._putting:
            self.last += 1
            self._waiting.append((self.last, item))

    def deliver(self, number: int = 0) -> None:
        """Deliver what is on the queue, unless another thread does; return when the item `number` was delivered.

        Must not be called under a lock that `deliver_one` takes. Called by `deliver_one` itself, it returns at once:
        what a listener causes is delivered after the item that it is called for.
        """
        if self._deliverer == threading.get_ident():
            return
        while self._waiting or self._delivered < number:
            if not self._delivering.acquire(blocking=self._delivered < number):
                return  # the other thread looks again when it has released the lock
            try:
                self._deliverer = threading.get_ident()
                while self._waiting:
                    item_number, item = self._waiting.popleft()
                    try:
                        self._deliver_one(item)
                    finally:
                        self._delivered = item_number
            finally:
                self._deliverer = 0
                self._delivering.release()
