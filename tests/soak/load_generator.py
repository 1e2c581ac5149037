"""The load: rooms that always answer, rooms that are created and deleted, readers, and well and badly behaved tabs."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import requests
import websocket

from tests.support.model_server import ModelServer, Reply
from tests.support.streams import Streams
from tests.support.tab import Tab
from tests.support.waiting import DEADLINE

MAX_MESSAGES = 60  # in a room, before it is cleared
WORD_SECONDS = 0.03
WORDS = ("They ", "**hunt** ", "by ", "ear. ", "`270` ", "degrees.\n\n", "- barn ", "owl\n", "owl\n\n", "## Owls\n\n")


class LoadGenerator:
    """Threads that repeat actions until `end`. `done` counts the actions, `failures` describes unexpected results."""

    def __init__(self, url: str, model: ModelServer, *, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self._rooms: list[str] = []
        self._url = url
        self._seed = seed
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._model = model
        self._streams = Streams(WORD_SECONDS)
        model.otherwise = self._reply

    def begin(self, *, tabs: int, rooms: int) -> None:
        """Create the rooms and start all threads."""
        self._rooms = [self._create() for _ in range(rooms)]
        for n, room in enumerate(self._rooms):
            self._start(lambda rng, room=room: self._converse(room), f"room {n}")  # type: ignore[misc]
        for n in range(tabs):
            self._start(self._use_tab, f"tab {n}")
        for n in range(2):
            self._start(self._create_and_delete, f"owner {n}")
        self._start(self._read, "reader")

    def end(self) -> None:
        """End all threads, that of the model last: running requests still get their answers."""
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        self._streams.close()

    # The model

    def _reply(self, body: object) -> Reply:
        self._model.requests.clear()
        self._model.headers.clear()
        return self._streams.add(random.choices(WORDS, k=random.randint(20, 200)))

    # Rooms

    def _request(self, status: int, method: str, path: str, **options: object) -> requests.Response:
        """Make a request and note a failure if it has another status."""
        options.setdefault("timeout", DEADLINE)
        response = requests.request(method, f"{self._url}{path}", **options)  # type: ignore[arg-type]
        if response.status_code != status:
            self.failures.append(f"{method} {path} has status {response.status_code}: {response.text[:200]}")
        return response

    def _create(self) -> str:
        return self._request(201, "POST", "/rooms").headers["Location"].rsplit("/", 1)[-1]

    def _converse(self, room: str) -> None:
        """Ask and wait for the answer. Clear a long room."""
        form, headers = {"text": f"What about owls? {random.random()}"}, {"Prefer": "wait=60"}
        asked = self._request(201, "POST", f"/rooms/{room}/messages", data=form, headers=headers, timeout=3 * DEADLINE)
        if int(asked.headers["Location"].rsplit("/", 1)[-1]) % MAX_MESSAGES >= MAX_MESSAGES - 2:
            self._request(200, "DELETE", f"/rooms/{room}/messages")
        self.done["answers"] += 1

    def _create_and_delete(self, rng: random.Random) -> None:
        """Create, ask in and rename a room, and delete it during the answer."""
        room = f"/rooms/{self._create()}"
        self._request(201, "POST", f"{room}/messages", data={"text": "For a moment"})
        self._request(200, "PATCH", room, data={"name": f"Passing {rng.random()}"})
        self._over.wait(rng.random() / 4)
        self._request(200, "DELETE", room)
        self.done["rooms created and deleted"] += 1

    def _read(self, rng: random.Random) -> None:
        """Read pages, lists and a transcript, and abandon a text stream."""
        room = f"/rooms/{rng.choice(self._rooms)}"
        self._request(303, "GET", "/", allow_redirects=False)
        self._request(200, "GET", room)
        self._request(200, "GET", "/rooms")
        self._request(200, "GET", f"{room}/messages", headers={"Accept": "text/markdown"})
        self._request(404, "GET", "/rooms/000000000000")
        self.done["pages read"] += 5
        stream = {"Accept": "text/plain"}
        with requests.post(
            f"{self._url}{room}/messages", {"text": "Abandoned"}, headers=stream, stream=True, timeout=DEADLINE
        ) as response:
            next(response.iter_content(1), None)
        self._over.wait(0.5)

    # Tabs

    def _use_tab(self, rng: random.Random) -> None:
        """Open a tab that behaves in one of several ways, some with a small receive buffer."""
        room = rng.choice([*self._rooms, ""])
        options = {"sockopt": [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]} if rng.random() < 0.3 else {}
        try:
            tab = Tab(self._url, f"room={room}" if room else "", **options)
        except (OSError, websocket.WebSocketException) as error:
            self.failures.append(f"a tab could not connect: {error!r}")
            self._over.wait(1)
            return
        behave = rng.choice([self._follow, self._follow, self._sleep, self._reset, self._disconnect, self._dawdle])
        name = behave.__name__[1:]
        try:
            behave(tab, rng)
        except websocket.WebSocketTimeoutException:
            self.failures.append(f"{name}: no frame for {DEADLINE:.0f} s")
        except (OSError, websocket.WebSocketException):
            self.done["tabs closed by the server"] += 1
        finally:
            with suppress(OSError):
                tab.close()
        self.done[f"tabs: {name}"] += 1

    def _follow(self, tab: Tab, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 400)):
            if self._over.is_set() or self._next(tab) is None:
                return
        tab.socket.close()

    def _sleep(self, tab: Tab, rng: random.Random) -> None:
        """Keep the socket open without reading, as a suspended laptop."""
        self._next(tab)
        self._over.wait(rng.uniform(2, 20))
        for _ in range(20):
            if self._next(tab) is None:
                return

    def _reset(self, tab: Tab, rng: random.Random) -> None:
        self._next(tab)
        self._over.wait(rng.uniform(0, 2))
        tcp_socket(tab).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        tcp_socket(tab).close()

    def _disconnect(self, tab: Tab, rng: random.Random) -> None:
        """Close the connection without a close frame."""
        self._over.wait(rng.uniform(0, 2))
        tcp_socket(tab).close()

    def _dawdle(self, tab: Tab, rng: random.Random) -> None:
        """Read a few bytes at a time."""
        for _ in range(rng.randint(5, 60)):
            if not tcp_socket(tab).recv(64) or self._over.wait(0.1):
                return
        tcp_socket(tab).close()

    def _next(self, tab: Tab) -> str | None:
        frame = tab.read()
        tab.frames.clear()
        self.done["frames"] += frame is not None
        return frame

    # In call order

    def _start(self, action: Callable[[random.Random], None], name: str) -> None:
        rng = random.Random(f"{self._seed} {name}")

        def run() -> None:
            while not self._over.is_set():
                try:
                    action(rng)
                except Exception as error:
                    if not self._over.is_set():
                        self.failures.append(f"{name}: {error!r}")
                        self._over.wait(1)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()


def tcp_socket(tab: Tab) -> socket.socket:
    assert tab.socket.sock is not None
    return tab.socket.sock
