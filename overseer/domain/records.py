"""What the layers tell each other about rooms: plain values, without SQL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from overseer.domain.messages import Message

ROOM_ID = re.compile(r"[0-9a-f]{12}", re.ASCII)
PINNED = 2**52  # what the rank of a pinned room is higher by
MAX_NUMBER = 2**63 - 1
Move = Literal["", "raised", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Room:
    """A room as the list shows it, read without opening its file.

    `rank` orders the list, highest first: it is a count of activities, never a time, and higher by PINNED for a pinned
    room. `problem` is the sentence that says why its file cannot be used.
    """

    id: str
    name: str
    messages: int
    preview: str
    answering: bool
    problem: str
    rank: int
    active_at: int

    @property
    def pinned(self) -> bool:
        """Whether it stays above the rooms that are not."""
        return self.rank >= PINNED


@dataclass(frozen=True, slots=True)
class RoomList:
    """A page of the list; `after` continues it, or is None at its end."""

    rooms: tuple[Room, ...]
    after: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """The numbers of a question and of the row of its answer.

    `repeated` if its key was known and nothing was stored, `named_room` if the room got its name from it.
    """

    question: int
    answer: int
    repeated: bool = False
    named_room: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of messages in reading order; `more` if there are earlier ones.

    `last` is the highest number that was ever used in the room: the next question has the one after it. `reads_from`
    is the message that the model reads the room from, 0 for all of it. `first` is the room's first message, 0 for none.
    """

    messages: tuple[Message, ...]
    more: bool
    last: int
    reads_from: int = 0
    first: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """What the registry keeps of a room: its name, number of messages, newest words and state; whether it is pinned.

    `active_at` is when something was last said in it, in UTC milliseconds.
    """

    name: str
    created_at: int
    active_at: int
    messages: int
    preview: str
    answering: bool
    pinned: bool = False
