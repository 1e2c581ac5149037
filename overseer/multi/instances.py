"""The open Overseers of a server: each is opened when it is first used, and closed when it has been idle."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from overseer.domain.errors import NoSuchOverseer
from overseer.multi.directory import NO_SUCH_OVERSEER, Directory, Identity
from overseer.multi.memory import GarbageCollector, release_free_memory
from overseer.multi.rounds import Rounds
from overseer.storage.database import RunInThread, run_inline
from overseer.web.extensions import Instance

log = logging.getLogger(__name__)

MAX_OPEN = 1000  # idle ones beyond it are closed, the least recently used first
IDLE_SECONDS = 600.0  # after which one is closed
MAX_WARM = 32  # whose caches are kept in memory
WARM_SECONDS = 10.0  # for which they are kept after a request
SWEEP_SECONDS = 2.0  # between two looks for those that are idle, were removed, or have another password

Build = Callable[[Path, str], Instance]


class Entry:
    """An open Overseer, with the number of requests that use it; WebSockets are requests too."""

    def __init__(self, instance: Instance, identity: Identity, now: float) -> None:
        self.instance = instance
        self.identity = identity
        self.users = 0
        self.used_at = now
        self.closed = threading.Event()

    def is_idle(self) -> bool:
        """Whether nothing uses the Overseer: no request, no tab and no turn."""
        return not self.users and self.instance.overseer.is_idle()


class Instances:
    """Opens and closes the Overseers of a directory. `build(path, password)` makes what serves one.

    At most `limit` of them stay open while they are idle. Nothing is kept in memory of one that is closed. `on_idle` is
    called with the name of one that was closed because nobody uses it.
    """

    def __init__(
        self,
        directory: Directory,
        build: Build,
        *,
        limit: int = MAX_OPEN,
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        run_in_thread: RunInThread = run_inline,
        on_idle: Callable[[str], None] | None = None,
    ) -> None:
        self._on_idle = on_idle
        self._directory = directory
        self._build = build
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._run_in_thread = run_in_thread
        # Reentrant: garbage collection may end a response that nobody has closed while this thread has the lock.
        self._lock = threading.RLock()
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # the least recently used first
        self._warm: OrderedDict[str, None] = OrderedDict()  # those that may have something cached
        self._closing: dict[str, Entry] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._is_started = False
        self.rounds = Rounds()
        self._collector = GarbageCollector()

    def open(self) -> None:
        """Lock the directory, and close idle Overseers from now on. Return at once if that is done.

        Raises InstanceError if the directory cannot be used.
        """
        with self._lock:
            if self._is_started or self._stopping.is_set():
                return
            self._directory.acquire()
            self._is_started = True
            threading.Thread(target=self._run, name="overseers", daemon=True).start()
            self.rounds.start()

    @contextmanager
    def use(self, name: str) -> Iterator[Instance]:
        """Keep an Overseer open during the block. Raises NoSuchOverseer, or InstanceError.

        Its files are opened by the first request that is authorized.
        """
        entry = self._acquire(name)
        try:
            yield entry.instance
        finally:
            with self._lock:
                entry.users -= 1
                entry.used_at = self._clock()

    def is_gone(self, name: str, instance: Instance) -> bool:
        """Return whether an Overseer was removed, or got another password, after `use` has returned this."""
        with self._lock:
            entry = self._entries.get(name)
            return entry is None or entry.instance is not instance or entry.identity != self._directory.identity(name)

    def sweep(self) -> None:
        """Close the Overseers that were removed, have another password, or are idle for too long or too many."""
        for number, name in enumerate(list(self._entries)):
            if number % 20 == 0:
                time.sleep(0)  # let other greenlets run
            with self._lock:
                entry = self._entries.get(name)
                if entry is None or not self._is_outdated(name, entry):
                    continue
                self._begin_closing(name)
            self._end_closing(name)
            if self._on_idle is not None:
                self._on_idle(name)
        self._shrink()
        self._collector.exempt(len(self._entries))

    def is_open(self, name: str) -> bool:
        """Return whether an Overseer is open."""
        return name in self._entries

    def close_one(self, name: str) -> None:
        """Close an Overseer, and every tab of it. The next request opens it again."""
        with self._lock:
            closing = self._closing.get(name)
            if closing is None:
                if name not in self._entries:
                    return
                self._begin_closing(name)
        if closing is None:
            self._end_closing(name)
        else:
            closing.closed.wait()

    def close(self) -> None:
        """Close all Overseers, and unlock the directory. None is opened any more."""
        self._stopping.set()
        self._wake.set()
        self.rounds.stop()
        with ExitStack() as stack:
            stack.callback(self._directory.release)
            with self._lock:
                names = list(self._entries)
                for name in names:
                    self._begin_closing(name)
            for name in names:
                stack.callback(self._end_closing, name)

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._entries)

    # In call order

    def _acquire(self, name: str) -> Entry:
        while True:
            with self._lock:
                if (closing := self._closing.get(name)) is None:
                    identity, entry = self._directory.identity(name), self._entries.get(name)
                    if entry is None or entry.identity == identity:
                        entry = entry or self._new_entry(name, identity)
                        entry.users += 1
                        entry.used_at = self._clock()
                        self._entries.move_to_end(name)
                        self._warm[name] = None
                        self._warm.move_to_end(name)
                        if len(self._warm) > 2 * MAX_WARM or len(self._entries) > self._limit:
                            self._wake.set()
                        return entry
                    self._begin_closing(name)
            if closing is None:
                self._end_closing(name)
            else:
                closing.closed.wait()

    def _new_entry(self, name: str, identity: Identity | None) -> Entry:
        if identity is None or self._stopping.is_set():
            raise NoSuchOverseer(NO_SUCH_OVERSEER)
        instance = self._build(self._directory.path(name), self._directory.password(name))
        entry = self._entries[name] = Entry(instance, identity, self._clock())
        return entry

    def _is_outdated(self, name: str, entry: Entry) -> bool:
        if entry.identity != self._directory.identity(name):
            return True
        is_surplus = len(self._entries) > self._limit or self._clock() - entry.used_at >= self._idle_seconds
        return is_surplus and entry.is_idle()

    def _shrink(self) -> None:
        """Free the caches of all but the MAX_WARM Overseers that were used last, and of those not used lately."""
        shrunk = False
        while True:
            with self._lock:
                name = next(iter(self._warm), None)
                if name is None:
                    break
                entry = self._entries.get(name)
                is_fresh = entry is not None and self._clock() - entry.used_at < WARM_SECONDS
                if is_fresh and len(self._warm) <= MAX_WARM:
                    break
                del self._warm[name]
            if entry is not None:
                entry.instance.shrink()
                shrunk = True
                time.sleep(0)  # let other greenlets run
        if shrunk:
            self._run_in_thread(release_free_memory)

    def _begin_closing(self, name: str) -> None:
        """Let nobody use an Overseer any more. With the lock held."""
        self._closing[name] = self._entries.pop(name)

    def _end_closing(self, name: str) -> None:
        """Close the files of an Overseer, without the lock: that takes time."""
        entry = self._closing[name]
        try:
            entry.instance.close()
        except Exception:
            log.exception("%s could not be closed", name)
        finally:
            with self._lock:
                del self._closing[name]
                self._collector.note_closed()
            entry.closed.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(SWEEP_SECONDS)
            self._wake.clear()
            try:
                self.sweep()
            except Exception:
                log.exception("idle Overseers could not be closed")
