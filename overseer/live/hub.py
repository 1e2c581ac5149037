"""The hub: every connected tab, and a publisher for each topic that tabs follow."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from overseer.domain.events import RoomEvent
from overseer.live import invalidation
from overseer.live.publisher import NOTHING, Pacing, Publisher, Tab
from overseer.live.renderer import FrameRenderer, ListState, RoomState
from overseer.live.socket_writer import LOGGED_OUT, RESTART, WebSocket, text_frame

ROOMS_REMEMBERED = 1000  # rooms without a tab whose changes are still remembered
ROOM_PACING = Pacing(interval_seconds=1 / 59)
LIST_PACING = Pacing(interval_seconds=1 / 10)  # nobody reads the list of rooms any faster

RoomPublisher = Publisher[invalidation.RoomName, RoomState]
ListPublisher = Publisher[invalidation.ListName, ListState]


class Hub:
    """Tells the publishers what changed, and which tabs follow them.

    A revision is a number that grows with every event. It says how new something is that a tab shows; as text it also
    names the run of the server, since numbers begin again with each.
    """

    def __init__(self, renewal: Callable[[str], FrameRenderer]) -> None:
        self._renewal = renewal
        self._run_id = secrets.token_hex(4)
        self._revisions = itertools.count(1)
        self._revision = 0
        self._lock = threading.Lock()
        self._tabs: dict[Tab, None] = {}
        self._list = ListPublisher(
            self._lock, self._newest, render=self._render_list, pacing=LIST_PACING, dismiss=self._dismiss
        )
        self._watched: dict[str, RoomPublisher] = {}  # by room, those with a tab
        self._unwatched: OrderedDict[str, RoomPublisher] = OrderedDict()  # the others, the last that changed at the end

    def place(self, room_id: str | None = None) -> str:
        """How new something is that is read after this call. Who comes with it is told what changed since."""
        with self._lock:
            if room_id is not None:
                self._room(room_id)
            return self._told(self._revision)

    def heard(self, event: RoomEvent) -> None:
        """Something happened: note which fragments it made stale, and wake their publishers."""
        with self._lock:
            self._revision = next(self._revisions)
            changed: list[ListPublisher | RoomPublisher] = [*self._note_in_list(event), *self._note_in_room(event)]
        for publisher in changed:
            publisher.wake()

    def models_changed(self) -> None:
        """The model that answers by default is another one, or has a name now: every tab names it.

        The cost grows with the rooms that are watched or remembered, and not with all that there are.
        """
        with self._lock:
            self._revision = next(self._revisions)
            changed: list[ListPublisher | RoomPublisher] = []
            self._list.changelog.mark(invalidation.DefaultModel(), self._revision)
            if self._list.note_change():
                changed.append(self._list)
            for room in (*self._watched.values(), *self._unwatched.values()):
                room.changelog.mark(invalidation.Header(), self._revision)
                if room.note_change():
                    changed.append(room)
        for publisher in changed:
            publisher.wake()

    def join(self, ws: WebSocket, room_id: str | None, prefix: str, *, seen: str, rooms: str, session: str = "") -> Tab:
        """Serve this socket from now on, first with all that its sight lacks.

        `seen` and `rooms` are the places of what it shows of the room and of the list; without them, or with those of
        another run, it shows nothing yet. `session` is the log-in it came with.
        """
        tab = Tab(ws, session=session, room_id=room_id, free=self._serve_soon)
        with self._lock:
            self._tabs[tab] = None
            self._list.add(tab, ListState(prefix, room_id, self._heard_of(rooms)))
            if room_id is not None:
                room = self._watched[room_id] = self._room(room_id)
                self._unwatched.pop(room_id, None)
                room.add(tab, RoomState(prefix, room_id, self._heard_of(seen)))
        self._serve_soon(tab)
        return tab

    def leave(self, tab: Tab) -> None:
        """Forget the socket."""
        with self._lock:
            self._tabs.pop(tab, None)
            self._list.discard(tab)
            if tab.room_id is not None and (room := self._watched.get(tab.room_id)) is not None:
                room.discard(tab)
                if not room.followed:
                    self._remember(tab.room_id, self._watched.pop(tab.room_id))

    def log_out(self, session: str, html: str) -> None:
        """Tell the tabs that came with this log-in something last, and send them away for good."""
        for tab in list(self._tabs):
            if tab.session == session:
                tab.writer.send(text_frame(html))
                self._dismiss(tab, LOGGED_OUT, "logged out")

    def close(self) -> None:
        """Tell every tab to come back to the next run."""
        with self._lock:
            self._list.close()
            for room in self._watched.values():
                room.close()
        for tab in list(self._tabs):
            tab.writer.end(RESTART, "the server restarts")

    # In call order

    def _newest(self) -> int:
        return self._revision

    def _told(self, revision: int) -> str:
        return f"{self._run_id}.{revision}"

    def _heard_of(self, place: str) -> int:
        run_id, _, number = place.partition(".")
        known = run_id == self._run_id and number.isascii() and number.isdecimal() and len(number) < 20
        return min(int(number), self._revision) if known else NOTHING

    def _room(self, room_id: str) -> RoomPublisher:
        room = self._watched.get(room_id) or self._unwatched.get(room_id)
        if room is None:
            room = RoomPublisher(
                self._lock, self._newest, render=self._render_room, pacing=ROOM_PACING, dismiss=self._dismiss
            )
        if not room.followed:
            self._remember(room_id, room)
        return room

    def _remember(self, room_id: str, room: RoomPublisher) -> None:
        self._unwatched[room_id] = room
        self._unwatched.move_to_end(room_id)
        if len(self._unwatched) > ROOMS_REMEMBERED:
            self._unwatched.popitem(last=False)

    def _note_in_list(self, event: RoomEvent) -> Sequence[ListPublisher]:
        rows = list(invalidation.in_list(event))
        for row in rows:
            if isinstance(row, invalidation.Order):
                self._list.changelog.forget(self._revision)
            else:
                self._list.changelog.mark(row, self._revision)
        return [self._list] if rows and self._list.note_change() else []

    def _note_in_room(self, event: RoomEvent) -> Sequence[RoomPublisher]:
        names = list(invalidation.in_room(event))
        if not names:
            return []
        room = self._room(event.room_id)
        for name in names:
            if isinstance(name, invalidation.Messages | invalidation.RoomGone):
                room.changelog.forget(self._revision)
            else:
                room.changelog.mark(name, self._revision)
        return [room] if room.note_change() else []

    def _serve_soon(self, tab: Tab) -> None:
        self._list.serve_soon(tab)
        if tab.room_id is not None and (room := self._watched.get(tab.room_id)) is not None:
            room.serve_soon(tab)

    def _render_list(
        self, sight: ListState, names: Sequence[invalidation.ListName] | None, revision: int, shared: dict[object, str]
    ) -> tuple[bytes, ListState]:
        frames = self._renewal(sight.prefix).of_list(sight, names, self._told(revision), changes=shared)
        return frames, ListState(sight.prefix, sight.room_id, revision)

    def _render_room(
        self, sight: RoomState, names: Sequence[invalidation.RoomName] | None, revision: int, shared: dict[object, str]
    ) -> tuple[bytes, RoomState]:
        frames, renewed = self._renewal(sight.prefix).of_room(sight, names)
        return frames, renewed.at(revision)

    def _dismiss(self, tab: Tab, code: int, reason: str) -> None:
        self.leave(tab)
        tab.writer.end(code, reason)
