"""Search: keeps the index in step with the rooms, in a thread, and finds what people look for."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from overseer.domain.errors import StorageError, StorageUnavailable
from overseer.domain.events import (
    MessageAdded,
    MessagesDeleted,
    RoomConfigured,
    RoomCreated,
    RoomEvent,
    RoomSynced,
    TurnEnded,
)
from overseer.domain.search import Found, Hit, Query, snippet
from overseer.storage.database import RunInThread, beside, file_identity
from overseer.storage.instance_lock import room_file
from overseer.storage.search_index import SEARCH_FILE, IndexBroken, SearchIndex, read_texts, same_file, stamp_of

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

PAGE_HITS = 20
DELAY_SECONDS = 0.3  # after an event, so that those that follow are handled at once
PURGE_WAIT_SECONDS = 2.0  # for the words of a deleted room to be removed from the file
OPEN_WAIT_SECONDS = 2.0  # for an index that is being opened
RETRY_SECONDS = 5.0  # after an error such as a full disk
CLOSE_SECONDS = 1.0  # to handle what has not been
BEING_BUILT = "The search index is being built. Try again in a moment."
EVENTS = (RoomCreated, RoomConfigured, RoomSynced, MessageAdded, TurnEnded, MessagesDeleted)


class Search:
    """The index of one instance directory, and the thread that reads the rooms that have changed.

    Rooms are read from their files, so that none is opened for it. `names` returns the ids of all rooms, the least
    recently active first, and `fetch` brings a room's file if it is not here. The index may be behind by DELAY_SECONDS,
    and is rebuilt if it cannot be used.

    Two locks guard the two connections of the index, also while an operating-system thread uses them: `_writing` and
    `_reading`. Both are held to open, close or delete it, which only the thread and `stop` do. A room that is in
    `_editing` is read by nobody, so that what is being deleted does not return; that is looked up under `_writing`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        run_in_thread: RunInThread,
        names: Callable[[], list[str]],
        fetch: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self._directory = directory
        self._fetch = fetch
        self._index = SearchIndex(directory / SEARCH_FILE)
        self._run_in_thread = run_in_thread
        self._names = names
        self._writing = threading.RLock()
        self._reading = threading.Lock()
        self._queue: OrderedDict[str, None] = OrderedDict()  # rooms that may have changed
        self._suspects: set[str] = set()  # rooms that may lack something below the last number that was read
        self._add_again: dict[str, set[int]] = {}  # messages that were taken out, or had no text, by room
        self._removed_unseen: set[str] = set()  # rooms that were removed while the index was not open
        self._synced: set[str] = set()  # rooms that were read in this run
        self._closed_files: set[str] = set()  # rooms whose file was written back since
        self._editing: Counter[str] = Counter()
        self._total = 0  # rooms, while the index is built
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_open = False
        self._is_broken = False  # the thread deletes the index and makes a new one
        self._opened = threading.Event()

    # Start and stop

    def start(self, suspects: Iterable[str] = ()) -> None:
        """Start the thread. `suspects` are the rooms that were open when the process died, and may lack something."""
        self._stopping.clear()
        self._suspects, self._synced = set(suspects), set()
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, index what is left of the queue for CLOSE_SECONDS, and close the index.

        No room may be open any more.
        """
        self.end_thread()
        with suppress(IndexBroken, StorageError, OSError):
            deadline = time.monotonic() + CLOSE_SECONDS
            while self._is_open and self._queue and time.monotonic() < deadline:
                self._sync_next()
            self._closed_files |= self._synced
            self._note_closed_files()
        with self._writing, self._reading:
            self._is_open = False
            self._opened.clear()
            self._index.close()

    def end_thread(self) -> None:
        """Read no room any more: one that is read while it is closed keeps its WAL file."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def shrink(self) -> None:
        """Free the memory that SQLite uses as a cache."""
        with self._writing, self._reading:
            self._index.shrink()

    def build(self, progress: Callable[[int, int], None]) -> None:
        """Delete the index and make a new one, while the thread does not run."""
        self._index.delete()
        self._open()
        while self._queue:
            self._sync_next()
            progress(self._total - len(self._queue), self._total)
        self.stop()

    # Events

    def handle(self, event: RoomEvent) -> None:
        """Take note that a room may have new texts."""
        if isinstance(event, EVENTS):
            if isinstance(event, TurnEnded):
                self._add_again.setdefault(event.room_id, set()).add(event.number)
            self._enqueue(event.room_id)

    def note_closed(self, room_id: str) -> None:
        """Take note that the file of a room was closed, which writes its WAL file back."""
        self._closed_files.add(room_id)

    # Changes that the index has to be told of before they are made

    @contextmanager
    def removing(self, room_id: str) -> Iterator[None]:
        """Take a room out of the index, during the block that deletes its messages. Call `purge` afterwards."""
        with self._edited(room_id):
            self._change_index(self._remove_room, room_id)
            yield

    @contextmanager
    def changing(self, room_id: str, number: int | None) -> Iterator[None]:
        """Take a message out of the index, during the block that changes it. It is added again when it is finished."""
        with self._edited(room_id):
            if number is not None:
                self._change_index(self._remove_message, room_id, number)
                self._add_again.setdefault(room_id, set()).add(number)
            yield

    def purge(self) -> None:
        """Wait until the words of removed texts are not in the file any more, or for PURGE_WAIT_SECONDS."""
        deadline = time.monotonic() + PURGE_WAIT_SECONDS
        with suppress(IndexBroken, StorageError):  # the thread tries again
            while time.monotonic() < deadline and self._is_open and not self._purge():
                continue
        self._wake.set()

    # Queries

    def find(self, query: Query, *, room_id: str | None = None, after: int = 0, limit: int = PAGE_HITS) -> Found:
        """Return a page of hits after the first `after`, the best first. Raises StorageUnavailable."""
        with self._reading:
            if not self._is_open:
                raise StorageUnavailable(BEING_BUILT)
            try:
                search = self._index.search
                hits, cut = self._in_thread(search, query, room_id=room_id, after=after, limit=limit + 1)
            except IndexBroken as error:
                self._rebuild(error)
                raise StorageUnavailable(BEING_BUILT) from error
        hits = self._in_thread(self._with_snippets, hits, query)
        left = len(self._queue)
        progress = (max(0, self._total - left), self._total) if self._total and left else None
        following = after + limit if len(hits) > limit else None
        return Found(tuple(hits[:limit]), after=following, progress=progress, cut=cut)

    # In call order

    def _in_thread(self, function: Callable[Concatenate[P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in an operating-system thread, so that other greenlets run meanwhile."""
        result: list[R] = []
        self._run_in_thread(lambda: result.append(function(*args, **kwargs)))
        return result[0]

    def _file(self, room_id: str) -> Path:
        return room_file(self._directory, room_id)

    def _enqueue(self, room_id: str) -> None:
        self._queue[room_id] = None
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._is_broken or not self._is_open:
                    self._open()
                self._wake.wait()
                self._stopping.wait(DELAY_SECONDS)
                self._wake.clear()
                while self._queue and not (self._is_broken or self._stopping.is_set()):
                    began = time.monotonic()
                    self._sync_next()
                    if self._total:  # it is being built, which takes at most half of the time
                        self._stopping.wait(time.monotonic() - began)
                if self._is_broken or self._stopping.is_set():
                    continue
                self._total = 0
                self._note_closed_files()
                while not (self._is_broken or self._stopping.is_set() or self._purge()):
                    self._stopping.wait(0)
            except IndexBroken as error:
                self._rebuild(error)
            except (StorageError, OSError) as error:
                if not self._stopping.is_set():
                    log.error("the search index cannot be written: %s", error)
                self._pause()
            except Exception:
                log.exception("the search index is not kept up to date")
                self._pause()

    def _pause(self) -> None:
        self._stopping.wait(RETRY_SECONDS)
        self._wake.set()

    def _open(self) -> None:
        """Open the index, and queue the rooms whose files have changed since they were read."""
        with self._writing, self._reading:
            if self._is_broken:
                self._in_thread(self._index.delete)
            self._is_broken = self._is_open = False
            self._in_thread(self._index.open)
            names = self._names()
            known = self._in_thread(self._index.stamps)
            # Without their texts, the words of these rooms cannot be taken out.
            gone = known.keys() - set(names) | known.keys() & self._removed_unseen
            self._removed_unseen.clear()
            if gone:
                raise IndexBroken(f"{len(gone)} rooms in it were deleted")
            changed = self._in_thread(self._changed, names, known)
            for room_id in [*changed, *(self._suspects & set(names))]:
                self._queue[room_id] = None
            self._total = len(self._queue)
            self._is_open = True
        self._opened.set()
        self._wake.set()

    def _changed(self, names: list[str], known: dict[str, str]) -> list[str]:
        """Return the rooms whose files are not as they were read. Those that are not the same file are suspects."""
        changed = []
        for name in names:
            stamp = stamp_of(self._file(name))
            if known.get(name) != stamp or not stamp:
                changed.append(name)
                if name in known and not same_file(known[name], stamp):
                    self._suspects.add(name)
        return changed

    def _rebuild(self, error: Exception) -> None:
        """Let the thread delete the index, and make a new one. Needs no lock."""
        if not self._is_broken:
            log.error("the search index is built anew: %s", error)
        self._is_broken = True
        self._opened.clear()
        self._wake.set()

    def _sync_next(self) -> None:
        room_id = next(iter(self._queue))
        self._fetch(self._file(room_id))
        self._queue.pop(room_id, None)
        with self._writing:
            if self._editing[room_id]:
                return  # it is queued again afterwards
            try:
                if self._in_thread(self._sync, room_id):
                    self._queue[room_id] = None
                self._synced.add(room_id)
            except StorageUnavailable:  # the file is locked, or the disk full
                self._queue[room_id] = None
                raise
            except (FileNotFoundError, StorageError) as error:
                log.debug("room %s is not in the search index: %s", room_id, error)
            except BaseException:
                self._queue[room_id] = None
                raise

    def _sync(self, room_id: str) -> bool:
        file = self._file(room_id)
        if room_id in self._suspects:
            self._index.repair(room_id, file)
            self._suspects.discard(room_id)
        for number in list(self._add_again.get(room_id, ())):
            if self._index.add_message(room_id, number, file):
                self._add_again[room_id].discard(number)
        if not self._add_again.get(room_id):
            self._add_again.pop(room_id, None)
        return self._index.sync(room_id, file)

    def _note_closed_files(self) -> None:
        closed, self._closed_files = self._closed_files, set()
        for room_id in closed:
            with self._writing:
                if room_id in self._add_again or room_id in self._suspects:
                    self._in_thread(self._index.note_incomplete, room_id)
                elif room_id not in self._queue:
                    self._in_thread(self._index.note_unchanged, room_id, self._file(room_id))

    def _purge(self) -> bool:
        with self._writing, self._reading:  # a reader would keep the WAL file from being truncated
            return self._is_open and not self._is_broken and self._in_thread(self._index.purge)

    @contextmanager
    def _edited(self, room_id: str) -> Iterator[None]:
        """Keep the thread from reading a room meanwhile."""
        self._editing[room_id] += 1
        try:
            yield
        finally:
            self._editing[room_id] -= 1
            if not self._editing[room_id]:
                del self._editing[room_id]
            self._enqueue(room_id)

    def _change_index(self, function: Callable[Concatenate[P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Change the index. An error does not keep the room from being changed: the index is built anew then."""
        if self._thread is not None and not self._is_broken:
            self._opened.wait(OPEN_WAIT_SECONDS)
        try:
            with self._writing:
                function(*args, **kwargs)
        except (IndexBroken, StorageError, OSError) as error:
            self._rebuild(error)

    def _remove_room(self, room_id: str) -> None:
        self._add_again.pop(room_id, None)
        self._suspects.discard(room_id)
        if not self._is_open or self._is_broken:
            self._removed_unseen.add(room_id)
        elif self._in_thread(self._index.has, room_id):
            while not self._in_thread(self._index.remove_room, room_id, self._file(room_id)):
                continue

    def _remove_message(self, room_id: str, number: int) -> None:
        if not self._is_open or self._is_broken:
            self._suspects.add(room_id)
        else:
            self._in_thread(self._index.remove_message, room_id, number, self._file(room_id))

    def _with_snippets(self, hits: list[Hit], query: Query) -> list[Hit]:
        texts: dict[Hit, str] = {}
        for room, of_room in groupby(sorted(hits, key=attrgetter("room_id")), key=attrgetter("room_id")):
            some = [hit for hit in of_room if hit.message]
            with suppress(StorageError, FileNotFoundError):  # deleted meanwhile
                places = [(hit.message, hit.kind) for hit in some]
                texts.update(zip(some, read_texts(self._file(room), places), strict=True) if some else ())
        return [replace(hit, snippet=snippet(texts[hit], query)) if hit in texts else hit for hit in hits]


def open_during_crash(directory: Path, names: Iterable[str]) -> list[str]:
    """Return the rooms whose WAL files have something in them: they were open when the process died."""
    sizes = ((name, file_identity(beside(room_file(directory, name), "-wal"))) for name in names)
    return [name for name, wal in sizes if wal is not None and wal.size]
