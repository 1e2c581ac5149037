"""Facets: named child objects, each with its own SQLite file. Calls on one facet are serialized.

Modelled on Cloudflare Durable Objects facets (`ctx.facets`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Concatenate, Generic, ParamSpec, Protocol, TypeVar
from weakref import WeakValueDictionary

from overseer.storage.database import RunInThread, Storage, file_identity, flush, remove, run_inline
from overseer.storage.replication import Replication
from overseer.storage.snapshot import copy

DELETED = "facet was deleted"
MAX_NAME_BYTES = 256


class Child(Protocol):
    """The object that runs inside a facet."""

    def idle(self) -> bool:
        """Return whether the child can be dropped from memory now."""

    def close(self) -> None:
        """Stop background work before the file is closed."""


T = TypeVar("T", bound=Child)
P = ParamSpec("P")
R = TypeVar("R")
Start = Callable[[Storage], T]


class FacetAborted(Exception):
    """The facet was aborted or deleted; the message is the reason that was given."""


class Slot(Generic[T]):
    """The lock of one facet name and the facet that has the file open.

    A slot outlives an aborted facet: the next facet of the same name waits for the last call on the aborted one.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.running: Facet[T] | None = None
        self.calls = 0


class Facet(Generic[T]):
    """One facet: runs calls on its child one at a time. The first call opens the file and runs `start`."""

    def __init__(self, name: str, storage: Storage, start: Start[T], slot: Slot[T], facets: Facets[T]) -> None:
        self.name = name
        self.storage = storage
        self.start = start
        self._slot = slot
        self._child: T | None = None
        self._abort_reason: str | None = None
        self._facets = facets

    def call(self, method: Callable[Concatenate[T, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a method on the child after all earlier calls have ended. Opens the child if necessary.

        Raises FacetAborted if the facet is aborted before the call ends.
        """
        with self._slot.lock:
            self._check_not_aborted()
            if self._child is not None and not self._slot.calls and not self.storage.in_place():
                self._close()  # the file was removed or replaced: further writes to it would be lost
            child = self._child or self._open()
            self._slot.calls += 1
            try:
                return method(child, *args, **kwargs)
            finally:
                self._slot.calls -= 1
                self._check_not_aborted()
                self._facets.mark_used(self)

    def abort(self, reason: str) -> None:
        """Stop the child. Running and later calls on this handle raise FacetAborted with `reason`."""
        self._abort_reason = reason
        with self._slot.lock:
            self._close()

    @property
    def is_open(self) -> bool:
        """Whether the child runs. Without the lock, it is a hint."""
        return self._child is not None

    def is_idle(self) -> bool:
        """Return whether the child could be dropped now. Without the lock, it is a hint."""
        child = self._child
        return not self._slot.calls and (child is None or child.idle())

    def evict(self) -> bool:
        """Drop the child from memory if it is idle and return whether it was. The next call opens it again."""
        if not self._slot.lock.acquire(blocking=False):
            return False
        try:
            # The lock is reentrant: this thread may be inside a call on this facet.
            if not self.is_idle():
                return False
            self._close()
            self._facets.mark_closed(self)
            return True
        finally:
            self._slot.lock.release()

    def _open(self) -> T:
        if self._slot.running is not None:
            self._slot.running._close()  # it was aborted, and the aborting thread has not closed it yet
        try:
            self._child = self.start(self.storage)
        except BaseException:
            self.storage.close()
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
            self.storage.close()

    def _check_not_aborted(self) -> None:
        if self._abort_reason is not None:
            raise FacetAborted(self._abort_reason)


class Facets(Generic[T]):
    """The facets of one parent: a folder of SQLite files with at most one running child per name.

    At most `limit` idle facets stay open. The least recently used is closed first and its name is passed to
    `on_close`; a busy facet is never closed. Commits are made by `run_in_thread`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limit: int = 50,
        on_close: Callable[[str], None] = lambda name: None,
        run_in_thread: RunInThread = run_inline,
        replication: Replication | None = None,
    ) -> None:
        self._directory = directory
        self._run_in_thread = run_in_thread
        self._replication = replication
        self._limit = limit
        self._on_close = on_close
        self._lock = threading.Lock()
        # Weak references: the slot and the facet of a name exist only while something holds them.
        self._slots: WeakValueDictionary[str, Slot[T]] = WeakValueDictionary()
        self._facets: WeakValueDictionary[str, Facet[T]] = WeakValueDictionary()
        self._open: OrderedDict[str, Facet[T]] = OrderedDict()

    def get(self, name: str, start: Start[T]) -> Facet[T]:
        """Return a handle on the facet `name`. The first call on it opens the file and runs `start`."""
        path = self.path(name)
        with self._lock:
            facet = self._facets.get(name)
            if facet is None:
                slot = self._slot(name)
                storage = Storage(
                    path, lock=slot.lock, run_in_thread=self._run_in_thread, replication=self._replication
                )
                facet = Facet(name, storage, start, slot, self)
                self._facets[name] = facet
            facet.start = start
            return facet

    def path(self, name: str) -> Path:
        """Return the path of the facet's file. Raises ValueError if the name is too long."""
        if len(name.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"the name of a facet has at most {MAX_NAME_BYTES} bytes")
        return self._directory / f"{name}.sqlite"

    def abort(self, name: str, reason: str) -> None:
        """Stop the facet and keep its file. Calls on existing handles raise FacetAborted with `reason`."""
        facet = self._detach(name)
        if facet is not None:
            facet.abort(reason)

    def delete(self, name: str) -> None:
        """Stop the facet and remove its three files, and their copies. Does nothing if the facet does not exist."""
        path = self.path(name)
        with self._lock:
            slot = self._slot(name)
        self.abort(name, DELETED)
        with slot.lock:
            self.abort(name, DELETED)  # a handle created between the first abort and the lock
            remove(path)
            if self._replication is not None:
                self._replication.removed(path)

    def clone(self, source: str, target: str, change: Callable[[sqlite3.Connection], None] | None = None) -> None:
        """Replace the facet `target` by a copy of `source`, which goes on meanwhile.

        The copy is one committed state of the file, and appears at once, with `change` made in it. Raises
        FileNotFoundError if there is no `source`, and StorageError if it cannot be copied.
        """
        source_path, target_path = self.path(source), self.path(target)
        self.delete(target)
        with self._lock:
            slot = self._slot(target)
        with slot.lock:
            self._run_in_thread(partial(copy, source_path, target_path, change))
            if self._replication is not None:
                self._replication.committed(target_path, durable=True)

    def adopt(self, name: str, path: Path) -> bool:
        """Move a finished file to the facet `name`, unless that exists. Return whether it was moved.

        The move itself is on the disk after `flush_directory`.
        """
        target = self.path(name)
        with self._lock:
            slot = self._slot(name)
        with slot.lock:
            if file_identity(target) is not None:
                return False
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            if self._replication is not None:
                self._replication.committed(target, durable=True)
            return True

    def flush_directory(self) -> None:
        """Wait until the disk has the names of the files."""
        self._run_in_thread(partial(flush, self._directory))

    def is_idle(self) -> bool:
        """Return whether every open facet could be closed now. It is a hint."""
        with self._lock:
            return all(facet.is_idle() for facet in self._open.values())

    def close_idle(self) -> None:
        """Close the files of all facets that are idle. The next call opens one again."""
        with self._lock:
            facets = list(self._open.values())
        for facet in facets:
            facet.evict()

    def set_busy_deadline(self, deadline: float) -> None:
        """Let no open facet wait for other programs' locks after `deadline`, a time of the monotonic clock."""
        with self._lock:
            for facet in self._open.values():
                facet.storage.busy_deadline = deadline

    def close(self, reason: str) -> None:
        """Abort every open facet."""
        with ExitStack() as stack:  # an error in one does not keep the others open
            for name in list(self._open):
                stack.callback(self.abort, name, reason)

    # Callbacks of Facet

    def mark_used(self, facet: Facet[T]) -> None:
        """Record a call on a facet and evict the least recently used ones beyond the limit."""
        with self._lock:
            if self._facets.get(facet.name) is not facet:
                return  # aborted meanwhile
            self._open[facet.name] = facet
            self._open.move_to_end(facet.name)
            if len(self._open) <= self._limit:
                return
            # Busy ones do not count: a facet that has just finished is about to be read.
            idle = [one for one in self._open.values() if one.is_idle()]
        for candidate in idle[: -self._limit]:
            if candidate is not facet:
                candidate.evict()

    def mark_closed(self, facet: Facet[T]) -> None:
        """Record that an idle facet has closed its file."""
        with self._lock:
            if self._open.get(facet.name) is facet:
                del self._open[facet.name]
        self._on_close(facet.name)

    # In call order

    def _slot(self, name: str) -> Slot[T]:
        slot = self._slots.get(name)
        if slot is None:
            slot = self._slots[name] = Slot()
        return slot

    def _detach(self, name: str) -> Facet[T] | None:
        """Forget the facet of this name and return it; only existing handles still refer to it."""
        with self._lock:
            self._open.pop(name, None)
            return self._facets.pop(name, None)
