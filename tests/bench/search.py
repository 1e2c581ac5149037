"""Search in rooms of English prose: the size of the index, the time of a query, and until a message is found."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from urllib.parse import quote

import requests

from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.overseer import Overseer
from overseer.storage.instance_lock import room_file
from overseer.storage.search_index import SEARCH_FILE
from tests.bench.caller import PART, Caller
from tests.bench.figure import Figure, percentile, repeats
from tests.bench.files import create_rooms
from tests.bench.script import Script
from tests.bench.seeded_instance import SeededInstance, seeded
from tests.support.model_server import NOBODY
from tests.support.seed_data import insert_messages

WORDS = " ".join(topics.values()).split()
QUERIES, FEWER, ROUNDS = 200, 50, 5
FOUND_ROUNDS = 5
LINES = {"Accept": "text/plain"}


class Prose:
    """Random messages of 10 to 180 words, and queries of some of their words."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.chars = 0

    def message(self, number: int) -> str:
        start = self._random.randrange(len(WORDS) - 180)
        text = " ".join(WORDS[start : start + self._random.randint(10, 180)])
        self.chars += len(text.encode())
        return text

    def query(self) -> str:
        """Return one to three words that follow each other somewhere; the last one is not finished."""
        start = self._random.randrange(len(WORDS) - 3)
        words = " ".join(WORDS[start : start + self._random.randint(1, 3)]).replace('"', "")
        return words[:-1] if len(words) > 5 else words


def figures() -> Iterator[Figure]:
    """60,000 messages in 1,000 rooms."""
    yield from measured(rooms=1_000, messages=60, median=15, slowest=60)


def million() -> Iterator[Figure]:
    """1,000,000 messages in 10,000 rooms. It takes several minutes to write them."""
    yield from measured(rooms=10_000, messages=100, median=None, slowest=250)


def measured(*, rooms: int, messages: int, median: float | None, slowest: float) -> Iterator[Figure]:
    """Yield the figures of an instance with so many rooms, and so many messages in each."""
    prose, many = Prose(rooms), f"{rooms * messages:,} messages"
    took: list[float] = []
    sizes: list[float] = []

    def filled(folder: Path) -> None:
        for room_id in create_rooms(folder, rooms):
            insert_messages(room_file(folder, room_id), range(1, messages + 1), prose.message)
        overseer = Overseer(folder, models=Models(ModelSettings(base_url=NOBODY)))
        began = time.monotonic()
        overseer.reindex(lambda done, of: None)
        took.append(rooms * messages / (time.monotonic() - began))
        sizes.append((folder / SEARCH_FILE).stat().st_size / prose.chars)

    with seeded(prepare=filled) as home, Caller(home.server.port) as caller:
        yield Figure(f"index of {many}, relative to their text", tuple(sizes), "×", 0.5)
        yield Figure("messages indexed a second, by reindex", tuple(took), "/s")
        rounds = [sorted(query(caller, prose) for _ in range(repeats(QUERIES, FEWER))) for _ in range(repeats(ROUNDS))]
        yield Figure(f"search in {many}, p50", tuple(percentile(one, 50) for one in rounds), "ms", median)
        yield Figure("the same, p99", tuple(percentile(one, 99) for one in rounds), "ms", slowest)
        seconds = tuple(until_found(home, n) for n in range(repeats(FOUND_ROUNDS)))
        yield Figure("from the end of an answer until it is found", seconds, "s", 1)


def query(caller: Caller, prose: Prose) -> float:
    """Search as the page does, and return the milliseconds."""
    return caller.call("GET", f"/search?q={quote(prose.query())}", headers=PART).ms


def until_found(home: SeededInstance, number: int) -> float:
    """Ask a question with a word of its own, and return the seconds from the end of the answer until it is found."""
    room, word = home.new_room(), f"zyzzyva{number}"
    url = f"{home.server.url}/rooms/{room}/messages"
    wait = {"Prefer": "wait=20"}
    requests.post(url, {"text": f"{word} {Script(3)}"}, headers=wait, timeout=30).raise_for_status()
    began = time.monotonic()
    while word not in requests.get(f"{home.server.url}/search", {"q": word}, headers=LINES, timeout=30).text:
        time.sleep(0.01)
    return time.monotonic() - began
