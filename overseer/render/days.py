"""Group the list of rooms: pinned rooms, then rooms by the UTC day of their last activity.

In the browser, times.js regroups them by the reader's time zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from overseer.domain.records import Room
from overseer.domain.times import utc

LABELS = {
    "pinned": "Pinned",
    "today": "Today",
    "yesterday": "Yesterday",
    "week": "Last 7 days",
    "earlier": "Earlier",
}
KEYS = tuple(LABELS)
ALWAYS_SHOWN = ("pinned", "today")  # on the first page: a room that moves to the top is inserted below one of them


@dataclass(frozen=True, slots=True)
class Group:
    """Rooms under one heading. The `label` is empty if the group continues the last one of the page before."""

    key: str
    label: str
    rooms: tuple[Room, ...]


def grouped(rooms: Sequence[Room], *, today: date, under: str = "") -> tuple[Group, ...]:
    """Group rooms, which are in the order of the list. `under` is the key of the last group on the page before."""
    found: dict[str, list[Room]] = {} if under else {key: [] for key in ALWAYS_SHOWN}
    latest = 0
    for room in rooms:
        # Times are out of order if the clock was set back. Each heading comes once all the same.
        latest = max(latest, KEYS.index(group_of(room, today)))
        found.setdefault(KEYS[latest], []).append(room)
    return tuple(Group(key, "" if key == under else LABELS[key], tuple(found[key])) for key in KEYS if key in found)


def group_of(room: Room, today: date) -> str:
    """Return the key of a room's group."""
    if room.pinned:
        return "pinned"
    days = (today - utc(room.active_at).date()).days
    return "today" if days < 1 else "yesterday" if days == 1 else "week" if days <= 7 else "earlier"
