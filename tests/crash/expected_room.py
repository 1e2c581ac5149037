"""What is certain about a room since the last check, and what its owner has tried to change."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.crash.files import StoredRoom

NEW_ROOM = "New room"


@dataclass(slots=True)
class Setting:
    """A name that was set; if `complete`, temperature and pin were set in the same request."""

    name: str | None  # None: the room is named after its first question
    complete: bool = False
    temperature: float | None = None
    pinned: bool = False


@dataclass(slots=True)
class ExpectedRoom:
    """One room. Only its owner, a client, clears, edits, renames and deletes it; every client asks in it."""

    room: str
    owner: int
    settings: list[Setting] = field(default_factory=list)  # all that were tried, in order
    since: int = 0  # the index of the setting found by the last check
    base: StoredRoom = field(default_factory=StoredRoom)  # the room at the last check
    questions: list[int] = field(default_factory=list)  # numbers that the owner can edit

    def complete_setting(self, version: int) -> Setting:
        """Return the temperature and pin that belong to a version of the settings."""
        return next((tried for tried in self.settings[version::-1] if tried.complete), Setting(None))

    def reset(self, stored: StoredRoom, version: int) -> None:
        """Start the next round from what was found."""
        self.base, self.since = stored, version
        for undone in self.settings[version + 1 :]:
            undone.complete = False
        self.questions = [message.number for message in stored.messages if message.role == "user"]
