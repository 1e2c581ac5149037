"""Markdown to safe HTML.

The Markdown is CommonMark with tables, and with what chat models write besides: see `overseer/render/rules/`. Raw HTML
is disabled, and the renderer's output is sanitised as well.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, list_block
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import EnvType

from overseer.render.highlight import HighlightSession, code_block
from overseer.render.html_renderer import HtmlRenderer
from overseer.render.rules.details import add_details
from overseer.render.rules.emphasis import CjkInlineState
from overseer.render.rules.fences import nested_fence
from overseer.render.rules.footnotes import add_footnote_blocks, add_footnotes
from overseer.render.rules.formulas import add_formula_blocks, add_formulas
from overseer.render.rules.inline_html import add_inline_html
from overseer.render.rules.links import add_links
from overseer.render.rules.quotes import add_quotes
from overseer.render.rules.tables import lossless_table
from overseer.render.sanitizer import sanitize

# How much of a text is parsed as Markdown; the rest is plain text. Within these limits any text renders in less than a
# second, in which no other request is served.
MAX_MARKDOWN_CHARS = 80_000
MAX_MARKDOWN_LINES = 5_000
MAX_PARAGRAPH_CHARS = 20_000
MAX_PARAGRAPH_BRACKETS = 100  # the parser tries each bracket with each
MAX_BRACKET_PAIRS = 200_000  # such tries in all paragraphs
MAX_TABLE_CELLS = 10_000  # in all tables
MAX_NESTED_LISTS = 2_000
BOXES = {" ": "☐", "x": "☑", "X": "☑"}
TASK = re.compile(r"\[([ xX])\][ \t\n]+")
BLANK_LINES = re.compile(r"(\n(?:[ \t]*\n)+)")
DASHES = re.compile(r"[ \t>]*[|:-][|:\s-]*$")
BLANK_START = re.compile(r"\A(?:[ \t]*\n)+")


def render(
    text: str,
    *,
    growing: bool = False,
    continued: bool = False,
    loose: bool = False,
    partial: bool = False,
    unfinished: bool = False,
    highlighting: HighlightSession | None = None,
) -> str:
    """Return a text as safe HTML.

    Code in a `growing` text has no buttons. In a `continued` text, the first block is a code block, table or list that
    continues the one before. A `loose` list is one with blank lines between its items, possibly outside this text.
    The footnotes of a `partial` text may be outside of it. What is open at the end of an `unfinished` text, like a
    formula, may still be closed. `highlighting` is the state after the code before.
    """
    text, rest = split_at_limits(normalize_newlines(text))
    highlighting = highlighting or HighlightSession()
    env = {"growing": growing, "continued": continued, "loose": loose, "highlighting": highlighting}
    env |= {"partial": partial, "unfinished": unfinished}
    html = sanitize(_parser().render(text, env))
    return html + code_block(rest, growing=growing) if rest else html


def render_typed(text: str) -> str:
    """Return what a person typed as safe HTML: plain text, except for fenced and inline code.

    Blank lines around a code block are dropped, because the block has margins.
    """
    text, rest = split_at_limits(normalize_newlines(text).replace("\0", "\ufffd"))
    lines, highlighting = text.split("\n"), HighlightSession()
    fences = [token for token in _typed_parser().parse("\n".join(lines)) if token.type == "fence"]
    if not fences:
        return sanitize(_typed_text(text) if not rest else f"<p>{_typed_paragraphs(text)}{escape(rest)}</p>")
    html, shown = [], 0
    for fence in fences:
        begin, end = fence.map or (shown, shown)
        html.append(_typed_beside_code("\n".join(lines[shown:begin])))
        html.append(code_block(fence.content, fence.info, highlighting=highlighting))
        shown = end
    html.append(_typed_beside_code("\n".join(lines[shown:])))
    return sanitize("".join(html)) + (f"<p>{escape(rest)}</p>" if rest else "")


def split_at_limits(text: str, chars: int | None = None, lines: int | None = None) -> tuple[str, str]:
    """Split a text into what is parsed as Markdown, at a line end if possible, and the rest.

    Defaults to the limits of a whole text.
    """
    chars = MAX_MARKDOWN_CHARS if chars is None else chars
    lines = MAX_MARKDOWN_LINES if lines is None else lines
    end = len(text)
    if end > chars:
        # Only the first line of a whole text may be split.
        end = text.rfind("\n", 0, chars) + 1 or (chars if chars == MAX_MARKDOWN_CHARS else 0)
    if text.count("\n", 0, end) > lines:
        end = 0
        for _ in range(lines):
            end = text.index("\n", end) + 1
    return text[:end], text[end:]


def normalize_newlines(text: str) -> str:
    r"""Replace \r\n and \r by \n."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@cache
def _parser() -> MarkdownIt:
    options = {"html": False, "breaks": True}
    parser = MarkdownIt("commonmark", options, renderer_cls=HtmlRenderer).enable(["table", "strikethrough"])
    parser.core.ruler.at("inline", _bounded_inline)
    _bound_blocks(parser)
    parser.core.ruler.before("inline", "tasks", _tasks)
    add_quotes(parser)
    parser.core.ruler.after("block", "continued", _continued)
    add_formulas(parser)
    add_details(parser)
    add_inline_html(parser)
    add_footnotes(parser)
    add_links(parser)
    return parser


@cache
def block_parser() -> MarkdownIt:
    """Return a parser that finds the blocks of a text, but does not parse their inline content."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table"])
    parser.core.ruler.enableOnly(["normalize", "block"])
    _bound_blocks(parser)
    add_formula_blocks(parser)
    add_details(parser)
    add_footnote_blocks(parser)
    # While a link definition grows, it is a paragraph; this parser leaves it one.
    parser.disable("reference")
    return parser


@cache
def _typed_parser() -> MarkdownIt:
    parser = MarkdownIt("zero").enable(["fence", "backticks"])
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _typed_beside_code(text: str) -> str:
    return _typed_text(BLANK_START.sub("", text).rstrip())


def _typed_text(text: str) -> str:
    return f"<p>{_typed_paragraphs(text)}</p>" if text else ""


def _typed_paragraphs(text: str) -> str:
    return "".join(map(_typed_inline, BLANK_LINES.split(text)))


def _typed_inline(text: str) -> str:
    """Return one paragraph with its inline code. One that is too long is returned as plain text."""
    if "`" not in text or len(text) > MAX_PARAGRAPH_CHARS:
        return escape(text)
    parser, tokens = _typed_parser(), list[Token]()
    # The parser replaces a line end in code by a space. NUL, which was replaced before, stands in for it.
    parser.inline.parse(text.replace("\n", "\0"), parser, {}, tokens)
    html = (
        f"<code>{escape(one.content)}</code>" if one.type == "code_inline" else escape(one.content) for one in tokens
    )
    return "".join(html).replace("\0", "\n")


def _continued(state: StateCore) -> None:
    """Mark the chunk of a list as a continuation, and give it paragraphs if another chunk of the list has some."""
    first = state.tokens[0] if state.tokens else None
    if first is None or first.type not in ("bullet_list_open", "ordered_list_open"):
        return
    if state.env.get("continued"):
        first.attrSet("class", "list--more")
    for token in state.tokens[1:]:
        if token.level == 0:
            break
        if token.level == 2 and state.env.get("loose") and token.type in ("paragraph_open", "paragraph_close"):
            token.hidden = False


def _tasks(state: StateCore) -> None:
    """Render list items that start with [ ] or [x] as tasks."""
    for item, opening, inline in zip(state.tokens, state.tokens[1:], state.tokens[2:], strict=False):
        if (item.type, opening.type) != ("list_item_open", "paragraph_open"):
            continue
        if box := TASK.match(inline.content):
            item.attrSet("class", "task")
            inline.content = inline.content[box.end() :]
            inline.children = [Token("task_box", "span", 0, content=BOXES[box[1]])]


def _bounded_inline(state: StateCore) -> None:
    """Parse inline content, within the limits; a paragraph that exceeds them is plain text."""
    pairs = 0
    lines = state.src.count("\n") + (not state.src.endswith("\n"))
    for token in state.tokens:
        if token.type == "inline":
            state.env["may_grow"] = state.env.get("unfinished") and token.map and token.map[1] >= lines
            token.children = token.children or []
            brackets = token.content.count("[")
            pairs += brackets * brackets
            if (
                len(token.content) <= MAX_PARAGRAPH_CHARS
                and brackets <= MAX_PARAGRAPH_BRACKETS
                and pairs <= MAX_BRACKET_PAIRS
            ):
                _parse_inline(state.md, token.content, state.env, token.children)
            else:
                token.children.append(Token("text", "", 0, content=token.content))


def _parse_inline(parser: MarkdownIt, text: str, env: EnvType, tokens: list[Token]) -> None:
    """Parse inline content like `ParserInline.parse`, with the rule for emphasis beside East Asian characters."""
    state = CjkInlineState(text, parser, env, tokens)
    parser.inline.tokenize(state)
    for rule in parser.inline.ruler2.getRules(""):
        rule(state)


def _bound_blocks(parser: MarkdownIt) -> None:
    """Limit the number of table cells and nested lists, and let fences nest."""

    def bounded_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        # Reject most lines early: a table has a row of dashes below its first line.
        if start + 1 >= end or not DASHES.match(state.src, state.bMarks[start + 1], state.eMarks[start + 1]):
            return False
        left: int = state.env.setdefault("cells", MAX_TABLE_CELLS)
        if not silent:
            columns = max(1, state.src.count("|", state.bMarks[start], state.eMarks[start]))  # an estimate
            for line in range(start, end):
                if state.isEmpty(line):
                    break
                left -= columns
                if left < 0:
                    break
            state.env["cells"] = left
        return left >= 0 and lossless_table(state, start, end, silent)

    def bounded_list(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        if state.env.get("nested", 0) >= MAX_NESTED_LISTS or not list_block(state, start, end, silent):
            return False
        if state.level and not silent:
            state.env["nested"] = state.env.get("nested", 0) + 1
        return True

    parser.block.ruler.at("fence", nested_fence, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    parser.block.ruler.at("table", bounded_table, {"alt": ["paragraph", "reference"]})
    parser.block.ruler.at("list", bounded_list, {"alt": ["paragraph", "reference", "blockquote"]})
