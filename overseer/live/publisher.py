"""Publishers: each keeps the tabs of one topic, a room or the list of rooms, up to date.

Topics do not wait for each other: a locked room, a slow disk or a long rendering delays only its own topic.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from wsproto.frame_protocol import CloseReason

from overseer.domain.errors import StorageError
from overseer.domain.shares import Share
from overseer.live.changelog import Changelog
from overseer.live.renderer import TabState
from overseer.live.socket_writer import RESTART, ROOM_GONE, SocketWriter, WebSocket

log = logging.getLogger(__name__)

NO_REVISION = -1  # the revision of a tab that shows nothing yet
IDLE_SECONDS = 5.0  # a publisher's thread ends after so long without a change


@dataclass(frozen=True, slots=True)
class Pacing:
    """How often a publisher sends.

    A round sends all tabs of the topic what changed. After an expensive rendering or a large frame, the next round is
    delayed, by at most `max_delay_seconds`.
    """

    interval_seconds: float  # least average interval between two rounds
    max_round_share: float = 0.8  # of the time that rounds may take
    max_render_share: float = 0.1  # of the time that renderings may take
    free_render_seconds: float = 0.002  # a rendering this short delays no round
    bytes_per_second: int = 500_000  # sent to one tab
    max_delay_seconds: float = 0.5
    yield_interval_seconds: float = 0.005  # of work before other threads may run


Invalidation = TypeVar("Invalidation", bound=Hashable)
Render = Callable[[TabState, Sequence[Invalidation] | None, int, dict[object, str]], tuple[bytes, TabState]]


class Tab:
    """One connected WebSocket, its session, and the room it has open; for a visitor, by a share.

    `on_ready` is called whenever more can be sent to it.
    """

    def __init__(
        self,
        ws: WebSocket,
        *,
        session: str,
        room_id: str | None,
        on_ready: Callable[[Tab], None],
        share: Share | None = None,
    ) -> None:
        self.writer = SocketWriter(ws, on_ready=partial(on_ready, self))
        self.session = session
        self.share = share
        self.room_id = room_id


class RenderCache:
    """What was rendered since the last change.

    `frames` are the frames and the resulting state for each initial state; `shared` is HTML that several states share.
    """

    __slots__ = ("frames", "shared")

    def __init__(self) -> None:
        self.frames: dict[TabState, tuple[bytes, TabState]] = {}
        self.shared: dict[object, str] = {}


class Publisher(Generic[Invalidation]):
    """The tabs that follow one topic, and the thread that sends them what changed.

    The thread waits for a change, renders once for each distinct state, writes, and paces itself. It runs only while
    there are changes, and IDLE_SECONDS longer, so that an idle tab costs no thread.

    `lock` guards the changelog and the methods that the hub calls. It is shared with the hub, and never held while
    anything is rendered or sent. `revision` returns the current revision; `disconnect` forgets a tab and closes it with
    a code and a reason.
    """

    def __init__(
        self,
        lock: threading.Lock,
        revision: Callable[[], int],
        *,
        render: Render[Invalidation],
        pacing: Pacing,
        disconnect: Callable[[Tab, int, str], None],
    ) -> None:
        self.changelog: Changelog[Invalidation] = Changelog(revision())
        self._lock = lock
        self._revision = revision
        self._render = render
        self._pacing = pacing
        self._disconnect = disconnect
        self._tabs: dict[Tab, TabState] = {}
        self._cache = RenderCache()
        self._changed = False  # since the last round
        self._ready: dict[Tab, None] = {}  # tabs to serve before the next round: they joined, or caught up
        self._wake: threading.Event | None = None  # wakes the thread; None while there is none
        self._due_at = 0.0  # monotonic time of the next round
        self._closed = False

    # For the hub, under the lock

    @property
    def followed(self) -> bool:
        """Whether a tab follows this topic."""
        return bool(self._tabs)

    def note_change(self) -> bool:
        """Take note that the changelog changed. Return whether `wake` has to be called."""
        # A new cache, because a rendering that runs now writes into the old one.
        self._cache = RenderCache()
        self._changed = bool(self._tabs)
        return self._changed

    def add(self, tab: Tab, state: TabState) -> None:
        """Keep the tab up to date, beginning with the next `wake`. `state` is what it shows now."""
        self._tabs[tab] = state
        self._ready[tab] = None

    def discard(self, tab: Tab) -> None:
        """Forget the tab."""
        self._tabs.pop(tab, None)
        self._ready.pop(tab, None)
        if not self._tabs:
            self._cache = RenderCache()

    def close(self) -> None:
        """End the thread. Nothing more is sent."""
        self._closed = True
        if self._wake is not None:
            self._wake.set()

    # For the hub, without the lock

    def serve_soon(self, tab: Tab) -> None:
        """Serve the tab without waiting for the next round."""
        with self._lock:
            if tab not in self._tabs:
                return
            self._ready[tab] = None
        self.wake()

    def wake(self) -> None:
        """Wake the thread, or start it."""
        with self._lock:
            wake, is_new = self._wake, self._wake is None
            if wake is None:
                wake = self._wake = threading.Event()
        if is_new:
            threading.Thread(target=self._run, args=(wake,), name="publisher", daemon=True).start()
        else:
            wake.set()

    # In call order

    def _run(self, wake: threading.Event) -> None:
        while not self._closed:
            wake.clear()
            began = time.monotonic()
            with self._lock:
                tabs, self._ready = self._ready, {}
                is_round = self._changed and self._due_at <= began
                if is_round:
                    self._changed = False
                    tabs |= dict.fromkeys(self._tabs)
                wait_seconds = self._due_at - began if self._changed else IDLE_SECONDS
            if is_round:
                # Two rounds may follow each other at once, since the first token comes right after its question.
                interval = self._pacing.interval_seconds
                self._due_at = max(self._due_at, began - interval) + interval
            if tabs:
                self._serve_all(tabs)
                if is_round:
                    took = time.monotonic() - began
                    self._due_at = max(self._due_at, began + took / self._pacing.max_round_share)
            elif not wake.wait(wait_seconds) and self._has_ended():
                return

    def _has_ended(self) -> bool:
        """Give up the thread, unless there is something to do. Return whether it ends."""
        with self._lock:
            if self._ready or self._changed:
                return False
            self._wake = None
            return True

    def _serve_all(self, tabs: Iterable[Tab]) -> None:
        yielded_at = time.monotonic()
        for tab in tabs:
            self._serve(tab)
            if time.monotonic() - yielded_at > self._pacing.yield_interval_seconds:
                time.sleep(0)
                yielded_at = time.monotonic()

    def _serve(self, tab: Tab) -> None:
        if not tab.writer.is_ready():
            return  # it calls `serve_soon` later
        try:
            frames, state = self._frames(tab)
            if frames:
                tab.writer.send(frames)
            if state is not None and state.gone:
                self._disconnect(tab, ROOM_GONE, "the room was deleted")
        except StorageError as error:
            log.error("cannot serve a tab: %s", error)
            self._disconnect(tab, RESTART, "try again in a moment")
        except Exception:
            log.exception("cannot serve a tab")
            self._disconnect(tab, CloseReason.INTERNAL_ERROR, "see the server log")

    def _frames(self, tab: Tab) -> tuple[bytes, TabState | None]:
        """Return the frames for the tab and the state they lead to, which is None for a tab that has left."""
        with self._lock:
            state = self._tabs.get(tab)
            if state is None:
                return b"", None
            cache = self._cache
            if state not in cache.frames:
                revision, stale = self._revision(), self.changelog.since(state.revision)
                if stale == []:
                    return b"", state
                if stale is None:
                    state = state.at(NO_REVISION)  # all tabs that are too far behind are sent the same frames
        if state not in cache.frames:
            cache.frames[state] = self._rendered(state, stale, revision, cache)
        frames, renewed = cache.frames[state]
        with self._lock:
            if tab in self._tabs:
                self._tabs[tab] = renewed
        return frames, renewed

    def _rendered(
        self, state: TabState, stale: Sequence[Invalidation] | None, revision: int, cache: RenderCache
    ) -> tuple[bytes, TabState]:
        began = time.monotonic()
        frames, renewed = self._render(state, stale, revision, cache.shared)
        slow = (time.monotonic() - began - self._pacing.free_render_seconds) / self._pacing.max_render_share
        large = len(frames) / self._pacing.bytes_per_second if stale else 0.0  # a tab that joins delays no round
        self._due_at = max(self._due_at, began + min(max(slow, large), self._pacing.max_delay_seconds))
        return frames, renewed
