"""The changelog: which invalidations came after a revision."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overseer.live.changelog import MAX_INVALIDATIONS, Changelog


def filled(count: int) -> Changelog[str]:
    """Return a changelog from revision 0 with invalidations n1, n2, … marked at 1, 2, …"""
    changelog = Changelog[str](0)
    for revision in range(1, count + 1):
        changelog.mark(f"n{revision}", revision)
    return changelog


def test_changelog_keeps_a_limited_number_of_invalidations() -> None:
    """Revisions before the invalidation that is dropped are no longer known."""
    changelog = filled(MAX_INVALIDATIONS + 1)
    assert changelog.since(0) is None
    found = changelog.since(1)
    assert found is not None and (len(found), found[0], found[-1]) == (
        MAX_INVALIDATIONS,
        "n2",
        f"n{MAX_INVALIDATIONS + 1}",
    )
    changelog.mark("n2", MAX_INVALIDATIONS + 2)
    assert changelog.since(1) is not None, "an invalidation that is marked again takes no more space"


@given(
    st.lists(st.integers(0, 20), max_size=60),
    st.lists(st.booleans(), min_size=60, max_size=60),
    st.integers(-1, 61),
)
def test_since_returns_later_invalidations_once_in_the_order_of_their_last_mark_or_none(
    invalidations: list[int], resets: list[bool], since: int
) -> None:
    changelog = Changelog[int](0)
    history: list[tuple[int, int]] = []
    reset_at = 0
    for revision, invalidation in enumerate(invalidations, 1):
        if resets[revision - 1] and invalidation % 7 == 0:
            changelog.mark_all(revision)
            history, reset_at = [], revision
        else:
            changelog.mark(invalidation, revision)
            history.append((revision, invalidation))
    found = changelog.since(since)
    assert (found is None) == (since < reset_at)
    if found is not None:
        later = [invalidation for revision, invalidation in history if revision > since]
        assert found == list(dict.fromkeys(later[::-1]))[::-1]
