"""What is known of a room for certain since the last look, and what its owner has tried on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.crash.files import StoredRoom

NEW_ROOM = "New room"


@dataclass(slots=True)
class Setting:
    """A name that the room was given; with `whole`, its temperature and whether it is pinned along with it."""

    name: str | None  # None: the room is to find one itself
    whole: bool = False
    temperature: float | None = None
    pinned: bool = False


@dataclass(slots=True)
class ExpectedRoom:
    """One room. Only its owner, a client, clears, edits, renames and deletes it; anybody asks in it."""

    room: str
    owner: int
    settings: list[Setting] = field(default_factory=list)  # every one that was tried, in order
    since: int = 0  # the one that was found at the last look
    base: StoredRoom = field(default_factory=StoredRoom)
    questions: list[int] = field(default_factory=list)  # whose numbers the owner knows to be there

    def name(self, version: int) -> str | None:
        """What the room is called by its nth setting."""
        return self.settings[version].name

    def whole(self, version: int) -> Setting:
        """The temperature and pin that go with the nth setting."""
        return next((tried for tried in self.settings[version::-1] if tried.whole), Setting(None))

    def look(self, stored: StoredRoom, version: int) -> None:
        """Begin anew from what was found."""
        self.base, self.since = stored, version
        for undone in self.settings[version + 1 :]:
            undone.whole = False
        self.questions = [message.number for message in stored.messages if message.role == "user"]
