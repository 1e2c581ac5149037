"""The groups of the list of rooms: pinned, and by the UTC day of the last activity.

In a browser times.js moves the headings to where the days begin in the reader's zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from overseer.domain.records import Room

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
    """Rooms in the order of the list, by the UTC day of their last activity; `under` is the page before's last key."""
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
    days = (today - datetime.fromtimestamp(room.active_at / 1000, UTC).date()).days
    return "today" if days < 1 else "yesterday" if days == 1 else "week" if days <= 7 else "earlier"
