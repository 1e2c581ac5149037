"""Markdown → safe HTML.

Raw HTML is off, and what the renderer makes is sanitised before it becomes part of a fragment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from html import escape

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock, list_block
from markdown_it.rules_block.table import table
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from overseer.render.highlight import Colours, code_block
from overseer.render.sanitizer import ALIGNMENTS, sanitised

# What of a text is read as Markdown; the rest is shown as it is. All of it together takes less than a second, whatever
# it says: it is one second in which nobody else is served.
MAX_MARKDOWN = 80_000  # characters,
MAX_LINES = 5_000  # and lines of a text,
MAX_INLINE = 20_000  # characters of one paragraph,
MAX_BRACKETS = 100  # brackets in it (each is tried with each),
MAX_TRIES = 200_000  # such tries in all paragraphs,
MAX_CELLS = 10_000  # cells of all tables (a row of one letter may have hundreds),
MAX_NESTED = 2_000  # and lists within lists
BOXES = {" ": "☐", "x": "☑", "X": "☑"}
TASK = re.compile(r"\[([ xX])\][ \t\n]+")
BLANK_LINES = re.compile(r"(\n(?:[ \t]*\n)+)")
DASHES = re.compile(r"[ \t>]*[|:-][|:\s-]*$")
BLANK_START = re.compile(r"\A(?:[ \t]*\n)+")


def render(
    text: str, *, growing: bool = False, continued: bool = False, loose: bool = False, colours: Colours | None = None
) -> str:
    """A whole text as safe HTML.

    Of one that is growing, code has no buttons yet. If it is `continued`, the code, table or list that it begins with
    goes on with the one before. In a `loose` list there are blank lines between the items, though they may be beyond
    this text. `colours` are those of the code before.
    """
    text, rest = parted(plain_ends(text))
    env = {"growing": growing, "continued": continued, "loose": loose, "colours": colours or Colours()}
    html = sanitised(_parser().render(text, env))
    return html + code_block(rest, growing=growing) if rest else html


def render_typed(text: str) -> str:
    """What a person typed as safe HTML: as it was typed, but code, in a block or in a line, is shown as code.

    The blank lines around a block are its distance from the words, and not shown as well.
    """
    text, rest = parted(plain_ends(text).replace("\0", "\ufffd"))
    lines, colours = text.split("\n"), Colours()
    fences = [token for token in _typed_parser().parse("\n".join(lines)) if token.type == "fence"]
    if not fences:
        return sanitised(_typed_words(text) if not rest else f"<p>{_typed_paragraphs(text)}{escape(rest)}</p>")
    html, shown = [], 0
    for fence in fences:
        begin, end = fence.map or (shown, shown)
        html += [_typed_beside("\n".join(lines[shown:begin])), code_block(fence.content, fence.info, colours=colours)]
        shown = end
    html.append(_typed_beside("\n".join(lines[shown:])))
    return sanitised("".join(html)) + (f"<p>{escape(rest)}</p>" if rest else "")


def parted(text: str, chars: int | None = None, lines: int | None = None) -> tuple[str, str]:
    """What of the text is read as Markdown, whole lines if it has any, and the rest.

    It is so many characters and lines, or what is read of a whole text.
    """
    chars, lines = MAX_MARKDOWN if chars is None else chars, MAX_LINES if lines is None else lines
    end = len(text)
    if end > chars:
        # Where something was read before, a line that does not fit is no part of it.
        end = text.rfind("\n", 0, chars) + 1 or (chars if chars == MAX_MARKDOWN else 0)
    if text.count("\n", 0, end) > lines:
        end = 0
        for _ in range(lines):
            end = text.index("\n", end) + 1
    return text[:end], text[end:]


def plain_ends(text: str) -> str:
    """The text with line ends of one kind."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable(["table", "strikethrough"])
    parser.core.ruler.at("inline", _bounded_inline)
    _bound_blocks(parser)
    parser.core.ruler.before("inline", "tasks", _tasks)
    parser.core.ruler.after("block", "continued", _continued)
    return parser


@cache
def block_parser() -> MarkdownIt:
    """Finds the blocks of a text, and does not look into them."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table"])
    parser.core.ruler.enableOnly(["normalize", "block"])
    _bound_blocks(parser)
    # A definition is part of a paragraph until its last line has come; here it stays one.
    parser.disable("reference")
    return parser


@cache
def _typed_parser() -> MarkdownIt:
    parser = MarkdownIt("zero").enable(["fence", "backticks"])
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _typed_beside(words: str) -> str:
    return _typed_words(BLANK_START.sub("", words).rstrip())


def _typed_words(words: str) -> str:
    return f"<p>{_typed_paragraphs(words)}</p>" if words else ""


def _typed_paragraphs(words: str) -> str:
    return "".join(map(_typed_inline, BLANK_LINES.split(words)))


def _typed_inline(words: str) -> str:
    """The words of one paragraph with its inline code; a monstrous one is left as it is."""
    if "`" not in words or len(words) > MAX_INLINE:
        return escape(words)
    parser, tokens = _typed_parser(), list[Token]()
    # In code a line end would become a space. NUL, of which there is none any more, stands in for it.
    parser.inline.parse(words.replace("\n", "\0"), parser, {}, tokens)
    html = (
        f"<code>{escape(one.content)}</code>" if one.type == "code_inline" else escape(one.content) for one in tokens
    )
    return "".join(html).replace("\0", "\n")


def _continued(state: StateCore) -> None:
    """A piece of a list says that it goes on with the one before, and has paragraphs if any piece has."""
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
    """An item that begins with a box, [ ] or [x], is a task."""
    for item, opening, words in zip(state.tokens, state.tokens[1:], state.tokens[2:], strict=False):
        if (item.type, opening.type) != ("list_item_open", "paragraph_open"):
            continue
        if box := TASK.match(words.content):
            item.attrSet("class", "task")
            words.content = words.content[box.end() :]
            words.children = [Token("task_box", "span", 0, content=BOXES[box[1]])]


def _bounded_inline(state: StateCore) -> None:
    """markdown-it's own rule, but a monstrous paragraph is left as plain text."""
    tries = 0
    for token in state.tokens:
        if token.type == "inline":
            token.children = token.children or []
            brackets = token.content.count("[")
            tries += brackets * brackets
            if len(token.content) <= MAX_INLINE and brackets <= MAX_BRACKETS and tries <= MAX_TRIES:
                state.md.inline.parse(token.content, state.md, state.env, token.children)
            else:
                token.children.append(Token("text", "", 0, content=token.content))


def _bound_blocks(parser: MarkdownIt) -> None:
    """markdown-it's own rules for tables and lists, but for so many of them."""

    def bounded_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        # Without a row of dashes below it is none; most lines are not looked at any further.
        if start + 1 >= end or not DASHES.match(state.src, state.bMarks[start + 1], state.eMarks[start + 1]):
            return False
        left: int = state.env.setdefault("cells", MAX_CELLS)
        if not silent:
            columns = max(1, state.src.count("|", state.bMarks[start], state.eMarks[start]))  # or so
            for line in range(start, end):
                if state.isEmpty(line):
                    break
                left -= columns
                if left < 0:
                    break
            state.env["cells"] = left
        return left >= 0 and table(state, start, end, silent)

    def bounded_list(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        if state.env.get("nested", 0) >= MAX_NESTED or not list_block(state, start, end, silent):
            return False
        if state.level and not silent:
            state.env["nested"] = state.env.get("nested", 0) + 1
        return True

    parser.block.ruler.at("table", bounded_table, {"alt": ["paragraph", "reference"]})
    parser.block.ruler.at("list", bounded_list, {"alt": ["paragraph", "reference", "blockquote"]})


class _Renderer(RendererHTML):
    """Code is coloured, an image is a link, an alignment is a class: the page allows no inline style."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token, growing, continued = tokens[idx], env.get("growing", False), idx == 0 and env.get("continued", False)
        if continued and not token.content:
            return ""
        code = code_block(token.content, token.info, growing=growing, continued=continued, colours=env.get("colours"))
        return code + "\n"

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return code_block(tokens[idx].content, growing=env.get("growing", False)) + "\n"

    def task_box(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f'<span class="task__box">{tokens[idx].content}</span> '

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        source = str(tokens[idx].attrs.get("src", ""))
        return f'<a href="{escape(source)}">{escape(tokens[idx].content or source)}</a>'

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        more = " table--more" if idx == 0 and env.get("continued", False) else ""
        return f'<div class="table{more}" tabindex="0"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</table></div>\n"


def _cell(token: Token) -> str:
    alignment = str(token.attrs.get("style", "")).removeprefix("text-align:")
    return f'<{token.tag} class="{alignment}">' if alignment in ALIGNMENTS else f"<{token.tag}>"
