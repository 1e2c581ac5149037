"""Requests for rooms with 50, 5,000 and 100,000 messages, the last with 10,000 versions besides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from overseer.storage.instance_lock import room_file
from tests.bench.caller import PART, Caller
from tests.bench.figure import Figure, percentile, repeats
from tests.bench.files import create_rooms, message
from tests.bench.seeded_instance import seeded
from tests.support.seed_data import insert_messages, insert_versions

FEW, MANY, MOST = 50, 5_000, 100_000
SIZES = (FEW, MANY, MOST)
REFERENCE = 4_098
PAGE = 50
ROUNDS, EACH, FEWER = 5, 80, 10
PAGES, ROUNDS_BACK = 20, 4  # as many pages as the room of 5,000 has that were not read before
VERSIONS = 10_000  # in the room with most messages, that are not shown
MAX_GROWTH = 1.5  # relative to a room of 50 messages


class Reader:
    """A reader of one room."""

    def __init__(self, caller: Caller, room_id: str, messages: int) -> None:
        self._caller = caller
        self._path = f"/rooms/{room_id}"
        self._messages = messages
        newest = range(messages + 1, max(messages + 1 - PAGE * PAGES, PAGE), -PAGE)
        self._newest = itertools.cycle(newest)
        self._top = newest[-1] - PAGE

    def open(self) -> float:
        """Load the page of the room."""
        return self._caller.call("GET", self._path).ms

    def switch(self) -> float:
        """Switch to the room from another one."""
        return self._caller.call("GET", self._path, headers=PART).ms

    def kilobytes(self) -> float:
        """Return the size of the response to a switch."""
        answer = self._caller.call("GET", self._path, headers=PART)
        return (len(answer.head) + len(answer.body)) / 1024

    def page_back(self) -> float:
        """Read one of the newest pages, which are cached."""
        return self._before(next(self._newest))

    def scroll(self) -> float:
        """Read further pages that were not read before."""
        if self._top <= PAGE:  # the room of 50 has only one page
            return sum(self._before(self._messages + 1) for _ in range(PAGES))
        took = sum(self._before(self._top - n * PAGE) for n in range(PAGES))
        self._top -= PAGES * PAGE
        return took

    def _before(self, number: int) -> float:
        return self._caller.call("GET", f"{self._path}/messages?before={number}", headers=PART).ms


STEPS: tuple[tuple[str, Callable[[Reader], float]], ...] = (
    ("open the page of a room", Reader.open),
    ("switch to a room", Reader.switch),
    ("page back", Reader.page_back),
)


def figures() -> Iterator[Figure]:
    """Yield how long each request takes, also relative to a room of 50 messages, and the size of a switch."""
    rooms: dict[int, str] = {}

    def filled(folder: Path) -> None:
        sizes = (*SIZES, REFERENCE)
        rooms.update(zip(sizes, create_rooms(folder, len(sizes)), strict=True))
        for messages, room_id in rooms.items():
            insert_messages(room_file(folder, room_id), range(1, messages + 1), message)
        insert_versions(room_file(folder, rooms[MOST]), MOST, VERSIONS)

    with seeded(prepare=filled) as home, Caller(home.server.port) as caller:
        readers = {messages: Reader(caller, room_id, messages) for messages, room_id in rooms.items()}
        original = readers.pop(REFERENCE)
        for name, step in STEPS:
            yield from grown(name, taken(readers, step))
        yield from scrolled(readers)
        for _ in range(5):
            original.switch()
        yield Figure(f"switch to a room of {REFERENCE:,}", (original.kilobytes(),), "KB", 60)
        each = repeats(EACH, FEWER)
        times = tuple(sorted(original.switch() for _ in range(each))[each // 2] for _ in range(repeats(ROUNDS)))
        yield Figure("the same, p50", times, "ms", 8)


def taken(readers: dict[int, Reader], step: Callable[[Reader], float]) -> dict[int, list[list[float]]]:
    """Return the sorted milliseconds of each round. Rooms take turns, so that noise affects all of them equally."""
    found: dict[int, list[list[float]]] = {messages: [] for messages in readers}
    for n in range(repeats(ROUNDS) + 1):  # the first round fills caches
        one: dict[int, list[float]] = {messages: [] for messages in readers}
        for _ in range(repeats(EACH, FEWER)):
            for messages, reader in readers.items():
                one[messages].append(step(reader))
        for messages in readers if n else ():
            found[messages].append(sorted(one[messages]))
    return found


def grown(name: str, found: dict[int, list[list[float]]]) -> Iterator[Figure]:
    """Yield the figures of one request."""
    late = {messages: tuple(percentile(one, 99) for one in rounds) for messages, rounds in found.items()}
    for messages, rounds in found.items():
        p50 = tuple(percentile(one, 50) for one in rounds)
        yield Figure(f"{name} of {messages:,} messages, p50", p50, "ms")
        yield Figure("the same, p99", late[messages], "ms")
    for messages in (MANY, MOST):
        ratios = tuple(one / other for one, other in zip(late[messages], late[FEW], strict=True))
        yield Figure(f"{name}, p99 with {messages:,} messages relative to {FEW}", ratios, "×", MAX_GROWTH)


def scrolled(readers: dict[int, Reader]) -> Iterator[Figure]:
    """Yield figures of reading twenty further pages in a row.

    A room of 50 messages has only one page, so the two larger rooms are compared.
    """
    rounds = range(repeats(ROUNDS_BACK))
    took = {messages: tuple(reader.scroll() for _ in rounds) for messages, reader in readers.items()}
    for messages, values in took.items():
        what = (
            f"one page of 50 read {PAGES} times" if messages == FEW else f"{PAGES} pages back in {messages:,} messages"
        )
        yield Figure(what, values, "ms")
    ratios = tuple(one / other for one, other in zip(took[MOST], took[MANY], strict=True))
    yield Figure(f"{PAGES} pages back with {MOST:,} messages relative to {MANY:,}", ratios, "×", MAX_GROWTH)
