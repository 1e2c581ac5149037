"""Markdown that grows: rendered block by block, and long code, lists and tables piece by piece."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from markdown_it.token import Token

from overseer.render import markdown
from overseer.render.highlight import Colours, code_block, pieces
from overseer.render.markdown import block_parser, parted, plain_ends, render

PIECE = 1_000  # characters of one block that may be open; of a longer one, what comes first is finished
ENDED_BY_BLANK_LINE = ("paragraph_open", "heading_open", "hr", "blockquote_open", "table_open")


class IncrementalMarkdown:
    """A text that grows: what is finished of it is rendered once, only the rest, open, again and again.

    A block is finished when it cannot go on, or a later line has begun another one, and the beginning of a long one
    when enough has come after it. What is finished depends on the text alone, and not on the pieces it came in.
    """

    def __init__(self, text: str = "") -> None:
        self.blocks: list[str] = []
        self._open = ""
        self._head = ""  # with which the open block begins to be what it is, though it was shown before
        self._continues = False  # the block that was finished last
        self._loose = False  # what is open is a list with blank lines between its items
        self._colours = Colours()
        self._room = markdown.MAX_MARKDOWN, markdown.MAX_LINES
        self._full = False  # what is open is not read as Markdown any more
        self._examined = 0
        self._arrived: list[str] = []
        self._rendered: str | None = None
        self.add(text)

    def add(self, text: str) -> None:
        """The text goes on."""
        self._arrived.append(text)

    def snapshot(self) -> tuple[int, str]:
        """How many blocks are finished (in `blocks`), and the open one as safe HTML."""
        if self._arrived:
            self._open += self._taken_in()
            self._rendered = None
            self._finish()
        if self._rendered is None:
            self._rendered = self._shown()
        return len(self.blocks), self._rendered

    def _taken_in(self) -> str:
        text = "".join(self._arrived)
        # A line end of two characters may be cut in two.
        self._arrived = ["\r"] if text.endswith("\r") else []
        return plain_ends(text.removesuffix("\r"))

    def _shown(self) -> str:
        if self._full:
            return code_block(self._open, growing=True, continued=self._continues) if self._open else ""
        return self._render_open(self._open)

    def _render_open(self, text: str) -> str:
        return self._render(text, growing=True, colours=self._colours.copy())

    def _render(self, text: str, *, growing: bool, colours: Colours) -> str:
        return render(text, growing=growing, continued=self._continues, loose=self._loose, colours=colours)

    def _finish(self) -> None:
        if not self._full:
            chars, lines = self._room
            before = self._open.removeprefix(self._head)
            self._finish_blocks(*parted(self._open, chars + len(self._head), lines + self._head.count("\n")))
            after = self._open.removeprefix(self._head)
            self._room = chars - len(before) + len(after), lines - before.count("\n") + after.count("\n")
        if self._full:
            self._finish_plain()

    def _finish_blocks(self, text: str, rest: str) -> None:
        # Only whole lines count: "2" may become the list item "2. two".
        whole = text.rfind("\n") + 1
        if whole > self._examined or rest:
            blocks, lines = list(_blocks(text[:whole])), _lines(text)
            for block, after in zip(blocks, [*(block.start for block in blocks[1:]), None], strict=False):
                end = block.end if block.ended else after
                text = self._rest_of(block, "".join(lines[block.start : end]))
                if end is not None:
                    self._finish_block(text)
                    text = "".join(lines[end:])
            self._examined = text.rfind("\n") + 1
        if rest:
            self._finish_block(text)
            self._full, text = True, rest
        self._open = text

    def _rest_of(self, block: _Block, text: str) -> str:
        """Finish the beginning of a block that is long, in pieces; what is left of it is open."""
        ends = [0, *accumulate(map(len, _lines(text)))]
        joints = [ends[line - block.start] for line in block.joints]
        head = text[: ends[block.head]]
        whole = text.rfind("\n") + 1
        rest, cut = text, 0
        while whole - cut + len(head) * bool(cut) > PIECE:
            least, most = cut, cut + PIECE - len(head) * bool(cut)
            fitting = bisect_right(joints, most)
            if (found := next((joint for joint in joints[max(0, fitting - 1) :] if joint > least), None)) is None:
                break
            piece = rest[: len(rest) - len(text) + found]
            # By itself a piece does not tell that an item follows its last line.
            self._loose = self._loose or (block.is_list and not _lines(piece)[-2].strip(" \t\n"))
            self.blocks.append(self._render(piece, growing=True, colours=self._colours))
            self._head, self._continues = head, bool(head) or block.is_list
            rest, cut = head + text[found:], found
        return rest

    def _finish_block(self, text: str) -> None:
        self.blocks.append(self._render(text, growing=bool(self._head), colours=self._colours))
        self._head, self._continues, self._loose = "", False, False

    def _finish_plain(self) -> None:
        while len(self._open) > PIECE:
            end = self._open.rfind("\n", 0, PIECE) + 1 or PIECE
            self.blocks.append(code_block(self._open[:end], growing=True, continued=self._continues))
            self._open, self._continues = self._open[end:], True


def _lines(text: str) -> list[str]:
    """The lines with their ends; others than this one are none in Markdown."""
    *lines, last = text.split("\n")
    return [*(line + "\n" for line in lines), last]


@dataclass(frozen=True, slots=True)
class _Block:
    """A top-level block: its first line and the one after its last, and whether it has `ended`, whatever comes.

    It may be cut in two at its `joints`, which are lines; the second half needs the `head`, so many of the first lines,
    to be of the same kind.
    """

    start: int
    end: int
    ended: bool
    joints: Sequence[int] = ()
    head: int = 0
    is_list: bool = False


def _blocks(text: str) -> Iterator[_Block]:
    tokens, lines = block_parser().parse(text), text.split("\n")
    for at, token in enumerate(tokens):
        if token.level == 0 and token.nesting >= 0 and token.map:
            start, end = token.map
            # The text ends with a line end, and what is after that is no line.
            ended = token.type in ENDED_BY_BLANK_LINE and end < len(lines) - 1 and not lines[end].strip(" \t")
            if token.type == "fence":
                inside = token.content.count("\n")
                closed = end - start == inside + 2
                # With a bar in it, and a line of dashes below, the head would be that of a table.
                cuts = _joints(token.content, start + 1) if "|" not in lines[start] else ()
                yield _Block(start, end, closed, cuts, head=1)
            elif token.type == "table_open":
                yield _Block(start, end, ended, range(start + 3, end + 1), head=2)
            elif token.type in ("bullet_list_open", "ordered_list_open"):
                # A line with a bar may begin a table where it is no item after another.
                joints = [line for line in _items(tokens, at) if "|" not in lines[line]]
                yield _Block(start, end, ended, joints, is_list=True)
            else:
                yield _Block(start, end, ended)


def _joints(code: str, line: int) -> Sequence[int]:
    """The lines of code that begins at a `line` where it is cut to be coloured, but for its first."""
    *before_last, _ = accumulate((piece.count("\n") for piece in pieces(code)), initial=line)
    return before_last[1:]


def _items(tokens: Sequence[Token], at: int) -> Iterator[int]:
    """The first lines of a list's own items, but of those that a list of their own would number otherwise."""
    number = int(tokens[at].attrs.get("start", 1))
    for token in tokens[at + 2 :]:
        if token.level == 0:
            return
        if token.type == "list_item_open" and token.level == 1 and token.map:
            number += 1
            if not token.info or int(token.info) == number:
                yield token.map[0]
