"""Overseer, the parent of all rooms: it keeps the registry, runs calls in the rooms and delivers their events.

`event_queue` explains the locks and the order of events.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Concatenate, NamedTuple, ParamSpec, TypeVar, cast
from weakref import WeakValueDictionary

from overseer.domain.errors import (
    InstanceError,
    NoSuchRoom,
    StorageDamaged,
    StorageEmpty,
    StorageError,
    StorageReplaced,
    StorageUnavailable,
)
from overseer.domain.events import (
    ContextStartMoved,
    MessageAdded,
    PartAdded,
    PartChanged,
    PartGrew,
    RoomCreated,
    RoomDeleted,
    RoomEvent,
    RoomSynced,
    ShareRevoked,
    TurnDelayed,
    TurnEnded,
    TurnStarted,
)
from overseer.domain.records import ROOM_ID, Room, RoomList, Summary
from overseer.domain.search import Found, Query
from overseer.domain.shares import ADDRESS, Share, Visit
from overseer.domain.text import NEW_ROOM, clean, fork_name, idempotency_key, question, room_name
from overseer.llm import Models
from overseer.rooms.chat_room import INTERRUPTED, ChatRoom, Limits
from overseer.rooms.event_queue import EventQueue
from overseer.rooms.imports import Imports, NewFile
from overseer.rooms.room_handle import RoomHandle
from overseer.rooms.search import PAGE_HITS, Search, open_during_crash
from overseer.rooms.temporary import TEMPORARY_SECONDS, TemporaryRooms
from overseer.storage.database import (
    BUSY_SECONDS,
    RunInThread,
    Storage,
    beside,
    file_identity,
    quarantine,
    remove_unfinished_copies,
    run_inline,
)
from overseer.storage.facets import DELETED, Facet, FacetAborted, Facets
from overseer.storage.import_log import ImportLog
from overseer.storage.instance_lock import REGISTRY_FILE, InstanceLock, room_file, room_ids
from overseer.storage.registry import PAGE, Registry
from overseer.storage.replication import Replication
from overseer.storage.room_copy import RoomCopy, export
from overseer.storage.room_rows import now
from overseer.storage.room_store import make_fork
from overseer.tools.toolbox import TOOLS, StartThread, Toolbox, in_thread

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
Listener = Callable[[RoomEvent], None]

OPEN_FACETS = 50  # idle rooms whose files stay open
SHUTTING_DOWN = "The server is shutting down. Try again in a moment."
FILE_TIME_TICK_MS = 20  # the kernel rounds the times of files down to its timer tick
SHOWN_OF_SUMMARY = ("name", "messages", "preview", "answering", "pinned", "archived", "temporary")
EVENTS_THAT_KEEP_SUMMARY = (
    *(PartAdded, PartGrew, PartChanged, TurnDelayed, TurnStarted),
    *(ContextStartMoved, ShareRevoked),
)


class QueuedEvent(NamedTuple):
    """An event of a room, and the room's summary after it. Either may be None.

    `summarized_at` is the time of the summary (UTC milliseconds). `active` moves the room to the top of the list.
    """

    room_id: str
    event: RoomEvent | None
    summary: Summary | None = None
    active: bool = False
    summarized_at: int = 0


class Overseer:
    """The rooms of one instance directory. Only one process may use a directory at a time.

    Every method that takes a room id raises NoSuchRoom if there is no such room, StorageError if its file cannot be
    used, and StorageUnavailable if it cannot be used at the moment. `run_in_thread` runs the commits, and
    `start_thread` starts the threads of tools. With a `replication`, rooms that are not here are brought when they are
    opened. Temporary rooms are deleted `temporary_seconds` after their last use. `clock` returns the time at which
    shares expire, in UTC milliseconds.
    """

    def __init__(
        self,
        directory: Path,
        *,
        models: Models,
        limits: Limits | None = None,
        open_facets: int = OPEN_FACETS,
        run_in_thread: RunInThread = run_inline,
        start_thread: StartThread = in_thread,
        replication: Replication | None = None,
        temporary_seconds: float = TEMPORARY_SECONDS,
        clock: Callable[[], int] = now,
    ) -> None:
        self.directory = directory
        self.temporary_rooms = TemporaryRooms(self._delete_temporary, seconds=temporary_seconds)
        self.clock = clock
        self._replication = replication
        self._run_in_thread = run_in_thread
        self._models = models
        self._limits = limits or Limits()
        self._tools = Toolbox(TOOLS, seconds=self._limits.tool_seconds, start_thread=start_thread)
        self._facets: Facets[ChatRoom] = Facets(
            directory / "facets",
            limit=open_facets,
            on_close=self._on_facet_closed,
            run_in_thread=run_in_thread,
            replication=None if replication is None else MarkedRooms(replication, self._mark_open),
        )
        self._listeners: dict[str | None, tuple[Listener, ...]] = {}  # by room id; None for all rooms
        self._queues: WeakValueDictionary[str, EventQueue[QueuedEvent]] = WeakValueDictionary()
        self._queues_lock = threading.Lock()
        self._listeners_lock = threading.Lock()
        self._opening = threading.Lock()
        self._creating = threading.Lock()
        self._lock = InstanceLock(directory)
        self._storage = Storage(directory / REGISTRY_FILE, run_in_thread=run_in_thread, replication=replication)
        self._registry: Registry | None = None
        self._search = Search(
            directory,
            run_in_thread=run_in_thread,
            names=lambda: self._require_registry().ids(),
            fetch=lambda path: None if replication is None else replication.fetch([path]),
        )
        self.subscribe(self._search.handle)
        self._stale: set[str] = set()  # the rooms whose summary in the registry is out of date
        self._broken: set[str] = set()  # rooms whose problem was recorded in this run
        self._marked: set[str] = set()  # rooms that are marked as open in the registry, if it is replicated
        self._closed = False
        self.imports = Imports(directory, self)

    # Open and close

    def open(self, *, reopen: bool = True) -> None:
        """Lock the directory, open the registry and repair what a crash left. Return at once if that is done.

        Without `reopen`, do nothing after `close`. Raises InstanceError if the directory cannot be used.
        """
        with self._opening:
            if self._closed and not reopen:
                return
            self._closed = False
            if self._registry is None:
                self._lock.acquire()
                try:
                    self._search.start(self._open_and_recover())
                    self.imports.open(ImportLog(self._storage))
                    self.temporary_rooms.start(self._require_registry().temporary_ids())
                except BaseException as error:
                    self._registry = None
                    with ExitStack() as stack:
                        stack.callback(self._lock.release)
                        stack.callback(self._facets.close, "the server did not start")
                    if isinstance(error, StorageError | OSError):
                        raise InstanceError(str(error)) from error
                    raise
            elif not self._storage.is_sound():
                log.error("%s was removed, replaced or written over while the server runs", self._storage.path.name)
                try:
                    self._open_and_recover()
                except OSError as error:
                    raise InstanceError(str(error)) from error
            self._refresh_stale()

    def close(self) -> None:
        """End every turn as interrupted, close all files and unlock the directory."""
        with self._opening:
            self._closed = True
            if self._registry is None:
                return
            self.imports.close()
            self.temporary_rooms.stop()
            self._facets.set_busy_deadline(time.monotonic() + BUSY_SECONDS)
            with suppress(StorageError):
                for room_id, (_, answering, _) in self._registry.synced().items():
                    if answering:
                        with suppress(NoSuchRoom, StorageError):
                            self.call(room_id, ChatRoom.stop_all, state="interrupted", reason=INTERRUPTED)
            # Calls from now on raise StorageUnavailable and open no file.
            registry, self._registry = self._registry, None
            with ExitStack() as stack:
                stack.callback(self._lock.release)
                stack.callback(self._storage.close)
                self._search.end_thread()
                self._facets.close("the server was shut down")
                queues = list(self._queues.values())
                for queue in queues:
                    queue.deliver(queue.last)
                self._search.stop()
                # Without this note, the next start reads the summaries from the rooms.
                if not self._stale and all(queue.is_delivered for queue in queues):
                    with suppress(StorageError):
                        registry.end_run()

    def is_idle(self) -> bool:
        """Return whether no room is being used, and no turn and no import runs. It is a hint."""
        return self._facets.is_idle() and self.imports.is_idle()

    def shrink(self) -> None:
        """Free the memory that is used as a cache: close the files of idle rooms, and drop what SQLite has cached."""
        with self._opening:
            if self._registry is not None:
                self._facets.close_idle()
                self._storage.shrink()
                self._search.shrink()

    def subscribe(self, listener: Listener, room_id: str | None = None) -> Callable[[], None]:
        """Call `listener` with every event from now on, or with those of one room. Return a function that ends this.

        Events of a room arrive in order and one at a time, in any thread and under no lock of a room. A listener that
        raises is logged; neither the room nor other listeners are affected.
        """
        with self._listeners_lock:
            self._listeners[room_id] = (*self._listeners.get(room_id, ()), listener)

        def unsubscribe() -> None:
            with self._listeners_lock:
                left = tuple(known for known in self._listeners.get(room_id, ()) if known is not listener)
                if left:
                    self._listeners[room_id] = left
                else:
                    self._listeners.pop(room_id, None)

        return unsubscribe

    # Commands

    def create(self, name: str | None = None, *, temporary: bool = False) -> Room:
        """Create a room. Without a name it is named after its first question. Raises Invalid."""
        by_person = name is not None
        name = NEW_ROOM if name is None else room_name(name)
        return self._create(secrets.token_hex(6), name, by_person=by_person, temporary=temporary)

    def create_for(self, text: str, *, key: str | None = None) -> Room:
        """Create a room for a first question. A key that was used before leads to the room of that time.

        Raises Invalid or TooLarge if the question or the key cannot be stored.
        """
        question(text)
        if (key := idempotency_key(key)) is None:
            return self.create()
        room_id = hashlib.sha256(key.encode()).hexdigest()[:12]
        with self._creating:
            try:
                return self.record(room_id)
            except NoSuchRoom:
                return self._create(room_id, NEW_ROOM, by_person=False)

    def empty_room(self) -> Room | None:
        """Return a room at the top of the list that nobody has used or named, or None."""
        unused = (room for room in self.rooms().rooms if room.name == NEW_ROOM and not room.messages)
        return next((room for room in unused if not (room.answering or room.problem or room.pinned)), None)

    def _create(self, room_id: str, name: str, *, by_person: bool, temporary: bool = False) -> Room:
        return self._add(
            self._facet(room_id, create=True),
            room_id,
            lambda chat_room: chat_room.begin(name, by_person=by_person, temporary=temporary),
        )

    def _add(self, facet: Facet[ChatRoom], room_id: str, begin: Callable[[ChatRoom], None] = lambda _: None) -> Room:
        """Add a room to the registry after `begin`. If that fails, delete its files."""
        try:
            facet.call(begin)
            summary = facet.call(ChatRoom.summary)
            self._require_registry().add(room_id, summary)
        except FacetAborted:
            raise StorageUnavailable(SHUTTING_DOWN) from None
        except BaseException:
            self._facets.delete(_facet_name(room_id))
            raise
        if summary.temporary:
            self.temporary_rooms.add(room_id)
        self._publish(RoomCreated(room_id))
        return self.record(room_id)

    def fork(self, room_id: str, *, upto: int | None = None) -> Room:
        """Create a room whose file is a copy of this one, without what follows message `upto` if that is given.

        This room goes on meanwhile. Raises NoSuchMessage.
        """
        room, fork_id = self.record(room_id), secrets.token_hex(6)
        self.call(room_id, ChatRoom.save)
        change = partial(make_fork, origin=room_id, upto=upto, name=fork_name(room.name))
        try:
            self._facets.clone(_facet_name(room_id), _facet_name(fork_id), change)
            self.record(room_id)
        except (FileNotFoundError, NoSuchRoom):
            self._facets.delete(_facet_name(fork_id))
            raise NoSuchRoom("This room was just deleted.") from None
        return self._add(self._facet(fork_id), fork_id)

    def delete(self, room_id: str) -> None:
        """Cancel the room's turn, and delete the room and its three files."""
        _check_id(room_id)
        self._require_registry().begin_deleting(room_id)
        self._end_deleting(room_id)

    def _delete_temporary(self, room_id: str) -> None:
        """Delete a room, unless it is not temporary any more."""
        registry = self._require_registry()

        def begin(chat_room: ChatRoom) -> bool:
            if is_temporary := chat_room.settings().temporary:
                registry.begin_deleting(room_id)
            return is_temporary

        if self.call(room_id, begin):  # with the room's lock, so that nobody keeps the room meanwhile
            log.info("room %s was temporary and is deleted", room_id)
            self._end_deleting(room_id)

    def _end_deleting(self, room_id: str) -> None:
        self.temporary_rooms.discard(room_id)
        try:
            # At once: calls of open rooms do not ask the registry whether the room exists.
            self._facets.abort(_facet_name(room_id), DELETED)
            with self._search.removing(room_id):
                self._remove(room_id)
        finally:
            self._models.forget(str(room_file(self.directory, room_id)))
            self._publish(RoomDeleted(room_id))
        self._search.purge()

    def clear(self, room_id: str) -> None:
        """Delete the messages of a room; see `ChatRoom.clear`."""
        self.record(room_id)
        with self._search.removing(room_id):
            self.call(room_id, ChatRoom.clear)
        self._search.purge()

    def find_share(self, address: str) -> Share | None:
        """Return the share with this address, or None. If there is no such room, no file is opened."""
        return self._at_share(address, ChatRoom.find_share)

    def visit_share(self, address: str) -> Visit | None:
        """Return the share with this address, with its page, and note the visit; None if there is none."""
        return self._at_share(address, ChatRoom.visit_share)

    def _at_share(self, address: str, method: Callable[[ChatRoom, str], R | None]) -> R | None:
        if (match := ADDRESS.fullmatch(address)) is None:
            return None
        with suppress(NoSuchRoom):
            return self.call(match[1], method, match[2])
        return None

    def resume(self, room_id: str, number: int | None = None) -> int:
        """Continue the last answer of a room; see `ChatRoom.resume`."""
        number = self.call(room_id, ChatRoom.end_of_path) if number is None else number
        with self._search.changing(room_id, number):
            return self.call(room_id, ChatRoom.resume, number)

    def reindex(self, progress: Callable[[int, int], None]) -> None:
        """Build the search index anew. Raises InstanceError if a server uses the directory."""
        self.open()
        self._search.stop()
        self._search.build(progress)
        self.close()

    # What an import does

    def source_of(self, room_id: str) -> str | None:
        """Return where a room was imported from, empty if it was not; None if there is no such room."""
        try:
            self.record(room_id)  # most rooms of an import are new, and no facet is made for these
            return self.call(room_id, ChatRoom.source)
        except NoSuchRoom:
            return None

    def created_at(self, time: int) -> list[str]:
        """Return the ids of the rooms that were created at a time (UTC milliseconds)."""
        return self._require_registry().created_at(time)

    def holds(self, room_id: str, path: Path) -> bool:
        """Return whether a room has all messages of a file that was exported from it."""
        return self.call(room_id, ChatRoom.holds, path)

    def add_files(self, files: Sequence[NewFile]) -> None:
        """Move the files of new rooms into place, and list them."""
        if not files:
            return
        for new in files:
            self._facets.adopt(_facet_name(new.room_id), new.path)
        self._facets.flush_directory()
        self._require_registry().add_all((new.room_id, new.summary) for new in files)
        for new in files:
            self._publish(RoomCreated(new.room_id))

    def merge(self, room_id: str, path: Path) -> int:
        """Add to a room the messages of a later export; see `ChatRoom.merge`."""
        return self.call(room_id, ChatRoom.merge, path)

    def arrange(self, room_ids: Iterable[str]) -> None:
        """Order rooms in the list by their last activity, in the places that they have."""
        room_ids = list(room_ids)
        if room_ids:
            self._require_registry().arrange(room_ids)
            self._publish(RoomSynced(room_ids[-1], moved_to_top=False, moved=True))

    def sync_state(self, room_id: str, *, active: bool = False) -> None:
        """Update the registry's summary of a room from its file; an active room moves to the top of the list."""
        self.call(room_id, self._queue_summary, active=active)

    def call(self, room_id: str, method: Callable[Concatenate[ChatRoom, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a method of a room under the room's lock, then deliver the events that it queued. See `room`."""
        _check_id(room_id)
        self.temporary_rooms.touch(room_id)
        registry, facet = self._require_registry(), self._facet(room_id)
        # A room that is open exists, and no problem of it is recorded.
        problem = "" if facet.is_open and room_id not in self._broken else registry.room(room_id).problem
        queue, last_own = self._queue(room_id), 0
        last_before = queue.last

        def run(chat_room: ChatRoom) -> R:
            nonlocal last_own
            before = queue.last
            try:
                result = method(chat_room, *args, **kwargs)
                if problem:
                    self._queue_summary(chat_room)
                    self._broken.discard(room_id)
                return result
            finally:
                last_own = queue.last if queue.last != before else 0

        try:
            return facet.call(run)
        except FacetAborted:
            if self._closed:
                raise StorageUnavailable(SHUTTING_DOWN) from None
            raise NoSuchRoom("This room was just deleted.") from None
        except StorageUnavailable:
            raise
        except StorageError as error:
            self._record_problem(room_id, error)
            raise
        finally:
            if queue.last != last_before:
                queue.deliver(last_own)

    # Queries

    def room(self, room_id: str) -> RoomHandle:
        """Return a handle of the room, which checks on each call that the room exists."""
        return RoomHandle(room_id, self)

    def record(self, room_id: str) -> Room:
        """Return the registry's record of a room, without opening its file. Raises NoSuchRoom."""
        _check_id(room_id)
        return self._require_registry().room(room_id)

    def rooms(
        self, *, q: str = "", after: int | None = None, limit: int = PAGE, open_room: str | None = None
    ) -> RoomList:
        """Return a page of the rooms whose names contain `q`: pinned ones first, then by last activity.

        The first page of all rooms has `open_room` in any case. Archived and temporary rooms are in none.
        """
        registry, q = self._require_registry(), clean(q).strip()
        page = registry.rooms(q=q, after=after, limit=limit)
        if not open_room or q or after is not None or any(room.id == open_room for room in page.rooms):
            return page
        with suppress(NoSuchRoom):
            return replace(page, apart=registry.room(open_room))
        return page

    def room_ids(self) -> list[str]:
        """Return the ids of all rooms, also of archived and temporary ones, the least recently active first."""
        return self._require_registry().ids()

    def export(self, room_id: str, form: Callable[[RoomCopy], BinaryIO]) -> BinaryIO:
        """Return what `form` makes of a copy of the room, which has what has arrived of a growing answer.

        It is made in a thread. The room goes on meanwhile.
        """
        self.record(room_id)
        self.call(room_id, ChatRoom.save)
        try:
            file = cast(
                BinaryIO, self._run_in_thread(partial(export, room_file(self.directory, room_id), room_id, form))
            )
        except FileNotFoundError:
            raise NoSuchRoom("This room was just deleted.") from None
        try:
            self.record(room_id)
        except BaseException:
            file.close()
            raise
        return file

    def archived_rooms(self, *, q: str = "", after: int | None = None, limit: int = PAGE) -> RoomList:
        """Return a page of the archived rooms whose names contain `q`, by last activity."""
        return self._require_registry().rooms(q=clean(q).strip(), after=after, limit=limit, archived=True)

    def rooms_named(self, q: str, *, limit: int) -> RoomList:
        """Return the rooms of the list whose names contain `q`; if something is typed, the archived ones after them."""
        page = self.rooms(q=q, limit=limit)
        if not clean(q).strip() or not page.archived or len(page.rooms) >= limit:
            return page
        return replace(page, rooms=page.rooms + self.archived_rooms(q=q, limit=limit - len(page.rooms)).rooms)

    def search(self, query: Query, *, room_id: str | None = None, after: int = 0, limit: int = PAGE_HITS) -> Found:
        """Return a page of the texts of all rooms, or of one, that match. Raises StorageUnavailable."""
        if room_id is not None:
            self.record(room_id)
        return self._search.find(query, room_id=room_id, after=after, limit=limit)

    def models(self, *, refresh: bool = False) -> tuple[str, ...]:
        """Return the models that a room can use; see `Models.names`. Raises ModelError."""
        return self._models.names(refresh=refresh)

    # In call order

    def _require_registry(self) -> Registry:
        if self._registry is None:
            raise StorageUnavailable(SHUTTING_DOWN)
        return self._registry

    def _facet(self, room_id: str, *, create: bool = False) -> Facet[ChatRoom]:
        queue = self._queue(room_id)

        def start(storage: Storage) -> ChatRoom:
            chat_room = ChatRoom(
                storage,
                room_id,
                emit=lambda event: self._queue_event(queue, chat_room, event),
                deliver=queue.deliver,
                pick_model=lambda name: self._models.pick(name, room=str(room_file(self.directory, room_id))),
                tools=self._tools,
                limits=self._limits,
                create=create,
                clock=lambda: self.clock(),
            )
            self._queue_summary_if_changed(chat_room)
            for number in chat_room.interrupted:  # if the file was closed during a turn, tabs show a growing answer
                queue.put(QueuedEvent(room_id, TurnEnded(room_id, number, "interrupted")))
            return chat_room

        return self._facets.get(_facet_name(room_id), start)

    def _queue_summary_if_changed(self, chat_room: ChatRoom) -> None:
        """Queue the summary of a room that was just opened, if its file was changed by other means."""
        room_id, summary = chat_room.room_id, chat_room.summary()
        try:
            room = self._require_registry().room(room_id)
            if any(getattr(room, name) != getattr(summary, name) for name in SHOWN_OF_SUMMARY):
                self._queue(room_id).put(QueuedEvent(room_id, None, summary, summarized_at=now()))
        except NoSuchRoom:
            pass  # it is being created
        except StorageError as error:  # the room can be used although the registry cannot be read
            self._mark_stale(room_id, error)

    def _record_problem(self, room_id: str, error: StorageError) -> None:
        """Store in the registry that the room's file cannot be used."""
        registry = self._require_registry()
        self._broken.add(room_id)
        if registry.room(room_id).problem != str(error):
            log.error("room %s: %s", room_id, error)
            registry.mark_broken(room_id, str(error))
            self._publish(RoomSynced(room_id, moved_to_top=False))

    def _queue(self, room_id: str) -> EventQueue[QueuedEvent]:
        """Return the room's queue. It exists while the room is open or its events are being delivered."""
        with self._queues_lock:
            queue = self._queues.get(room_id)
            if queue is None:
                queue = self._queues[room_id] = EventQueue(self._deliver)
            return queue

    def _queue_event(self, queue: EventQueue[QueuedEvent], chat_room: ChatRoom, event: RoomEvent) -> None:
        """Queue an event with the room's summary. Called under the room's lock, after the commit."""
        if isinstance(event, EVENTS_THAT_KEEP_SUMMARY):
            queue.put(QueuedEvent(event.room_id, event))
        else:
            self.temporary_rooms.touch(event.room_id)
            self._queue_summary(chat_room, event, active=isinstance(event, MessageAdded | TurnEnded))

    def _queue_summary(self, chat_room: ChatRoom, event: RoomEvent | None = None, *, active: bool = False) -> None:
        """Queue the room's summary. Called under the room's lock, which keeps summaries in order."""
        room_id, summary = chat_room.room_id, None
        try:
            summary = chat_room.summary()
        except StorageError as error:
            if event is None:
                raise
            self._mark_stale(room_id, error)
        self._queue(room_id).put(QueuedEvent(room_id, event, summary, active=active, summarized_at=now()))

    def _publish(self, event: RoomEvent) -> None:
        """Queue an event of the Overseer itself, and deliver it after those of the room."""
        queue = self._queue(event.room_id)
        queue.put(QueuedEvent(event.room_id, event))
        queue.deliver(queue.last)

    def _deliver(self, queued: QueuedEvent) -> None:
        """Store the summary in the registry, then notify the listeners."""
        room_id = queued.room_id
        if queued.summary is not None:
            try:
                move = self._require_registry().sync(
                    room_id, queued.summary, active=queued.active, taken_at=queued.summarized_at
                )
            except StorageError as error:
                self._mark_stale(room_id, error)
            else:
                self._notify(RoomSynced(room_id, moved_to_top=move == "to top", moved=move == "elsewhere"))
        if queued.event is not None:
            self._notify(queued.event)

    def _mark_stale(self, room_id: str, error: StorageError) -> None:
        """Remember that the registry's summary is out of date. The next request updates it, or the next start."""
        self._stale.add(room_id)
        log.error("room %s could not be synced: %s", room_id, error)

    def _notify(self, event: RoomEvent) -> None:
        for listener in (*self._listeners.get(None, ()), *self._listeners.get(event.room_id, ())):
            try:
                listener(event)
            except Exception:
                log.exception("a listener failed on %s of room %s", type(event).__name__, event.room_id)

    def _open_and_recover(self) -> list[str]:
        """Open the registry, or rebuild it from the rooms if it is damaged, and repair what a crash left.

        Return the rooms that were open during a crash. If any of that fails, the file is closed again, so that the next
        call repeats all of it.
        """
        self._storage.close()
        try:
            self._registry = registry = self._open_registry()
            was_clean = registry.begin_run()
            suspects = [] if was_clean else open_during_crash(self.directory, room_ids(self.directory))
            remove_unfinished_copies(self.directory / "facets")
            if self._replication is None:
                self._recover(registry, was_clean=was_clean)
            else:
                self._recover_replicated(registry, self._replication)
            return suspects
        except BaseException:
            self._storage.close()
            raise

    def _open_registry(self) -> Registry:
        try:
            return Registry(self._storage)
        except StorageReplaced:
            raise  # the file that is there now may be sound
        except StorageDamaged as error:
            if self._replication is not None:
                raise  # not all rooms are here
            self._storage.close()
            kept = quarantine(self._storage.path, time.strftime(".damaged-%Y%m%dT%H%M%SZ", time.gmtime()))
            log.error("%s It is kept as %s, and the list is made anew from the rooms.", error, kept.name)
            return Registry(self._storage)

    def _recover(self, registry: Registry, *, was_clean: bool) -> None:
        """Finish deletions, update old summaries and add rooms that are not listed."""
        synced = registry.synced()
        for room_id, (at, answering, deleting) in synced.items():
            if deleting:
                with suppress(StorageError):
                    self._remove(room_id)
            elif answering or (not was_clean and self._may_be_newer(room_id, at)):
                with suppress(StorageError):  # `call` has stored the problem
                    self.sync_state(room_id)
        unlisted = sorted(room_ids(self.directory) - synced.keys())
        summaries = ((room_id, self._read_unlisted(room_id)) for room_id in unlisted)
        adopted = [(room_id, summary) for room_id, summary in summaries if summary is not None]
        if adopted:
            registry.adopt(adopted)

    def _recover_replicated(self, registry: Registry, replication: Replication) -> None:
        """Finish deletions and update the summaries of rooms that were open. Only these are brought here."""
        synced, open_rooms = registry.synced(), registry.open_rooms()
        deleting = [room_id for room_id in open_rooms if synced[room_id][2]]
        for room_id in deleting:
            with suppress(StorageError):
                self._remove(room_id)
        left = [room_id for room_id in open_rooms if room_id not in deleting]
        replication.fetch(room_file(self.directory, room_id) for room_id in left)
        self._marked = set(left)
        for room_id in left:
            with suppress(StorageError):
                self.sync_state(room_id)

    def _mark_open(self, path: Path) -> None:
        """Mark the room of a file as open, unless it is."""
        room_id = path.stem.removeprefix("room-")
        if room_id not in self._marked:
            self._require_registry().mark_open(room_id)
            self._marked.add(room_id)

    def _remove(self, room_id: str) -> None:
        """Delete the files of a room that is marked as deleted, and then its row. The next start repeats a failure."""
        try:
            self._facets.delete(_facet_name(room_id))
        except OSError as error:
            log.error("the files of room %s could not be removed: %s", room_id, error)
            raise StorageError(
                f"The room is off the list, but its files could not be removed ({error.strerror or error}). "
                "Check the permissions of the instance directory; the next start tries again."
            ) from error
        self._require_registry().remove(room_id)

    def _on_facet_closed(self, name: str) -> None:
        """Store the time at which an idle room was closed, so that recovery need not open its file."""
        room_id, registry = name.removeprefix("room-"), self._registry
        self._search.note_closed(room_id)
        # A crash would lose a summary that is still queued; then recovery has to read the file.
        queue = self._queues.get(room_id)
        if registry is not None and room_id not in self._stale and (queue is None or queue.is_delivered):
            with suppress(StorageError):  # recovery reads the file then
                registry.note_closed(room_id, at=now() + FILE_TIME_TICK_MS + 1)
                self._marked.discard(room_id)

    def _may_be_newer(self, room_id: str, synced_at: int) -> bool:
        """Return whether a room's file may be newer than its summary, even if the clock was changed.

        A WAL file that is not empty means that the room was open when the process died. Without one, its last summary
        was delivered, but a power cut may have lost it; then the file's modification time decides.
        """
        path = room_file(self.directory, room_id)
        file, wal = file_identity(path), file_identity(beside(path, "-wal"))
        if file is None or (wal is not None and wal.size) or synced_at > now():
            return True
        return file.written_at // 1_000_000 >= synced_at - FILE_TIME_TICK_MS

    def _refresh_stale(self) -> None:
        """Update the summaries that could not be stored when they changed."""
        for room_id in list(self._stale):
            self._stale.discard(room_id)
            try:
                self.sync_state(room_id)
            except StorageUnavailable:
                self._stale.add(room_id)
            except (NoSuchRoom, StorageError):
                pass  # there is no summary to store

    def _read_unlisted(self, room_id: str) -> Summary | None:
        """Return the summary of a file that the registry does not list: left by a crash in `create`, or copied there.

        A file that was not completely created is deleted. A broken one is left alone.
        """
        try:
            summary = self._facet(room_id).call(ChatRoom.summary)
            if not summary.name:
                raise StorageEmpty("was never named: its creation was interrupted.")
            return summary
        except StorageEmpty:
            self._facets.delete(_facet_name(room_id))
        except StorageError as error:
            log.error("room-%s.sqlite was left alone: %s", room_id, error)
        return None


class MarkedRooms:
    """The replication of rooms: what is committed in one is not certain before it is marked as open."""

    def __init__(self, replication: Replication, mark: Callable[[Path], None]) -> None:
        self._mark = mark
        self.fetch, self.opening, self.check = replication.fetch, replication.opening, replication.check
        self.closed, self.removed = replication.closed, replication.removed
        self._committed = replication.committed

    def committed(self, path: Path, *, durable: bool) -> None:
        """Mark the room, and copy its file."""
        self._mark(path)
        self._committed(path, durable=durable)


def _facet_name(room_id: str) -> str:
    return f"room-{room_id}"


def _check_id(room_id: str) -> None:
    if not ROOM_ID.fullmatch(room_id):
        raise NoSuchRoom("This room doesn’t exist or was deleted.")
