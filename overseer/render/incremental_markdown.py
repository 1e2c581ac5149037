"""Render Markdown while it is being streamed.

Each top-level block is rendered once, when it is finished. Only the last one, which is still open, is rendered again
for each snapshot. A long list, table or code block is finished in chunks, so that its open rest stays short. Plain
words are inserted into the HTML of the open block without rendering it again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from string import digits

from markdown_it.token import Token

from overseer.render import markdown
from overseer.render.highlight import HighlightSession, code_block, split_code
from overseer.render.markdown import block_parser, normalize_newlines, render, split_at_limits

CHUNK_CHARS = 1_000  # of an open list, table or code block, before its beginning is finished as a chunk
# Characters that mean nothing in Markdown when they follow a letter.
NEUTRAL = " ,.!?'’“”–—…-"
PLAIN_TEXT = re.compile(rf"(?:[^\W_]|[{NEUTRAL}])*")
PROBE = "\N{CYRILLIC LETTER MULTIOCULAR O}"  # a letter that hardly any text contains
ADDRESS_MARKS = ("@", ":", "/", "www")
CLOSING_TAG = re.compile(r"</(?:p|li|h[1-6]|td|th)>")
ENDED_BY_BLANK_LINE = ("paragraph_open", "heading_open", "hr", "blockquote_open", "table_open")


class IncrementalMarkdown:
    """A Markdown text that grows.

    A block is finished when it is closed, or when a later line has started another block. Where blocks and chunks end
    depends only on the text, not on the pieces in which it arrived.
    """

    def __init__(self, text: str = "") -> None:
        self.blocks: list[str] = []  # the HTML of finished blocks and chunks
        self._open = ""  # the Markdown of the open block
        self._head = ""  # lines repeated at the start of `_open` so that the rest of a split block parses as its kind
        self._continues = False  # whether the open block continues the last finished chunk
        self._loose = False  # whether the open block is a list with blank lines between its items
        self._highlighting = HighlightSession()
        self._left = markdown.MAX_MARKDOWN_CHARS, markdown.MAX_MARKDOWN_LINES
        self._is_plain = False  # whether the limits are reached and the rest is shown as plain text
        self._examined_chars = 0  # of `_open`, in which blocks were looked for
        self._arrived: list[str] = []
        self._open_html: str | None = None
        self._insertion: InsertionPoint | None = None
        self.add(text)

    def add(self, text: str) -> None:
        """Append `text`."""
        self._arrived.append(text)

    def snapshot(self) -> tuple[int, str]:
        """Return the number of finished `blocks`, and the open block as safe HTML."""
        if self._arrived:
            text = self._take_arrived()
            self._open += text
            self._open_html = None
            if not self._insert(text):
                self._insertion = None
                self._finish()
        if self._open_html is None:
            self._insertion = self._insertion or InsertionPoint.find(self._open, self._render_open)
            self._open_html = self._insertion.html if self._insertion else self._render_open(self._open)
        return len(self.blocks), self._open_html

    def _insert(self, text: str) -> bool:
        """Insert `text`, which `_open` already contains, if it is plain. Return whether nothing else is to be done."""
        insertion, size = self._insertion, len(self._open)
        if insertion is None or size > min(markdown.MAX_PARAGRAPH_CHARS, self._left[0]):
            return False
        words = text.rstrip("\n")
        if not insertion.insert(words):
            return False
        lines = self._open.count("\n")
        if len(text) - len(words) > 1 and insertion.is_paragraph and lines <= self._left[1]:
            self.blocks.append(insertion.html)
            self._left = self._left[0] - size, self._left[1] - lines
            self._open, self._insertion, self._examined_chars = "", None, 0
            return True
        return text == words

    def _take_arrived(self) -> str:
        text = "".join(self._arrived)
        # The second half of a \r\n may still be to come.
        self._arrived = ["\r"] if text.endswith("\r") else []
        return normalize_newlines(text.removesuffix("\r"))

    def _render_open(self, text: str) -> str:
        if self._is_plain:
            return code_block(text, growing=True, continued=self._continues) if text else ""
        return self._render(text, growing=True, unfinished=True, highlighting=self._highlighting.preview())

    def _render(self, text: str, *, growing: bool, highlighting: HighlightSession, unfinished: bool = False) -> str:
        return render(
            text,
            growing=growing,
            continued=self._continues,
            loose=self._loose,
            partial=True,
            unfinished=unfinished,
            highlighting=highlighting,
        )

    def _finish(self) -> None:
        """Render what can be finished."""
        if not self._is_plain:
            chars, lines = self._left
            before = self._open.removeprefix(self._head)
            self._finish_blocks(*split_at_limits(self._open, chars + len(self._head), lines + self._head.count("\n")))
            after = self._open.removeprefix(self._head)
            self._left = chars - len(before) + len(after), lines - before.count("\n") + after.count("\n")
        if self._is_plain:
            self._finish_plain()

    def _finish_blocks(self, text: str, rest: str) -> None:
        """Finish blocks of `text`. `rest` is what exceeds the limits."""
        # Only complete lines count: "2" may become the list item "2. two".
        complete = text.rfind("\n") + 1
        if complete > self._examined_chars or rest:
            blocks, lines = list(_blocks(text[:complete])), _lines(text)
            for block, after in zip(blocks, [*(block.start for block in blocks[1:]), None], strict=False):
                end = block.end if block.ended else after
                text = self._finish_chunks(block, "".join(lines[block.start : end]))
                if end is not None:
                    self._finish_block(text)
                    text = "".join(lines[end:])
            self._examined_chars = text.rfind("\n") + 1
        if rest:
            self._finish_block(text)
            self._is_plain, text = True, rest
        self._open = text

    def _finish_chunks(self, block: _Block, text: str) -> str:
        """Finish the beginning of a long block in chunks. Return the rest, which starts with the block's head."""
        ends = [0, *accumulate(map(len, _lines(text)))]
        splits = [ends[line - block.start] for line in block.split_lines]
        head = text[: ends[block.head_lines]]
        complete = text.rfind("\n") + 1
        rest, start = text, 0
        while complete - start + len(head) * bool(start) > CHUNK_CHARS:
            limit = start + CHUNK_CHARS - len(head) * bool(start)
            fitting = bisect_right(splits, limit)
            if (end := next((split for split in splits[max(0, fitting - 1) :] if split > start), None)) is None:
                break
            chunk = rest[: len(rest) - len(text) + end]
            # A chunk does not show by itself that another item follows its last line.
            self._loose = self._loose or (block.is_list and not _lines(chunk)[-2].strip(" \t\n"))
            self.blocks.append(self._render(chunk, growing=True, highlighting=self._highlighting))
            self._head, self._continues = head, bool(head) or block.is_list
            rest, start = head + text[end:], end
        return rest

    def _finish_block(self, text: str) -> None:
        self.blocks.append(self._render(text, growing=bool(self._head), highlighting=self._highlighting))
        self._head, self._continues, self._loose = "", False, False

    def _finish_plain(self) -> None:
        while len(self._open) > CHUNK_CHARS:
            end = self._open.rfind("\n", 0, CHUNK_CHARS) + 1 or CHUNK_CHARS
            self.blocks.append(code_block(self._open[:end], growing=True, continued=self._continues))
            self._open, self._continues = self._open[end:], True


class InsertionPoint:
    """The place in the HTML of an open block where plain words can be inserted without rendering the block again."""

    def __init__(self, before: str, words: str, after: str) -> None:
        self._before = before
        self._words = words
        self._after = after
        self._end = (before + words)[-3:]

    @classmethod
    def find(cls, text: str, render: Callable[[str], str]) -> InsertionPoint | None:
        """Return the insertion point at the end of `text`: where one more letter appears when it is rendered.

        Return None if `text` does not end in plain words.
        """
        # A link definition, or its title, may still end in plain words; more code changes its highlighting.
        known = text.rstrip(NEUTRAL + digits)
        if not known[-1:].isalpha() or any(mark in known for mark in ("]:", "```", "~~~", PROBE)):
            return None
        # More letters may continue an address.
        last_word = known[max(known.rfind(" "), known.rfind("\n")) + 1 :].lower()
        if any(mark in last_word for mark in ADDRESS_MARKS):
            return None
        before, probe, after = render(known + PROBE).partition(PROBE)
        is_found = probe and PROBE not in after and CLOSING_TAG.match(after)
        return cls(before, text[len(known) :], after) if is_found else None

    def insert(self, text: str) -> bool:
        """Insert `text` if it is plain. Return whether it is."""
        is_plain = PLAIN_TEXT.fullmatch(text) is not None and "www" not in (self._end + text).lower()
        if is_plain:
            self._words += text
            self._end = (self._end + text)[-3:]
        return is_plain

    @property
    def is_paragraph(self) -> bool:
        """Whether the block is a paragraph that is not part of another block."""
        return self._after == "</p>\n" and self._before.startswith("<p>") and "</p>" not in self._before

    @property
    def html(self) -> str:
        """The HTML of the block."""
        return f"{self._before}{self._words.rstrip(' ')}{self._after}"


def _lines(text: str) -> list[str]:
    r"""Split at \n, which lines keep. `str.splitlines` splits at characters that end no line in Markdown."""
    *lines, last = text.split("\n")
    return [*(line + "\n" for line in lines), last]


@dataclass(frozen=True, slots=True)
class _Block:
    """A top-level block, by line numbers. `end` is the line after its last; `ended` says that nothing can continue it.

    It can be split before each of `split_lines`. To parse as the same kind of block, the second part needs a copy of
    the first `head_lines`.
    """

    start: int
    end: int
    ended: bool
    split_lines: Sequence[int] = ()
    head_lines: int = 0
    is_list: bool = False


def _blocks(text: str) -> Iterator[_Block]:
    """Yield the blocks. One that may turn out to be none is joined to the block above that it would then continue."""
    tokens, lines = block_parser().parse(text, {"unfinished": True, "splitting": True}), text.split("\n")
    above: _Block | None = None
    for index, token in enumerate(tokens):
        if token.level == 0 and token.nesting >= 0 and token.map:
            block = _block(tokens, index, lines)
            is_certain = token.meta.get("closed", True) or not lines[block.start - 1].strip(" \t")
            if above and not above.ended and not is_certain:
                above = _Block(above.start, block.end, ended=False)
            else:
                yield from [above] if above else []
                above = block
    yield from [above] if above else []


def _block(tokens: Sequence[Token], index: int, lines: Sequence[str]) -> _Block:
    """Return the block that starts with a token."""
    token = tokens[index]
    start, end = token.map or (0, 0)
    # The text ends with a line end; the empty string after it is no line.
    ended = token.type in ENDED_BY_BLANK_LINE and end < len(lines) - 1 and not lines[end].strip(" \t")
    if token.type == "fence":
        closed = end - start == token.content.count("\n") + 2
        # With a bar in it and dashes below, the copied head would start a table.
        splits = _code_splits(token.content, start + 1) if "|" not in lines[start] else ()
        splits = [line for line in splits if line not in token.meta.get("inner", ())]
        return _Block(start, end, closed, splits, head_lines=1)
    if token.type == "table_open":
        return _Block(start, end, ended, range(start + 3, end + 1), head_lines=2)
    if token.type in ("bullet_list_open", "ordered_list_open"):
        # At the start of a chunk, a line with a bar may start a table.
        splits = [line for line in _item_lines(tokens, index) if "|" not in lines[line]]
        return _Block(start, end, ended, splits, is_list=True)
    return _Block(start, end, ended or token.meta.get("closed", False))


def _code_splits(code: str, first_line: int) -> Sequence[int]:
    """Return the lines at which highlighting splits the code, except the first."""
    *starts, _ = accumulate((chunk.count("\n") for chunk in split_code(code)), initial=first_line)
    return starts[1:]


def _item_lines(tokens: Sequence[Token], index: int) -> Iterator[int]:
    """Yield the first line of each item after the first, if a list that starts with it numbers it the same."""
    number = int(tokens[index].attrs.get("start", 1))
    for token in tokens[index + 2 :]:
        if token.level == 0:
            return
        if token.type == "list_item_open" and token.level == 1 and token.map:
            number += 1
            if not token.info or int(token.info) == number:
                yield token.map[0]
