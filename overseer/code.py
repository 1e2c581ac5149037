"""Code as HTML: a bar with its language and two buttons, and below it the code, coloured where that is quick."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexer import Lexer

T = TypeVar("T")

MAX_LABEL = 30  # characters of a language's name that are shown
MAX_HIGHLIGHT = 20_000  # characters of one code block that are coloured,
MAX_GROWING = 4_000  # and of one that is growing
HIGHLIGHT_SECONDS = 0.2  # of the processor, after which it stays plain: some lexers take the square of its length
LANGUAGES = 100  # that are known by their names; a model may make up any
ALL_HIGHLIGHT_SECONDS = 0.5  # the same for all code of one text

BUTTONS = "".join(
    f'<button type="button" class="code__button" data-{name.lower()}="">{name}</button>' for name in ("Wrap", "Copy")
)


class Colours:
    """The time that is left for the colours of one text, however many pieces of code it has."""

    def __init__(self) -> None:
        self.left = ALL_HIGHLIGHT_SECONDS


def code_block(
    code: str, info: str = "", *, growing: bool = False, continued: bool = False, colours: Colours | None = None
) -> str:
    """Code, in the language that is the first word of `info`.

    It has no buttons while it grows: they would lose the focus. If it is `continued`, it goes on with the code before.
    """
    language = (info.split() or [""])[0]
    bar = _label(language) + ("" if growing else BUTTONS)
    coloured = _highlighted(code, language, MAX_GROWING if growing else MAX_HIGHLIGHT, colours or Colours())
    pre = f'<pre tabindex="0"><code>{coloured}</code></pre>'
    if continued:
        return f'<div class="code code--more">{pre}</div>'
    return f'<div class="code"><div class="code__bar">{bar}</div>{pre}</div>'


def _label(language: str) -> str:
    shown = language if len(language) <= MAX_LABEL else language[: MAX_LABEL - 1] + "…"
    return f'<span class="code__language">{escape(shown)}</span>' if shown else ""


def _highlighted(code: str, language: str, limit: int, colours: Colours) -> str:
    if not language or len(code) > limit or colours.left <= 0 or (lexer := _lexer(language)) is None:
        return escape(code)
    coloured, began = StringIO(), time.thread_time()
    try:
        _formatter().format(_in_time(lexer.get_tokens(code), began + min(colours.left, HIGHLIGHT_SECONDS)), coloured)
    except TimeoutError:
        return escape(code)
    finally:
        colours.left -= time.thread_time() - began
    return coloured.getvalue()


# Imported late: it takes a while, and many rooms hold no code.


@cache
def _formatter() -> HtmlFormatter[str]:
    from pygments.formatters.html import HtmlFormatter

    return HtmlFormatter(nowrap=True)


@lru_cache(LANGUAGES)
def _lexer(language: str) -> Lexer | None:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return None


def _in_time(tokens: Iterable[T], until: float) -> Iterator[T]:
    for token in tokens:
        if time.thread_time() > until:
            raise TimeoutError
        yield token
