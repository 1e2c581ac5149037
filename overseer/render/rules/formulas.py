r"""Formulas in Markdown: `\(…\)`, `\[…\]`, `$$…$$`, `$…$`, and LaTeX environments that stand alone.

A formula is taken to the character before other Markdown can change it. A `$` is one of money, of a shell variable or
of a template unless it follows pandoc's rule: no space after the first and before the last, and no digit after the
last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

from overseer.render.mathml import MAX_FORMULA_CHARS

MAX_SCANNED_LINES = 50_000  # in which the ends of formulas are looked for, in one text
CLOSERS = {r"\(": r"\)", r"\[": r"\]", "$$": "$$"}
BLOCK = re.compile(r"(\$\$|\\\[)|\\begin\{((?:equation|align|alignat|gather|multline|eqnarray)\*?)\}")
MARK = re.compile(r"\$\$|\\[\[(]")
MARK_OR_ESCAPE = re.compile(r"\$\$|\\.")
UNDERLINE = re.compile(r"(?:=+|-+)\s*")  # of a heading
PUNCTUATION = re.compile(r"\s*([.,;:]?)\s*")  # after a formula with a line of its own
NO_FIRST = "$)}'\"”’»,;:!?"  # no formula begins with these
MONEY = re.compile(r"\d[\d.,]*\s?[kKmMbB]?[+%]?\s+(?:[aI]\s+)?[A-Za-z]{2,}")  # an amount and a word
SHELL_LAST, SHELL_NEXT = "/:.,;=-\"'(|&@+", re.compile(r"[A-Za-z_{(]")  # as in $HOME/$USER


@dataclass(frozen=True, slots=True)
class _Found:
    """A formula in lines: its content, delimiters included, and the line after it."""

    source: str
    latex: str
    end: int
    closed: bool


def add_formulas(parser: MarkdownIt) -> None:
    """Add the rules. Tokens are `formula` and `formula_block`, with the source in `markup`."""
    parser.inline.ruler.before("escape", "formula", _inline)
    add_formula_blocks(parser)


def add_formula_blocks(parser: MarkdownIt) -> None:
    """Add the rule for formulas that have lines of their own."""
    parser.block.ruler.before("fence", "formula_block", _block, {"alt": ["paragraph", "reference", "blockquote"]})
    parser.block.ruler.before("lheading", "formula_lines", _keep_lines)


def find_closer(text: str, closer: str, begin: int, end: int) -> int:
    """Return where the first `closer` that is not escaped begins, or -1."""
    at = text.find(closer, begin, end)
    while at > begin and text[at - 1] == "\\" and _backslashes_before(text, at, begin) % 2:
        at = text.find(closer, at + 1, end)
    return at


def dollar_end(text: str, begin: int, end: int) -> int:
    """Return where the `$` is that closes the one at `begin`, or -1 if that is no formula."""
    first, before = text[begin + 1 : begin + 2], text[begin - 1 : begin] if begin else ""
    if not first or first.isspace() or first in NO_FIRST or (before.isascii() and before.isalnum()) or before == "$":
        return -1
    close = find_closer(text, "$", begin + 1, min(end, begin + 2 + MAX_FORMULA_CHARS))
    if close < 0 or text[close - 1].isspace():
        return -1
    content, after = text[begin + 1 : close], text[close + 1 : min(end, close + 2)]
    if after.isdigit() or after == "$" or "`" in content or MONEY.match(content):
        return -1
    return -1 if content[-1] in SHELL_LAST and SHELL_NEXT.match(after) else close


def _backslashes_before(text: str, at: int, begin: int) -> int:
    count = 0
    while at - count > begin and text[at - count - 1] == "\\":
        count += 1
    return count


def _inline(state: StateInline, silent: bool) -> bool:
    source, pos = state.src, state.pos
    if source[pos] not in "\\$":
        return False
    opener = source[pos : pos + 2]
    closer = CLOSERS.get(opener)
    if closer is None:
        if opener[0] != "$" or (close := dollar_end(source, pos, state.posMax)) < 0:
            return False
        opener = closer = "$"
    else:
        close = find_closer(source, closer, pos + len(opener), state.posMax)
        if close < 0 and state.env.get("may_grow") and state.posMax == len(source) < pos + MAX_FORMULA_CHARS:
            return _push_unfinished(state, silent)
        # \[text\](address) is a link that somebody escaped.
        if (
            close < 0
            or not source[pos + len(opener) : close].strip()
            or (closer == r"\]" and source[close + 2 : close + 3] == "(")
        ):
            return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content = source[pos + len(opener) : close]
        token.markup = source[pos : close + len(closer)]
        token.meta = {"display": opener in ("$$", r"\[")}
    state.pos = close + len(closer)
    return True


def _push_unfinished(state: StateInline, silent: bool) -> bool:
    """Show a formula whose end has not arrived as its source."""
    if not silent:
        token = state.push("formula", "math", 0)
        token.markup = state.src[state.pos :]
    state.pos = state.posMax
    return True


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    begin = state.bMarks[start] + state.tShift[start]
    if state.src[begin : begin + 1] not in ("$", "\\") or state.is_code_block(start):
        return False
    opener = BLOCK.match(state.src, begin, state.eMarks[start])
    found = _find_block(state, opener, start, end) if opener else None
    if found is None:
        return False
    if not silent:
        token = state.push("formula_block", "math", 0)
        token.block, token.map = True, [start, found.end]
        token.markup, token.content = found.source, found.latex
        token.meta = {"display": True, "closed": found.closed}
        state.line = found.end
    return True


def _keep_lines(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Keep a paragraph together where a formula in it spans lines, which may look like headings or lists."""
    closer, opened = "", start
    if "has_formulas" not in state.env:
        state.env["has_formulas"] = MARK.search(state.src) is not None
    if not state.env["has_formulas"]:
        return False
    for line in range(start, end):
        state.env["scanned"] = state.env.get("scanned", 0) + 1
        begin = state.bMarks[line] + state.tShift[line]
        if state.isEmpty(line) or state.env["scanned"] > MAX_SCANNED_LINES:
            break
        if line > start and not closer and _ends_paragraph(state, line, end):
            break
        for mark in MARK_OR_ESCAPE.findall(state.src, begin, state.eMarks[line]):
            if closer == mark:
                _indent(state, opened + 1, line)
                closer = ""
            elif not closer and mark in CLOSERS:
                closer, opened = CLOSERS[mark], line
    else:
        if closer and state.env.get("unfinished") and state.eMarks[end - 1] + 1 >= len(state.src):
            _indent(state, opened + 1, end - 1)
    return False


def _ends_paragraph(state: StateBlock, line: int, end: int) -> bool:
    begin = state.bMarks[line] + state.tShift[line]
    is_continued = state.sCount[line] - state.blkIndent > 3 or state.sCount[line] < 0
    if is_continued or UNDERLINE.fullmatch(state.src, begin, state.eMarks[line]):
        return not is_continued
    return any(rule(state, line, end, True) for rule in state.md.block.ruler.getRules("paragraph"))


def _indent(state: StateBlock, first: int, last: int) -> None:
    """Make the parser take lines as continuations of the paragraph, as it takes indented ones."""
    for line in range(first, last + 1):
        state.sCount[line] = max(state.sCount[line], state.blkIndent + 4)


def _find_block(state: StateBlock, opener: re.Match[str], start: int, end: int) -> _Found | None:
    source, first = state.src, opener.end()
    closer = CLOSERS.get(opener[0]) or rf"\end{{{opener[2]}}}"
    may_grow = state.env.get("unfinished") and state.eMarks[end - 1] + 1 >= len(source)
    if find_closer(source, closer, first, first + 2 * MAX_FORMULA_CHARS) < 0 and not may_grow:
        return None
    lines, chars, at = list[str](), 0, first
    blank_allowed = not source[first : state.eMarks[start]].strip()
    for line in range(start, end):
        if line > start:
            at = state.bMarks[line] + min(state.tShift[line], state.sCount[start])
            if (
                state.isEmpty(line)
                and not blank_allowed
                or not state.isEmpty(line)
                and _ends_before(state, start, line, opener)
            ):
                return None
        close = find_closer(source, closer, at, state.eMarks[line])
        if close >= 0:
            tail = PUNCTUATION.fullmatch(source, close + len(closer), state.eMarks[line])
            content = "\n".join([*lines, source[at:close]])
            if tail is None or not content.strip() or len(content) > MAX_FORMULA_CHARS:
                return None
            latex = content if opener[1] else f"{opener[0]}{content}{closer}"
            return _Found(f"{opener[0]}{content}{closer}{tail[1]}", latex + tail[1], line + 1, closed=True)
        lines.append(source[at : state.eMarks[line]])
        chars += len(lines[-1]) + 1
        if chars > MAX_FORMULA_CHARS:
            return None
    return _Found(opener[0] + "\n".join(lines), "", end, closed=False) if may_grow else None


def _ends_before(state: StateBlock, start: int, line: int, opener: re.Match[str]) -> bool:
    """Return whether a formula that is not closed ends before `line`: its container ends, or another formula begins."""
    state.env["scanned"] = state.env.get("scanned", 0) + 1
    if state.env["scanned"] > MAX_SCANNED_LINES or state.sCount[line] < min(state.blkIndent, state.sCount[start]):
        return True
    begin = state.bMarks[line] + state.tShift[line]
    return opener[0] != "$$" and state.src.startswith(opener[0], begin)
