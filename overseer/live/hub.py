"""The hub: every connected tab, and a publisher for each topic that tabs follow."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from overseer.domain.events import RoomEvent, ShareRevoked
from overseer.domain.shares import Share
from overseer.live.invalidation import (
    DefaultModelInvalidated,
    HeaderInvalidated,
    ListInvalidated,
    ListInvalidation,
    MessagesInvalidated,
    RoomGone,
    RoomInvalidation,
    list_invalidations,
    room_invalidations,
)
from overseer.live.publisher import NO_REVISION, Invalidation, Pacing, Publisher, Tab
from overseer.live.renderer import FrameRenderer, TabState
from overseer.live.socket_writer import LOGGED_OUT, RESTART, ROOM_GONE, WebSocket, text_frame

ROOMS_REMEMBERED = 1000  # rooms without a tab whose changelog is kept
MAX_REVISION_DIGITS = 19
ROOM_PACING = Pacing(interval_seconds=1 / 59)
LIST_PACING = Pacing(interval_seconds=1 / 10)  # people do not read the list of rooms faster

RoomPublisher = Publisher[RoomInvalidation]
ListPublisher = Publisher[ListInvalidation]


class Hub:
    """Passes events to the publishers and assigns tabs to them.

    A revision is a number that grows with every event. It says how new the content of a tab is. Its text form is
    `<run id>.<number>`, because the numbers begin again with each run of the server.
    """

    def __init__(
        self, renderer: Callable[[str], FrameRenderer], *, on_last_left: Callable[[str], None] = lambda room_id: None
    ) -> None:
        """`renderer` returns the renderer for a URL prefix. `on_last_left` is called when the last tab left a room."""
        self._renderer = renderer
        self._on_last_left = on_last_left
        self._run_id = secrets.token_hex(4)
        self._revision = 0
        self._lock = threading.Lock()
        self._tabs: dict[Tab, None] = {}
        self._list = ListPublisher(
            self._lock,
            self._newest,
            render=self._render_list,
            pacing=LIST_PACING,
            disconnect=self._disconnect,
        )
        self._followed: dict[str, RoomPublisher] = {}  # rooms with a tab
        self._unfollowed: OrderedDict[str, RoomPublisher] = OrderedDict()  # other rooms, most recently changed last

    def revision(self, room_id: str | None = None) -> str:
        """Return the current revision as text.

        Call it before reading what a page shows: a tab that joins with this revision is sent all later changes.
        """
        with self._lock:
            if room_id is not None:
                self._room(room_id)
            return self.format_revision(self._revision)

    def format_revision(self, revision: int) -> str:
        """Return the text form of a revision."""
        return f"{self._run_id}.{revision}"

    def parse_revision(self, text: str) -> int:
        """Return the number of a revision, or NO_REVISION if `text` is not a revision of this run."""
        run_id, _, number = text.partition(".")
        is_known = run_id == self._run_id and number.isascii() and number.isdecimal()
        if not is_known or len(number) > MAX_REVISION_DIGITS:
            return NO_REVISION
        return min(int(number), self._revision)

    def handle(self, event: RoomEvent) -> None:
        """Record which fragments the event makes stale, and wake their publishers."""
        with self._lock:
            self._revision += 1
            wakes = self._mark(self._list, list(list_invalidations(event)))
            if stale := list(room_invalidations(event)):
                wakes += self._mark(self._room(event.room_id), stale)
        for wake in wakes:
            wake()
        if isinstance(event, ShareRevoked):
            self._end_shares(event.room_id, event.number)

    def models_changed(self) -> None:
        """Send every tab the default model, which changed or got its name.

        The cost grows with the number of rooms that are followed or remembered, not with the number of all rooms.
        """
        with self._lock:
            self._revision += 1
            wakes = self._mark(self._list, [DefaultModelInvalidated()])
            for room in (*self._followed.values(), *self._unfollowed.values()):
                wakes += self._mark(room, [HeaderInvalidated()])
        for wake in wakes:
            wake()

    def join(
        self,
        ws: WebSocket,
        room_id: str | None,
        prefix: str,
        *,
        room_revision: str,
        list_revision: str,
        session: str = "",
    ) -> Tab:
        """Serve this socket, beginning with everything that its tab lacks.

        The revisions are those of the room and of the list that the tab shows; one that is empty or from another run
        stands for a tab that shows nothing yet. `session` is the id of its session.
        """
        tab = Tab(ws, session=session, room_id=room_id, on_ready=self._serve_soon)
        with self._lock:
            self._tabs[tab] = None
            self._list.add(tab, TabState(prefix, room_id or "", self.parse_revision(list_revision)))
            if room_id is not None:
                room = self._followed[room_id] = self._room(room_id)
                self._unfollowed.pop(room_id, None)
                room.add(tab, TabState(prefix, room_id, self.parse_revision(room_revision)))
        self._serve_soon(tab)
        return tab

    def join_share(self, ws: WebSocket, share: Share, prefix: str, *, room_revision: str) -> Tab:
        """Serve the socket of a visitor: the room of this share, read-only, and nothing else."""
        tab = Tab(ws, session="", room_id=share.room_id, on_ready=self._serve_soon, share=share)
        with self._lock:
            self._tabs[tab] = None
            room = self._followed[share.room_id] = self._room(share.room_id)
            self._unfollowed.pop(share.room_id, None)
            revision = self.parse_revision(room_revision)
            room.add(tab, TabState(prefix, share.room_id, revision, share=share.address))
        self._serve_soon(tab)
        return tab

    def end_share(self, tab: Tab) -> None:
        """Tell a visitor that the share has ended, and close the tab."""
        tab.writer.send(self._renderer("").ended_frame())
        self._disconnect(tab, ROOM_GONE, "the share has ended")

    def leave(self, tab: Tab) -> None:
        """Forget the tab."""
        with self._lock:
            self._tabs.pop(tab, None)
            self._list.discard(tab)
            if tab.room_id is not None and (room := self._followed.get(tab.room_id)) is not None:
                room.discard(tab)
                if not room.followed:
                    self._remember(tab.room_id, self._followed.pop(tab.room_id))
                    self._on_last_left(tab.room_id)

    def has_tab(self, room_id: str) -> bool:
        """Return whether a tab follows the room."""
        return room_id in self._followed

    def log_out(self, session: str, html: str) -> None:
        """Send `html` to the tabs of this session, and close them."""
        for tab in list(self._tabs):
            if tab.session == session:
                tab.writer.send(text_frame(html))
                self._disconnect(tab, LOGGED_OUT, "logged out")

    def close(self) -> None:
        """Close every tab with a code that makes it reconnect."""
        with self._lock:
            self._list.close()
            for room in self._followed.values():
                room.close()
        for tab in list(self._tabs):
            tab.writer.close_with(RESTART, "the server restarts")

    # In call order

    def _end_shares(self, room_id: str, number: int) -> None:
        for tab in list(self._tabs):
            if tab.share is not None and (tab.share.room_id, tab.share.number) == (room_id, number):
                self.end_share(tab)

    def _newest(self) -> int:
        return self._revision

    def _room(self, room_id: str) -> RoomPublisher:
        room = self._followed.get(room_id) or self._unfollowed.get(room_id)
        if room is None:
            room = RoomPublisher(
                self._lock, self._newest, render=self._render_room, pacing=ROOM_PACING, disconnect=self._disconnect
            )
        if not room.followed:
            self._remember(room_id, room)
        return room

    def _remember(self, room_id: str, room: RoomPublisher) -> None:
        self._unfollowed[room_id] = room
        self._unfollowed.move_to_end(room_id)
        if len(self._unfollowed) > ROOMS_REMEMBERED:
            self._unfollowed.popitem(last=False)

    def _mark(
        self, topic: Publisher[Invalidation], stale: Sequence[Invalidation | ListInvalidated]
    ) -> list[Callable[[], None]]:
        """Record what is stale in a topic. Return what has to be called without the lock."""
        for one in stale:
            if isinstance(one, ListInvalidated | MessagesInvalidated | RoomGone):
                topic.changelog.mark_all(self._revision)
            else:
                topic.changelog.mark(one, self._revision)
        return [topic.wake] if stale and topic.note_change() else []

    def _serve_soon(self, tab: Tab) -> None:
        self._list.serve_soon(tab)
        if tab.room_id is not None and (room := self._followed.get(tab.room_id)) is not None:
            room.serve_soon(tab)

    def _render_list(
        self, state: TabState, stale: Sequence[ListInvalidation] | None, revision: int, shared: dict[object, str]
    ) -> tuple[bytes, TabState]:
        text = self.format_revision(revision)
        frame = self._renderer(state.prefix).list_frame(state, stale, text, shared=shared)
        return frame, state.at(revision)

    def _render_room(
        self, state: TabState, stale: Sequence[RoomInvalidation] | None, revision: int, shared: dict[object, str]
    ) -> tuple[bytes, TabState]:
        frames, state = self._renderer(state.prefix).room_frames(state, stale)
        return frames, state.at(revision)

    def _disconnect(self, tab: Tab, code: int, reason: str) -> None:
        self.leave(tab)
        tab.writer.close_with(code, reason)
