"""The hub: every connected tab, and the thread that sends each what became stale since its place."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import partial as bind
from typing import Generic, TypeVar

from wsproto.frame_protocol import CloseReason

from overseer import stale
from overseer.channel import Channel
from overseer.events import RoomEvent
from overseer.outlet import GONE, LOGGED_OUT, RESTART, Outlet, WebSocket, text_frame
from overseer.sight import ListSight, Renewal, RoomSight
from overseer.sqlite import StorageError

log = logging.getLogger(__name__)

INTERVAL = 1 / 59  # seconds between two sends to a tab, on average at least
LIST_INTERVAL = 1 / 10  # the same for the list of rooms, which nobody reads that fast
ROOMS_REMEMBERED = 1000  # rooms without a tab whose changes are still remembered
BREATH = 0.005  # seconds of serving before others may run
CHEAP = 0.002  # seconds that a rendering may take; what takes longer is done less often, so that about
RENDERING = 0.1  # of the time, at most, goes into what one room shows,
LATEST = 0.5  # but nobody waits longer than so many seconds for it
BYTES = 500_000  # that a tab is sent a second of what grows: frames that are large come less often, too

Name = TypeVar("Name", bound=Hashable)
Sight = TypeVar("Sight", bound=Hashable)


class Tab:
    """One connected socket and what it shows."""

    def __init__(self, ws: WebSocket, *, session: str, ready: Callable[[Tab], None]) -> None:
        self.outlet = Outlet(ws, ready=bind(ready, self))
        self.session = session
        self.list_sight: ListSight
        self.room_sight: RoomSight | None = None


class Made(Generic[Sight]):
    """What was rendered since the last change: the frames for each sight, and changes that several sights share."""

    def __init__(self) -> None:
        self.frames: dict[Sight, tuple[bytes, Sight]] = {}
        self.changes: dict[object, str] = {}


class Topic(Generic[Name, Sight]):
    """A channel with the tabs that follow it, and what was made for their sights since the last change."""

    def __init__(self, place: int, interval: float) -> None:
        self.channel: Channel[Name] = Channel(place)
        self.tabs: dict[Tab, None] = {}
        self.made: Made[Sight] = Made()
        self.interval = interval
        self.due_at = 0.0

    def changed(self) -> None:
        """No frame is good any more. A new object: what is being rendered just now must not land in it."""
        self.made = Made()


class Hub:
    """Serves the tabs whose sight is stale: at once after a quiet while, else 60 times a second, and less often when
    a round takes longer than that.

    Tabs that look at the same thing and are equally far get the same bytes, rendered and framed once.
    """

    def __init__(self, renewal: Callable[[str], Renewal]) -> None:
        self._renewal = renewal
        self._run_id = secrets.token_hex(4)
        self._places = itertools.count(1)
        self._place = 0
        self._lock = threading.Lock()
        self._list: Topic[stale.ListName, ListSight] = Topic(0, LIST_INTERVAL)
        self._rooms: OrderedDict[str, Topic[stale.RoomName, RoomSight]] = OrderedDict()
        self._dirty: dict[Topic[stale.ListName, ListSight] | Topic[stale.RoomName, RoomSight], None] = {}
        self._ready: dict[Tab, None] = {}
        self._wake = threading.Event()
        self._closed = False
        self._breathed = 0.0
        self._thread: threading.Thread | None = None

    def place(self, room_id: str | None = None) -> str:
        """How new something is that is read after this call. Who comes with it is told what changed since."""
        with self._lock:
            if room_id is not None:
                self._topic(room_id)
            return self._told(self._place)

    def heard(self, event: RoomEvent) -> None:
        """Something happened: note which fragments it made stale."""
        with self._lock:
            self._place = next(self._places)
            for row in stale.in_list(event):
                if isinstance(row, stale.Order):
                    self._list.channel.forget(self._place)
                else:
                    self._list.channel.mark(row, self._place)
                self._note(self._list)
            for name in stale.in_room(event):
                topic = self._topic(event.room_id)
                if isinstance(name, stale.Messages | stale.Gone):
                    topic.channel.forget(self._place)
                else:
                    topic.channel.mark(name, self._place)
                self._note(topic)
        if self._dirty:
            self._wake.set()

    def join(self, ws: WebSocket, room_id: str | None, prefix: str, *, seen: str, rooms: str, session: str = "") -> Tab:
        """Serve this socket from now on, first with all that its sight lacks.

        `seen` and `rooms` are the places of what it shows of the room and of the list; without them, or with those of
        another run, it shows nothing yet. `session` is the log-in it came with.
        """
        tab = Tab(ws, session=session, ready=self._serve_soon)
        tab.list_sight = ListSight(prefix, room_id, self._heard_of(rooms))
        with self._lock:
            self._list.tabs[tab] = None
            if room_id is not None:
                tab.room_sight = RoomSight(prefix, room_id, self._heard_of(seen))
                self._topic(room_id).tabs[tab] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
                self._thread.start()
        self._serve_soon(tab)
        return tab

    def leave(self, tab: Tab) -> None:
        """Forget the socket."""
        with self._lock:
            self._list.tabs.pop(tab, None)
            self._ready.pop(tab, None)
            if tab.room_sight is not None and (topic := self._rooms.get(tab.room_sight.room_id)) is not None:
                topic.tabs.pop(tab, None)
                if not topic.tabs:
                    topic.changed()  # its frames are of use to nobody

    def log_out(self, session: str, html: str) -> None:
        """Tell the tabs that came with this log-in something last, and send them away for good."""
        for tab in list(self._list.tabs):
            if tab.session == session:
                tab.outlet.send(text_frame(html))
                self._dismiss(tab, LOGGED_OUT, "logged out")

    def close(self) -> None:
        """Tell every tab to come back to the next run."""
        self._closed = True
        self._wake.set()
        for tab in list(self._list.tabs):
            tab.outlet.end(RESTART, "the server restarts")

    # In call order

    def _told(self, place: int) -> str:
        return f"{self._run_id}.{place}"

    def _heard_of(self, place: str) -> int:
        run_id, _, number = place.partition(".")
        known = run_id == self._run_id and number.isascii() and number.isdecimal() and len(number) < 20
        return int(number) if known else -1

    def _topic(self, room_id: str) -> Topic[stale.RoomName, RoomSight]:
        topic = self._rooms.get(room_id)
        if topic is None:
            topic = self._rooms[room_id] = Topic(self._place, INTERVAL)
            if len(self._rooms) > ROOMS_REMEMBERED:
                for known, old in self._rooms.items():
                    if not old.tabs and old is not topic:
                        del self._rooms[known]
                        break
        else:
            self._rooms.move_to_end(room_id)
        return topic

    def _note(self, topic: Topic[stale.ListName, ListSight] | Topic[stale.RoomName, RoomSight]) -> None:
        topic.changed()
        if topic.tabs:
            self._dirty[topic] = None

    def _serve_soon(self, tab: Tab) -> None:
        with self._lock:
            if tab in self._list.tabs:
                self._ready[tab] = None
        self._wake.set()

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            now = time.monotonic()
            with self._lock:
                ready, self._ready = self._ready, {}
                due = [topic for topic in self._dirty if topic.due_at <= now]
                for topic in due:
                    del self._dirty[topic]
                wait = min((topic.due_at - now for topic in self._dirty), default=None)
            if ready:
                self._serve_each(ready, self._list_frames, self._room_frames)
            for topic in due:
                # One send may follow at once: a question's first token comes right after the question.
                topic.due_at = max(topic.due_at, now - topic.interval) + topic.interval
                self._serve_each(list(topic.tabs), self._list_frames if topic is self._list else self._room_frames)
                # A round that takes long leaves a fifth of the time to everything else.
                topic.due_at = max(topic.due_at, now + 1.25 * (time.monotonic() - now))
            if not ready and not due:
                self._wake.wait(wait)
                self._breathed = time.monotonic()

    def _serve_each(self, tabs: Iterable[Tab], *stale_frames: Callable[[Tab], bytes]) -> None:
        for tab in tabs:
            self._serve(tab, *stale_frames)
            if time.monotonic() - self._breathed > BREATH:
                time.sleep(0)
                self._breathed = time.monotonic()

    def _serve(self, tab: Tab, *stale_frames: Callable[[Tab], bytes]) -> None:
        if tab.outlet.busy:
            return  # it says when it has caught up
        try:
            if frames := b"".join(render(tab) for render in stale_frames):
                tab.outlet.send(frames)
            if tab.room_sight is not None and tab.room_sight.gone:
                self._dismiss(tab, GONE, "the room was deleted")
        except StorageError as error:
            log.error("a tab could not be served: %s", error)
            self._dismiss(tab, RESTART, "come back in a moment")
        except Exception:
            log.exception("a tab could not be served")
            self._dismiss(tab, CloseReason.INTERNAL_ERROR, "see the log of the server")

    def _list_frames(self, tab: Tab) -> bytes:
        sight, topic = tab.list_sight, self._list
        with self._lock:
            place, made, names = self._place, topic.made, topic.channel.since(sight.place)
        if names is None or names:
            if sight not in made.frames:
                renewal = self._renewal(sight.prefix)
                frames = renewal.of_list(sight, names, self._told(place), changes=made.changes)
                made.frames[sight] = frames, ListSight(sight.prefix, sight.room_id, place)
            frames, tab.list_sight = made.frames[sight]
            return frames
        return b""

    def _room_frames(self, tab: Tab) -> bytes:
        sight = tab.room_sight
        if sight is None:
            return b""
        with self._lock:
            topic = self._topic(sight.room_id)
            place, made, names = self._place, topic.made.frames, topic.channel.since(sight.place)
        if names is None or names:
            if sight not in made:
                began = time.monotonic()
                frames, renewed = self._renewal(sight.prefix).of_room(sight, names)
                dear = (time.monotonic() - began - CHEAP) / RENDERING
                large = len(frames) / BYTES if names else 0.0  # not what a tab is sent that only joins
                topic.due_at = max(topic.due_at, began + min(max(dear, large), LATEST))
                made[sight] = frames, renewed.at(place)
            frames, tab.room_sight = made[sight]
            return frames
        return b""

    def _dismiss(self, tab: Tab, code: int, reason: str) -> None:
        self.leave(tab)
        tab.outlet.end(code, reason)
