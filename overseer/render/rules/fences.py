"""Fences in a Markdown fence: models wrap a document with code blocks in three backticks, like the blocks in it."""

from __future__ import annotations

import re

from markdown_it.rules_block import StateBlock, fence

OPENING = re.compile(r"(`{3,})[ \t]*(?:markdown|md)(?:[ \t][^`]*)?", re.I)
FENCE = re.compile(r"(`{3,})[ \t]*([^`]*)")
MAX_DECIDING_LINES = 60  # after a bare fence, in which it shows whether it opens a block or closes the document


def nested_fence(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Parse a fence. One of Markdown ends at the bare fence that closes no code block in it."""
    begin = state.bMarks[start] + state.tShift[start]
    opening = OPENING.fullmatch(state.src, begin, state.eMarks[start])
    if silent or not opening or state.is_code_block(start):
        return fence(state, start, end, silent)
    close, has_marker, inner = _scan(state, start, end, len(opening[1]))
    if not inner:
        return fence(state, start, end, silent)
    token = state.push("fence", "code", 0)
    state.line = close + has_marker
    token.info = state.src[begin + len(opening[1]) : state.eMarks[start]]
    token.content = state.getLines(start + 1, close, state.sCount[start], True)
    token.markup, token.map = opening[1], [start, state.line]
    token.meta = {"inner": inner}
    return True


def _scan(state: StateBlock, start: int, end: int, length: int) -> tuple[int, bool, set[int]]:
    """Return the line after the content, whether it is a closing fence, and the lines of inner blocks.

    They include all lines after a bare fence in it: what that fence means depends on the lines after it.
    """
    inner, opened, is_guessed = set[int](), 0, False
    for line in range(start + 1, end):
        if not state.isEmpty(line) and state.sCount[line] < state.blkIndent:
            return line, False, inner  # the end of the container closes it too
        marks, info = _fence_at(state, line)
        if opened or is_guessed:
            inner.add(line)
        if opened:
            opened = 0 if marks >= opened and not info else opened
        elif marks >= 3 and info:
            opened = marks
            inner.add(line)
        elif marks >= length:
            if not _opens_block(state, line, end, length):
                return line, True, inner
            opened, is_guessed = marks, True
            inner.add(line)
    return end, False, inner


def _opens_block(state: StateBlock, line: int, end: int, length: int) -> bool:
    """Return whether a bare fence opens a code block: code follows directly, and two more bare fences close both.

    While a growing text is split into blocks and they may still arrive, it counts as opening one.
    """
    if line + 1 >= end:
        return bool(state.env.get("splitting"))
    if state.isEmpty(line + 1) or _fence_at(state, line + 1)[0]:
        return False
    last = min(end, line + 1 + MAX_DECIDING_LINES)
    bare = 0
    for following in range(line + 1, last):
        marks, info = _fence_at(state, following)
        if info and not bare:
            return False  # the next block of the answer
        bare += marks >= length and not info
        if bare == 2:
            return True
    is_undecided = last - line - 1 < MAX_DECIDING_LINES and state.eMarks[end - 1] + 1 >= len(state.src)
    return bool(state.env.get("splitting")) and is_undecided


def _fence_at(state: StateBlock, line: int) -> tuple[int, str]:
    """Return the number of backticks that begin a line, and the text after them."""
    found = FENCE.fullmatch(state.src, state.bMarks[line] + state.tShift[line], state.eMarks[line])
    return (len(found[1]), found[2].strip()) if found and not state.is_code_block(line) else (0, "")
