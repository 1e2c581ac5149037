"""`<details>` and `<summary>` as block elements that contain Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock

MAX_DETAILS_LEVEL = 6  # of containers around it
MAX_DETAILS_CHARS = 20_000  # an element that is not closed within that is text
MAX_SCANNED_LINES = 50_000  # in which the ends of elements are looked for, in one text
OPEN = re.compile(r"<details(\s+open(?:=(?:\"\"|\"open\"|'open'|open))?)?\s*>", re.I)
TAG = re.compile(r"<(/?)details(?:\s+open[^<>\s]*)?\s*>", re.I)
SUMMARY = re.compile(r"\s*<summary\s*>", re.I)
SUMMARY_END = re.compile(r"</summary\s*>", re.I)
FENCE = re.compile(r"\s*(```|~~~)")


@dataclass(frozen=True, slots=True)
class _Place:
    """A position in the source, and its line."""

    line: int
    at: int


def add_details(parser: MarkdownIt) -> None:
    """Add the rule. Tokens are `details_open`, `summary_open`, their ends, and what is in between."""
    parser.block.ruler.before("fence", "details", _details, {"alt": ["paragraph", "reference", "blockquote"]})


def _details(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    begin = state.bMarks[start] + state.tShift[start]
    if not state.src.startswith("<", begin) or state.is_code_block(start) or state.level > MAX_DETAILS_LEVEL:
        return False
    opening = OPEN.match(state.src, begin, state.eMarks[start])
    close = _find_close(state, start, end, opening.end()) if opening else None
    if opening is None or close is None:
        return False
    if not silent:
        is_closed = close.line < end
        token = state.push("details_open", "details", 1)
        token.block, token.map = True, [start, close.line + is_closed]
        token.attrs = {"dir": "auto", **({"open": ""} if opening[1] else {})}
        token.meta = {"closed": is_closed}
        _parse_between(state, _push_summary(state, _Place(start, opening.end()), close), close)
        state.push("details_close", "details", -1).block = True
        state.line = close.line + is_closed
    return True


def _find_close(state: StateBlock, start: int, end: int, after: int) -> _Place | None:
    """Return where the closing tag begins, or the end of the text if that is unfinished."""
    level, in_code = 1, False
    for line in range(start, end):
        state.env["scanned"] = state.env.get("scanned", 0) + 1
        begin = after if line == start else state.bMarks[line]
        is_outside = not state.isEmpty(line) and state.sCount[line] < min(state.blkIndent, state.sCount[start])
        if is_outside or begin - after > MAX_DETAILS_CHARS or state.env["scanned"] > MAX_SCANNED_LINES:
            return None
        in_code ^= FENCE.match(state.src, begin, state.eMarks[line]) is not None
        for tag in () if in_code else TAG.finditer(state.src, begin, state.eMarks[line]):
            level += -1 if tag[1] else 1
            if level == 0:
                rest = state.src[tag.end() : state.eMarks[line]]
                return None if rest.strip() else _Place(line, tag.start())
    is_unfinished = state.env.get("unfinished") and state.eMarks[end - 1] + 1 >= len(state.src)
    return _Place(end, len(state.src)) if is_unfinished else None


def _push_summary(state: StateBlock, place: _Place, close: _Place) -> _Place:
    """Add the summary, or a default one. Return the place after it."""
    content, end, line = "Details", place, place.line
    while line < close.line and not state.src[place.at : state.eMarks[line]].strip():
        line += 1
        place = _Place(line, state.bMarks[line])
    if line < len(state.bMarks) - 1 and (opening := SUMMARY.match(state.src, place.at, close.at)):
        closing = SUMMARY_END.search(state.src, opening.end(), close.at)
        content = state.src[opening.end() : closing.start() if closing else close.at].strip()
        at = closing.end() if closing else close.at
        while line < close.line and state.eMarks[line] < at:
            line += 1
        end = _Place(line, at)
    state.push("summary_open", "summary", 1).block = True
    token = state.push("inline", "", 0)
    token.content, token.map, token.children = content, [place.line, end.line + 1], []
    state.push("summary_close", "summary", -1).block = True
    return end


def _parse_between(state: StateBlock, begin: _Place, close: _Place) -> None:
    """Parse the blocks between two places, which may be in the middle of lines."""
    marks = (state.bMarks, state.eMarks, state.tShift, state.sCount)
    saved = [list(mark[begin.line : close.line + 1]) for mark in marks]
    last, parent, line_max = close.line, state.parentType, state.lineMax
    if last < line_max and state.src[state.bMarks[last] : close.at].strip():
        state.eMarks[last] = close.at
        last += 1
    first = begin.line
    if first < last:
        rest = state.src[begin.at : state.eMarks[first]]
        state.bMarks[first] = begin.at + len(rest) - len(rest.lstrip())
        state.tShift[first], state.sCount[first] = 0, state.blkIndent
    state.lineMax, state.parentType = last, "details"
    state.md.block.tokenize(state, first, last)
    state.lineMax, state.parentType = line_max, parent
    for mark, values in zip(marks, saved, strict=True):
        mark[begin.line : close.line + 1] = values
