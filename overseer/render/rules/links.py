"""Links: addresses in plain text become links, and links that lead nowhere become text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

SAFE = re.compile(r"(?:https?://|mailto:)", re.I)
# A host name mixes no scripts: what follows example.com without a space, in Chinese text, is not part of it.
LABEL = r"(?:[a-z0-9\u00c0-\u1fff_-]+|[\u2e80-\uffdc]+(?=\.))"
HOST = rf"(?:{LABEL}(?:\.{LABEL})*\.?|\[[0-9a-f:.]+\])(?::\d{{1,5}})?"
# Nor does a path, unless a part of it begins in the other script. East Asian punctuation ends an address.
ASCII, WIDE = (
    r"[!#-;=?-Z\\_a-z{|}~\u00c0-\u1fff\u200c-\u200d]",
    r"[\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]",
)
PATH = rf"(?:[/?#](?:{ASCII}|(?<=[/=?#_+%-]){WIDE}+)*)?"
URL = re.compile(rf"https?://(?:[\w.%+-]+(?::[^\s@/]*)?@)?{HOST}{PATH}", re.I)
LOCAL = re.compile(rf"(?:localhost|127\.0\.0\.1|0\.0\.0\.0):\d{{1,5}}(?!\d){PATH}", re.I)
BEFORE_COLON = re.compile(r"(?<![A-Za-z0-9.+-])(?:https?|localhost|127\.0\.0\.1|0\.0\.0\.0)\Z", re.I)
LONGEST_BEFORE_COLON = 12
WWW_OR_EMAIL = re.compile(
    rf"(?<![A-Za-z0-9_.@/:+-])(?:(?P<www>www\.{LABEL}(?:\.{LABEL})+{PATH})"
    r"|(?P<mail>[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,5}\.[A-Za-z]{2,24})"
    r"(?![A-Za-z0-9_@-]|:\S))",
    re.I,
)
TRAILING = "?!.,:;*_~'\"|\\،؛؟।"
BRACKETS = {")": "(", "]": "[", "}": "{"}


def add_links(parser: MarkdownIt) -> None:
    """Add the rules."""
    # A URL may contain what is Markdown elsewhere, so it is taken before that; the other addresses contain nothing.
    parser.inline.ruler.before("newline", "bare_url", _bare_url)
    parser.core.ruler.after("inline", "bare_addresses", _bare_addresses)
    parser.core.ruler.after("bare_addresses", "dead_links", _dead_links)


def trimmed(url: str) -> str:
    """Return an address without the punctuation of the sentence around it."""
    while url:
        last = url[-1]
        if last in TRAILING or (last in BRACKETS and url.count(last) > url.count(BRACKETS[last])):
            url = url[:-1]
        else:
            break
    return url


def is_safe(address: str) -> bool:
    """Return whether an address leads to another site or a mailbox."""
    return SAFE.match(address) is not None


def _bare_url(state: StateInline, silent: bool) -> bool:
    if silent or state.linkLevel or state.src[state.pos] != ":":
        return False
    before = BEFORE_COLON.search(state.src[max(0, state.pos - LONGEST_BEFORE_COLON) : state.pos])
    if not before or not state.pending.endswith(before[0]):
        return False
    begin, is_url = state.pos - len(before[0]), before[0].lower().startswith("http")
    found = (URL if is_url else LOCAL).match(state.src, begin, state.posMax)
    shown = trimmed(found[0]) if found else ""
    if len(shown) <= len(before[0]) + (3 if is_url else 1):
        return False
    address = state.md.normalizeLink(shown if is_url else f"http://{shown}")
    if not state.md.validateLink(address):
        return False
    state.pending = state.pending[: -len(before[0])]
    state.push("link_open", "a", 1).attrs = {"href": address}
    state.push("text", "", 0).content = shown
    state.push("link_close", "a", -1)
    state.pos = begin + len(shown)
    return True


def _bare_addresses(state: StateCore) -> None:
    """Link www addresses and e-mail addresses."""
    for block in state.tokens:
        if not any("@" in token.content or "www." in token.content.lower() for token in block.children or ()):
            continue
        tokens, in_link = list[Token](), 0
        for token in block.children or ():
            in_link += {"link_open": 1, "link_close": -1}.get(token.type, 0)
            tokens += [token] if in_link or token.type != "text" else _split(token)
        block.children = tokens


def _split(text: Token) -> Iterator[Token]:
    shown = 0
    for found in WWW_OR_EMAIL.finditer(text.content):
        address = trimmed(found[0])
        yield _text(text.content[shown : found.start()], text.level)
        yield from _link(f"http://{address}" if found["www"] else f"mailto:{address}", address, text.level)
        shown = found.start() + len(address)
    yield _text(text.content[shown:], text.level)


def _dead_links(state: StateCore) -> None:
    """Replace a link that leads into our own pages, or has another scheme, by its text and its address."""
    for block in state.tokens:
        tokens = block.children or []
        if not any(token.type == "link_open" and not is_safe(str(token.attrs["href"])) for token in tokens):
            continue
        kept, dead, label = list[Token](), "", ""
        for token in tokens:
            if token.type == "link_open" and not is_safe(str(token.attrs["href"])):
                dead, label = str(token.attrs["href"]), ""
            elif token.type == "link_close" and dead:
                address = state.md.normalizeLinkText(dead)
                kept += [] if label == address else [_text(f" ({address})" if label else address, token.level)]
                dead = ""
            else:
                label += token.content
                kept.append(token)
        block.children = kept


def _text(content: str, level: int) -> Token:
    return Token("text", "", 0, content=content, level=level)


def _link(address: str, shown: str, level: int) -> list[Token]:
    opening = Token("link_open", "a", 1, attrs={"href": address}, level=level)
    return [opening, _text(shown, level + 1), Token("link_close", "a", -1, level=level)]
