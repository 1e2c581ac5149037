"""The list of rooms by day."""

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


def test_rooms_are_grouped_as_a_person_counts_days() -> None:
    """By the calendar, not by the hour: what was at midnight is today's, a minute before it is yesterday's."""
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


def test_the_first_page_has_a_place_for_what_rises() -> None:
    """Pinned and Today are there though empty; other groups only with rooms."""
    assert names() == {"pinned": [], "today": []}
    assert names(room("old", 40)) == {"pinned": [], "today": [], "earlier": ["old"]}


def test_a_later_page_goes_on_under_the_same_heading() -> None:
    """It is not said twice; the next one is."""
    groups = grouped((room("a", 3), room("b", 30)), today=TODAY, under="week")
    assert [(group.key, group.label) for group in groups] == [("week", ""), ("earlier", "Earlier")]


def test_a_clock_that_was_set_back_makes_no_heading_twice() -> None:
    """The order of the list is that of activities; a time that does not fit stays with its neighbours above."""
    assert names(room("today", 0), room("old", 30), room("new again", 0), room("tomorrow", -1)) == {
        "pinned": [],
        "today": ["today"],
        "earlier": ["old", "new again", "tomorrow"],
    }


def test_labels_are_those_that_the_browser_puts_in_the_readers_zone() -> None:
    """The script makes the headings that the server has no rooms for."""
    script = (Path(__file__).parents[2] / "static/js/times.js").read_text("utf-8")
    found = re.search(r"LABELS = \{(.*)\}", script)
    assert found and dict(re.findall(r'(\w+): "([^"]+)"', found[1])) == LABELS
