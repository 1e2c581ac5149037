"""Who keeps the server busy: tabs of every temper, rooms that always answer, rooms that come and go, readers."""

from __future__ import annotations

import itertools
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import requests
import websocket

from tests.support.model_server import ModelServer, Reply, end, held, text
from tests.support.tab import Tab

DEADLINE = 20.0
LONGEST = 60  # messages in a room, before it is cleared
WORDS = (
    "They",
    "**hunt**",
    "by",
    "ear.",
    "`270`",
    "degrees.\n\n",
    "- barn",
    "owl\n",
    "- eagle",
    "owl\n\n",
    "## Owls\n\n",
)


class LoadGenerator:
    """Threads that do something again and again until it is over; `done` counts it, `troubles` are what went wrong."""

    def __init__(self, url: str, model: ModelServer, *, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.troubles: list[str] = []
        self.rooms: list[str] = []
        self._url = url
        self._seed = seed
        self._over = threading.Event()
        self._silent = threading.Event()
        self._voice = threading.Thread(target=self._speak, daemon=True)
        self._threads: list[threading.Thread] = []
        self._speaking: list[tuple[Reply, list[str]]] = []
        self._lock = threading.Lock()
        model.otherwise = self._reply
        self._model = model

    def begin(self, *, tabs: int, rooms: int) -> None:
        """Make the rooms, and send everybody in."""
        self.rooms = [self._create() for _ in range(rooms)]
        self._voice.start()
        for n, room in enumerate(self.rooms):
            self._go(lambda rng, room=room: self._converse(room), f"room {n}")  # type: ignore[misc]
        for n in range(tabs):
            self._go(self._look, f"tab {n}")
        for n in range(2):
            self._go(self._come_and_go, f"owner {n}")
        self._go(self._read, "reader")

    def end(self) -> None:
        """Send everybody home, the model last: whoever waits for an answer gets it."""
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        self._silent.set()
        self._voice.join(DEADLINE)

    # The model

    def _reply(self, body: object) -> Reply:
        reply = held()
        with self._lock:
            self._speaking.append((reply, random.choices(WORDS, k=random.randint(20, 200))))
        return reply

    def _speak(self) -> None:
        """Every answer that is being made gets a word more, again and again."""
        while not self._silent.wait(0.03):
            with self._lock:
                speaking = self._speaking = [(one, left) for one, left in self._speaking if not one.closed.is_set()]
            for reply, left in speaking:
                if left:
                    reply.say(text(left.pop() + " "))
                else:
                    reply.say(end())
                    reply.hang_up()
                    reply.closed.set()
            self._model.requests.clear()
            self._model.headers.clear()

    # Rooms

    def _create(self) -> str:
        made = requests.post(f"{self._url}/rooms", timeout=DEADLINE)
        made.raise_for_status()
        return made.headers["Location"].rsplit("/", 1)[-1]

    def _converse(self, room: str) -> None:
        """Ask, wait for the answer, ask again."""
        form = {"text": f"What about owls? {random.random()}"}
        asked = requests.post(
            f"{self._url}/rooms/{room}/messages", form, headers={"Prefer": "wait=60"}, timeout=3 * DEADLINE
        )
        self._expect(asked, 201)
        if int(asked.headers["Location"].rsplit("/", 1)[-1]) % LONGEST >= LONGEST - 2:
            self._expect(requests.delete(f"{self._url}/rooms/{room}/messages", timeout=DEADLINE), 200)
        self.done["answers"] += 1

    def _come_and_go(self, rng: random.Random) -> None:
        """A room is made, asked, renamed, and deleted in mid-answer."""
        room = f"{self._url}/rooms/{self._create()}"
        self._expect(requests.post(f"{room}/messages", {"text": "For a moment"}, timeout=DEADLINE), 201)
        self._expect(requests.patch(room, {"name": f"Passing {rng.random()}"}, timeout=DEADLINE), 200)
        self._over.wait(rng.random() / 4)
        self._expect(requests.delete(room, timeout=DEADLINE), 200)
        self.done["rooms made and deleted"] += 1

    def _read(self, rng: random.Random) -> None:
        """Pages, lists, a transcript, and a stream that is left in the middle."""
        room = rng.choice(self.rooms)
        for path, headers, status in (
            ("/", {}, 303),  # to a room that may be gone by then
            (f"/rooms/{room}", {}, 200),
            ("/rooms", {}, 200),
            (f"/rooms/{room}/messages", {"Accept": "text/markdown"}, 200),
            ("/rooms/000000000000", {}, 404),
        ):
            answer = requests.get(f"{self._url}{path}", headers=headers, timeout=DEADLINE, allow_redirects=False)
            self._expect(answer, status)
            self.done["pages read"] += 1
        with requests.post(
            f"{self._url}/rooms/{room}/messages",
            {"text": "And left in the middle"},
            headers={"Accept": "text/plain"},
            stream=True,
            timeout=DEADLINE,
        ) as answer:
            next(answer.iter_content(1), None)
        self._over.wait(0.5)

    # Tabs

    def _look(self, rng: random.Random) -> None:
        """One tab's life, of one temper or another."""
        room = rng.choice([*self.rooms, ""])
        try:
            tab = Tab(self._url, f"room={room}" if room else "", **self._options(rng))
        except (OSError, websocket.WebSocketException) as error:
            self.troubles.append(f"a tab was not let in: {error!r}")
            self._over.wait(1)
            return
        temper = rng.choice([self._follow, self._follow, self._sleep, self._vanish, self._drop, self._crawl])
        try:
            temper(tab, rng)
        except websocket.WebSocketTimeoutException:
            self.troubles.append(f"{temper.__name__[1:]}: nothing came for {DEADLINE:.0f} s")
        except (OSError, websocket.WebSocketException):
            self.done["tabs sent away"] += 1
        finally:
            with suppress(OSError):
                tab.close()
        self.done[f"tabs that {temper.__name__[1:]}"] += 1

    def _options(self, rng: random.Random) -> dict[str, object]:
        """Some have room for next to nothing."""
        return {"sockopt": [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]} if rng.random() < 0.3 else {}

    def _follow(self, tab: Tab, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 400)):
            if self._over.is_set() or self._next(tab) is None:
                return
        tab.socket.close()

    def _sleep(self, tab: Tab, rng: random.Random) -> None:
        """A laptop that is shut for a while: the socket is open, and nobody reads."""
        self._next(tab)
        self._over.wait(rng.uniform(2, 20))
        for _ in range(20):
            if self._next(tab) is None:
                return

    def _vanish(self, tab: Tab, rng: random.Random) -> None:
        """Gone by a reset, in the middle of whatever was sent."""
        self._next(tab)
        self._over.wait(rng.uniform(0, 2))
        wire(tab).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire(tab).close()

    def _drop(self, tab: Tab, rng: random.Random) -> None:
        """Gone without a word of good-bye."""
        self._over.wait(rng.uniform(0, 2))
        wire(tab).close()

    def _crawl(self, tab: Tab, rng: random.Random) -> None:
        """Reads a few bytes at a time."""
        for _ in range(rng.randint(5, 60)):
            if not wire(tab).recv(64) or self._over.wait(0.1):
                return
        wire(tab).close()

    def _next(self, tab: Tab) -> str | None:
        frame = tab.read()
        tab.frames.clear()
        self.done["frames"] += frame is not None
        return frame

    # In call order

    def _go(self, act: Callable[[random.Random], None], name: str) -> None:
        rng = random.Random(f"{self._seed} {name}")

        def run() -> None:
            for _ in itertools.takewhile(lambda _: not self._over.is_set(), itertools.count()):
                try:
                    act(rng)
                except Exception as error:
                    if not self._over.is_set():
                        self.troubles.append(f"{name}: {error!r}")
                        self._over.wait(1)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def _expect(self, answer: requests.Response, status: int) -> None:
        if answer.status_code != status:
            asked = answer.request
            self.troubles.append(f"{asked.method} {asked.url} answered {answer.status_code}: {answer.text[:200]}")


def wire(tab: Tab) -> socket.socket:
    """The socket below a tab's."""
    assert tab.socket.sock is not None
    return tab.socket.sock
