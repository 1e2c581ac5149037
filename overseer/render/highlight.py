"""Code as HTML: a bar with its language and two buttons, and below it the code, coloured."""

from __future__ import annotations

import inspect
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator
from copy import copy
from functools import cache, lru_cache
from html import escape
from io import StringIO
from math import inf
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexer import Lexer
    from pygments.token import _TokenType

    Token = tuple[_TokenType, str]

T = TypeVar("T")

MAX_LABEL = 30  # characters of a language's name that are shown
PIECE = 1_000  # characters of code, in whole lines, that are coloured at once
MAX_LINE = 4_000  # characters of a line, beyond which it is plain
HIGHLIGHT_SECONDS = 0.1  # of the processor for one piece,
ALL_HIGHLIGHT_SECONDS = 0.4  # and for all code of one text, after which the rest is plain
NOMINAL_SECONDS = 3e-6  # for one character of ordinary code, which takes no more than twice that
REMEMBERED = 20_000  # pieces whose time is known
# What comments and strings of many lines begin and end with.
LONG = (("/*", "*/"), ("<!--", "-->"), *((quote, quote) for quote in ('"""', "'''", '"', "'", "`")))
EMBEDDED = {"script-content": ("<script", "</script>"), "style-content": ("<style", "</style>")}
MAX_CACHED_LEXERS = 100  # that are known by their names; a model may make up any

BUTTONS = "".join(
    f'<button type="button" class="code__button" data-{name.lower()}="">{name}</button>' for name in ("Wrap", "Copy")
)


class Colours:
    """The colouring of one text as far as it has come: the time that is left, and the block of code that it ends in.

    The same text has the same colours whenever it is rendered: while it grows, when it has ended, and on another page.
    So code is always coloured in the same pieces, and a piece is charged what it took at first, which is remembered
    (for the last `REMEMBERED` pieces, until a restart). One that took no more than ordinary code is charged by its
    length. When nothing is left, the rest of the text's code is plain, and so is the rest of a block after a piece
    that took too long.
    """

    def __init__(self) -> None:
        self.left = ALL_HIGHLIGHT_SECONDS
        self.block = Block("")
        self.ahead = False  # whether this only looks at what may go on otherwise

    def copy(self) -> Colours:
        """The same, to look ahead."""
        other = copy(self)
        other.block, other.ahead = copy(self.block), True
        return other

    def spend(self, key: int, took: float, characters: int) -> None:
        """Charge for a piece that took so many seconds, infinitely many if it was given up."""
        nominal = NOMINAL_SECONDS * characters
        seconds = took if took > 2 * nominal else nominal
        # Of a piece that grows there are many versions, and what the last one takes is charged to nothing after it.
        if not self.ahead or seconds == inf:
            seconds = _taken.first(key, seconds)
        self.left -= min(seconds, HIGHLIGHT_SECONDS)


class Block:
    """One block of code in a `language`, coloured piece by piece."""

    def __init__(self, language: str) -> None:
        self._language = language
        # No language of Pygments has a longer name, and the cache of lexers would keep it.
        self._plain = not language or len(language) > MAX_LABEL
        self._stack: tuple[str, ...] = ("root",)  # the lexer's states where `_unended` begins
        self._unended = ""  # the first line of a token that may go on after the code so far

    def coloured(self, piece: str, colours: Colours) -> str:
        """The HTML of the next piece, whole lines of code; the last one may lack its end."""
        self._plain = self._plain or colours.left <= 0
        if self._plain or len(piece) > MAX_LINE or (lexer := _lexer(self._language)) is None:
            return escape(piece)
        text = self._unended + piece
        key = hash((self._language, self._stack, text))
        began = time.thread_time()
        try:
            if _taken.get(key) == inf:
                raise TimeoutError
            lexed = Lexed(lexer, text, self._stack, until=began + HIGHLIGHT_SECONDS)
            html = _formatted(lexed.after(len(self._unended)))
        except (TimeoutError, LookupError):
            colours.spend(key, inf, len(text))
            self._plain = True
            return escape(piece)
        colours.spend(key, time.thread_time() - began, len(text))
        # What is between the first line of a token and its end does not matter to a lexer.
        self._stack, self._unended = lexed.stack, lexed.unended[: lexed.unended.find("\n") + 1]
        return html


class Lexed:
    """A text as tokens, from the lexer's states `stack` on.

    Its last token, if it has several lines, may go on in the next text, like a comment that has not been closed: then
    it is `unended`, and `stack` are the states where it begins. Else they are those at the end of the text. Only a
    RegexLexer has states that can be carried on; others begin each text anew. (What a lexer knows beside them is lost
    between two texts: the end word of a here-document in Ruby.)
    """

    def __init__(self, lexer: Lexer, text: str, stack: tuple[str, ...], *, until: float) -> None:
        self._text = text
        self._lexer, self._until = lexer, until
        self.stack, self.unended = stack, ""
        self._tokens: list[Token] = []
        if any(self._closed(*ends, text, stack) for ends in LONG):
            return
        if any(self._inside(state, *ends, text, stack) for state, ends in EMBEDDED.items()):
            return
        # A lexer expects a last line that has its end.
        tokens, before, after = self._run(text if text.endswith("\n") else text + "\n", stack)
        self._tokens = tokens
        if before is not None:
            last = tokens[-1][1] if tokens else ""
            unended = "\n" in last[:-1] and text.endswith(last)
            self.unended, self.stack = (last, before) if unended else ("", after)

    def _closed(self, opener: str, closer: str, text: str, stack: tuple[str, ...]) -> bool:
        """Whether the text ends in a comment or string that is not closed, as one sees when it is closed there.

        Many lexers know them only by both ends.
        """
        begin = text.rfind(opener)
        if begin < 0 or (text.count(opener) % 2 == 0 if opener == closer else closer in text[begin + 1 :]):
            return False
        tokens, before, _ = self._run(text + closer + "\n", stack)
        while tokens and tokens[-1][1].isspace():
            tokens.pop()
        if before is None or not tokens or tokens[-1][1] != text[begin:] + closer:
            return False
        kind, value = tokens.pop()
        self._tokens = [*tokens, (kind, value.removesuffix(closer))]
        self.unended, self.stack = text[begin:], before
        return True

    def _inside(self, state: str, opener: str, closer: str, text: str, stack: tuple[str, ...]) -> bool:
        """Whether the text ends in another language inside of HTML, whose lexer looks for both ends of that."""
        began, ended = text.rfind(opener), text.rfind(closer)
        if began <= ended and (stack[-1] != state or ended >= 0):
            return False
        tokens, before, _ = self._run(text + closer + "\n", stack)
        if before is None or before[-1] != state:
            return False
        self._tokens, self.stack = tokens, before
        return True

    def _run(self, text: str, stack: tuple[str, ...]) -> tuple[list[Token], tuple[str, ...] | None, tuple[str, ...]]:
        """The tokens, the states at the last one that is not only a line end, if there are states, and at the end."""
        from pygments.lexer import ExtendedRegexLexer, LexerContext, RegexLexer

        lexer, before = self._lexer, stack
        tokens: list[Token] = []
        method = type(lexer).get_tokens_unprocessed
        if isinstance(lexer, ExtendedRegexLexer) and method is ExtendedRegexLexer.get_tokens_unprocessed:
            context = LexerContext(text, 0, stack=list(stack))
            for _, kind, value in self._in_time(lexer.get_tokens_unprocessed(context=context)):
                tokens.append((kind, value))
                before = before if value == "\n" else tuple(context.stack)
            return tokens, before, tuple(context.stack)
        if not isinstance(lexer, RegexLexer) or isinstance(lexer, ExtendedRegexLexer):
            return [(kind, value) for _, kind, value in self._in_time(lexer.get_tokens_unprocessed(text))], None, stack
        found = cast("Generator[tuple[int, _TokenType, str]]", RegexLexer.get_tokens_unprocessed(lexer, text, stack))
        states: list[str] = []
        for _, kind, value in self._in_time(found):
            # A line end that no rule knows makes a new list of states.
            if not states or value == "\n":
                states = inspect.getgeneratorlocals(found)["statestack"]
            before = before if value == "\n" else tuple(states)
            tokens.append((kind, value))
        if method is not RegexLexer.get_tokens_unprocessed and "stack" in inspect.signature(method).parameters:
            # Such a lexer looks at the tokens again, and names some otherwise.
            tokens = [(kind, value) for _, kind, value in self._in_time(lexer.get_tokens_unprocessed(text, stack))]
        return tokens, before, tuple(states) or stack

    def _in_time(self, tokens: Iterable[T]) -> Iterator[T]:
        for token in tokens:
            if time.thread_time() > self._until:
                raise TimeoutError
            yield token

    def after(self, start: int) -> Iterator[Token]:
        """The tokens from a place in the text on, cut where it is inside of one."""
        if not "".join(value for _, value in self._tokens).startswith(self._text):
            raise LookupError  # some lexers lose something
        at, end = 0, len(self._text)
        for kind, value in self._tokens:
            if shown := value[max(0, start - at) : max(0, end - at)]:
                yield kind, shown
            at += len(value)


class Taken:
    """What pieces of code took at first, in seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: OrderedDict[int, float] = OrderedDict()

    def get(self, key: int) -> float | None:
        """What it took, if that is known."""
        return self._seconds.get(key)

    def first(self, key: int, seconds: float) -> float:
        """What it took at first, which is this if nothing is known."""
        with self._lock:
            first = self._seconds.setdefault(key, seconds)
            self._seconds.move_to_end(key)
            while len(self._seconds) > REMEMBERED:
                self._seconds.popitem(last=False)
            return first


_taken = Taken()


def code_block(
    code: str, info: str = "", *, growing: bool = False, continued: bool = False, colours: Colours | None = None
) -> str:
    """Code, in the language that is the first word of `info`.

    It has no buttons while it grows: they would lose the focus. If it is `continued`, it goes on with the code before.
    """
    language = (info.split() or [""])[0]
    colours = colours or Colours()
    if not continued:
        colours.block = Block(language)
    bar = _label(language) + ("" if growing else BUTTONS)
    coloured = "".join(colours.block.coloured(piece, colours) for piece in pieces(code))
    pre = f'<pre tabindex="0"><code>{coloured}</code></pre>'
    if continued:
        return f'<div class="code code--more">{pre}</div>'
    return f'<div class="code"><div class="code__bar">{bar}</div>{pre}</div>'


def pieces(code: str) -> Iterator[str]:
    """The code in pieces of as many whole lines as fit into `PIECE` characters, at least one.

    What comes after a piece has the same pieces by itself.
    """
    begin = end = 0
    while end < len(code):
        line_end = code.find("\n", end) + 1 or len(code)
        if line_end - begin > PIECE and end > begin:
            yield code[begin:end]
            begin = end
        end = line_end
    if end > begin:
        yield code[begin:end]


def _label(language: str) -> str:
    shown = language if len(language) <= MAX_LABEL else language[: MAX_LABEL - 1] + "…"
    return f'<span class="code__language">{escape(shown)}</span>' if shown else ""


def _formatted(tokens: Iterable[Token]) -> str:
    html = StringIO()
    _formatter().format(tokens, html)
    return html.getvalue()


# Imported late: it takes a while, and many rooms hold no code.


@cache
def _formatter() -> HtmlFormatter[str]:
    from pygments.formatters.html import HtmlFormatter

    return HtmlFormatter(nowrap=True)


@lru_cache(MAX_CACHED_LEXERS)
def _lexer(language: str) -> Lexer | None:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return None
