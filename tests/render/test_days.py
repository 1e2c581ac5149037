"""Grouping the list of rooms by day."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from overseer.domain.records import PINNED, Room
from overseer.render.days import LABELS, grouped

TODAY = date(2026, 3, 1)


def room(name: str, days_ago: int, *, pinned: bool = False, at: time = time(12)) -> Room:
    moment = datetime.combine(TODAY - timedelta(days=days_ago), at, UTC)
    rank = PINNED + 1 if pinned else 1
    return Room(name, name, 0, "", False, "", rank=rank, active_at=int(moment.timestamp() * 1000))


def names(*rooms: Room, under: str = "") -> dict[str, list[str]]:
    return {group.key: [room.id for room in group.rooms] for group in grouped(rooms, today=TODAY, under=under)}


def test_rooms_are_grouped_by_calendar_days() -> None:
    first, last = time(0, 0), time(23, 59)
    assert names(
        room("old pin", 90, pinned=True),
        room("now", 0, at=last),
        room("midnight", 0, at=first),
        room("late", 1, at=last),
        room("two", 2),
        room("week", 7, at=first),
        room("over", 8, at=last),
        room("year", 365),
    ) == {
        "pinned": ["old pin"],
        "today": ["now", "midnight"],
        "yesterday": ["late"],
        "week": ["two", "week"],
        "earlier": ["over", "year"],
    }


def test_first_page_always_has_the_groups_pinned_and_today() -> None:
    """A room that moves to the top is inserted there. Other groups exist only if they have rooms."""
    assert names() == {"pinned": [], "today": []}
    assert names(room("old", 40)) == {"pinned": [], "today": [], "earlier": ["old"]}


def test_later_page_does_not_repeat_the_heading_that_it_continues() -> None:
    groups = grouped((room("a", 3), room("b", 30)), today=TODAY, under="week")
    assert [(group.key, group.label) for group in groups] == [("week", ""), ("earlier", "Earlier")]


def test_rooms_with_times_out_of_order_repeat_no_heading() -> None:
    """The clock may have been set back. The order of the list stays."""
    assert names(room("today", 0), room("old", 30), room("new again", 0), room("tomorrow", -1)) == {
        "pinned": [],
        "today": ["today"],
        "earlier": ["old", "new again", "tomorrow"],
    }


def test_group_labels_equal_those_of_the_script() -> None:
    """times.js regroups the rooms by the reader's time zone."""
    script = (Path(__file__).parents[2] / "static/js/times.js").read_text("utf-8")
    found = re.search(r"LABELS = \{(.*)\}", script)
    assert found and dict(re.findall(r'(\w+): "([^"]+)"', found[1])) == LABELS
