"""Days as a person counts them: today, yesterday, the seven before, and earlier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from overseer.registry import Room

LABELS = {
    "pinned": "Pinned",
    "today": "Today",
    "yesterday": "Yesterday",
    "week": "Last 7 days",
    "earlier": "Earlier",
}
KEYS = tuple(LABELS)
ALWAYS = ("pinned", "today")  # there on a first page, though empty: a room that rises goes right below one of them


@dataclass(frozen=True, slots=True)
class Group:
    """Rooms of the list under a heading; the `label` is empty where a page goes on with the group of the one before."""

    key: str
    label: str
    rooms: tuple[Room, ...]


def grouped(rooms: Sequence[Room], *, today: date, under: str = "") -> tuple[Group, ...]:
    """Rooms in the order of the list, by the day of their last activity; `under` is the last key of the page before."""
    found: dict[str, list[Room]] = {} if under else {key: [] for key in ALWAYS}
    latest = 0
    for room in rooms:
        # A clock that was set back makes no heading come twice.
        latest = max(latest, KEYS.index(group_of(room, today)))
        found.setdefault(KEYS[latest], []).append(room)
    return tuple(Group(key, "" if key == under else LABELS[key], tuple(found[key])) for key in KEYS if key in found)


def group_of(room: Room, today: date) -> str:
    """The key of the group that a room belongs to."""
    if room.pinned:
        return "pinned"
    days = (today - datetime.fromtimestamp(room.active_at / 1000).date()).days
    return "today" if days < 1 else "yesterday" if days == 1 else "week" if days <= 7 else "earlier"
