"""Formulas: LaTeX to MathML that the page's content policy and the sanitiser let through."""

from __future__ import annotations

import re
from colorsys import rgb_to_hls
from functools import cache, lru_cache
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from math_core import LatexToMathML

# The converter recurses, and crashes between 3,000 and 10,000 levels.
MAX_FORMULA_CHARS = 2_000
MAX_FORMULA_LEVELS = 50  # of braces, environments and \left, and of commands that follow each other directly
MAX_MATHML_CHARS = 40_000  # of one formula
MAX_CACHED_FORMULAS = 300  # a growing answer renders its open block again and again
MAX_SPACE_EM = 20.0  # of a space that a formula asks for

LEVELS = re.compile(r"\\[a-zA-Z]+|\\.|[{}]", re.S)
RUN_OF_COMMANDS = re.compile(rf"(?:\\[a-zA-Z]+[\s*]*){{{MAX_FORMULA_LEVELS}}}")
# A macro that is defined in the formula could nest, or repeat, what the bounds above do not see.
DEFINITION = re.compile(r"\\(?:[gex]?def|let|futurelet|(?:re)?new(?!line)|provide|Declare)")
# What the converter lacks, in terms of what it has.
REWRITES = (
    (re.compile(r"\\mbox(?![a-zA-Z])"), r"\\text"),
    (re.compile(r"\\substack\s*\{((?:[^{}]|\{[^{}]*\})*)\}"), r"{\\begin{matrix}\1\\end{matrix}}"),
    (re.compile(r"\\(begin|end)\{split\}"), r"\\\1{aligned}"),
    (re.compile(r"\\(begin|end)\{smallmatrix\}"), r"\\\1{matrix}"),
    (re.compile(r"\\(begin|end)\{eqnarray(\*?)\}"), r"\\\1{align\2}"),
)
TEXT_WITH_FORMULA = re.compile(r"(\\text\s*\{[^{}$]*)\$([^{}$]*)\$(?=[^{}]*\})")
TAG_NUMBER = re.compile(r"\\tag\*?\s*\{[^{}]*\}")

TAG = re.compile(r"<[^<>]+>")
STYLE = re.compile(r'\sstyle="([^"]*)"')
WIDTH = re.compile(r'\s(?:width|height|depth|voffset)="(-?[\d.]*)[a-z%]*"')
NEGATIVE_SPACE = re.compile(r"margin-left:-([\d.]+)em")
COLOR = re.compile(r"color:#([0-9A-F]{6})")
# The class of each style that the converter uses.
STYLES = {
    "text-align: left": "math-left",
    "text-align: right": "math-right",
    "padding-left: 0": "math-flush-left",
    "padding-right: 0": "math-flush-right",
    "padding-left:1em": "math-apart",
    # The columns beside a numbered formula are half as wide as the page, which does not fit into a scrolling box.
    "width: 50%": "math-number",
    "border-left: 0.05em solid currentcolor": "math-line-left",
    "border-right: 0.05em solid currentcolor": "math-line-right",
    "border-top: 0.05em solid currentcolor": "math-line-top",
    "border-bottom: 0.05em solid currentcolor": "math-line-bottom",
    "border-left: 0.05em dashed currentcolor": "math-dash-left",
    "border-right: 0.05em dashed currentcolor": "math-dash-right",
    "border-top: 0.05em dashed currentcolor": "math-dash-top",
    "border-bottom: 0.05em dashed currentcolor": "math-dash-bottom",
    "padding-top: 0.1667em": "math-strut",
    "padding-left: 0.1em": "math-near-left",
    "padding-right: 0.1em": "math-near-right",
    "font-variant-caps: small-caps": "math-caps",
}
CLASS_NAMES = {
    "math-core-sans-serif-font": "math-sans",
    "math-core-serif-font": "math-serif",
    "menclose-updiagonalstrike": "math-strike-up",
    "menclose-downdiagonalstrike": "math-strike-down",
}
NOTATIONS = {"box": "math-box", "updiagonalstrike": "math-struck", "downdiagonalstrike": "math-struck"}
NEGATIVE_SPACES = {1: "math-back-1", 2: "math-back-2", 3: "math-back-3", 4: "math-back-4"}  # in sixths of an em
HUES = ("red", "orange", "green", "blue", "purple")
HUE_LIMITS = (20, 70, 170, 260, 320)  # degrees at which the next colour begins
CLASSES = {
    *STYLES.values(),
    *CLASS_NAMES.values(),
    *NOTATIONS.values(),
    *NEGATIVE_SPACES.values(),
    *(f"math-{hue}" for hue in HUES),
}
HTML_TAGS = {"<b>": "<strong>", "</b>": "</strong>", "<i>": "<em>", "</i>": "</em>"}  # in \text


def to_html(source: str, latex: str, *, display: bool) -> str:
    """Return a formula as MathML, or its `source`, which includes its delimiters, as code if it cannot be converted.

    A `display` formula has a line of its own.
    """
    mathml = _convert(latex, display=display)
    if mathml is None:
        return source_html(source)
    return f'<span class="formula" tabindex="0">{mathml}</span>' if display else mathml


def source_html(source: str) -> str:
    """Return the source of a formula to the character."""
    return f'<code class="formula-source">{escape(source)}</code>'


@lru_cache(MAX_CACHED_FORMULAS)
def _convert(latex: str, *, display: bool) -> str | None:
    """Return MathML with the LaTeX as its annotation, or None if the formula is too large or not understood."""
    from math_core import LatexError

    if not latex.strip() or not _is_bounded(latex):
        return None
    try:
        mathml = _converter().convert_with_local_state(_rewritten(latex), displaystyle=display)
    except LatexError:
        return None
    if len(mathml) > MAX_MATHML_CHARS:
        return None
    begin = mathml.index(">") + 1
    content = TAG.sub(_safe_tag, mathml[begin : mathml.rindex("<")])
    annotation = f'<annotation encoding="application/x-tex">{escape(latex.strip())}</annotation>'
    return f"{mathml[:begin]}<semantics><mrow>{content}</mrow>{annotation}</semantics></math>"


@cache
def _converter() -> LatexToMathML:
    # Imported late: many rooms contain no formulas.
    from math_core import LatexToMathML

    return LatexToMathML(fancy_error=False)


def _is_bounded(latex: str) -> bool:
    if len(latex) > MAX_FORMULA_CHARS or DEFINITION.search(latex) or RUN_OF_COMMANDS.search(latex):
        return False
    level = deepest = 0
    for found in LEVELS.findall(latex):
        level += (found in ("{", r"\begin", r"\left")) - (found in ("}", r"\end", r"\right"))
        deepest = max(deepest, level)
    return deepest <= MAX_FORMULA_LEVELS


def _rewritten(latex: str) -> str:
    for pattern, replacement in REWRITES:
        latex = pattern.sub(replacement, latex)
    if "$" in latex:  # a formula in the text of a formula
        latex = TEXT_WITH_FORMULA.sub(r"\1}\2\\text{", latex)
    if TAG_NUMBER.search(latex) and r"\begin" not in latex:
        return rf"\begin{{equation}}{latex}\end{{equation}}"
    return latex


def _safe_tag(match: re.Match[str]) -> str:
    """Return a tag with classes instead of styles, and without links and extreme sizes."""
    tag = HTML_TAGS.get(match[0], match[0])
    if tag.startswith(("<a ", "</a")):
        return ""
    if "=" not in tag:
        return tag
    tag = WIDTH.sub(lambda width: width[0] if abs(_float(width[1])) <= MAX_SPACE_EM else "", tag)
    names = [name for declaration in STYLE.findall(tag) for name in map(_class_of, declaration.split(";")) if name]
    if 'class="' in tag or "<menclose" in tag:
        known = {**CLASS_NAMES, **NOTATIONS}
        names += [known[word] for word in re.findall(r"[\w-]+", tag) if word in known]
    tag = re.sub(r'\s(?:style|class|notation|id)="[^"]*"', "", tag)
    if names:
        end = -2 if tag.endswith("/>") else -1
        tag = f'{tag[:end]} class="{" ".join(dict.fromkeys(names))}"{tag[end:]}'
    return tag


def _class_of(declaration: str) -> str | None:
    if space := NEGATIVE_SPACE.fullmatch(declaration):
        return NEGATIVE_SPACES.get(round(_float(space[1]) * 6))
    if color := COLOR.fullmatch(declaration):
        return _color_class(color[1])
    return STYLES.get(declaration)


def _color_class(rgb: str) -> str | None:
    """Return the nearest colour that is legible in both themes; None for black, white and grey."""
    red, green, blue = (int(rgb[at : at + 2], 16) / 255 for at in (0, 2, 4))
    hue, lightness, saturation = rgb_to_hls(red, green, blue)
    if saturation < 0.2 or not 0.05 < lightness < 0.97:
        return None
    return f"math-{next((name for name, limit in zip(HUES, HUE_LIMITS, strict=True) if hue * 360 < limit), 'red')}"


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
