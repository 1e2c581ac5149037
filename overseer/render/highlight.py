"""Code blocks as HTML: a bar with the language and two buttons, and below it the highlighted code."""

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

MAX_LABEL_CHARS = 30  # of a language's name that are shown
CHUNK_CHARS = 1_000  # of code that are highlighted at once; whole lines
MAX_LINE_CHARS = 4_000  # a longer line is not highlighted
CHUNK_SECONDS = 0.1  # of processor time for one chunk
TEXT_SECONDS = 0.4  # of processor time for all code of one text; the rest is not highlighted
NOMINAL_SECONDS_PER_CHAR = 3e-6  # ordinary code takes at most twice that
MAX_TIMINGS = 20_000  # chunks whose time is remembered
MAX_CACHED_LEXERS = 100  # a model may invent any number of language names
# The delimiters of comments and strings that span lines.
MULTILINE_DELIMITERS = (
    ("/*", "*/"),
    ("<!--", "-->"),
    *((quote, quote) for quote in ('"""', "'''", '"', "'", "`")),
)
# The lexer states of other languages inside HTML, and the delimiters of these.
EMBEDDED_STATES = {"script-content": ("<script", "</script>"), "style-content": ("<style", "</style>")}
FOLDED_LINES = 40  # longer code in earlier messages is folded
UNFOLD_HTML = '<button type="button" class="unfold" data-unfold="">Show all {lines} lines</button>'
BUTTONS_HTML = "".join(
    f'<button type="button" class="code__button" data-{name.lower()}="">{name}</button>' for name in ("Wrap", "Copy")
)


class HighlightSession:
    """Highlighting of all code in one text: the processor time left, and the code block that is highlighted last.

    The same text is highlighted the same each time: while it grows, when it has ended, and on another page. Code is
    therefore always split into the same chunks, and a chunk is charged the time that it took first, which is remembered
    for the last `MAX_TIMINGS` chunks until a restart. A chunk that took no longer than ordinary code is charged by its
    length. When no time is left, the rest of the text's code is not highlighted, and neither is the rest of a block
    after a chunk that took too long.
    """

    def __init__(self) -> None:
        self.seconds_left = TEXT_SECONDS
        self.block = BlockHighlighter("")
        self._is_preview = False

    def preview(self) -> HighlightSession:
        """Return a copy for code that is still growing."""
        other = copy(self)
        other.block, other._is_preview = copy(self.block), True
        return other

    def charge(self, key: int, seconds: float, chars: int) -> None:
        """Charge for a chunk that took `seconds`, which is infinite if it was given up."""
        nominal = NOMINAL_SECONDS_PER_CHAR * chars
        charged = seconds if seconds > 2 * nominal else nominal
        # A growing chunk has many versions; nothing is charged after the last one.
        if not self._is_preview or charged == inf:
            charged = _timings.first(key, charged)
        self.seconds_left -= min(charged, CHUNK_SECONDS)


class BlockHighlighter:
    """Highlights one block of code in a `language`, chunk by chunk."""

    def __init__(self, language: str) -> None:
        # Pygments has no longer language name, and the cache of lexers would keep it.
        self._is_plain = not language or len(language) > MAX_LABEL_CHARS
        self._language = language
        self._stack: tuple[str, ...] = ("root",)  # the lexer's states before `_unended`
        self._unended = ""  # the first line of a token that may continue in the next chunk

    def highlight(self, chunk: str, session: HighlightSession) -> str:
        """Return the HTML of the next chunk. Only the last chunk may end without a line end."""
        self._is_plain = self._is_plain or session.seconds_left <= 0
        if self._is_plain or len(chunk) > MAX_LINE_CHARS or (lexer := _lexer(self._language)) is None:
            return escape(chunk)
        text = self._unended + chunk
        key = hash((self._language, self._stack, text))
        began = time.thread_time()
        try:
            if _timings.get(key) == inf:
                raise TimeoutError
            lexed = LexedText(lexer, text, self._stack, until=began + CHUNK_SECONDS)
            html = _formatted(lexed.tokens_from(len(self._unended)))
        except (TimeoutError, LookupError):
            session.charge(key, inf, len(text))
            self._is_plain = True
            return escape(chunk)
        session.charge(key, time.thread_time() - began, len(text))
        # What stands between the first line of a token and its end makes no difference to a lexer.
        self._stack, self._unended = lexed.stack, lexed.unended[: lexed.unended.find("\n") + 1]
        return html


class LexedText:
    """The tokens of a text, lexed from the states in `stack` on until the processor time `until`.

    If the last token spans lines and may continue in the next text, like a comment that is not closed, it is `unended`,
    and `stack` holds the states before it. Otherwise `stack` holds the states at the end of the text. Only a RegexLexer
    has such states; other lexers start each text anew. What a lexer remembers elsewhere is lost between two texts, like
    the end word of a here-document in Ruby.

    Raises TimeoutError.
    """

    def __init__(self, lexer: Lexer, text: str, stack: tuple[str, ...], *, until: float) -> None:
        self._text = text
        self._lexer, self._until = lexer, until
        self.stack, self.unended = stack, ""
        self._tokens: list[Token] = []
        if any(self._lex_unclosed(*ends, text, stack) for ends in MULTILINE_DELIMITERS):
            return
        if any(self._lex_embedded(state, *ends, text, stack) for state, ends in EMBEDDED_STATES.items()):
            return
        # A lexer expects the last line to have a line end.
        tokens, before, after = self._run(text if text.endswith("\n") else text + "\n", stack)
        self._tokens = tokens
        if before is not None:
            last = tokens[-1][1] if tokens else ""
            unended = "\n" in last[:-1] and text.endswith(last)
            self.unended, self.stack = (last, before) if unended else ("", after)

    def _lex_unclosed(self, opener: str, closer: str, text: str, stack: tuple[str, ...]) -> bool:
        """Lex a text that ends in an unclosed comment or string. Return False if it does not.

        Many lexers recognise these only by both delimiters, so the closing one is added for the test.
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

    def _lex_embedded(self, state: str, opener: str, closer: str, text: str, stack: tuple[str, ...]) -> bool:
        """Lex a text that ends in another language inside HTML. Return False if it does not.

        The HTML lexer recognises such a block only by both delimiters, so the closing one is added.
        """
        began, ended = text.rfind(opener), text.rfind(closer)
        if began <= ended and (stack[-1] != state or ended >= 0):
            return False
        tokens, before, _ = self._run(text + closer + "\n", stack)
        if before is None or before[-1] != state:
            return False
        self._tokens, self.stack = tokens, before
        return True

    def _run(self, text: str, stack: tuple[str, ...]) -> tuple[list[Token], tuple[str, ...] | None, tuple[str, ...]]:
        """Return the tokens, the states before the last one that is no line end, and the states at the end.

        The states before are None for a lexer without states.
        """
        from pygments.lexer import ExtendedRegexLexer, LexerContext, RegexLexer

        lexer, before = self._lexer, stack
        tokens: list[Token] = []
        method = type(lexer).get_tokens_unprocessed
        if isinstance(lexer, ExtendedRegexLexer) and method is ExtendedRegexLexer.get_tokens_unprocessed:
            context = LexerContext(text, 0, stack=list(stack))
            for _, kind, value in self._limited(lexer.get_tokens_unprocessed(context=context)):
                tokens.append((kind, value))
                before = before if value == "\n" else tuple(context.stack)
            return tokens, before, tuple(context.stack)
        if not isinstance(lexer, RegexLexer) or isinstance(lexer, ExtendedRegexLexer):
            return [(kind, value) for _, kind, value in self._limited(lexer.get_tokens_unprocessed(text))], None, stack
        found = cast("Generator[tuple[int, _TokenType, str]]", RegexLexer.get_tokens_unprocessed(lexer, text, stack))
        states: list[str] = []
        for _, kind, value in self._limited(found):
            # The lexer replaces its list of states at a line end that no rule matches.
            if not states or value == "\n":
                states = inspect.getgeneratorlocals(found)["statestack"]
            before = before if value == "\n" else tuple(states)
            tokens.append((kind, value))
        if method is not RegexLexer.get_tokens_unprocessed and "stack" in inspect.signature(method).parameters:
            # Such a lexer post-processes the tokens.
            tokens = [(kind, value) for _, kind, value in self._limited(lexer.get_tokens_unprocessed(text, stack))]
        return tokens, before, tuple(states) or stack

    def _limited(self, tokens: Iterable[T]) -> Iterator[T]:
        for token in tokens:
            if time.thread_time() > self._until:
                raise TimeoutError
            yield token

    def tokens_from(self, start: int) -> Iterator[Token]:
        """Yield the tokens from an offset in the text on; a token that contains it is cut.

        Raises LookupError if the lexer lost characters.
        """
        if not "".join(value for _, value in self._tokens).startswith(self._text):
            raise LookupError
        at, end = 0, len(self._text)
        for kind, value in self._tokens:
            if shown := value[max(0, start - at) : max(0, end - at)]:
                yield kind, shown
            at += len(value)


class Timings:
    """The seconds that chunks of code took first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: OrderedDict[int, float] = OrderedDict()

    def get(self, key: int) -> float | None:
        """Return what the chunk took first, or None if that is not known."""
        return self._seconds.get(key)

    def first(self, key: int, seconds: float) -> float:
        """Return what the chunk took first. If that is not known, store `seconds`."""
        with self._lock:
            first = self._seconds.setdefault(key, seconds)
            self._seconds.move_to_end(key)
            while len(self._seconds) > MAX_TIMINGS:
                self._seconds.popitem(last=False)
            return first


_timings = Timings()


def code_block(
    code: str,
    info: str = "",
    *,
    growing: bool = False,
    continued: bool = False,
    highlighting: HighlightSession | None = None,
) -> str:
    """Return code as HTML, highlighted as the language that is the first word of `info`.

    A growing block has no buttons: they would lose the focus when it is replaced. A `continued` block is the next chunk
    of the block before.
    """
    language = (info.split() or [""])[0]
    session = highlighting or HighlightSession()
    if not continued:
        session.block = BlockHighlighter(language)
    bar = _label(language) + ("" if growing else BUTTONS_HTML)
    highlighted = "".join(session.block.highlight(chunk, session) for chunk in split_code(code))
    pre = f'<pre tabindex="0"><code>{highlighted}</code></pre>'
    if continued:
        return f'<div class="code code--more">{pre}</div>'
    kinds = "" if language else " code--plain"
    if not growing and (lines := code.count("\n")) > FOLDED_LINES:
        kinds += " code--long"
        pre += UNFOLD_HTML.format(lines=lines)
    return f'<div class="code{kinds}"><div class="code__bar">{bar}</div>{pre}</div>'


def split_code(code: str) -> Iterator[str]:
    """Split code into chunks of as many whole lines as fit into `CHUNK_CHARS`, but at least one.

    The code after a chunk is split the same when it is split alone.
    """
    begin = end = 0
    while end < len(code):
        line_end = code.find("\n", end) + 1 or len(code)
        if line_end - begin > CHUNK_CHARS and end > begin:
            yield code[begin:end]
            begin = end
        end = line_end
    if end > begin:
        yield code[begin:end]


def _label(language: str) -> str:
    shown = language if len(language) <= MAX_LABEL_CHARS else language[: MAX_LABEL_CHARS - 1] + "…"
    return f'<span class="code__language">{escape(shown)}</span>' if shown else ""


def _formatted(tokens: Iterable[Token]) -> str:
    html = StringIO()
    _formatter().format(tokens, html)
    return html.getvalue()


# Pygments is imported late: that takes a while, and many rooms contain no code.


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
