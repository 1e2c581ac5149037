"""Plain values about rooms and sessions that the layers share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from overseer.domain.messages import Message, Usage

ROOM_ID = re.compile(r"[0-9a-f]{12}", re.ASCII)
PINNED = 2**52  # added to the rank of a pinned room
MAX_NUMBER = 2**63 - 1
ImportState = Literal["waiting", "running", "done", "cancelled", "failed"]
Outcome = Literal["imported", "skipped", "failed"]
Move = Literal["", "to top", "elsewhere"]  # how a sync changes a room's position in the list


@dataclass(frozen=True, slots=True)
class Room:
    """A room in the list, from the registry.

    `rank` orders the list, highest first. It is a counter of activities, plus PINNED for a pinned room. `problem` is a
    sentence that says why the room's file cannot be used, or empty. `active_at` is in UTC milliseconds.

    A fork has the id of the room that it was `forked_from`, and the number of the last message that was copied;
    `origin` is that room's name, or None if it is not there any more.

    An `archived` room and a `temporary` one are not in the list.
    """

    id: str
    name: str
    messages: int
    preview: str
    answering: bool
    problem: str
    rank: int
    active_at: int
    failed: bool = False  # the last answer ended with an error
    hidden: int = 0  # messages in other versions than the shown one
    forked_from: str = ""
    forked_at: int | None = None
    origin: str | None = None
    archived: bool = False
    temporary: bool = False

    @property
    def pinned(self) -> bool:
        """Whether the room stays above the rooms that are not pinned."""
        return self.rank >= PINNED

    @property
    def listed(self) -> bool:
        """Whether the room is in the list."""
        return not (self.archived or self.temporary)


@dataclass(frozen=True, slots=True)
class RoomList:
    """A page of the list. `after` is the argument for the next page, or None on the last one.

    `apart` is the open room, if it is asked for and further down the list, archived or temporary. `archived` if there
    are archived rooms.
    """

    rooms: tuple[Room, ...]
    after: int | None
    apart: Room | None = None
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The result of asking a question: the numbers of the question and its answer.

    `beside` are the numbers of the other answers, if several models were asked.
    `repeated` if its key was used before and nothing was stored. `named_room` if the room was named after it.
    `unarchived` if the room was archived before.
    `messages` are the question and all answers as they were stored.
    """

    question: int
    answer: int
    repeated: bool = False
    named_room: bool = False
    messages: tuple[Message, ...] = field(default=(), compare=False, repr=False)
    beside: tuple[int, ...] = ()
    unarchived: bool = False

    @property
    def answers(self) -> tuple[int, ...]:
        """The numbers of all answers."""
        return (self.answer, *self.beside)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the messages on one path, in reading order. `more` if there are earlier ones.

    `first` is the number of the path's first message and `end` that of its last; 0 in an empty room. `last_used` is the
    highest number that was ever used. `context_start` is the first message that the model reads, 0 for the whole path.
    `newest` if the page ends where the shown path ends, `hidden` if the messages are of another path. `missing` is the
    number of a message that should come before them and is not in the room's file.

    `beside` are the answers that are shown side by side, by the number of their question; one of each is in `messages`.
    """

    messages: tuple[Message, ...]
    more: bool
    first: int = 0
    end: int = 0
    last_used: int = 0
    context_start: int = 0
    newest: bool = True
    hidden: bool = False
    missing: int | None = None
    beside: Mapping[int, tuple[Message, ...]] = field(default_factory=dict)

    def lanes(self, message: Message) -> tuple[Message, ...]:
        """Return the answers that are shown side by side with a message, itself included: usually it alone."""
        return (message.lane and message.parent and self.beside.get(message.parent)) or (message,)

    @property
    def answering(self) -> bool:
        """Whether the last answer is being generated, or one beside it."""
        return any(not message.finished for last in self.messages[-1:] for message in self.lanes(last))

    @property
    def usage(self) -> Usage | None:
        """The usage of the last answer that has one."""
        return next((message.usage for message in reversed(self.messages) if message.usage), None)


@dataclass(frozen=True, slots=True)
class Summary:
    """The summary of a room, which the registry stores.

    `messages` are on the shown path, `hidden` ones in other versions only. `preview` is the start of the newest text.
    `active_at` is the time of the last message. Times are UTC milliseconds. For `forked_from` and `forked_at` see Room.
    """

    name: str
    created_at: int
    active_at: int
    messages: int
    preview: str
    answering: bool
    pinned: bool = False
    failed: bool = False  # the last answer ended with an error
    hidden: int = 0
    forked_from: str = ""
    forked_at: int | None = None
    archived: bool = False
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """What a log-in begins, with the address and user agent it came from. Times are in Unix seconds."""

    id: str
    created_at: int
    last_seen_at: int
    expires_at: int
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Import:
    """An import of files into rooms. Times are UTC milliseconds.

    `read` of `size` bytes are read. `outcomes` are the numbers of conversations by outcome. `reason` is a sentence that
    says why it failed, or empty.
    """

    id: str
    state: ImportState
    files: tuple[str, ...]
    created_at: int
    ended_at: int | None = None
    size: int = 0
    read: int = 0
    reason: str = ""
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether no more conversations will come."""
        return self.state not in ("waiting", "running")

    def count(self, outcome: Outcome) -> int:
        """Return the number of conversations with an outcome."""
        return self.outcomes.get(outcome, 0)

    @property
    def sentence(self) -> str:
        """What came of it so far, for a person."""
        imported, skipped, failed = (self.count(one) for one in ("imported", "skipped", "failed"))
        if not self.ended and not imported + skipped + failed:
            return "The files are being read."
        counts = f"{imported:,} imported, {skipped:,} skipped, {failed:,} failed."
        nothing = "" if imported + skipped or not self.ended else "Nothing was imported. "
        return f"{nothing}{counts}{' ' + self.reason if self.reason else ''}"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a conversation of an import: the line `number` of its report.

    `messages` is how many were added to the `room`, of which this is the id. `place` is where in the files it is, and
    `reason` says why it was skipped or failed, or what was not kept.
    """

    number: int
    outcome: Outcome
    name: str
    messages: int = 0
    room: str = ""
    place: str = ""
    reason: str = ""
