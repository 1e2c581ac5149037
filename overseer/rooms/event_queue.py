"""The event queue of a room, and the concurrency rules of the rooms package.

1. A room's lock protects its `ChatRoom`. The public methods of `ChatRoom` run under it, the turn's thread takes it to
   report progress, and SQLite commits are made under it. With `run_in_thread` the commit itself runs in another
   thread while the caller, which holds the lock, waits for it.
2. `ChatRoom` puts events on the room's queue under that lock, after the commit. So the queue has the order of the
   commits. Putting never waits for a listener.
3. Events are delivered after the lock was released, in order and one at a time. The thread that made the change
   delivers, or another one that is already delivering. So a listener never runs under a room's lock, may call any
   method of any room, and a slow listener delays neither commits nor reads.
4. A call returns after the events that it caused itself have been delivered, unless a listener made the call: then
   they are delivered after the event that the listener is handling.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class EventQueue(Generic[T]):
    """Pass items to `deliver_one`, in order and one at a time. See the module docstring for the rules."""

    def __init__(self, deliver_one: Callable[[T], None]) -> None:
        self.last = 0  # the number of the newest item; numbers start at 1
        self._delivered = 0  # the number of the last delivered item
        self._deliver_one = deliver_one
        self._pending: deque[tuple[int, T]] = deque()
        self._putting = threading.Lock()
        self._delivering = threading.Lock()
        self._deliverer = 0  # identifier of the thread that holds `_delivering`

    @property
    def is_delivered(self) -> bool:
        """Whether the delivery of every item has finished."""
        return self._delivered == self.last

    def put(self, item: T) -> None:
        """Add an item to the end of the queue. Never waits for a delivery."""
        # Overseer puts its own events without the room's lock, so the numbers need a lock here.
        with self._putting:
            self.last += 1
            self._pending.append((self.last, item))

    def deliver(self, number: int = 0) -> None:
        """Deliver the pending items, unless another thread is doing so. Return once item `number` is delivered.

        Do not call this while holding a lock that `deliver_one` takes. A call from within `deliver_one` returns at
        once; its items are delivered after the current one.
        """
        if self._deliverer == threading.get_ident():
            return
        while self._pending or self._delivered < number:
            if not self._delivering.acquire(blocking=self._delivered < number):
                return  # the delivering thread checks for new items after it has released the lock
            try:
                self._deliverer = threading.get_ident()
                while self._pending:
                    item_number, item = self._pending.popleft()
                    try:
                        self._deliver_one(item)
                    finally:
                        self._delivered = item_number
            finally:
                self._deliverer = 0
                self._delivering.release()
