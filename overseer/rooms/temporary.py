"""Temporary rooms: when they are deleted."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from overseer.domain.errors import NoSuchRoom, StorageError, StorageUnavailable

log = logging.getLogger(__name__)

TEMPORARY_SECONDS = 600.0  # after the last use of a temporary room; the page says so too


class TemporaryRooms:
    """Calls `delete` for each temporary room that was not used for `seconds` and that no tab shows.

    A request uses a room, and so do the end of an answer and a tab that leaves; a growing answer does not. `has_tab`
    returns whether a tab shows a room. `delete` raises NoSuchRoom or StorageError, and deletes no room that was kept.

    A thread waits while there are temporary rooms, and only then.
    """

    def __init__(self, delete: Callable[[str], None], *, seconds: float = TEMPORARY_SECONDS) -> None:
        self.has_tab: Callable[[str], bool] = lambda room_id: False
        self._delete = delete
        self._seconds = seconds
        self._lock = threading.Lock()
        self._due: OrderedDict[str, float] = OrderedDict()  # monotonic times, the earliest first
        self._thread: threading.Thread | None = None
        self._stopped = True
        self._wake = threading.Event()

    def start(self, room_ids: Iterable[str]) -> None:
        """Begin with these temporary rooms, as if they were used now."""
        self._stopped = False
        for room_id in room_ids:
            self.add(room_id)

    def stop(self) -> None:
        """Forget all rooms, and delete none any more."""
        with self._lock:
            self._stopped = True
            self._due.clear()
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join()

    def add(self, room_id: str) -> None:
        """Take note of a temporary room, which is used now."""
        with self._lock:
            if self._stopped:
                return
            self._set_used(room_id)
            if self._thread is None:
                self._wake.clear()
                self._thread = threading.Thread(target=self._run, name="temporary rooms", daemon=True)
                self._thread.start()

    def touch(self, room_id: str) -> None:
        """Take note that a room is used, if it is temporary."""
        if room_id in self._due:
            with self._lock:
                if room_id in self._due:
                    self._set_used(room_id)

    def discard(self, room_id: str) -> None:
        """Forget a room."""
        with self._lock:
            self._due.pop(room_id, None)

    # In call order

    def _set_used(self, room_id: str) -> None:
        self._due[room_id] = time.monotonic() + self._seconds
        self._due.move_to_end(room_id)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._due:
                    self._thread = None
                    return
                room_id, at = next(iter(self._due.items()))
                seconds = at - time.monotonic()
                if seconds <= 0:
                    if self.has_tab(room_id):
                        self._set_used(room_id)
                        continue
                    del self._due[room_id]
            if seconds > 0:
                self._wake.wait(seconds)
            else:
                self._expire(room_id)

    def _expire(self, room_id: str) -> None:
        try:
            self._delete(room_id)
        except NoSuchRoom:
            pass
        except StorageUnavailable as error:
            log.error("temporary room %s could not be deleted and is tried again: %s", room_id, error)
            self.add(room_id)
        except StorageError as error:
            log.error("temporary room %s could not be deleted; the next start tries again: %s", room_id, error)
        except Exception:
            log.exception("temporary room %s could not be deleted", room_id)
