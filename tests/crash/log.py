"""What clients did and saw in one round, as they themselves noted it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from math import inf

clock = time.monotonic


@dataclass(eq=False, slots=True)
class Act:
    """A request that was begun. Without a status nobody knows whether it was done: the answer never came."""

    kind: str
    room: str = ""
    text: str = ""
    key: str | None = None
    number: int = 0  # of the message it is about; for a question it comes with the answer
    version: int = 0  # of a name
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
        about = " ".join(
            str(word) for word in (self.number or "", self.text, self.key or "", self.version or "") if word
        )
        took = f"{1000 * (self.end - self.start):.0f} ms" if self.status else "no answer"
        return f"{self.kind} {self.room} {about} → {self.status or '?'} ({took})"


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as a fragment shows it."""

    number: int
    role: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What a fragment showed of a room.

    Of the numbers in `span` only those of `messages` were there. `by` is how it came: an answer or a push.
    """

    room: str
    by: str
    at: float
    messages: tuple[Shown, ...] = ()
    span: tuple[int, int] | None = None
    name: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class ListState:
    """The whole list of rooms, as an answer to a request that began at `since`."""

    since: float
    rooms: frozenset[str]


class Log:
    """Of one round; written by many threads."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.sights: list[Sight] = []
        self.lists: list[ListState] = []
        self.faults: list[str] = []
        self.reached = threading.Event()
        self._awaited = ""
        self._alone = False
        self._go_on = threading.Event()

    def wait_for(self, kind: str, *, alone: bool, seconds: float) -> None:
        """Return when an act of this kind has just begun, or after a while; if `alone`, no other begins after it."""
        self._awaited, self._alone = kind, alone
        self.reached.wait(seconds)

    def release(self) -> None:
        """Let them act again."""
        self._go_on.set()

    def begin(self, act: Act) -> Act:
        """Note what is about to be done."""
        if self._alone and self.reached.is_set():
            self._go_on.wait(1.0)
        act.start = clock()
        self.acts.append(act)
        if act.kind == self._awaited:
            self.reached.set()
        return act
