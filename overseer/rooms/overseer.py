"""Overseer, the parent: it keeps the registry of rooms, forwards to them, and tells what happened in them."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from overseer.domain.errors import (
    InstanceError,
    NoSuchRoom,
    StorageDamaged,
    StorageEmpty,
    StorageError,
    StorageFull,
    StorageReplaced,
)
from overseer.domain.events import (
    MessageAdded,
    PartAdded,
    PartChanged,
    PartGrew,
    ReadingMoved,
    RoomCreated,
    RoomDeleted,
    RoomEvent,
    RoomSynced,
    TurnDelayed,
    TurnEnded,
)
from overseer.domain.messages import Message
from overseer.domain.records import MAX_NUMBER, ROOM_ID, Asked, Page, Room, RoomList, Summary
from overseer.domain.settings import Changes, Settings
from overseer.domain.text import NEW_ROOM, clean, idempotency_key, question, room_name
from overseer.llm import Models
from overseer.rooms.chat_room import INTERRUPTED, ChatRoom, Limits
from overseer.rooms.event_queue import EventQueue
from overseer.storage.database import BUSY_SECONDS, RunInThread, Storage, beside, file_identity, quarantine, run_inline
from overseer.storage.facets import Facet, FacetAborted, Facets
from overseer.storage.instance_lock import InstanceLock
from overseer.storage.registry import PAGE, Registry
from overseer.storage.room_rows import now
from overseer.tools.registry import TOOLS, StartThread, Toolbox, in_thread

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
Listener = Callable[[RoomEvent], None]

SHUTTING_DOWN = "The server is shutting down. Try again in a moment."
TICK = 20  # milliseconds by which a file's time may lag behind the clock: the kernel notes it by its tick
NOT_IN_SUMMARY = (PartAdded, PartGrew, PartChanged, TurnDelayed, ReadingMoved)


class Notice(NamedTuple):
    """What happened in a room, and the summary of the room after that; either may be None.

    `taken_at` is the time of the summary in UTC milliseconds; an active room moves to the top of the list.
    """

    room_id: str
    event: RoomEvent | None
    summary: Summary | None = None
    active: bool = False
    taken_at: int = 0


class Overseer:
    """The rooms of one instance directory, which no other process may use meanwhile.

    Every method that names a room raises NoSuchRoom for one that does not exist, StorageError for one whose file
    cannot be used, and StorageFull when nothing can be written just now. Commits are made by `run_in_thread`,
    and tools are run by `start_thread`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        models: Models,
        limits: Limits | None = None,
        open_facets: int = 50,
        run_in_thread: RunInThread = run_inline,
        start_thread: StartThread = in_thread,
    ) -> None:
        self.directory = directory
        self._models = models
        self._limits = limits or Limits()
        self._tools = Toolbox(TOOLS, seconds=self._limits.tool_seconds, start_thread=start_thread)
        self._facets: Facets[ChatRoom] = Facets(
            directory / "facets", limit=open_facets, on_close=self._closed_idle, run_in_thread=run_in_thread
        )
        self._listeners: dict[str | None, tuple[Listener, ...]] = {}
        self._queues: WeakValueDictionary[str, EventQueue[Notice]] = WeakValueDictionary()
        self._queueing = threading.Lock()
        self._subscribing = threading.Lock()
        self._opening = threading.Lock()
        self._lock = InstanceLock(directory)
        self._storage = Storage(directory / "overseer.sqlite", run_in_thread=run_in_thread)
        self._registry: Registry | None = None
        self._behind: set[str] = set()  # rooms whose summary could not be taken
        self._closed = False

    # Life

    def open(self, *, again: bool = True) -> None:
        """Lock the instance directory, open the registry and put right what a crash left. Later calls do nothing.

        Not `again`: what was closed stays closed. Raises InstanceError if the directory cannot be used.
        """
        with self._opening:
            if self._closed and not again:
                return
            self._closed = False
            if self._registry is None:
                self._lock.take()
                try:
                    self._begin()
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
                    self._begin()
                except OSError as error:
                    raise InstanceError(str(error)) from error
            self._catch_up()

    def close(self) -> None:
        """End every turn as interrupted, close all files and unlock the directory."""
        with self._opening:
            self._closed = True
            if self._registry is None:
                return
            self._facets.set_busy_deadline(time.monotonic() + BUSY_SECONDS)
            with suppress(StorageError):
                for room_id, (_, answering, _) in self._registry.synced().items():
                    if answering:
                        with suppress(NoSuchRoom, StorageError):
                            self._call(room_id, ChatRoom.stop, state="interrupted", reason=INTERRUPTED)
            # Whoever calls from now on is told so, and opens nothing any more.
            registry, self._registry = self._registry, None
            with ExitStack() as stack:
                stack.callback(self._lock.release)
                stack.callback(self._storage.close)
                self._facets.close("the server was shut down")
                queues = list(self._queues.values())
                for queue in queues:
                    queue.deliver(queue.last)
                # Else the next start takes the summaries that are missing.
                if not self._behind and all(queue.is_delivered for queue in queues):
                    with suppress(StorageError):
                        registry.end_run()

    def subscribe(self, listener: Listener, room_id: str | None = None) -> Callable[[], None]:
        """Call `listener` with every event from now on, or every one of a room; returns what ends that.

        The events of a room come in order and one at a time, after the commit, in any thread and under no lock of the
        room. A listener that raises is logged, and affects neither the room nor other listeners.
        """
        with self._subscribing:
            self._listeners[room_id] = (*self._listeners.get(room_id, ()), listener)

        def unsubscribe() -> None:
            with self._subscribing:
                left = tuple(known for known in self._listeners.get(room_id, ()) if known is not listener)
                if left:
                    self._listeners[room_id] = left
                else:
                    self._listeners.pop(room_id, None)

        return unsubscribe

    # Commands

    def create(self, name: str | None = None) -> Room:
        """Make a room; without a name it gets one from the first words said in it. Raises Invalid."""
        by_person = name is not None
        name = NEW_ROOM if name is None else room_name(name)
        room_id = secrets.token_hex(6)
        facet = self._facet(room_id, create=True)
        try:
            facet.call(ChatRoom.begin, name, by_person=by_person)
            self._known.add(room_id, facet.call(ChatRoom.summary))
        except FacetAborted:
            raise StorageFull(SHUTTING_DOWN) from None
        except BaseException:
            self._facets.delete(_facet_name(room_id))
            raise
        self._publish(RoomCreated(room_id))
        return self.room(room_id)

    def rename(self, room_id: str, name: str) -> Room:
        """Call the room `name`. Raises Invalid."""
        self._call(room_id, ChatRoom.rename, room_name(name))
        return self.room(room_id)

    def configure(self, room_id: str, changes: Changes, *, name: str | None = None) -> Room:
        """Change some of the room's settings, and its name if there is one. Raises Invalid."""
        self._call(room_id, ChatRoom.configure, changes, name=None if name is None else room_name(name))
        return self.room(room_id)

    def delete(self, room_id: str) -> None:
        """Stop the room's turn, delete its facet and its three files."""
        _check_id(room_id)
        self._known.begin_deleting(room_id)
        try:
            self._remove(room_id)
        finally:
            self._models.forget(room_id)
            self._publish(RoomDeleted(room_id))

    def clear(self, room_id: str) -> None:
        """Remove all messages of the room."""
        self._call(room_id, ChatRoom.clear)

    def ask(self, room_id: str, text: str, *, key: str | None = None) -> Asked:
        """Store a question and have it answered; see `ChatRoom.ask`. Raises Invalid, TooLarge and KeyReused."""
        return self._call(room_id, ChatRoom.ask, question(text), key=idempotency_key(key))

    def edit(self, room_id: str, number: int, text: str, *, last: int | None = None) -> None:
        """Change a question; see `ChatRoom.edit`. Raises Invalid, TooLarge, NoSuchMessage, NotNow and Outdated."""
        self._call(room_id, ChatRoom.edit, number, question(text), last=last)

    def stop(self, room_id: str) -> None:
        """End the running answer and those that wait."""
        self._call(room_id, ChatRoom.stop)

    def retry(self, room_id: str) -> int:
        """Answer the last question again; see `ChatRoom.retry`. Raises NoSuchMessage and NotNow."""
        return self._call(room_id, ChatRoom.retry)

    def resume(self, room_id: str) -> int:
        """Go on with the last answer; see `ChatRoom.resume`. Raises Outdated and NotNow."""
        return self._call(room_id, ChatRoom.resume)

    def sync_state(self, room_id: str, *, active: bool = False) -> None:
        """Refresh the registry's summary of one room from its file; an active room moves to the top."""
        self._call(room_id, self._queue_summary, active=active)

    # Queries

    def room(self, room_id: str) -> Room:
        """The registry's summary of a room."""
        _check_id(room_id)
        return self._known.room(room_id)

    def rooms(self, *, q: str = "", after: int | None = None, limit: int = PAGE) -> RoomList:
        """A page of the rooms, pinned ones first, then by last activity; filtered by name."""
        return self._known.rooms(q=clean(q).strip(), after=after, limit=limit)

    def messages(self, room_id: str, *, before: int | None = None) -> Page:
        """A page of a room's messages; see `ChatRoom.messages`."""
        return self._call(room_id, ChatRoom.messages, before=before)

    def message(self, room_id: str, number: int) -> Message:
        """One message. Raises NoSuchMessage."""
        return self._call(room_id, ChatRoom.message, number)

    def after(self, room_id: str, number: int) -> tuple[Message, ...]:
        """The messages after a number; see `ChatRoom.after`."""
        return self._call(room_id, ChatRoom.after, number)

    def following(self, room_id: str, number: int, *, enough: int = MAX_NUMBER) -> tuple[int, int]:
        """What an edit of a question would drop; see `ChatRoom.following`."""
        return self._call(room_id, ChatRoom.following, number, enough=enough)

    def reads_from(self, room_id: str) -> int:
        """From which message of a room its model reads; 0 stands for all of them."""
        return self._call(room_id, ChatRoom.reads_from)

    def settings(self, room_id: str) -> Settings:
        """The room's settings."""
        return self._call(room_id, ChatRoom.settings)

    def transcript(self, room_id: str) -> Iterator[Message]:
        """All messages of a room, in order; read a page at a time, the first one now."""
        first = self.after(room_id, 0)

        def read() -> Iterator[Message]:
            page = first
            while page:
                yield from page
                page = self.after(room_id, page[-1].number)

        return read()

    def models(self, *, refresh: bool = False) -> tuple[str, ...]:
        """The models a room may be set to; see `Models.names`. Raises ModelError."""
        return self._models.names(refresh=refresh)

    def exchange(self, room_id: str, question: int) -> tuple[Message, Message]:
        """A question with its answer; see `ChatRoom.exchange`. Raises NoSuchMessage."""
        return self._call(room_id, ChatRoom.exchange, question)

    # In call order

    @property
    def _known(self) -> Registry:
        if self._registry is None:
            raise StorageFull(SHUTTING_DOWN)
        return self._registry

    def _call(
        self, room_id: str, method: Callable[Concatenate[ChatRoom, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        _check_id(room_id)
        room = self._known.room(room_id)
        queue, own = self._queue(room_id), 0
        known = queue.last

        def run(chat_room: ChatRoom) -> R:
            nonlocal own
            before = queue.last
            try:
                result = method(chat_room, *args, **kwargs)
                if room.problem:
                    self._queue_summary(chat_room)
                return result
            finally:
                own = queue.last if queue.last != before else 0

        try:
            return self._facet(room_id).call(run)
        except FacetAborted:
            if self._closed:
                raise StorageFull(SHUTTING_DOWN) from None
            raise NoSuchRoom("This room was just deleted.") from None
        except StorageFull:
            raise
        except StorageError as error:
            raise self._broken(room_id, error) from error
        finally:
            if queue.last != known:
                queue.deliver(own)  # what the call itself has caused is in the list when it returns

    def _facet(self, room_id: str, *, create: bool = False) -> Facet[ChatRoom]:
        queue = self._queue(room_id)

        def start(storage: Storage) -> ChatRoom:
            chat_room = ChatRoom(
                storage,
                room_id,
                emit=lambda event: self._queue_event(queue, chat_room, event),
                deliver=queue.deliver,
                pick_model=lambda name: self._models.pick(name, room=room_id),
                tools=self._tools,
                limits=self._limits,
                create=create,
            )
            self._renew(room_id, chat_room)
            for number in chat_room.interrupted:  # a tab may show one as growing, if the file was closed under its turn
                queue.put(Notice(room_id, TurnEnded(room_id, number, "interrupted")))
            return chat_room

        return self._facets.get(_facet_name(room_id), start)

    def _renew(self, room_id: str, chat_room: ChatRoom) -> None:
        """Queue the summary of a room that was just opened if the list has another one, since its file was replaced by
        a copy, for instance."""
        summary = chat_room.summary()
        try:
            known = self._known.room(room_id)
            listed = (known.name, known.messages, known.preview, known.answering, known.pinned)
            if listed != (summary.name, summary.messages, summary.preview, summary.answering, summary.pinned):
                self._queue(room_id).put(Notice(room_id, None, summary, taken_at=now()))
        except NoSuchRoom:
            pass  # it is being created
        except StorageError as error:  # the list cannot be read just now, which keeps nobody out of the room
            self._fall_behind(room_id, error)

    def _broken(self, room_id: str, error: StorageError) -> StorageError:
        """Note in the list that the room's file cannot be used."""
        if self._known.room(room_id).problem != str(error):
            log.error("room %s: %s", room_id, error)
            self._known.mark_broken(room_id, str(error))
            self._publish(RoomSynced(room_id, raised=False))
        return error

    def _queue(self, room_id: str) -> EventQueue[Notice]:
        """The room's queue. It lives as long as the room is open or somebody delivers its events."""
        with self._queueing:
            queue = self._queues.get(room_id)
            if queue is None:
                queue = self._queues[room_id] = EventQueue(self._deliver)
            return queue

    def _queue_event(self, queue: EventQueue[Notice], chat_room: ChatRoom, event: RoomEvent) -> None:
        """Queue what happened in a room, with its summary. Called under the room's lock, after the commit."""
        if isinstance(event, NOT_IN_SUMMARY):
            queue.put(Notice(event.room_id, event))
        else:
            self._queue_summary(chat_room, event, active=isinstance(event, MessageAdded | TurnEnded))

    def _queue_summary(self, chat_room: ChatRoom, event: RoomEvent | None = None, *, active: bool = False) -> None:
        """Queue the room's summary for the list. Called under the room's lock, so that summaries stay in order."""
        room_id, summary = chat_room.room_id, None
        try:
            summary = chat_room.summary()
        except StorageError as error:
            if event is None:
                raise
            self._fall_behind(room_id, error)
        self._queue(room_id).put(Notice(room_id, event, summary, active=active, taken_at=now()))

    def _publish(self, event: RoomEvent) -> None:
        """Deliver an event of the Overseer itself, after those that the room has queued."""
        queue = self._queue(event.room_id)
        queue.put(Notice(event.room_id, event))
        queue.deliver(queue.last)

    def _deliver(self, notice: Notice) -> None:
        """Take the summary over into the list, and tell the listeners what happened."""
        if notice.summary is not None:
            try:
                move = self._known.sync(notice.room_id, notice.summary, active=notice.active, taken_at=notice.taken_at)
            except StorageError as error:
                self._fall_behind(notice.room_id, error)
            else:
                self._tell(RoomSynced(notice.room_id, raised=move == "raised", moved=move == "elsewhere"))
        if notice.event is not None:
            self._tell(notice.event)

    def _fall_behind(self, room_id: str, error: StorageError) -> None:
        """Remember that the list lacks the room's last summary: the next request takes it, or else the next start."""
        self._behind.add(room_id)
        log.error("room %s could not be synced: %s", room_id, error)

    def _tell(self, event: RoomEvent) -> None:
        for listener in (*self._listeners.get(None, ()), *self._listeners.get(event.room_id, ())):
            try:
                listener(event)
            except Exception:
                log.exception("a listener failed on %s of room %s", type(event).__name__, event.room_id)

    def _begin(self) -> None:
        """Open the registry, or make one anew from the rooms if it is damaged, and put right what a crash left.

        The file is closed again if anything of that fails, so that the next call does all of it.
        """
        self._storage.close()
        try:
            self._registry = registry = self._open_registry()
            self._recover(in_order=registry.begin_run())
        except BaseException:
            self._storage.close()
            raise

    def _open_registry(self) -> Registry:
        try:
            return Registry(self._storage)
        except StorageReplaced:
            raise  # what is there now may be sound
        except StorageDamaged as error:
            self._storage.close()
            kept = quarantine(self._storage.path, time.strftime(".damaged-%Y%m%dT%H%M%SZ", time.gmtime()))
            log.error("%s It is kept as %s, and the list is made anew from the rooms.", error, kept.name)
            return Registry(self._storage)

    def _recover(self, *, in_order: bool) -> None:
        registry = self._known
        names = self._facets.names()
        synced = registry.synced()
        for room_id, (at, answering, deleting) in synced.items():
            if deleting:
                with suppress(StorageError):
                    self._remove(room_id)
            elif answering or (not in_order and self._may_be_newer(room_id, at)):
                self._refresh(room_id)
        found = {name.removeprefix("room-") for name in names if name.startswith("room-")} - synced.keys()
        summaries = ((room_id, self._found(room_id)) for room_id in sorted(found) if ROOM_ID.fullmatch(room_id))
        adopted = [(room_id, summary) for room_id, summary in summaries if summary is not None]
        if adopted:
            registry.adopt(adopted)

    def _remove(self, room_id: str) -> None:
        """Remove the files of a room that is off the list, and then forget it; the next start goes on with it."""
        try:
            self._facets.delete(_facet_name(room_id))
        except OSError as error:
            log.error("the files of room %s could not be removed: %s", room_id, error)
            raise StorageError(
                f"The room is off the list, but its files could not be removed ({error.strerror or error}). "
                "Check the permissions of the instance directory; the next start tries again."
            ) from error
        self._known.remove(room_id)

    def _closed_idle(self, name: str) -> None:
        """A room's file was closed, and so written a last time: after a crash it need not be looked into for that."""
        room_id, registry = name.removeprefix("room-"), self._registry
        # A summary that is still queued would be lost in a crash, and the file has to be read again after it.
        queue = self._queues.get(room_id)
        if registry is not None and room_id not in self._behind and (queue is None or queue.is_delivered):
            with suppress(StorageError):  # then it is looked into
                registry.note_closed(room_id, at=now() + TICK + 1)

    def _may_be_newer(self, room_id: str, synced_at: int) -> bool:
        """Whether a room's file may hold what its summary does not, whatever was done to the clock meanwhile.

        A log beside the file says that the room was open when the process died. A room that was closed had told all
        before, but a power cut may have taken the summary: then the times tell, if they can.
        """
        path = self._facets.path(_facet_name(room_id))
        file, log_of_it = file_identity(path), file_identity(beside(path, "-wal"))
        if file is None or (log_of_it is not None and log_of_it.size) or synced_at > now():
            return True
        return file.written_at // 1_000_000 >= synced_at - TICK

    def _refresh(self, room_id: str) -> None:
        with suppress(StorageError):  # noted in the list by _call
            self.sync_state(room_id)

    def _catch_up(self) -> None:
        """Take the summaries that could not be taken when something happened."""
        for room_id in list(self._behind):
            self._behind.discard(room_id)
            try:
                self.sync_state(room_id)
            except StorageFull:
                self._behind.add(room_id)
            except (NoSuchRoom, StorageError):
                pass  # there is nothing to take

    def _found(self, room_id: str) -> Summary | None:
        """A room whose file lies in the directory, from a crash in `create`, a list that is lost, or put there by hand.

        What was not made to its end is removed, and what is broken left alone.
        """
        try:
            summary = self._facet(room_id).call(ChatRoom.summary)
            if not summary.name:
                raise StorageEmpty("was never named: its making was cut off.")
            return summary
        except StorageEmpty:
            self._facets.delete(_facet_name(room_id))
        except StorageError as error:
            log.error("room-%s.sqlite was left alone: %s", room_id, error)
        return None


def _facet_name(room_id: str) -> str:
    return f"room-{room_id}"


def _check_id(room_id: str) -> None:
    if not ROOM_ID.fullmatch(room_id):
        raise NoSuchRoom("This room doesn’t exist or was deleted.")
