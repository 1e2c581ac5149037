"""Full-text queries: what a person types, the words of a text, and the snippet that shows why it was found."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Literal

from overseer.domain.text import clean

MAX_QUERY_CHARS = 200
MAX_QUERY_WORDS = 16
MIN_PREFIX_CHARS = 3  # a shorter last word is a whole word
SNIPPET_CHARS = 160
BEFORE_MATCH_CHARS = 50  # in a snippet
MAX_SNIPPET_SOURCE_CHARS = 50_000  # of a text, in which the words are looked for
MAX_MARKED_WORDS = 8  # of a phrase
NOTHING_TO_FIND = "Type a word to search for."

Kind = Literal["name", "question", "answer", "reasoning"]

# Scripts without spaces between words, and Hangul, whose words have endings: indexed as pairs of characters.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
RUN = re.compile(f"[{UNSPACED}]+")
WORD = re.compile(rf"[{UNSPACED}]+|(?:(?![{UNSPACED}])[^\W_])+")
SINGLE_AT_END = re.compile(f"(?<![{UNSPACED}])[{UNSPACED}]$")
SPACE = re.compile(r"(?:\s|`{3}\w*)+")  # and the fences of code, in a snippet
TERM = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')


class QueryRefused(Exception):
    """There is nothing to search for; the message says what to type."""


@dataclass(frozen=True, slots=True)
class Term:
    """Words that follow each other. It is `excluded` after a minus sign; the last word of a `prefix` may go on."""

    words: str
    excluded: bool = False
    prefix: bool = False

    @property
    def as_fts(self) -> str:
        """The term in the syntax of FTS5: https://sqlite.org/fts5.html#full_text_query_syntax"""
        return f'"{in_pairs(self.words, ends=False)}"' + "*" * self.prefix


@dataclass(frozen=True)
class Query:
    """A parsed query, without what exceeds its bounds."""

    text: str
    terms: tuple[Term, ...]

    @property
    def as_fts(self) -> str:
        """The query in the syntax of FTS5."""
        wanted = " AND ".join(term.as_fts for term in self.terms if not term.excluded)
        return f"({wanted})" + "".join(f" NOT {term.as_fts}" for term in self.terms if term.excluded)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the words of the query in a normalized text."""
        return re.compile("|".join(_pattern(term) for term in self.terms if not term.excluded))


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a snippet, `marked` if the query has its words."""

    text: str
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A text that was found: of a message, or, if `message` is 0, the name of a room. `at` is in UTC milliseconds."""

    room_id: str
    message: int
    kind: Kind
    at: int
    snippet: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A page of hits, the best first. `after` is the argument for the next page, or None on the last one.

    While the index is built, `progress` says how many rooms of how many are in it. Some hits are missing if the search
    was `cut` off, because it took too long.
    """

    hits: tuple[Hit, ...] = ()
    after: int | None = None
    progress: tuple[int, int] | None = None
    cut: bool = False


def parse(text: str) -> Query:
    """Return the query that a person typed: words, "quoted phrases" and -excluded ones. Raises QueryRefused."""
    text = clean(text)[:MAX_QUERY_CHARS]
    terms: list[Term] = []
    for match in TERM.finditer(text):
        minus, quoted, bare = match.groups()
        words = quoted if quoted is not None else bare
        parts = WORD.findall(words)
        if not parts:
            continue  # FTS5 finds nothing for a term without words
        is_last = bare is not None and match.end() == len(text) and words.endswith(parts[-1])
        may_go_on = is_last and not minus and len(parts[-1]) >= MIN_PREFIX_CHARS and not RUN.match(parts[-1])
        terms.append(Term(words, bool(minus), may_go_on or bool(SINGLE_AT_END.search(words))))
    terms = terms[:MAX_QUERY_WORDS]
    if all(term.excluded for term in terms):
        raise QueryRefused(NOTHING_TO_FIND)
    return Query(text, tuple(terms))


def in_pairs(text: str, *, ends: bool = True) -> str:
    """Return a text with unspaced scripts as pairs of characters; with `ends`, also the last character of each run.

    So a query finds two characters or more as a phrase, and one as the prefix of a pair or as the end of a run.
    """

    def apart(match: re.Match[str]) -> str:
        run = match[0]
        words = [*map("".join, pairwise(run)), *([run[-1]] if ends else [])] if len(run) > 1 else [run]
        return f" {' '.join(words)} "

    return RUN.sub(apart, text)


def snippet(text: str, query: Query) -> tuple[Piece, ...]:
    """Return the part of a text around the first words of the query, with all of them marked."""
    text = text[:MAX_SNIPPET_SOURCE_CHARS]
    spans: list[tuple[int, int]] = []
    for span in _matches(text, query):
        if spans and span[0] > spans[0][0] + SNIPPET_CHARS:
            break
        spans.append(span)
    start = max(0, (spans[0][0] if spans else 0) - BEFORE_MATCH_CHARS)
    if start:
        start = text.find(" ", start, start + BEFORE_MATCH_CHARS) + 1 or start
    end = start + SNIPPET_CHARS
    pieces, at = [Piece("…")] if start else [], start
    for begin, stop in spans:
        if begin >= end:
            break
        if begin >= at:
            pieces += [Piece(text[at:begin]), Piece(text[begin:stop], marked=True)]
            at = stop
    rest = text[at : max(at, end)]
    pieces.append(Piece(rest + "…" if at + len(rest) < len(text) else rest))
    return tuple(Piece(SPACE.sub(" ", piece.text), piece.marked) for piece in pieces if piece.text)


def _matches(text: str, query: Query) -> Iterator[tuple[int, int]]:
    """Yield where the words of the query are in the text, regardless of case and diacritics."""
    if text.isascii():
        for match in query.pattern.finditer(text.lower()):
            yield match.span()
        return
    characters = [*map(_normalized, text)]
    places: list[int] | range = range(len(characters))
    normal = "".join(characters)
    if len(normal) != len(characters):
        places = [place for place, character in enumerate(characters) for _ in character]
    for match in query.pattern.finditer(normal):
        yield places[match.start()], places[match.end() - 1] + 1


@lru_cache(4096)
def _normalized(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text).casefold()
    return "".join(character for character in apart if not unicodedata.combining(character))


def _pattern(term: Term) -> str:
    words = WORD.findall(_normalized(term.words))[:MAX_MARKED_WORDS] or [term.words]
    whole = r"[\W_]*".join(map(re.escape, words))
    before = "" if RUN.match(words[0]) else r"(?<![^\W_])"
    after = "" if term.prefix or RUN.search(words[-1]) else r"(?![^\W_])"
    return f"(?:{before}{whole}{after})"
