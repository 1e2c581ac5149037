"""Formulas become MathML without inline styles, within bounds, or stay what they were."""

from __future__ import annotations

import re

import pytest

from overseer.render import html_renderer, mathml
from overseer.render.markdown import render
from tests.support.safe_html import checked, exact_text


def is_typeset(latex: str, *, display: bool = False) -> bool:
    root = checked(render(f"$${latex}$$" if display else f"\\({latex}\\)"))
    assert root.has("math") != root.has(class_="formula-source")
    return root.has("math")


TYPICAL = r"""
a_1^2+\frac{1}{2}-\sqrt{x}\sqrt[3]{y}
\sum_{i=1}^{n} i^2 = \int_0^\infty e^{-x^2}\,dx \prod \oint \lim_{x\to 0}
\begin{pmatrix}a&b\\c&d\end{pmatrix} \begin{vmatrix}1&2\end{vmatrix} \begin{bmatrix}1\end{bmatrix}
\begin{cases} x & \text{if } x>0 \\ -x & \text{if $x \le 0$} \end{cases}
\begin{aligned} a &= b \\ &= c \end{aligned}
\begin{split} a &= b \\ &= c \end{split}
\left(\begin{array}{c|c} a & b \\ \hline c & d \end{array}\right)
\mathbb{R}\mathcal{L}\mathfrak{g}\mathrm{d}\mathbf{x}\boldsymbol{\beta}\bm{x}
\operatorname{argmax}_x \operatorname*{argmin}_x \sin\cos\log\ln\det
\vec{x}\hat{y}\tilde{z}\overline{AB}\underline{x}\dot{x}\ddot{x}\bar{x}
\overbrace{a+b}^{n} \underbrace{c}_{m} \overset{a}{=} \stackrel{b}{=} \xrightarrow[a]{b}
\binom{n}{k} \pmod{n} \bmod \gcd(a,b) \lfloor x\rfloor \lceil y\rceil \lVert z\rVert
\alpha\beta\Gamma \ldots\cdots\vdots\ddots \implies\iff\to\mapsto \forall\exists\in\notin\subseteq
\boxed{E=mc^2} \cancel{x} \phantom{x} \color{red}{x} \textcolor{blue}{y}
\text{a b} \mbox{c} \textbf{d} \textit{e} \texttt{f} \quad \, \; \! \:
\sum_{\substack{i<n \\ j<m}} a_{ij}
\nabla\cdot\mathbf{E}=\frac{\rho}{\varepsilon_0} \partial_t \hbar \ell
x = 1 \tag{2.1}
\bigl(\Bigl[\biggl\{x\biggr\}\Bigr]\bigr)
""".strip().splitlines()


@pytest.mark.parametrize("latex", TYPICAL)
def test_typical_formula_is_typeset(latex: str) -> None:
    """Its LaTeX is kept as an annotation."""
    assert is_typeset(latex, display=True)
    annotation = checked(render(f"$${latex}$$")).one("annotation")
    assert exact_text(annotation) == latex and annotation["encoding"] == "application/x-tex"


def test_every_style_of_the_converter_becomes_a_class_or_is_of_no_use() -> None:
    ignored = re.compile(r"justify-items: \w+|width: (?:100|7\.5)%|")
    styles = set[str]()
    for latex in [
        *TYPICAL,
        r"\begin{multline}a\\b\end{multline}",
        r"\begin{array}{|l:r|}a&b\\ \hdashline c\end{array}",
    ]:
        found = mathml._converter().convert_with_local_state(mathml._rewritten(latex), displaystyle=True)
        styles.update(style for styles in re.findall(r'\sstyle="([^"]*)"', found) for style in styles.split(";"))
    assert len(styles) > 12
    assert [style for style in styles if not mathml._class_of(style) and not ignored.fullmatch(style)] == []


def test_colour_is_one_of_those_that_suit_both_themes() -> None:
    names = {"red": "red", "blue": "blue", "green": "green", "orange": "orange", "violet": "purple", "cyan": "blue"}
    for color, name in names.items():
        assert f"math-{name}" in render(rf"$\color{{{color}}}{{x}}$")
    for color in ("black", "white", "gray"):
        assert "math-" not in render(rf"$\color{{{color}}}{{x}}$")


@pytest.mark.parametrize("count", [51, 300, 900, 10_000])
def test_deep_formula_is_shown_as_its_source(count: int) -> None:
    """The converter would crash."""
    deep = [
        "{" * count + "x" + "}" * count,
        "{" * (2 * count),
        r"\sqrt" * count + "x",
        r"\left(" * count + r"\right)" * count,
    ]
    deep += [r"\begin{matrix}" * count + r"\end{matrix}" * count, r"\frac1" * count, "x^{" * count + "}" * count]
    deep += [r"\hat " * count + "x", r"\text{" * count + "}" * count]
    for latex in (one for one in deep if len(one) < 20_000):
        root = checked(render(f"$${latex}$$"))
        assert not root.has("math") and exact_text(root).strip() == f"$${latex}$$"
    assert is_typeset("{" * 50 + "x" + "}" * 50)


@pytest.mark.parametrize(
    "latex",
    [
        r"\def\a{\sqrt\a}\a",
        r"\def\a{{{{{{{{{{\a}}}}}}}}}}\a",
        r"\newcommand{\a}{\b\b}\newcommand{\b}{\c\c}\a",
        r"\renewcommand\frac{x}",
        r"\let\a\b",
        r"\gdef\a{x}\a",
        "x" * 2_001,
    ],
)
def test_formula_that_defines_macros_or_is_long_is_shown_as_its_source(latex: str) -> None:
    assert not is_typeset(latex)


def test_number_of_formulas_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_renderer, "MAX_FORMULAS_CHARS", 100)
    assert len(checked(render("$a$ " * 10)).every("math")) == 100 // html_renderer.MIN_FORMULA_CHARS
    assert len(checked(render(f"${'a' * 60}$ ${'b' * 60}$")).every("math")) == 1


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{<svg/onload=alert(1)>}",
        r"\text{</mtext><img src=x onerror=alert(1)>}",
        r"\href{javascript:alert(1)}{x}",
        r"\url{javascript:alert(1)}",
        r"\class{message}{x}",
        r"\style{position:fixed}{x}",
        r"\cssId{room}{x}",
        r"\htmlId{room}{x} \htmlData{x=y}{z}",
        r"\begin{align}x\label{room}\end{align}",
        r"\begin{align}x\label{\" onload=x}\end{align}",
        r"\eqref{room} \ref{room}",
        r"\unicode{60}script",
        r"\includegraphics{http://canary.invalid/x}",
        r"\color{red;position:fixed}x",
        r"\textcolor{url(http://canary.invalid)}{x}",
        r"\hspace{99999em}\kern-99999em\rule{999em}{999em}",
        r"\mathop{<annotation-xml encoding=text/html>}",
        r"x --> <!-- \text{<!--} ]]> <![CDATA[",
        r"\text{&lt;b&gt;} &amp; \&",
        r"\text{style=\"color:red\" class=x}",
        '\\text{" onclick="x}',
        "\x00\u202e\u2066",
    ],
)
def test_hostile_formula_adds_no_element_or_attribute(latex: str) -> None:
    for text in (f"\\({latex}\\)", f"$${latex}$$", f"\\[\n{latex}\n\\]", f"${latex}$", latex):
        root = checked(render(text))
        assert not root.has("a") or "http" in latex
        assert not any("9999" in value for element in root.all for value in element.attributes.values())
