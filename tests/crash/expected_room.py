"""What is certain about a room since the last check, and what its owner has tried to change."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.crash.files import StoredRoom

NEW_ROOM = "New room"


@dataclass(slots=True)
class ExpectedRoom:
    """One room. Only its owner, a client, clears, edits, renames and deletes it; every client asks in it."""

    room: str
    owner: int
    names: list[str | None]  # all that were tried, in order; None: the room is named after its first question
    since: int = 0  # the index of the name found by the last check
    base: StoredRoom = field(default_factory=StoredRoom)  # the room at the last check
    questions: list[int] = field(default_factory=list)  # numbers that the owner can edit
    models: dict[int, int] = field(default_factory=dict)  # how many were asked a question, by its number

    def reset(self, stored: StoredRoom, version: int) -> None:
        """Start the next round from what was found."""
        self.base, self.since = stored, version
        self.questions = [message.number for message in stored.messages if message.role == "user"]
