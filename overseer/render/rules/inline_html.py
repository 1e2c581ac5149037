"""The HTML elements that may stand in a line of Markdown: `<br>`, and `<kbd>`, `<sub>`, `<sup>` in pairs."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

TAG = re.compile(r"<(?:(/?)(kbd|sub|sup)\s*|br\s*/?)>", re.I)


def add_inline_html(parser: MarkdownIt) -> None:
    """Add the rules. Tokens are `hardbreak`, `html_open` and `html_close`; a tag without its pair is text."""
    parser.inline.ruler.before("autolink", "inline_html", _tag)
    parser.core.ruler.after("inline", "html_pairs", _pair)


def _tag(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != "<" or not (found := TAG.match(state.src, state.pos, state.posMax)):
        return False
    if not silent and not found[2]:
        state.push("hardbreak", "br", 0)
    elif not silent:
        # They do not nest like the parser's own elements, so that emphasis may begin and end around them.
        token = state.push("html_close" if found[1] else "html_open", found[2].lower(), 0)
        token.markup = found[0]
    state.pos = found.end()
    return True


def _pair(state: StateCore) -> None:
    for block in state.tokens:
        opened: list[Token] = []
        for token in block.children or ():
            if token.type == "html_open":
                opened.append(token)
            elif token.type == "html_close":
                if opened and opened[-1].tag == token.tag:
                    opened.pop()
                else:
                    _make_text(token)
        for token in opened:
            _make_text(token)


def _make_text(token: Token) -> None:
    token.type, token.tag, token.content = "text", "", token.markup
