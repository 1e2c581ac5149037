"""Alerts, which are quotes that begin with `[!NOTE]` or the like, and the direction of lists and quotes."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

ALERTS = ("note", "tip", "important", "warning", "caution")
MARKER = re.compile(rf"\[!({'|'.join(ALERTS)})\][ \t]*(?:\n|\Z)", re.I)
DIRECTED = ("bullet_list_open", "ordered_list_open", "blockquote_open")


def add_quotes(parser: MarkdownIt) -> None:
    """Add the rules. An alert is a blockquote with a class, and a first paragraph with another."""
    parser.core.ruler.after("block", "alerts", _alerts)
    parser.core.ruler.after("alerts", "directions", _directions)


def _alerts(state: StateCore) -> None:
    tokens, at = state.tokens, 0
    while at < len(tokens) - 2:
        quote, paragraph, inline = tokens[at : at + 3]
        at += 1
        if (quote.type, paragraph.type) != ("blockquote_open", "paragraph_open"):
            continue
        if not (marker := MARKER.match(inline.content)):
            continue
        kind = marker[1].lower()
        quote.attrSet("class", f"alert alert--{kind}")
        inline.content = inline.content[marker.end() :]
        title = _title(kind, paragraph.level)
        # Without text after the marker, the paragraph becomes the title.
        tokens[at : at + (0 if inline.content.strip() else 3)] = title


def _title(kind: str, level: int) -> list[Token]:
    opening = Token("paragraph_open", "p", 1, attrs={"class": "alert__title"}, level=level, block=True)
    inline = Token("inline", "", 0, content=kind.capitalize(), children=[], level=level + 1)
    return [opening, inline, Token("paragraph_close", "p", -1, level=level, block=True)]


def _directions(state: StateCore) -> None:
    """Give lists and quotes the direction of their text: list markers and borders are at the side where it begins."""
    for token in state.tokens:
        if token.type in DIRECTED:
            token.attrSet("dir", "auto")
