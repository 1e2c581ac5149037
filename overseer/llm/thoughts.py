"""Reasoning within the text of an answer, between tags such as `<think>` and `</think>`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer.llm import Delta, ReasoningDelta, ReasoningEnded, TextDelta

TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "[THINK]": "[/THINK]",
}
OPENING_TAG = re.compile(r" {0,3}(" + "|".join(map(re.escape, TAGS)) + ")")
# In the text, these may change what follows. A tag is looked for after each "<" and "[".
MARK = re.compile(r"`{1,100}|\n|[<\[]")
MAX_RUN_CHARS = 100  # of backticks that are one mark
MAX_TAG_CHARS = 20  # with the spaces before it
WHITE_SPACE = " \t\r\n"
FENCE = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(`{3,}(?=[^`]*$)|~{3,})")
CLOSING_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})\s*")
MAX_FENCE_LINE_CHARS = 1000  # a longer line neither opens nor closes a code block


class MarkdownPosition:
    """Where in Markdown a growing text ends: at the beginning of a line, or within code."""

    def __init__(self) -> None:
        self.begins_line = True
        self.last = ""  # the last character
        self._line: list[str] = []
        self._line_length = 0
        self._fence = ""  # that opened the code block
        self._span = 0  # backticks that opened the code span

    @property
    def in_code_block(self) -> bool:
        """Whether the text ends within a fenced code block."""
        return bool(self._fence)

    @property
    def in_code(self) -> bool:
        """Whether the text ends within a fenced code block or a code span."""
        return bool(self._fence or self._span)

    def advance(self, text: str) -> None:
        """Add text without a line feed and without a part of a run of backticks."""
        if not text:
            return
        if self._line_length <= MAX_FENCE_LINE_CHARS:
            self._line.append(text)
        self._line_length += len(text)
        self.begins_line, self.last = False, text[-1]
        if text[0] == "`" and not self._fence:
            self._span = len(text) if not self._span else 0 if len(text) == self._span else self._span

    def end_line(self) -> None:
        """Add a line feed."""
        line = "".join(self._line) if self._line_length <= MAX_FENCE_LINE_CHARS else "…"
        self._line.clear()
        self._line_length = 0
        self.begins_line, self.last = True, "\n"
        if self._fence:
            closing = CLOSING_FENCE.fullmatch(line)
            if closing and closing[1].startswith(self._fence):
                self._fence = ""
        elif opening := FENCE.match(line):
            self._fence, self._span = opening[1], 0
        elif not line.strip():
            self._span = 0  # a code span ends with its paragraph


class ThoughtParser:
    """Separates reasoning in tags from the text around it.

    Reasoning begins with a tag at the beginning of a line, outside of code. A closing tag without an opening one means
    that all text before it was reasoning: some chat templates write the opening tag themselves.
    """

    def __init__(self) -> None:
        self._held = ""  # what cannot be decided before more arrives
        self._close_tag = ""  # while within reasoning
        self._at = MarkdownPosition()
        self._last = ""  # the last character of the reasoning
        self._tags_seen = False
        self._skip = ""  # characters that are dropped at the beginning of what follows

    def add(self, text: str) -> Iterator[Delta]:
        """Yield what is certain now. What may be part of a tag is held back."""
        yield from self._parse(self._held + text, final=False)

    def flush(self) -> Iterator[Delta]:
        """Yield what was held back, at the end."""
        yield from self._parse(self._held, final=True)

    def _parse(self, text: str, *, final: bool) -> Iterator[Delta]:
        self._held = ""
        while text := text.lstrip(self._skip) if self._skip else text:
            self._skip = ""
            if self._close_tag:
                end, rest = self._find_end_of_reasoning(text, final=final)
                if text[:end]:
                    yield ReasoningDelta(text[:end])
            else:
                end, rest = self._find_end_of_text(text, final=final)
                if text[:end]:
                    yield TextDelta(text[:end])
                if rest is not None and not self._close_tag:
                    yield ReasoningEnded()
            if rest is None:
                self._held = text[end:]
                return
            text = text[rest:]

    def _find_end_of_reasoning(self, text: str, *, final: bool) -> tuple[int, int | None]:
        """Return where the reasoning ends and where the text after its tag begins.

        The latter is None if there is no tag; then what follows the end is to be held back.
        """
        tag = self._close_tag
        at = -1
        while (at := text.find(tag, at + 1)) >= 0:
            before, rest = text[at - 1] if at else self._last, at + len(tag)
            if before == "`" and rest == len(text) and not final:
                break
            if before != "`" or text[rest : rest + 1] != "`":
                self._close_tag, self._at, self._skip = "", MarkdownPosition(), WHITE_SPACE
                return at, rest
        if at < 0:
            at = len(text) - (0 if final else _length_of_beginning(text, tag))
        self._last = text[at - 1] if at else self._last
        return at, None

    def _find_end_of_text(self, text: str, *, final: bool) -> tuple[int, int | None]:
        """Return where the text ends and where what follows a tag begins; see `_find_end_of_reasoning`."""
        at, pos = self._at, 0
        while pos < len(text):
            if at.begins_line and not at.in_code:
                if opening := OPENING_TAG.match(text, pos):
                    self._close_tag, self._tags_seen, self._last, self._skip = TAGS[opening[1]], True, "", "\r\n"
                    return pos, opening.end()
                if not final and _may_become_opening_tag(text[pos : pos + MAX_TAG_CHARS]):
                    return pos, None
            mark = MARK.search(text, pos)
            end = mark.start() if mark else len(text)
            at.advance(text[pos:end])
            if mark is None:
                return len(text), None
            pos = mark.end()
            if mark[0] == "\n":
                at.end_line()
                continue
            if mark[0][0] == "`":
                if pos == len(text) and len(mark[0]) < MAX_RUN_CHARS and not final:
                    return end, None
            elif not self._tags_seen and not at.in_code_block:
                tag = next((tag for tag in TAGS.values() if text.startswith(tag, end)), "")
                rest = end + len(tag)
                undecided = rest == len(text) if tag else _may_become_closing_tag(text[end : end + MAX_TAG_CHARS])
                if undecided and not final:
                    return end, None
                if tag and self._ends_reasoning(text[rest : rest + 1]):
                    self._tags_seen, self._at, self._skip = True, MarkdownPosition(), WHITE_SPACE
                    return end, rest
            at.advance(mark[0])
        return len(text), None

    def _ends_reasoning(self, following: str) -> bool:
        """Return whether a closing tag at the present place, with this character after it, ends reasoning.

        It does not in a sentence about tags: within code, or as a word between spaces.
        """
        if self._at.begins_line:
            return True
        return not self._at.in_code and (not self._at.last.isspace() or following in ("", "\r", "\n"))


def _may_become_opening_tag(text: str) -> bool:
    tag = text.lstrip(" ")
    return len(text) - len(tag) <= 3 and any(opening.startswith(tag) for opening in TAGS)


def _may_become_closing_tag(text: str) -> bool:
    return any(closing.startswith(text) for closing in TAGS.values())


def _length_of_beginning(text: str, tag: str) -> int:
    """Return how many characters at the end of the text are a beginning of the tag, but not all of it."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)
