"""The history of one round: which operations clients began, how they ended, and what clients and tabs were shown."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from math import inf

clock = time.monotonic


@dataclass(eq=False, slots=True)
class Operation:
    """A request. Without a status the outcome is unknown: the server was killed before it answered."""

    kind: str
    room: str = ""
    text: str = ""
    key: str | None = None
    number: int = 0  # of the message it is about; a new question gets it from the response
    made: int = 0  # the number of the question that an edit made
    version: int = 0  # the index of a name
    models: int = 1  # that are asked
    start: float = field(default_factory=clock)
    end: float = inf
    status: int = 0

    @property
    def acknowledged(self) -> bool:
        return 200 <= self.status < 300

    @property
    def maybe_done(self) -> bool:
        return self.acknowledged or not self.status

    def __str__(self) -> str:
        about = " ".join(str(word) for word in (self.number, self.text, self.key, self.version, self.made) if word)
        took = f"{1000 * (self.end - self.start):.0f} ms" if self.status else "no response"
        return f"{self.kind} {self.room} {about} → {self.status or '?'} ({took})"


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message in a fragment."""

    number: int
    role: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What a fragment showed of a room. `source` says whether a response or a push contained it."""

    room: str
    source: str
    at: float
    messages: tuple[ShownMessage, ...] = ()
    name: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class ListObservation:
    """The ids in the whole list of rooms, in the response to a request that began at `since`."""

    since: float
    rooms: frozenset[str]


class History:
    """One round, written by many threads."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.observations: list[Observation] = []
        self.lists: list[ListObservation] = []
        self.faults: list[str] = []
        self._reached = threading.Event()
        self._resumed = threading.Event()
        self._awaited = ""
        self._alone = False

    def wait_for(self, kind: str, *, alone: bool, seconds: float) -> None:
        """Wait until an operation of this kind begins, or for some seconds. If `alone`, hold back all others then."""
        self._awaited, self._alone = kind, alone
        self._reached.wait(seconds)

    def resume(self) -> None:
        """Let operations begin again."""
        self._resumed.set()

    def begin(self, operation: Operation) -> Operation:
        if self._alone and self._reached.is_set():
            self._resumed.wait(1.0)
        operation.start = clock()
        self.operations.append(operation)
        if operation.kind == self._awaited:
            self._reached.set()
        return operation
