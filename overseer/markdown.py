"""Markdown → safe HTML, whole and block by block while it grows.

Raw HTML is off, and what the renderer makes is sanitised before it becomes part of a fragment.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from html import escape
from io import StringIO
from typing import TypeVar

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

T = TypeVar("T")

MAX_INLINE = 20_000  # characters of one paragraph that are parsed
MAX_BRACKETS = 100  # in one paragraph that is parsed; 50,000 of them would take a second
MAX_HIGHLIGHT = 20_000  # characters of one code block that are coloured,
MAX_GROWING = 4_000  # and of one that is growing
HIGHLIGHT_SECONDS = 0.2  # after which code stays plain: some lexers take the square of its length

TAGS = {"p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "del", "code", "pre", "span"} | {
    "blockquote", "ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td", "div"
}  # fmt: skip
ATTRIBUTES = {"*": set[str](), "a": {"href"}, "ol": {"start"}}
ALIGNMENTS = {"left", "center", "right"}


def render(text: str, *, growing: bool = False) -> str:
    """A whole text as safe HTML. Of one that is growing, long code is not coloured yet."""
    return _sanitised(_parser().render(text, {"growing": growing}))


class GrowingMarkdown:
    """A text that grows: its finished blocks are rendered once, only the last, open one again and again.

    A block is finished when a later line has begun another one, so what is finished depends on the text alone and
    not on the pieces it came in.
    """

    def __init__(self, text: str = "") -> None:
        self.blocks: list[str] = []
        self._open = ""
        self._examined = 0
        self._pieces: list[str] = []
        self._rendered: str | None = None
        self.add(text)

    def add(self, text: str) -> None:
        """The text goes on."""
        self._pieces.append(text)

    def snapshot(self) -> tuple[int, str]:
        """How many blocks are finished (in `blocks`), and the open one as safe HTML."""
        if self._pieces:
            self._open += self._taken_in()
            self._rendered = None
            self._finish_blocks()
        if self._rendered is None:
            self._rendered = render(self._open, growing=True)
        return len(self.blocks), self._rendered

    def _taken_in(self) -> str:
        text = "".join(self._pieces)
        # A line end of two characters may be cut in two.
        self._pieces = ["\r"] if text.endswith("\r") else []
        return text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")

    def _finish_blocks(self) -> None:
        # Only whole lines count: "2" may become the list item "2. two".
        whole = self._open.rfind("\n") + 1
        if whole <= self._examined:
            return
        starts = _block_starts(self._open[:whole])
        if len(starts) > 1:
            lines = self._open.split("\n")
            for begin, end in zip([0, *starts[1:-1]], starts[1:], strict=True):
                self.blocks.append(render("\n".join(lines[begin:end]) + "\n"))
            self._open = "\n".join(lines[starts[-1] :])
            whole = self._open.rfind("\n") + 1
        self._examined = whole


def _block_starts(text: str) -> list[int]:
    """The first line of each top-level block."""
    tokens = _block_parser().parse(text)
    return [token.map[0] for token in tokens if token.level == 0 and token.nesting >= 0 and token.map]


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable(["table", "strikethrough"])
    parser.core.ruler.at("inline", _bounded_inline)
    return parser


@cache
def _block_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table"])
    parser.core.ruler.enableOnly(["normalize", "block"])
    # A definition is part of a paragraph until its last line has come; here it stays one.
    parser.disable("reference")
    return parser


def _bounded_inline(state: StateCore) -> None:
    """markdown-it's own rule, but a monstrous paragraph is left as plain text."""
    for token in state.tokens:
        if token.type == "inline":
            token.children = []
            if len(token.content) <= MAX_INLINE and token.content.count("[") <= MAX_BRACKETS:
                state.md.inline.parse(token.content, state.md, state.env, token.children)
            else:
                token.children.append(Token("text", "", 0, content=token.content))


class _Renderer(RendererHTML):
    """Code is coloured, an image is a link, an alignment is a class: the page allows no inline style."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        language = (tokens[idx].info.split() or [""])[0]
        limit = MAX_GROWING if env.get("growing") else MAX_HIGHLIGHT
        return f"<pre><code>{_highlighted(tokens[idx].content, language, limit)}</code></pre>\n"

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f"<pre><code>{escape(tokens[idx].content)}</code></pre>\n"

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        source = str(tokens[idx].attrs.get("src", ""))
        return f'<a href="{escape(source)}">{escape(tokens[idx].content or source)}</a>'

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return '<div class="table"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</table></div>\n"


def _cell(token: Token) -> str:
    alignment = str(token.attrs.get("style", "")).removeprefix("text-align:")
    return f'<{token.tag} class="{alignment}">' if alignment in ALIGNMENTS else f"<{token.tag}>"


def _highlighted(code: str, language: str, limit: int) -> str:
    # Imported late: it takes a while, and many rooms hold no code.
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    if not language or len(code) > limit:
        return escape(code)
    coloured = StringIO()
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
        HtmlFormatter(nowrap=True).format(_in_time(lexer.get_tokens(code)), coloured)
    except (ClassNotFound, TimeoutError):
        return escape(code)
    return coloured.getvalue()


def _in_time(tokens: Iterable[T]) -> Iterator[T]:
    until = time.monotonic() + HIGHLIGHT_SECONDS
    for token in tokens:
        if time.monotonic() > until:
            raise TimeoutError
        yield token


@cache
def _cleaner() -> nh3.Cleaner:
    from pygments.token import STANDARD_TYPES

    return nh3.Cleaner(
        tags=TAGS,
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        allowed_classes={
            "span": {name for name in STANDARD_TYPES.values() if name},
            "div": {"table"},
            "th": ALIGNMENTS,
            "td": ALIGNMENTS,
        },
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer nofollow",
        url_schemes={"http", "https", "mailto"},
    )


def _sanitised(html: str) -> str:
    return _cleaner().clean(html)
