"""Tables whose rows lose no text: bars in code and formulas do not split cells, and surplus cells join the last one."""

from __future__ import annotations

import re

from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import escapedSplit, table

# Where a bar is no border: code, and formulas.
PROTECTED = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)|\\\(.+?\\\)|\$(?!\s)[^$]*?[^\s$]\$(?!\d)")
HIDDEN_BAR = "\0"  # Markdown text contains no NUL: the parser replaces it


def lossless_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Parse a table like `table`, but keep what is beyond its last column."""
    columns = _cells(_line(state, start + 1))
    changed = {}
    for line in range(start, end):
        if line == start + 1:
            continue
        text = _line(state, line)
        if not text.strip():
            break
        if text.count("|") >= columns and (hidden := _hide_bars(text, columns, is_head=line == start)) != text:
            changed[line] = hidden
    if not changed:
        return table(state, start, end, silent)
    source, count = state.src, len(state.tokens)
    for line, text in changed.items():
        begin = state.eMarks[line] - len(text)
        state.src = state.src[:begin] + text + state.src[state.eMarks[line] :]
    try:
        return table(state, start, end, silent)
    finally:
        state.src = source
        for token in state.tokens[count:]:
            token.content = token.content.replace(HIDDEN_BAR, "|")


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _cells(text: str) -> int:
    cells = escapedSplit(text.strip())
    return len(cells) - (cells[0] == "") - (len(cells) > 1 and cells[-1] == "")


def _hide_bars(text: str, columns: int, *, is_head: bool) -> str:
    """Return a row with no more cells than `columns`: bars that do not separate cells are replaced."""
    if _cells(text) <= columns:
        return text
    hidden = PROTECTED.sub(lambda found: found[0].replace("|", HIDDEN_BAR), text)
    surplus = _cells(hidden) - columns
    if surplus <= 0 or is_head:
        return hidden if surplus == 0 else text
    bars = [found.start() for found in re.finditer(r"(?<!\\)\|", hidden.rstrip())]
    if bars and bars[-1] == len(hidden.rstrip()) - 1:
        bars.pop()
    for at in bars[-surplus:]:
        hidden = hidden[:at] + HIDDEN_BAR + hidden[at + 1 :]
    return hidden
