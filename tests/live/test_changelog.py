"""The changelog: which names became stale after a revision."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overseer.live.changelog import MAX_NAMES, Changelog


def filled(count: int) -> Changelog[str]:
    """Return a changelog from revision 0 with names n1, n2, … marked at 1, 2, …"""
    changelog = Changelog[str](0)
    for revision in range(1, count + 1):
        changelog.mark(f"n{revision}", revision)
    return changelog


def test_since_returns_later_names_once_in_the_order_of_their_last_mark() -> None:
    changelog = filled(3)
    assert changelog.since(0) == ["n1", "n2", "n3"]
    assert changelog.since(-1) is None, "nothing is known of revisions before the first"
    changelog.mark("n1", 4)
    changelog.mark("n4", 4)
    assert changelog.since(0) == changelog.since(0) == ["n2", "n3", "n1", "n4"]
    assert changelog.since(3) == ["n1", "n4"]
    assert changelog.since(4) == changelog.since(99) == []


def test_since_a_revision_before_mark_all_is_none() -> None:
    changelog = filled(3)
    changelog.mark_all(7)
    assert changelog.since(6) is None
    assert changelog.since(7) == []
    changelog.mark("n1", 8)
    assert changelog.since(7) == ["n1"]


def test_changelog_keeps_a_limited_number_of_names() -> None:
    """Revisions before the name that is dropped are no longer known."""
    changelog = filled(MAX_NAMES + 1)
    assert changelog.since(0) is None
    names = changelog.since(1)
    assert names is not None and (len(names), names[0], names[-1]) == (MAX_NAMES, "n2", f"n{MAX_NAMES + 1}")
    changelog.mark("n2", MAX_NAMES + 2)
    assert changelog.since(1) is not None, "a name that is marked again takes no more space"


@given(
    st.lists(st.integers(0, 300), max_size=60),
    st.lists(st.booleans(), min_size=60, max_size=60),
    st.integers(0, 60),
)
def test_since_returns_every_later_name_or_none(names: list[int], resets: list[bool], since: int) -> None:
    changelog = Changelog[int](0)
    history: list[tuple[int, int]] = []
    reset_at = 0
    for revision, name in enumerate(names, 1):
        if resets[revision - 1] and name % 7 == 0:
            changelog.mark_all(revision)
            history, reset_at = [], revision
        else:
            changelog.mark(name, revision)
            history.append((revision, name))
    found = changelog.since(since)
    assert (found is None) == (since < reset_at)
    if found is not None:
        assert sorted(found) == sorted({name for revision, name in history if revision > since})
