"""Footnotes: `[^1]` in the text, and `[^1]: …` where the note stands.

A note is shown where it was written, which is at the end of nearly every answer, and has no id and no link: an id from
a message could be taken for one of the page, and finished blocks of a growing answer never change.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, reference
from markdown_it.rules_inline import StateInline
from mdit_py_plugins.footnote.index import footnote_def

MAX_NOTE_LEVEL = 4  # of containers around a note
REFERENCE = re.compile(r"\[\^([^\s\[\]^]{1,60})\]")
USUAL_LABEL = re.compile(r"\d{1,4}|[^\W\d_][\w-]*")  # not [^0-9] or [^,]


def add_footnotes(parser: MarkdownIt) -> None:
    """Add the rules. Tokens are `footnote` (inline) and `footnote_reference_open` and `_close` (blocks)."""
    add_footnote_blocks(parser)
    parser.inline.ruler.before("link", "footnote", _reference)
    parser.block.ruler.at("reference", _without_notes(reference))


def add_footnote_blocks(parser: MarkdownIt) -> None:
    """Add the rule for the notes."""
    alternatives = ["paragraph", "reference", "blockquote", "list"]
    parser.block.ruler.before("reference", "footnote_def", _definition, {"alt": alternatives})


def _definition(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    return state.level <= MAX_NOTE_LEVEL and footnote_def(state, start, end, silent)


def _reference(state: StateInline, silent: bool) -> bool:
    """Find a reference to a note of this text, or in a part of a text, to one that may come later."""
    if state.src[state.pos] != "[" or not (found := REFERENCE.match(state.src, state.pos, state.posMax)):
        return False
    is_known = f":{found[1]}" in state.env.get("footnotes", {}).get("refs", {})
    if not is_known and not (state.env.get("partial") and USUAL_LABEL.fullmatch(found[1])):
        return False
    if not silent:
        state.push("footnote", "sup", 0).content = found[1]
    state.pos = found.end()
    return True


def _without_notes(
    rule: Callable[[StateBlock, int, int, bool], bool],
) -> Callable[[StateBlock, int, int, bool], bool]:
    """Return the rule for link definitions, but never define a link with `[^x]:`."""

    def without_notes(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        is_note = state.src.startswith("[^", state.bMarks[start] + state.tShift[start])
        return not is_note and rule(state, start, end, silent)

    return without_notes
