"""Publishers: each keeps the tabs of one topic, a room or the list of rooms, up to date.

Whatever a topic waits for, the lock of its room, a slow disk or a long rendering, no other topic waits for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, Self, TypeVar

from wsproto.frame_protocol import CloseReason

from overseer.domain.errors import StorageError
from overseer.live.changelog import Changelog
from overseer.live.socket_writer import GONE, RESTART, SocketWriter, WebSocket

log = logging.getLogger(__name__)

NOTHING = -1  # the revision of a tab that shows nothing yet
IDLE_SECONDS = 5.0  # that a publisher's thread waits for the next change before it ends


@dataclass(frozen=True, slots=True)
class Pacing:
    """How often a publisher sends."""

    interval_seconds: float  # between two rounds, on average at least
    round_share: float = 0.8  # of the time, at most, that rounds may take
    yield_seconds: float = 0.005  # of work before other threads may run
    cheap_seconds: float = 0.002  # that a rendering may take; a longer one comes less often, so that
    render_share: float = 0.1  # of the time, at most, goes into renderings,
    bytes_per_second: int = 500_000  # and so does a large frame, so that a tab is sent no more than this,
    latest_seconds: float = 0.5  # but never later than this


class State(Hashable, Protocol):
    """What a tab shows of a topic. Tabs with equal states are sent the same bytes."""

    @property
    def place(self) -> int:
        """The revision that the tab shows."""

    @property
    def gone(self) -> bool:
        """Whether the tab was told that the topic is gone for good."""

    def at(self, place: int) -> Self:
        """The same at another revision."""


Name = TypeVar("Name", bound=Hashable)
S = TypeVar("S", bound=State)
Render = Callable[[S, Sequence[Name] | None, int, dict[object, str]], tuple[bytes, S]]


class Tab:
    """One connected WebSocket, the log-in it came with, and the room it has open.

    `free` is called whenever it can be sent to again.
    """

    def __init__(self, ws: WebSocket, *, session: str, room_id: str | None, free: Callable[[Tab], None]) -> None:
        self.writer = SocketWriter(ws, free=partial(free, self))
        self.session = session
        self.room_id = room_id


class RenderCache(Generic[S]):
    """What was rendered since the last change: frames with the state they lead to, by the state they start from, and
    HTML that several states share."""

    __slots__ = ("frames", "shared")

    def __init__(self) -> None:
        self.frames: dict[S, tuple[bytes, S]] = {}
        self.shared: dict[object, str] = {}


class Publisher(Generic[Name, S]):
    """The tabs that follow one topic, and the thread that sends them what changed.

    It waits for a change, renders once for each distinct state of a tab, writes, and paces itself. The thread runs only
    while there are changes, and some seconds longer, so that a tab where nothing happens costs no thread.

    `lock` guards the changelog and what the hub calls; it is shared with the hub and never held while anything is
    rendered or sent. `revision` is the newest one; `dismiss` forgets a tab and closes it with a code and a reason.
    """

    def __init__(
        self,
        lock: threading.Lock,
        revision: Callable[[], int],
        *,
        render: Render[S, Name],
        pacing: Pacing,
        dismiss: Callable[[Tab, int, str], None],
    ) -> None:
        self.changelog: Changelog[Name] = Changelog(revision())
        self._lock = lock
        self._revision = revision
        self._render = render
        self._pacing = pacing
        self._dismiss = dismiss
        self._tabs: dict[Tab, S] = {}
        self._cache: RenderCache[S] = RenderCache()
        self._changed = False  # every tab is to be looked at
        self._ready: dict[Tab, None] = {}  # these at once: they joined, or can be sent to again
        self._wake: threading.Event | None = None  # of the thread, while there is one
        self._due_at = 0.0  # by the monotonic clock: the next round
        self._closed = False

    # For the hub, under the lock

    @property
    def followed(self) -> bool:
        """Whether there is a tab."""
        return bool(self._tabs)

    def note_change(self) -> bool:
        """The channel has changed; returns whether `wake` has to be called."""
        # A new object: what is being rendered just now must not be put into it.
        self._cache = RenderCache()
        self._changed = bool(self._tabs)
        return self._changed

    def add(self, tab: Tab, state: S) -> None:
        """Keep the tab up to date from `state` on, beginning with the next `wake`."""
        self._tabs[tab] = state
        self._ready[tab] = None

    def discard(self, tab: Tab) -> None:
        """Forget the tab."""
        self._tabs.pop(tab, None)
        self._ready.pop(tab, None)
        if not self._tabs:
            self._cache = RenderCache()

    def close(self) -> None:
        """End the thread, which sends no more."""
        self._closed = True
        if self._wake is not None:
            self._wake.set()

    # For the hub, without the lock

    def serve_soon(self, tab: Tab) -> None:
        """Look at the tab at once: it can be sent to again."""
        with self._lock:
            if tab not in self._tabs:
                return
            self._ready[tab] = None
        self.wake()

    def wake(self) -> None:
        """Have the thread look at what is to be done, and start it if there is none."""
        with self._lock:
            wake, begins = self._wake, self._wake is None
            if wake is None:
                wake = self._wake = threading.Event()
        if begins:
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
                # Two rounds may follow each other at once: a question's first token comes right after the question.
                interval = self._pacing.interval_seconds
                self._due_at = max(self._due_at, began - interval) + interval
            if tabs:
                self._serve_all(tabs)
                if is_round:
                    took = time.monotonic() - began
                    self._due_at = max(self._due_at, began + took / self._pacing.round_share)
            elif not wake.wait(wait_seconds) and self._has_ended():
                return

    def _has_ended(self) -> bool:
        """Let go of the thread if there is nothing to do."""
        with self._lock:
            if self._ready or self._changed:
                return False
            self._wake = None
            return True

    def _serve_all(self, tabs: Iterable[Tab]) -> None:
        yielded_at = time.monotonic()
        for tab in tabs:
            self._serve(tab)
            if time.monotonic() - yielded_at > self._pacing.yield_seconds:
                time.sleep(0)
                yielded_at = time.monotonic()

    def _serve(self, tab: Tab) -> None:
        if not tab.writer.is_free():
            return  # it calls `serve_soon` when it is
        try:
            frames, state = self._frames(tab)
            if frames:
                tab.writer.send(frames)
            if state is not None and state.gone:
                self._dismiss(tab, GONE, "the room was deleted")
        except StorageError as error:
            log.error("a tab could not be served: %s", error)
            self._dismiss(tab, RESTART, "come back in a moment")
        except Exception:
            log.exception("a tab could not be served")
            self._dismiss(tab, CloseReason.INTERNAL_ERROR, "see the log of the server")

    def _frames(self, tab: Tab) -> tuple[bytes, S | None]:
        """What the tab has to be sent, and what it shows then; None for a tab that has left."""
        with self._lock:
            state = self._tabs.get(tab)
            if state is None:
                return b"", None
            cache = self._cache
            if state not in cache.frames:
                revision, names = self._revision(), self.changelog.since(state.place)
                if names == []:
                    return b"", state
                if names is None:
                    state = state.at(NOTHING)  # all that are too far behind are sent the same
        if state not in cache.frames:
            cache.frames[state] = self._rendered(state, names, revision, cache)
        frames, renewed = cache.frames[state]
        with self._lock:
            if tab in self._tabs:
                self._tabs[tab] = renewed
        return frames, renewed

    def _rendered(
        self, state: S, names: Sequence[Name] | None, revision: int, cache: RenderCache[S]
    ) -> tuple[bytes, S]:
        began = time.monotonic()
        frames, renewed = self._render(state, names, revision, cache.shared)
        slow = (time.monotonic() - began - self._pacing.cheap_seconds) / self._pacing.render_share
        large = len(frames) / self._pacing.bytes_per_second if names else 0.0  # not what a tab is sent that only joins
        self._due_at = max(self._due_at, began + min(max(slow, large), self._pacing.latest_seconds))
        return frames, renewed
