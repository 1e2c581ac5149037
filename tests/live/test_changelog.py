"""The changelog: which invalidations came after a revision."""

from __future__ import annotations

from hypothesis import example, given
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


@example([0, 1, 0, 2, None, 1, 2, 1])
@given(st.lists(st.integers(0, 5) | st.none(), max_size=30))
def test_since_returns_later_invalidations_once_in_the_order_of_their_last_mark(marks: list[int | None]) -> None:
    """None marks all: no invalidation before it is known one by one."""
    changelog = Changelog[int](0)
    reset_at = 0
    for revision, mark in enumerate(marks, 1):
        if mark is None:
            changelog.mark_all(reset_at := revision)
        else:
            changelog.mark(mark, revision)
    for since in range(-1, len(marks) + 2):
        later = [mark for mark in marks[max(since, 0) :] if mark is not None]
        assert changelog.since(since) == (None if since < reset_at else list(dict.fromkeys(later[::-1]))[::-1])
