"""A channel: which names became stale after a place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overseer.live.changelog import MAX_NAMES, Changelog


def filled(count: int) -> Changelog[str]:
    """A channel from place 0 with names n1, n2, … marked at 1, 2, …"""
    changelog = Changelog[str](0)
    for place in range(1, count + 1):
        changelog.mark(f"n{place}", place)
    return changelog


def test_a_new_channel_has_nothing_to_tell() -> None:
    """At its own place, and after it, nothing is stale; before it, nobody knows."""
    changelog = Changelog[str](5)
    assert changelog.since(5) == []
    assert changelog.since(6) == []
    assert changelog.since(4) is None
    assert changelog.since(-1) is None


def test_what_came_after_a_place_is_told_oldest_first() -> None:
    """What was stale at the place or before is not told again."""
    changelog = filled(4)
    assert changelog.since(0) == ["n1", "n2", "n3", "n4"]
    assert changelog.since(2) == ["n3", "n4"]
    assert changelog.since(4) == []
    assert changelog.since(99) == []


def test_asking_changes_nothing() -> None:
    """Many tabs ask, each from its own place."""
    changelog = filled(3)
    assert changelog.since(1) == changelog.since(1) == ["n2", "n3"]
    assert changelog.since(0) == ["n1", "n2", "n3"]


def test_a_name_is_told_once_at_its_last_place() -> None:
    """What became stale twice is rendered once, in the order of its last time."""
    changelog = filled(3)
    changelog.mark("n1", 4)
    changelog.mark("n1", 5)
    assert changelog.since(0) == ["n2", "n3", "n1"]
    assert changelog.since(4) == ["n1"]
    assert changelog.since(5) == []


def test_names_of_one_place_are_told_together() -> None:
    """One event may make several fragments stale."""
    changelog = Changelog[str](0)
    for name in ("a", "b", "c"):
        changelog.mark(name, 1)
    assert changelog.since(0) == ["a", "b", "c"]
    assert changelog.since(1) == []


def test_forgetting_sends_everybody_before_it_back_to_the_whole() -> None:
    """Nobody before the place can be told by name; from there on all is as ever."""
    changelog = filled(3)
    changelog.mark_all(7)
    assert changelog.since(3) is None
    assert changelog.since(6) is None
    assert changelog.since(7) == []
    changelog.mark("n1", 8)
    assert changelog.since(7) == ["n1"]


def test_only_so_many_names_are_remembered() -> None:
    """Beyond that the oldest goes, and with it whoever would have to hear of it."""
    changelog = filled(MAX_NAMES)
    assert len(changelog.since(0) or []) == MAX_NAMES
    changelog.mark("more", MAX_NAMES + 1)
    assert changelog.since(0) is None
    told = changelog.since(1)
    assert told is not None and (len(told), told[0], told[-1]) == (MAX_NAMES, "n2", "more")
    changelog.mark("n2", MAX_NAMES + 2)
    assert changelog.since(1) is not None, "a name that is marked again needs no more room"


def test_names_dropped_at_one_place_take_the_place_with_them() -> None:
    """A tab between two names of one place was told neither or both."""
    changelog = Changelog[int](0)
    for name in range(MAX_NAMES + 1):
        changelog.mark(name, 1)
    assert changelog.since(0) is None
    assert changelog.since(1) == []


@given(
    st.lists(st.integers(0, 300), max_size=60),
    st.lists(st.booleans(), min_size=60, max_size=60),
    st.integers(0, 60),
)
def test_a_tab_is_told_each_name_that_became_stale_or_is_sent_the_whole(
    names: list[int], forgets: list[bool], place: int
) -> None:
    """Nothing is missed, whatever happened: against a plain list of all that was marked."""
    changelog = Changelog[int](0)
    history: list[tuple[int, int]] = []
    forgotten = 0
    for at, name in enumerate(names, 1):
        if forgets[at - 1] and name % 7 == 0:
            changelog.mark_all(at)
            history, forgotten = [], at
        else:
            changelog.mark(name, at)
            history.append((at, name))
    told = changelog.since(place)
    assert (told is None) == (place < forgotten)
    if told is not None:
        assert sorted(told) == sorted({name for at, name in history if at > place})
        assert len(told) == len(set(told))
