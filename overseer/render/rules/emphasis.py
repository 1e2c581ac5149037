"""Emphasis beside East Asian characters, which stand without spaces.

CommonMark decides by spaces and punctuation whether `**` opens or closes. The amendment is that of
markdown-cjk-friendly: East Asian punctuation counts as a letter, and a marker between punctuation and an East Asian
character can open or close. https://github.com/tats-u/markdown-cjk-friendly
"""

from __future__ import annotations

from functools import lru_cache
from unicodedata import category, east_asian_width

from markdown_it.common.utils import isWhiteSpace
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Scanned


class CjkInlineState(StateInline):
    """The state of the inline parser, with the amended rule."""

    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:
        """Return whether the run of markers that begins at `start` can open or close emphasis, and its length."""
        marker, end = self.src[start], start
        while end < self.posMax and self.src[end] == marker:
            end += 1
        before = self.src[start - 1] if start > 0 else " "
        after = self.src[end] if end < self.posMax else " "
        before_kind, after_kind = _kind(before), _kind(after)
        left = _flanks(inner=after_kind, outer=before_kind)
        right = _flanks(inner=before_kind, outer=after_kind)
        if canSplitWord:
            return Scanned(left, right, end - start)
        can_open = left and (not right or _is_punctuation(before))
        can_close = right and (not left or _is_punctuation(after))
        return Scanned(can_open, can_close, end - start)


def _flanks(*, inner: str, outer: str) -> bool:
    return inner != "space" and (inner != "punctuation" or outer != "letter")


@lru_cache(1_000)
def _kind(char: str) -> str:
    if isWhiteSpace(ord(char)):
        return "space"
    if east_asian_width(char) in "WF":
        return "wide"
    return "punctuation" if _is_punctuation(char) else "letter"


def _is_punctuation(char: str) -> bool:
    return category(char)[0] in "PS"
