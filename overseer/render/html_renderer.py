"""The HTML of Markdown's tokens, before it is sanitised."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from overseer.render import mathml
from overseer.render.highlight import code_block
from overseer.render.rules.links import is_safe
from overseer.render.sanitizer import ALIGNMENTS

MAX_FORMULAS_CHARS = 40_000  # of LaTeX in all formulas of a text; the others are shown as their source
MIN_FORMULA_CHARS = 20  # that each of them counts


class HtmlRenderer(RendererHTML):
    """Renders code highlighted, images as links, and alignments as classes, because the page allows no inline style."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token, growing, continued = tokens[idx], env.get("growing", False), idx == 0 and env.get("continued", False)
        if continued and not token.content:
            return ""
        session = env.get("highlighting")
        html = code_block(token.content, token.info, growing=growing, continued=continued, highlighting=session)
        return html + "\n"

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return code_block(tokens[idx].content, growing=env.get("growing", False)) + "\n"

    def task_box(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f'<span class="task__box">{tokens[idx].content}</span> '

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        source, text = str(tokens[idx].attrs.get("src", "")), tokens[idx].content
        if is_safe(source):
            return f'<a href="{escape(source)}">{escape(text or source)}</a>'
        return escape(f"{text} ({source})" if text else source)

    def formula(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[idx]
        left: int = env.get("formula_chars", MAX_FORMULAS_CHARS) - max(MIN_FORMULA_CHARS, len(token.content))
        env["formula_chars"] = left
        if not token.content or left < 0:
            return mathml.source_html(token.markup)
        return mathml.to_html(token.markup, token.content, display=token.meta["display"])

    def formula_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f"<p>{self.formula(tokens, idx, options, env)}</p>\n"

    def html_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f"<{tokens[idx].tag}>"

    def html_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f"</{tokens[idx].tag}>"

    def footnote(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f'<sup class="footnote__label">{escape(tokens[idx].content)}</sup>'

    def footnote_reference_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        label = escape(tokens[idx].meta["label"])
        return f'<div class="footnote" dir="auto"><sup class="footnote__label">{label}</sup><div>'

    def footnote_reference_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</div></div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        more = " table--more" if idx == 0 and env.get("continued", False) else ""
        return f'<div class="table{more}" tabindex="0" dir="auto"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</table></div>\n"


def _cell(token: Token) -> str:
    alignment = str(token.attrs.get("style", "")).removeprefix("text-align:")
    return f'<{token.tag} class="{alignment}">' if alignment in ALIGNMENTS else f"<{token.tag}>"
