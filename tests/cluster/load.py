"""The load: clients that post with Idempotency-Keys, tabs, and what they were told."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from uuid import uuid4

import websocket

from tests.cluster.client import UNAVAILABLE, Response, basic, call, call_until_answered
from tests.cluster.cluster import Cluster, Machine
from tests.support.waiting import until

PASSWORD = "opens Overseers"
POST = re.compile(r"Post ([a-z0-9-]+) (\d+)\.")
POST_LINE = re.compile(r"^Post ([a-z0-9-]+) (\d+)\.$", re.M)
PAUSE_SECONDS = 0.4  # between two posts of a client
RETRY_SECONDS = 0.05
TAB_RETRY_SECONDS = 0.25  # the page waits for longer
SETTLE_SECONDS = 40.0
clock = time.monotonic


@dataclass(frozen=True, slots=True)
class Place:
    """A room in an Overseer. `name` is that of the Overseer."""

    name: str
    room: str

    @property
    def path(self) -> str:
        return f"/o/{self.name}/rooms/{self.room}"


def new_place(cluster: Cluster, at: Machine | None = None) -> Place:
    """Make an Overseer with a room. With `at`, that machine has it."""
    name = f"load-{uuid4().hex[:8]}"
    cluster.make(name, PASSWORD, at=at)
    return Place(name, new_room(at.url if at else cluster.url, name))


def new_room(base: str, name: str) -> str:
    """Create a room in an Overseer. Return its id."""
    made = call_until_answered(base, "POST", f"/o/{name}/rooms", {"name": "Kitchen"}, basic(PASSWORD))
    assert made.status == 201, f"POST /o/{name}/rooms: {made.status} {made.text[:300]}"
    return made.headers["location"].rsplit("/", 1)[-1]


def post(base: str, place: Place, number: int, *, key: str = "", seconds: float = 10.0) -> Response:
    """Ask question `number` in a room. The same number has the same key."""
    headers = {**basic(PASSWORD), "Idempotency-Key": key or f"{place.name} {number}"}
    text = f"Post {place.name} {number}."
    return call(base, "POST", f"{place.path}/messages", {"text": text}, headers, seconds=seconds)


def stored(base: str, place: Place) -> list[int]:
    """Return the numbers of the questions in the history of a room, as a script reads it."""
    headers = {**basic(PASSWORD), "Accept": "text/markdown"}
    response = call_until_answered(base, "GET", f"{place.path}/messages", headers=headers)
    assert response.status == 200, f"the history of {place.name}: {response.status} {response.text[:300]}"
    return [int(number) for name, number in POST_LINE.findall(response.text) if name == place.name]


class Poster:
    """Posts one question after the other; one that is not acknowledged is repeated until it is."""

    def __init__(self, base: str, place: Place, *, pause: float, attempt_seconds: float) -> None:
        self._base, self.place, self._pause, self._attempt_seconds = base, place, pause, attempt_seconds
        self.acknowledged: list[tuple[int, float]] = []  # numbers, and when
        self.latencies: list[float] = []  # seconds, of posts that were acknowledged at once
        self.outages: list[float] = []  # seconds from the first attempt, of those that were repeated
        self.refusals: Counter[int] = Counter()
        self.faults: list[str] = []
        self._over = threading.Event()
        self._is_given_up = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Make no new post, and wait until the last one is acknowledged."""
        self._over.set()
        self._thread.join(SETTLE_SECONDS)
        if self._thread.is_alive():
            self._is_given_up = True
            self.faults.append(f"a post to {self.place.name} was not acknowledged within {SETTLE_SECONDS:g} s")
            self._thread.join(SETTLE_SECONDS)

    def _run(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            self._post(number)
            self._over.wait(self._pause)

    def _post(self, number: int) -> None:
        began, attempts = clock(), 0
        while not self._is_given_up:
            attempts += 1
            response = post(self._base, self.place, number, seconds=self._attempt_seconds)
            if response.is_success:
                self.acknowledged.append((number, clock()))
                (self.latencies if attempts == 1 else self.outages).append(clock() - began)
                return
            self.refusals[response.status] += 1
            if response.status not in UNAVAILABLE:
                self.faults.append(f"post {number} to {self.place.name}: {response.status} {response.text[:200]!r}")
                return
            if response.status == 503 and "retry-after" not in response.headers:
                self.faults.append(f"post {number} to {self.place.name}: 503 without Retry-After")
            time.sleep(RETRY_SECONDS)


class LiveTab:
    """A tab on a room that connects again whenever it was closed, as the page does."""

    def __init__(self, base: str, place: Place) -> None:
        self._url = f"{base.replace('http://', 'ws://')}/o/{place.name}/live?room={place.room}"
        self.place = place
        self.shown: set[tuple[str, int]] = set()
        self.last = 0  # the highest number of a post that it was shown
        self.outages: list[float] = []  # seconds from the close to the first frame
        self.close_codes: list[int] = []  # 1006 is a connection that broke
        self.refusals: Counter[int] = Counter()
        self.is_in_step = False
        self._closed_at: float | None = None
        self._over = threading.Event()
        self._socket: websocket.WebSocket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Close it."""
        self._over.set()
        if self._socket is not None and self._socket.sock is not None:
            with suppress(OSError):
                self._socket.sock.shutdown(socket.SHUT_RDWR)  # ends the `recv` of its thread
        self._thread.join(SETTLE_SECONDS)

    def _run(self) -> None:
        while not self._over.is_set():
            code = self._follow()
            self.is_in_step = False
            if code is not None and not self._over.is_set():
                self.close_codes.append(code)
            self._over.wait(TAB_RETRY_SECONDS)

    def _follow(self) -> int | None:
        """Connect and read to the end. Return the close code, or None if it could not connect."""
        header = [f"{name}: {value}" for name, value in basic(PASSWORD).items()]
        try:
            self._socket = websocket.create_connection(
                self._url, timeout=5, header=header, skip_utf8_validation=True, enable_multithread=True
            )
        except websocket.WebSocketBadStatusException as error:
            self.refusals[error.status_code] += 1
            return None
        except (OSError, websocket.WebSocketException):
            self.refusals[0] += 1
            return None
        try:
            self._socket.settimeout(None)
            while not self._over.is_set():
                opcode, data = self._socket.recv_data()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    return self._closed(int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005)
                self._read(data.decode())
        except (OSError, websocket.WebSocketException):
            return self._closed(1006)
        finally:
            self._socket.shutdown()  # type: ignore[no-untyped-call]
        return None

    def _read(self, frame: str) -> None:
        if not self.is_in_step:
            self.is_in_step = True
            if self._closed_at is not None:
                self.outages.append(clock() - self._closed_at)
                self._closed_at = None
        for name, number in POST.findall(frame):
            self.shown.add((name, int(number)))
            if name == self.place.name:
                self.last = max(self.last, int(number))

    def _closed(self, code: int) -> int:
        if self._closed_at is None:
            self._closed_at = clock()
        return code


class Load:
    """Posters and tabs on several Overseers during a `with` block. `check` says what is wrong afterwards."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        overseers: int = 6,
        tabs: int = 2,
        at: Machine | None = None,
        pause: float = PAUSE_SECONDS,
        attempt_seconds: float = 10.0,
    ) -> None:
        self._cluster = cluster
        self.places = [new_place(cluster, at) for _ in range(overseers)]
        options = {"pause": pause, "attempt_seconds": attempt_seconds}
        self.posters = [Poster(cluster.url, place, **options) for place in self.places]
        self.in_other_rooms: set[tuple[str, int]] = set()  # posts of the scenario itself; it looks at them
        self.tabs = [LiveTab(cluster.url, place) for place in self.places for _ in range(tabs)]
        self._is_finished = False

    def __enter__(self) -> Load:
        for poster in self.posters:
            poster.start()
        for tab in self.tabs:
            tab.start()
        self.wait_until_all_are_served()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.finish()

    def wait_until_all_are_served(self, seconds: float = SETTLE_SECONDS, *, tabs: bool = True) -> None:
        """Wait until each poster had a post acknowledged that it began after this call, and each tab is in step."""
        before = {poster: len(poster.acknowledged) for poster in self.posters}

        def waiting() -> list[str]:
            posters = [f"posts to {one.place.name}" for one in self.posters if len(one.acknowledged) < before[one] + 2]
            behind = [f"a tab on {tab.place.name}" for tab in self.tabs if tabs and not tab.is_in_step]
            return posters + behind

        try:
            until(lambda: not waiting(), seconds=seconds)
        except AssertionError:
            raise AssertionError(f"not served within {seconds:g} s: {', '.join(waiting())}") from None

    def back(self, since: float, places: Collection[Place]) -> list[float]:
        """Return for each of the places the seconds from a moment to the first post that was acknowledged later."""
        return [
            next(at for _, at in poster.acknowledged if at > since) - since
            for poster in self.posters
            if poster.place in places
        ]

    def owned_by(self, machine: Machine) -> list[Place]:
        """Return the places that a machine has."""
        return [place for place in self.places if self._cluster.owner(place.name) is machine]

    def finish(self) -> None:
        """Let the last posts be acknowledged, wait until the tabs show them, and end."""
        if self._is_finished:
            return
        self._is_finished = True
        for poster in self.posters:
            poster.finish()
        last = {poster.place: poster.acknowledged[-1][0] for poster in self.posters if poster.acknowledged}
        try:
            until(lambda: all(tab.last >= last.get(tab.place, 0) for tab in self.tabs), seconds=SETTLE_SECONDS)
        except AssertionError:
            for tab in self.tabs:
                if tab.last < last[tab.place]:
                    self.posters[0].faults.append(
                        f"a tab on {tab.place.name} shows post {tab.last}, not {last[tab.place]} (in step: "
                        f"{tab.is_in_step}, closed with {tab.close_codes[-3:]}, refused {dict(tab.refusals)})"
                    )
        for tab in self.tabs:
            tab.finish()

    def shown(self) -> set[tuple[str, int]]:
        """Return the posts that tabs were shown, also those of the list of rooms: names of Overseers and numbers."""
        return {one for tab in self.tabs for one in tab.shown}

    def check(self) -> list[str]:
        """Compare what was acknowledged and shown with the histories. Return the faults."""
        self.finish()
        faults = [fault for poster in self.posters for fault in poster.faults]
        shown = self.shown() - self.in_other_rooms
        for poster in self.posters:
            faults += compare(poster, stored(self._cluster.url, poster.place), shown)
        for tab in self.tabs:
            if strange := set(tab.refusals) - {0, 503}:
                faults.append(f"a tab on {tab.place.name} was refused with {sorted(strange)}")
        return faults

    @property
    def acknowledged(self) -> int:
        return sum(len(poster.acknowledged) for poster in self.posters)

    @property
    def post_outages(self) -> list[float]:
        return sorted(outage for poster in self.posters for outage in poster.outages)

    @property
    def tab_outages(self) -> list[float]:
        return sorted(outage for tab in self.tabs for outage in tab.outages)

    @property
    def latencies(self) -> list[float]:
        return sorted(latency for poster in self.posters for latency in poster.latencies)


def compare(poster: Poster, found: Sequence[int], shown: set[tuple[str, int]]) -> Iterator[str]:
    """Yield the faults of one room."""
    name = poster.place.name
    counts = Counter(found)
    acknowledged = {number for number, _ in poster.acknowledged}
    if lost := sorted(acknowledged - counts.keys()):
        yield f"LOST in {name}: {lost} of {len(acknowledged)} acknowledged posts"
    if doubled := sorted(number for number, count in counts.items() if count > 1):
        yield f"DOUBLED in {name}: {doubled}"
    if found != sorted(found):
        yield f"OUT OF ORDER in {name}: {found}"
    if unproven := sorted(number for one, number in shown if one == name and number not in counts):
        yield f"SHOWN in a tab of {name}, but not stored: {unproven}"


def owner_of(cluster: Cluster, place: Place) -> Machine:
    """Wait until a machine has an Overseer, and return it."""
    call_until_answered(cluster.url, "GET", f"/o/{place.name}/rooms", headers=basic(PASSWORD))
    wait_for(lambda: cluster.owner(place.name) is not None, f"{place.name} has an owner")
    found = cluster.owner(place.name)
    assert found is not None
    return found


def wait_for(condition: Callable[[], bool], what: str, seconds: float = SETTLE_SECONDS) -> float:
    """Wait until `condition` holds. Return the seconds it took. Raises AssertionError with `what` was awaited."""
    began = clock()
    try:
        until(condition, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None
    return clock() - began
