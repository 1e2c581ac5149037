"""Facets: named child objects, each with a SQLite file of its own and its calls one at a time.

After the platform primitive of the same name (Cloudflare Durable Objects, `ctx.facets`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Concatenate, Generic, ParamSpec, Protocol, TypeVar
from weakref import WeakValueDictionary

from overseer.storage.database import RunInThread, Storage, remove, run_inline

MAX_NAME = 256  # bytes
MAX_STEM = 200  # bytes of a name that can be a file's
DELETED = "facet was deleted"


class Child(Protocol):
    """What runs inside a facet."""

    def idle(self) -> bool:
        """Whether it may be dropped from memory just now."""

    def close(self) -> None:
        """End what runs, before the file is closed."""


T = TypeVar("T", bound=Child)
P = ParamSpec("P")
R = TypeVar("R")
Start = Callable[[Storage], T]


class FacetAborted(Exception):
    """The facet was aborted or deleted; the message is the reason that was given."""


class Slot(Generic[T]):
    """A name: one lock for all that is ever done with its file, and the one facet that has it open.

    It outlives an aborted facet, so that the next one of the name waits until the last call on that has ended.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.running: Facet[T] | None = None
        self.calls = 0


class Facet(Generic[T]):
    """A handle on a named child. Holding one opens nothing; the first call does."""

    def __init__(self, name: str, storage: Storage, start: Start[T], slot: Slot[T], facets: Facets[T]) -> None:
        self.name = name
        self._storage = storage
        self._start = start
        self._slot = slot
        self._child: T | None = None
        self._reason: str | None = None
        self._facets = facets

    def call(self, method: Callable[Concatenate[T, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a method on the child, opened if need be, when every earlier call has ended.

        Raises FacetAborted if the facet was aborted before the call came to its end.
        """
        with self._slot.lock:
            self._check()
            if self._child is not None and not self._slot.calls and not self._storage.in_place():
                self._close()  # its file was removed or replaced: what it stores from now on would be lost
            child = self._child or self._open()
            self._slot.calls += 1
            try:
                return method(child, *args, **kwargs)
            finally:
                self._slot.calls -= 1
                self._check()
                self._facets.called(self)

    def restart_with(self, start: Start[T]) -> None:
        """Use `start` the next time the child is opened; one that runs takes no notice."""
        self._start = start

    def hurry(self, until: float) -> None:
        """Let the file wait for no other program beyond that time."""
        self._storage.patient_until = until

    def abort(self, reason: str) -> None:
        """Stop the child and make calls in flight and later ones on this handle raise `reason`."""
        self._reason = reason
        with self._slot.lock:
            self._close()

    def evict(self) -> bool:
        """Drop the child from memory if nobody is using it; the next call brings it back."""
        if not self._slot.lock.acquire(blocking=False):
            return False
        try:
            # The lock lets its own thread in again, from the middle of a call.
            if self._slot.calls or (self._child is not None and not self._child.idle()):
                return False
            self._close()
            self._facets.dropped(self)
            return True
        finally:
            self._slot.lock.release()

    def _open(self) -> T:
        if self._slot.running is not None:
            self._slot.running._close()  # aborted, and about to be closed by who aborted it
        try:
            self._child = self._start(self._storage)
        except BaseException:
            self._storage.close()
            raise
        self._slot.running = self
        return self._child

    def _close(self) -> None:
        child, self._child = self._child, None
        try:
            if child is not None:
                child.close()
        finally:
            if self._slot.running is self:
                self._slot.running = None
            self._storage.close()

    def _check(self) -> None:
        if self._reason is not None:
            raise FacetAborted(self._reason)


class Facets(Generic[T]):
    """The facets of one parent: a folder of SQLite files, at most one running object per name.

    At most `limit` stay open while idle; the least recently used is closed first, never one that is busy, and
    `closed` is told its name. Commits are made by `run_in_thread`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limit: int = 50,
        closed: Callable[[str], None] = lambda name: None,
        run_in_thread: RunInThread = run_inline,
    ) -> None:
        self._directory = directory
        self._run_in_thread = run_in_thread
        self._limit = limit
        self._closed = closed
        self._lock = threading.Lock()
        # Weak: a name has one slot and one facet for as long as anybody holds them, and none afterwards.
        self._slots: WeakValueDictionary[str, Slot[T]] = WeakValueDictionary()
        self._facets: WeakValueDictionary[str, Facet[T]] = WeakValueDictionary()
        self._open: OrderedDict[str, Facet[T]] = OrderedDict()

    def get(self, name: str, start: Start[T]) -> Facet[T]:
        """A handle on the facet `name`. Starts nothing: the first call opens the file and runs `start`."""
        path = self.path(name)
        with self._lock:
            facet = self._facets.get(name)
            if facet is None:
                slot = self._slot(name)
                facet = Facet(name, Storage(path, lock=slot.lock, run_in_thread=self._run_in_thread), start, slot, self)
                self._facets[name] = facet
            facet.restart_with(start)
            return facet

    def exists(self, name: str) -> bool:
        """Whether the facet has a file."""
        return self.path(name).exists()

    def names(self) -> set[str]:
        """The names of all facets that have a file."""
        return {path.stem for path in self._directory.glob("*.sqlite")}

    def path(self, name: str) -> Path:
        """Where the facet keeps its data. Raises ValueError for what is no name."""
        if not name or len(name.encode()) > MAX_NAME or name.startswith(".") or any(c in name for c in "/\\\0"):
            raise ValueError(f"{name!r} is no name for a facet")
        # File systems stop at 255 bytes, suffixes included.
        stem = name if len(name.encode()) <= MAX_STEM else f"long-{sha256(name.encode()).hexdigest()}"
        return self._directory / f"{stem}.sqlite"

    def abort(self, name: str, reason: str) -> None:
        """Stop the facet; its file stays. Calls on handles given out so far raise `reason`."""
        facet = self._take(name)
        if facet is not None:
            facet.abort(reason)

    def delete(self, name: str) -> None:
        """Stop the facet and remove its three files; an unknown name is no error."""
        path = self.path(name)
        with self._lock:
            slot = self._slot(name)
        self.abort(name, DELETED)
        with slot.lock:
            self.abort(name, DELETED)  # who came in between
            remove(path)

    def hurry(self, until: float) -> None:
        """Let no open file wait for another program beyond that time, by the monotonic clock."""
        with self._lock:
            for facet in self._open.values():
                facet.hurry(until)

    def close(self, reason: str) -> None:
        """Stop every open facet."""
        with ExitStack() as stack:  # one that cannot be closed keeps no other open
            for name in list(self._open):
                stack.callback(self.abort, name, reason)

    # What a facet tells

    def called(self, facet: Facet[T]) -> None:
        """A facet was used: keep it open, and close those that were not for long."""
        with self._lock:
            if self._facets.get(facet.name) is not facet:
                return  # aborted just now
            self._open[facet.name] = facet
            self._open.move_to_end(facet.name)
            surplus = list(self._open.values())[: -self._limit] if len(self._open) > self._limit else []
        for idle in surplus:
            if idle is not facet:
                idle.evict()

    def dropped(self, facet: Facet[T]) -> None:
        """A facet has closed its file."""
        with self._lock:
            if self._open.get(facet.name) is facet:
                del self._open[facet.name]
        self._closed(facet.name)

    # In call order

    def _slot(self, name: str) -> Slot[T]:
        slot = self._slots.get(name)
        if slot is None:
            slot = self._slots[name] = Slot()
        return slot

    def _take(self, name: str) -> Facet[T] | None:
        """The facet of this name, which is nobody's from now on but of those who hold it."""
        with self._lock:
            self._open.pop(name, None)
            return self._facets.pop(name, None)
