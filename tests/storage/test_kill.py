"""`kill -9` in mid-answer, again and again: what was acknowledged is there, and little of what was said is missing."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from contextlib import suppress

import requests

from tests.support.model_server import ModelServer, Reply, held, text
from tests.support.server import Server
from tests.support.tab import Tab

ROUNDS = 20
PACE = 0.004  # seconds between two words
LOST_AT_MOST = 1.0 + 0.5  # seconds of text: what is written once a second, and a little; a busy machine adds its lag
DEADLINE = 20.0


class Speaker:
    """Says numbered words into a reply that stays open, once it has begun, and remembers when."""

    def __init__(self, reply: Reply) -> None:
        self.said_at: list[float] = []
        self._reply = reply
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()

    def wait_for(self, words: int) -> None:
        """Return when so many words were said."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.said_at) >= words, DEADLINE)

    def end(self) -> None:
        """Say no more."""
        self._reply.hang_up()
        self._thread.join(DEADLINE)

    def _speak(self) -> None:
        self._reply.begun.wait(DEADLINE)
        while not self._reply.closed.wait(PACE):
            with self._more:
                self._reply.say(text(f"{len(self.said_at)} "))
                self.said_at.append(time.monotonic())
                self._more.notify_all()


class Lag:
    """Asks a server for next to nothing again and again; `worst` is the longest that it, or this process, was away."""

    def __init__(self, server: Server) -> None:
        self.worst = 0.0
        self._url = f"{server.url}/healthz"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more: the server is gone by now, and a look that was on its way counts too."""
        self._over.set()
        self._thread.join(DEADLINE)

    def _look(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            with suppress(requests.RequestException):
                requests.get(self._url, timeout=DEADLINE)
            self._over.wait(0.05)
            self.worst = max(self.worst, time.monotonic() - began)


def messages(server: Server, room: str) -> list[tuple[int, str, str]]:
    """Number, state and words of each message of the room's newest page."""
    page = requests.get(f"{server.url}{room}/messages", timeout=DEADLINE).text
    found = re.findall(r'<article id="message-(\d+)".*?data-state="(\w+)".*?__body">(.*?)</article>', page, re.S)
    return [
        (
            int(number),
            state,
            " ".join(re.sub(r"<(footer|div class=\"message__actions).*|<[^>]+>", " ", body, flags=re.S).split()),
        )
        for number, state, body in found
    ]


def retry(server: Server, room: str, number: int) -> None:
    """Ask for the last answer again, and wait for its end."""
    tab = Tab(server.url, f"room={room.rsplit('/', 1)[-1]}")
    assert requests.post(f"{server.url}{room}/turn", timeout=DEADLINE).status_code == 201
    tab.has(lambda frame: re.search(rf'id="message-{number}"[^>]*data-state="complete"', frame) is not None)
    tab.close()


def test_twenty_kills_in_mid_answer_lose_a_second_of_text_at_most(server: Server, model_server: ModelServer) -> None:
    """Question there, answer interrupted and kept, numbers in order; Retry answers, every other time."""
    room = requests.post(f"{server.url}/rooms", timeout=DEADLINE).headers["Location"]
    instants = [random.randint(1, 80) for _ in range(ROUNDS - 3)] + [random.randint(500, 650) for _ in range(3)]
    random.shuffle(instants)
    expected: list[tuple[int, str]] = []
    for n, words in enumerate(instants):
        speaker = Speaker(model_server.will(held()))
        asked = requests.post(f"{server.url}{room}/messages", {"text": f"Question {n}"}, timeout=DEADLINE)
        assert asked.status_code == 201
        lag = Lag(server)
        speaker.wait_for(words)
        killed_at = time.monotonic()
        server.stop(signal.SIGKILL)
        lag.end()
        server.start()
        speaker.end()
        *before, (_, _, question), (number, state, said) = messages(server, room)
        assert [(at, how) for at, how, _ in before] == expected
        assert (number, state, question) == (2 * n + 2, "interrupted", f"Question {n}"), f"killed after {words} words"
        kept = said.split()
        assert kept == [str(i) for i in range(len(kept))], "not a beginning of what was said"
        allowed = LOST_AT_MOST + lag.worst
        lost = [at for at in speaker.said_at[len(kept) :] if at < killed_at - allowed]
        assert not lost, f"{len(lost)} words older than {allowed:.1f} s are missing of {words}"
        expected += [(number - 1, "complete"), (number, "complete" if n % 2 else "interrupted")]
        if n % 2:
            retry(server, room, number)
