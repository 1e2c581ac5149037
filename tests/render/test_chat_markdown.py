"""Markdown that chat models write and CommonMark does not know."""

from __future__ import annotations

import re

import pytest

from overseer.render.markdown import render, render_typed
from tests.support.html import Element
from tests.support.safe_html import checked, exact_text


def shown(text: str) -> str:
    """The visible text, with formulas as their LaTeX between bars, single spaces, and line breaks as slashes."""

    def words(element: Element) -> str:
        if element.tag == "math":
            return f"⟨{element.one('annotation').text}⟩"
        if element.tag == "br":
            return "/"
        if element["class"] == "code__bar":
            return ""
        return "".join(child if isinstance(child, str) else words(child) for child in element.content)

    return " ".join(words(checked(render(text))).split())


def of(text: str, tag: str) -> list[str]:
    """The texts of all elements with a tag."""
    return [element.text for element in checked(render(text)).every(tag)]


def addresses(text: str) -> list[str | None]:
    return [link["href"] for link in checked(render(text)).every("a")]


# Formulas


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"so \(a_1\) and \(b_1\)", "so ⟨a_1⟩ and ⟨b_1⟩"),
        (r"\[ a*b*c \]", "⟨a*b*c⟩"),
        ("$x*y*z$", "⟨x*y*z⟩"),
        ("$$x_1*x_2$$", "⟨x_1*x_2⟩"),
        ("a $x$, $y$-axis, ($z$), 函数$f$的, $n$th, **$b$**", "a ⟨x⟩, ⟨y⟩-axis, (⟨z⟩), 函数⟨f⟩的, ⟨n⟩th, ⟨b⟩"),
        (r"$\$5 + \text{a}$", r"⟨\$5 + \text{a}⟩"),
        (r"$a \backslash$ b", r"⟨a \backslash⟩ b"),
        ("text\n\\[\nx\n= y\n- z\n+ w\n\n> v\n\\]\nmore", "text ⟨x = y - z + w > v⟩ more"),
        ("$$\n&lt; &amp; \\&_1\n$$", "$$ &lt; &amp; \\&_1 $$"),
        ("$$x$$.", "⟨x.⟩"),
        ("- item\n\n  \\[\n  a_1\n  + b_1\n  \\]\n- next", "item ⟨a_1 + b_1⟩ next"),
        ("> \\[\n> a_1\n> = b\n> \\]", "⟨a_1 = b⟩"),
        ("in \\[ x \\\\[2pt] y \\] line", "in ⟨x \\\\[2pt] y⟩ line"),
        ("\\begin{align*}\na&=b\\\\\nc&=d\n\\end{align*}", "⟨\\begin{align*} a&=b\\\\ c&=d \\end{align*}⟩"),
        ("# The $a_1$ case\n\n[$b_1$](http://a)", "The ⟨a_1⟩ case ⟨b_1⟩"),
        (r"|a|b|" + "\n|-|-|\n" + r"|$|x|$|\(|y|\)|", "a b ⟨|x|⟩ ⟨|y|⟩"),
        ("$x\ny$", "⟨x y⟩"),
        ("so: \\[\nx\n= y\n- z\n\\] and\n- item", "so: ⟨x = y - z⟩ and item"),
        ("one\ntwo $$\n=\n+ z\n$$\n> quote", "one/ two ⟨= + z⟩ quote"),
        ("- so: $$\n  x\n  - z\n  $$\n- item", "so: ⟨x - z⟩ item"),
        ("so: $$\nx\n- z\n\nend", "so: $$/ x z end"),
    ],
)
def test_formula_is_kept_to_the_character(text: str, wanted: str) -> None:
    assert shown(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        *(
            "$5 and $10",
            "~$3",
            "costs $5",
            "US$5 or CA$ 10",
            "5$ or 10$",
            "$1,000.50 is more than $20",
            "$5/$10",
            "$ x $",
        ),
        *("**$5** to **$10** or so", "$5 a month, not 4$", "I paid $20 in cash$", "$5-$7", "a $-sign and a $-symbol"),
        *(
            "$HOME/$USER",
            "$HOME and $PATH",
            "${HOME}/${USER}",
            "$PATH:$HOME",
            "'$' and '$'",
            "($) and ($)",
            "$",
            "$$",
            "$$$",
        ),
        *("$A=$B", "$x", "a$b", "x$y$z", "$$ is the process", "R$ 10 e R$ 20", "costs $5 for `a$` b"),
    ],
)
def test_dollar_that_is_no_formula_is_text(text: str) -> None:
    root = checked(render(text))
    assert not root.has("math") and not root.has(class_="formula-source")
    assert exact_text(root).strip() == re.sub(r"[*`]", "", text)


@pytest.mark.parametrize(
    "text", [r"\$x\$", r"\\(a\\)", r"`$x$` `\(a\)`", "```\n$x$\n\\[a\\]\n```", "    $x$", r"\(\)", r"\( "]
)
def test_escaped_formula_and_formula_in_code_is_no_formula(text: str) -> None:
    assert not checked(render(text)).has("math")


def test_link_that_is_escaped_is_no_formula() -> None:
    assert shown(r"write \[text\](address)") == "write [text](address)"


def test_display_formula_has_a_line_of_its_own() -> None:
    for text in ("$$x$$", r"\[x\]", r"a \[x\] b", "a $$x$$ b", "$$\nx\n$$"):
        root = checked(render(text))
        assert root.one("math")["display"] == "block" and root.one("span", class_="formula").has("math")
    assert checked(render("$x$")).one("math")["display"] is None


@pytest.mark.parametrize("formula", [r"\(\ce{H_2O}\)", "$$\n\\nosuch{a_1}\n  b*c*d\n$$", r"$\frac{a$", r"\[a \tag\]"])
def test_formula_that_is_refused_is_shown_as_its_source(formula: str) -> None:
    assert exact_text(checked(render(formula)).one("code", class_="formula-source")) == formula


def test_formula_that_is_not_closed_is_text_or_source_while_it_may_be() -> None:
    assert render(r"so \(a_1 + b") == "<p>so (a_1 + b</p>\n"
    for begin in (r"so \(a_1 +", "$$\na_1\n- b\n\n# c", "- \\[\n  a_1"):
        root = checked(render(begin, unfinished=True))
        assert "a_1" in root.one("code", class_="formula-source").text and not root.has("h1")


# Emphasis, line breaks, HTML


@pytest.mark.parametrize(
    ("text", "strong"),
    [
        ("**注意：**請先", ["注意："]),
        ("這是**「重點」**的", ["「重點」"]),
        ("**스크립트(script)**라고", ["스크립트(script)"]),
        ("これは**（重要）**です。**「引用」**を", ["（重要）", "「引用」"]),
        ("**中文**和**“引號”**的**100%**", ["中文", "“引號”", "100%"]),
        ("*「a」*と__b__", []),
        ("a**b**c ** d** **e **f", ["b"]),
        ("snake__case__name 2 ** 3 ** 4", []),
    ],
)
def test_emphasis_beside_east_asian_punctuation(text: str, strong: list[str]) -> None:
    assert of(text, "strong") == strong


def test_strikethrough_beside_east_asian_punctuation() -> None:
    assert of("這是~~「錯」~~的", "s") == ["「錯」"]


def test_single_line_end_is_a_line_break() -> None:
    assert shown("Task: complete\nNext: review\n\n- a\n  b\n\n> c\n> d") == "Task: complete/ Next: review a/ b c/ d"


def test_allowed_html_elements_are_shown_as_such() -> None:
    assert shown("|a|\n|-|\n|soup<br>bread<BR/>x<br />y|") == "a soup/ bread/ x/ y"
    text = "H<sub>2</sub>O x<sup>*2*</sup> <kbd>Ctrl</kbd> **<kbd>a</kbd>**"
    assert of(text, "sub") == ["2"] and of(text, "sup") == ["2"] and of(text, "kbd") == ["Ctrl", "a"]


@pytest.mark.parametrize(
    "text",
    [
        *("<sub>2", "2</sub>", "<kbd class=x>a</kbd>", "<b>a</b>", "<br class=x>", "<sub><sup></sub>", "</kbd><kbd>"),
        *(
            "</details>",
            "<details>",
            "<summary>a</summary>",
            "a <details>b</details>",
            "<details onclick=x>\n\n</details>",
        ),
        *("<details>\n</details> x", "<details><details></details>"),
    ],
)
def test_html_that_is_not_allowed_or_not_balanced_is_text(text: str) -> None:
    root = checked(render(text))
    assert "".join(exact_text(root).split()) == "".join(text.split())
    assert not root.has("details") and not root.has("kbd") and not root.has("sub")


@pytest.mark.parametrize(
    ("text", "summary", "content"),
    [
        ("<details>\n<summary>S *e*</summary>\n\n- a\n\n</details>\n\nafter", "S e", "a"),
        ("<details><summary>S</summary>text</details>", "S", "text"),
        ("<details open>\n\n  <summary>\nS\n</summary>\na\n\nb\n</details>", "S", "a b"),
        ("para\n<details>\nx\n</details>", "Details", "x"),
        ("- item\n\n  <details>\n  <summary>S</summary>\n  x\n  </details>", "S", "x"),
        ("<details>\n<summary>S</summary>\n\n```html\n</details>\n```\n</details>", "S", "</details>"),
    ],
)
def test_details_contain_markdown(text: str, summary: str, content: str) -> None:
    details = checked(render(text)).one("details")
    assert details.one("summary").text == summary
    assert " ".join(" ".join(map(exact_text, details.children[1:])).split()) == content
    assert ("open" in details.attributes) == ("<details open" in text)


def test_details_nest() -> None:
    text = "<details>\n<summary>A</summary>\n\n<details>\n<summary>B</summary>\nb\n</details>\n\na\n</details>\n\nafter"
    outer, inner = checked(render(text)).every("details")
    assert inner.text == "B b" and outer.text == "A B b a"


# Links


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("see https://a.example/x.", ["https://a.example/x"]),
        ("(https://a.example/b_(c)) https://a.example/d)", ["https://a.example/b_(c)", "https://a.example/d"]),
        ("见https://a.example。然后", ["https://a.example"]),
        (
            "https://a.example/路径，https://a.example查看",
            ["https://a.example/%E8%B7%AF%E5%BE%84", "https://a.example"],
        ),
        ("https://a.example/x_y_z*w*?q=$a$&b=[^1]#c", ["https://a.example/x_y_z*w*?q=$a$&b="]),
        ("**https://a.example** _https://b.example_!", ["https://a.example", "https://b.example"]),
        ("http://[::1]:80/x HTTP://A.example:8080", ["http://[::1]:80/x", "HTTP://A.example:8080"]),
        ("localhost:8000, localhost:8000/a?b. 127.0.0.1:80", None),
        ("me@b.example, first_last+x@c.example.", ["mailto:me@b.example", "mailto:first_last+x@c.example"]),
        ("www.a.example/x, (www.b.example)", ["http://www.a.example/x", "http://www.b.example"]),
        ("[https://a.example](http://b.example) <https://c.example>", ["http://b.example", "https://c.example"]),
        ("|a|\n|-|\n|https://a.example|", ["https://a.example"]),
        ("# https://a.example\n\n- https://b.example", ["https://a.example", "https://b.example"]),
        ("`https://a.example` file.py main.rs a.b @me a@b localhost file.py:12 x:y http:// https://", []),
        ("Node.js, e.g. this.that() and asp.net ftp://a.example xhttp://a.example", []),
        (
            "«https://a.example» “https://b.example” https://c.example، ثم",
            ["https://a.example", "https://b.example", "https://c.example"],
        ),
        ("git@example.com:a/b.git a@b.example: yes", ["mailto:a@b.example"]),
        ("javascript:alert(1) data:text/html,x vbscript:x file:///etc", []),
    ],
)
def test_bare_address_is_a_link(text: str, wanted: list[str] | None) -> None:
    local = ["http://localhost:8000", "http://localhost:8000/a?b", "http://127.0.0.1:80"]
    assert addresses(text) == (local if wanted is None else wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[x](src/config.py)", "x (src/config.py)"),
        ("[the *file*](sandbox:/mnt/data/a%20b.csv)", "the file (sandbox:/mnt/data/a b.csv)"),
        ("[call](tel:+123) <tel:+123>", "call (tel:+123) tel:+123"),
        (
            "[a](/rooms) [b](#room) [c](?q) [d](//e.example) [e](../f)",
            "a (/rooms) b (#room) c (?q) d (//e.example) e (../f)",
        ),
        ("[a.md](a.md) ![plot](plot.png) ![](b.png)", "a.md plot (plot.png) b.png"),
        ("[x][y] [**z**][y]\n\n[y]: ./a.md", "x (./a.md) z (./a.md)"),
        ("[über](über/ä.md)", "über (über/ä.md)"),
    ],
)
def test_link_that_leads_nowhere_is_its_text_and_its_address(text: str, wanted: str) -> None:
    assert shown(text) == wanted and addresses(text) == []


# Footnotes and alerts


def test_footnote_has_a_mark_and_a_note() -> None:
    for text in (
        "flow[^1] on\n\n[^1]: Downhill *slowly*.",
        "flow[^1] on\n[^1]: Downhill *slowly*.",
        "[^1]: Downhill *slowly*.\n\nflow[^1] on",
    ):
        root = checked(render(text))
        note = root.one("div", class_="footnote")
        assert note.text == "1 Downhill slowly ." and note.has("em") and not root.has("a")
        assert [label.text for label in root.every("sup", class_="footnote__label")] == ["1", "1"]
        assert "[" not in root.text
    long = checked(render("a[^n]\n\n[^n]: one\n\n    two\n\n    - three\n[^m]: x\n\nfour")).every(
        "div", class_="footnote"
    )
    assert [note.text for note in long] == ["n one two three", "m x"]


def test_footnote_never_defines_a_link() -> None:
    for text in ("[^x]: /url\n\n[^x]", "[^a b]: /url\n\n[^a b]", "[^]: /url\n\n[^]"):
        assert not checked(render(text)).has("a")


def test_footnote_mark_without_a_note_is_text() -> None:
    """In a part of a text, the note may follow."""
    assert shown("match [^1] and [^abc] and [^0-9]") == "match [^1] and [^abc] and [^0-9]"
    assert [one.text for one in checked(render("[^1] [^0-9] [^,]", partial=True)).every("sup")] == ["1"]


def test_alert_has_a_title_and_a_class() -> None:
    for kind in ("NOTE", "Tip", "important", "WARNING", "CAUTION"):
        quote = checked(render(f"> [!{kind}]\n> Some *text*.\n>\n> - more")).one("blockquote")
        assert quote["class"] == f"alert alert--{kind.lower()}"
        assert quote.text == f"{kind.capitalize()} Some text . more"
    assert checked(render("> [!NOTE]\n>\n> text")).one("blockquote").text == "Note text"
    for text in ("> [!NOTE] text", "> [!NOSUCH]\n> text", "[!NOTE]\ntext", "> a\n> [!NOTE]"):
        assert not checked(render(text)).has(class_="alert") and "[!NO" in shown(text)


# Blocks


def test_list_table_and_quote_have_the_direction_of_their_text() -> None:
    root = checked(
        render("- مرحبا\n  1. b\n\n|שלום|\n|-|\n|a|\n\n> مرحبا\n\n[^1]: مرحبا\n\n<details>\nمرحبا\n</details>")
    )
    directed = [root.one("ul"), root.one("ol"), root.one("div", class_="table"), root.one("blockquote")]
    directed += [root.one("div", class_="footnote"), root.one("details")]
    assert [element["dir"] for element in directed] == ["auto"] * 6


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```markdown\n# T\n```python\nx\n```\nend\n```\n\nafter", "# T\n```python\nx\n```\nend\n"),
        ("```md\n```bash\na\n```\n\n```js\nb\n```\n```\nafter", "```bash\na\n```\n\n```js\nb\n```\n"),
        ("```markdown\nRun:\n```\nmake\n```\nDone.\n```\n\nafter", "Run:\n```\nmake\n```\nDone.\n"),
        ("```markdown\na\n```\n\n```\nb\n```\n\nafter", "a\n"),
        ("```markdown\na\n```\nafter", "a\n"),
        ("````markdown\n```\na\n```\n````\nafter", "```\na\n```\n"),
        ("- x\n  ```md\n  ```py\n  a\n  ```\n  ```\n\nafter", "```py\na\n```\n"),
        ("```python\na\n```js\nb\n```\n\nafter", "a\n```js\nb\n"),
    ],
)
def test_fence_in_a_markdown_fence_does_not_end_it(text: str, code: str) -> None:
    root = checked(render(text))
    assert exact_text(root.every("pre")[0]) == code and root.every("p")[-1].text == "after"


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ("| op | `a || b` |", ["op", "a || b"]),
        ("| `a || b` | or |", ["a || b", "or"]),
        ("|1|2|3|4|", ["1", "2|3|4"]),
        ("1 | 2 | 3", ["1", "2 | 3"]),
        (r"|a\|b|c|d|", ["a|b", "c|d"]),
        ("|`x`|y|", ["x", "y"]),
        ("|a|", ["a", ""]),
        ("||a|b|", ["", "a|b"]),
    ],
)
def test_table_row_loses_no_text(row: str, cells: list[str]) -> None:
    table = checked(render(f"|x|y|\n|-|-|\n{row}\n|last|row|"))
    assert [exact_text(cell) for cell in table.every("td")] == [*cells, "last", "row"]


def test_table_head_may_contain_a_formula_with_bars() -> None:
    assert [exact_text(cell) for cell in checked(render("|`a|b`|c|\n|-|-|\n|d|e|")).every("th")] == ["a|b", "c"]


def test_typed_text_is_not_changed() -> None:
    text = "$x$ \\(a\\) [^1] > [!NOTE]\nhttp://a.example <kbd>x</kbd>\n\n<details>\n\n[^1]: b"
    root = checked(render_typed(text))
    assert exact_text(root) == text and {element.tag for element in root.all} == {"", "p"}
