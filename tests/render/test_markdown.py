"""Markdown becomes safe HTML, in bounded time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer.render import markdown
from overseer.render.incremental_markdown import IncrementalMarkdown
from overseer.render.markdown import render, render_typed
from overseer.render.sanitizer import sanitize
from tests.support.html import Element
from tests.support.safe_html import COPY, WRAP, checked, exact_text

HUNG_SECONDS = 20.0  # of processor time, which a text takes only without limits
ANSWER_CHARS = 400_000  # of the longest answer


def tags(root: Element) -> set[str]:
    return {element.tag for element in root.all} - {""}


def links(root: Element) -> list[str | None]:
    return [element["href"] for element in root.every("a")]


def bars(html: str) -> list[str]:
    """The text of the bars above code."""
    return [bar.text for bar in checked(html).every(class_="code__bar")]


def words(html: str) -> str:
    """The visible text without white space."""
    return "".join(exact_text(checked(html)).split())


# Untrusted text. Many more payloads are rendered in tests/hostile.


@pytest.mark.parametrize(
    "payload",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        '<hx-partial hx-target="#room" hx-swap="outerHTML">x</hx-partial>',
        '<p style="position:fixed" id="header" class="message">x</p>',
        "<!-- comment --><!doctype html><?php x ?><![CDATA[x]]>",
        '<button type="button" class="code__button" data-copy="" hx-delete="/rooms/x">Copy</button>',
        '<li class="task"><span class="task__box">☑</span></li>',
    ],
)
def test_html_is_shown_as_text(payload: str) -> None:
    """Also HTML that the renderer itself produces, and wherever it stands."""
    for html in (render(payload), render_typed(payload)):
        assert tags(checked(html)) == {"p"} and exact_text(checked(html)).strip() == payload
    for text in (f"- {payload}", f"> {payload}", f"# {payload}", f"|a|\n|-|\n|{payload}|", f"**{payload}**"):
        assert "".join(payload.split()) in words(render(text))
    for html in (render(f"```html\n{payload}\n```"), render_typed(f"~~~{payload}\n~~~")):
        assert [button.attributes for button in checked(html).every("button")] == [WRAP, COPY]


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "&#106;avascript:alert(1)", "data:text/html,x", "file:///a"]
)
def test_link_with_unsafe_scheme_is_no_link(address: str) -> None:
    for text in (f"[x]({address})", f"[x](<{address}>)", f"![x]({address})", f"<{address}>", f"[x]: {address}\n\n[x]"):
        assert not links(checked(render(text)))
    assert "x" in words(render(f"![x]({address})"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("&lt;script&gt;alert(1)&lt;/script&gt;", "<script>alert(1)</script>"),
        ("&#60;img src=x onerror=alert(1)&#x3e;", "<img src=x onerror=alert(1)>"),
        ("&amp;lt;b&amp;gt; `&lt;b&gt;` \\<b\\>", "&lt;b&gt; &lt;b&gt; <b>"),
        ("&nosuch; &#0; &#x110000;", "&nosuch; \ufffd \ufffd"),
        ("a & b < c > d \" e ' f", "a & b < c > d \" e ' f"),
    ],
)
def test_entity_is_shown_as_its_character(text: str, shown: str) -> None:
    root = checked(render(text))
    assert tags(root) <= {"p", "code"}
    assert exact_text(root).strip().replace("&#x110000;", "\ufffd") == shown


def test_quotes_in_links_and_languages_add_no_attribute() -> None:
    for text in [
        "[a](<b)c>(d)[e](javascript:x)",
        "[![x](javascript:x)](javascript:y)",
        "[![x](http://a/i.png)](http://b)",
        "![[x](javascript:x)](http://a)",
        "[a\n](javascript:x\n)",
        "[a](http://b 'c' onclick=x)",
        '[a](http://b" onmouseover="alert(1))',
        "[a](http://b`onmouseover=alert(1)`)",
        '![a" onerror="alert(1)](http://b"onerror="alert(1))',
        '![a](http://b "c\\" onerror=\\"x")',
        '<http://a"onmouseover=alert(1)>',
        "[a]: http://b\n'title\" onclick=\"x'\n\n[a]",
        '``` " onclick="x\ncode\n```',
        '```html" class="message\ncode\n```',
        '|a|\n|:-:" onclick="x|\n|b|',
        '1" onclick="x. a',
        "\u202e<tpircs>\u202c <\u200bscript>",
        "\x00<script\x00>",
        '<a@b.c"onclick=x>',
        '[x](mailto:a@b?body="onclick=x)',
        "[x](http://[::1]:80/) [x](//evil.example) [y](/rooms) [z](#room) [w](?q)",
    ]:
        checked(render(text))


MIXTURE = [
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '<div hx-get="/rooms">x</div>', "<!-- x -->"),
    *"<>\"'`&[]()!|\\\n#*_~:-",
    *("\n\n", "    ", "```", "http://a", "javascript:", "](", "&lt;", "&#x27;", "<a ", "</", "data:"),
]


@given(st.lists(st.sampled_from(MIXTURE), max_size=12))
def test_combined_hostile_text_is_safe_whole_and_streamed(pieces: list[str]) -> None:
    checked(render("".join(pieces)))
    streamed = IncrementalMarkdown()
    for piece in pieces:
        streamed.add(piece)
        _, open_block = streamed.snapshot()
        checked(open_block)
    for block in streamed.blocks:
        checked(block)


def test_sanitizer_removes_all_but_the_allowed_elements_and_attributes() -> None:
    """The second layer, in case the renderer lets HTML through."""
    button = '<button type="submit" data-copy="x" data-hx-get="/" hx-get="/" id="a" name="_method">x</button>'
    assert sanitize(button) == "<button>x</button>"
    hostile = (
        '<pre tabindex="5" style="top:0" class="code">x</pre><div class="code message" tabindex="-1" id="room">x</div>'
    )
    assert sanitize(hostile) == '<pre>x</pre><div class="code">x</div>'
    assert sanitize('<li class="task row" data-copy="" tabindex="0">x</li>') == '<li class="task">x</li>'
    assert sanitize('<p tabindex="0" data-wrap="">x</p><script>x</script>') == "<p>x</p>"


# What Markdown becomes


def test_links_and_images_become_links_that_open_in_a_new_tab() -> None:
    """Showing an answer loads nothing from elsewhere."""
    text = '[a](https://a.example/?x=1&y=2 "title") <http://b.example> [c](mailto:c@d.example)'
    root = checked(render(f"{text} ![a *cat*](https://a.example/cat.png) ![](https://a.example/dog.png)"))
    images = ["https://a.example/cat.png", "https://a.example/dog.png"]
    assert links(root) == ["https://a.example/?x=1&y=2", "http://b.example", "mailto:c@d.example", *images]
    assert all(link.attributes.keys() == {"href", "target", "rel"} for link in root.every("a"))
    assert "cat" in root.text and "https://a.example/dog.png" in root.text


def test_common_markdown_becomes_its_elements() -> None:
    root = checked(render("# a\n## b\n3. c\n4. d\n- *e* **f** ~~g~~ `h`\n\n> i\n\n---\nj  \nk\n"))
    assert tags(root) == {"h1", "h2", "ol", "li", "ul", "em", "strong", "s", "code", "blockquote", "p", "hr", "br"}
    assert root.one("ol")["start"] == "3"


def test_table_has_alignment_classes_and_can_be_scrolled_by_keyboard() -> None:
    root = checked(render("|a|b|c|d|\n|:-|:-:|-:|-|\n|1|2|3|4|\n"))
    assert [cell["class"] for cell in [*root.every("th"), *root.every("td")]] == ["left", "center", "right", None] * 2
    assert root.one("div").attributes == {"class": "table", "tabindex": "0", "dir": "auto"}


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("- [ ] a\n- [x] b\n- [X] c", "☐☑☑"),
        ("1. [ ] a\n\n   [ ] a\n\n2. [x] b", "☐☑"),
        ("- a\n  - [x] *b*\n- [ ] `c`", "☑☐"),
        ("> - [x]\ta\n\n[x]: http://a", "☑"),
    ],
)
def test_list_item_that_starts_with_a_box_is_a_task(text: str, boxes: str) -> None:
    root = checked(render(text))
    assert len(root.every("li", class_="task")) == len(boxes)
    assert "".join(box.text for box in root.every("span", class_="task__box")) == boxes
    assert "x]" not in root.text
    task = '<li class="task"><span class="task__box">☑</span> <em>a</em></li>'
    assert render("- [x] *a*") == f'<ul dir="auto">\n{task}\n</ul>\n'


def test_box_elsewhere_is_text() -> None:
    for text in ("[ ] a", "- a [x] b", "- [x]", "- [y] a", "- [x]a", "- # [x] a", "- a\n\n  [x] b", "- > [x] a"):
        root = checked(render(text))
        assert "[" in root.text and not root.has("span") and not root.has("li", class_="task")


# What a person typed


@pytest.mark.parametrize(
    "text",
    [
        "# a\n\n*b*  **c**\n   d\n\n\n- [x] e\n> f\n    g",
        "[a](http://b) ![c](d) <http://e> &amp; \\* <b>\n---\n|a|\n|-|",
        "\n\n  a\n \n",
        "a ` b\n\nc ` d `` e\n\n`a\n \nb`\n\n``\n\nx ```y",
        "\u2028 a\x0cb \x85",
    ],
)
def test_typed_text_is_shown_unchanged(text: str) -> None:
    root = checked(render_typed(text))
    assert exact_text(root) == text and tags(root) == {"p"}


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a `*b*`  ``c`d``", "<p>a <code>*b*</code>  <code>c`d</code></p>"),
        ("`a\n  b` c", "<p><code>a\n  b</code> c</p>"),
        ("`a`\n\n`<b>&amp;` `", "<p><code>a</code>\n\n<code>&lt;b&gt;&amp;amp;</code> `</p>"),
        ("\0`\0`\r`\r\n`", "<p>\ufffd<code>\ufffd</code>\n<code>\n</code></p>"),
    ],
)
def test_typed_inline_code_is_code(text: str, html: str) -> None:
    assert render_typed(text) == html


@pytest.mark.parametrize(("before", "after"), [("", ""), ("a\n", "\nb"), ("a\n \n\n", "\n\t\n\n  b\n"), ("\n", "\n\n")])
def test_typed_code_block_is_rendered_as_in_an_answer(before: str, after: str) -> None:
    """Blank lines beside the block are dropped."""
    block = "```python title\nx = `1`\n\n```"
    paragraphs = [f"<p>{one}</p>" if one else "" for one in (before.rstrip(), after.strip("\n\t").rstrip("\n"))]
    assert render_typed(before + block + after) == paragraphs[0] + render(block).rstrip("\n") + paragraphs[1]


def test_typed_code_block_without_an_end_continues_to_the_end() -> None:
    html = render_typed("a\n  ~~~py\n  b\n    `c`\n\n# d")
    assert bars(html) == ["py Wrap Copy"] and exact_text(checked(html)).startswith("ab\n  `c`\n\n# d")
    assert exact_text(checked(render_typed("a\r```\r\nb\r```\r\nc\r"))) == "ab\nc"
    assert words(render_typed("```\na\n```\n~~~\nb")) == "ab"


@given(st.lists(st.sampled_from([*MIXTURE, "``", "~~~", "a b", "\0", "\r"]), max_size=12).map("".join))
def test_typed_text_becomes_only_text_and_code(text: str) -> None:
    root = checked(render_typed(text))
    assert tags(root) <= {"div", "button", "pre", "code", "p", "span"}
    if not root.has("pre"):
        wanted = markdown.normalize_newlines(text).replace("\0", "\ufffd")
        assert re.sub("[` ]", "", exact_text(root)) == re.sub("[` ]", "", wanted)


# Limits


EXPENSIVE = {
    "brackets": "[" * 50_000,
    "links without an end": "[a](" * 25_000,
    "brackets in many paragraphs": ("[" * 100 + "\n\n") * (ANSWER_CHARS // 102),
    "as many brackets as allowed": "[" * 100 + "](x)" * 100 + "y" * 19_000,
    "lists in one line": "- " * 50_000,
    "items in items": "- - - - - - - - a\n" * (ANSWER_CHARS // 18),
    "lists ever deeper": "".join("  " * depth + "- a\n" for depth in range(500)),
    "quotes": "> " * 50_000,
    "quotes ever deeper": "".join("> " * depth + "a\n" for depth in range(300)),
    "hashes": "#" * 200_000,
    "spaces": " " * 200_000,
    "line ends": "\r" * 200_000,
    "emphasis in many paragraphs": ("*a_" * 6600 + "\n\n") * (ANSWER_CHARS // 19_802),
    "runs of backticks": "".join("`" * count + " " for count in range(1, 199)),
    "backticks in many paragraphs": "`a` ``\n\n" * 6_000,
    "tags": "<a " * 6_600,
    "entities": "&amp;" * 4_000,
    "one wide table": "|a" * 200 + "|\n" + "|-" * 200 + "|\n" + "|b\n" * (ANSWER_CHARS // 3),
    "references": "".join(f"[r{number}]: /u{number}\n" for number in range(5_000)),
    "a definition without an end": "[a]: /u '" + "x\n" * (ANSWER_CHARS // 2),
    "rules": "---\n" * (ANSWER_CHARS // 4),
    "fences": "```\n" * 10_000,
    "dollars": "$" * 1_000_000,
    "formulas": "$a$ " * 20_000,
    "formulas in many paragraphs": ("$a$ " * 4_900 + "\n\n") * (ANSWER_CHARS // 19_602),
    "formulas that are not closed": "\\(a " * 20_000,
    "formulas in lines that are not closed": "\\[\n" * 26_000,
    "formulas that are closed too late": ("\\[\n" * 600 + "\\]x\n\n") * 40,
    "braces in a formula": "$$" + "{" * 10_000 + "}" * 10_000 + "$$",
    "roots in roots": ("$" + r"\sqrt" * 390 + "$ ") * 40,
    "large matrices": (r"$$\begin{matrix}" + "&" * 1_900 + r"\end{matrix}$$" + "\n\n") * 40,
    "backslashes": "\\" * 80_000,
    "notes": "".join(f"[^{number}]: x\n" for number in range(50_000)),
    "notes in notes": "[^a]: " * 13_000,
    "marks of notes": ("[^1]" * 90 + "\n\n") * 220 + "[^1]: x",
    "details in details": "<details>\n" * 1_000 + "x\n" + "</details>\n" * 1_000,
    "details that are not closed": "<details>\n\n" * 6_600,
    "details in one line": "<details><summary>" * 4_400,
    "tags without an end": "<sub>" * 16_000,
    "line breaks": "<br>" * 20_000,
    "alerts": "> [!NOTE]\n\n" * 6_600,
    "a long address": "http://" + "a." * 40_000,
    "addresses": "http://a.b www.c.d e@f.gh localhost:1 " * 2_000,
    "colons": ":" * 80_000,
    "addresses in brackets": "http://a/((((((() " * 4_400,
    "an address of brackets": "http://a/" + "(" * 19_000 + ")" * 900,
    "a long e-mail address": "a" * 40_000 + "@" + "b." * 20_000,
    "Markdown in Markdown": "```markdown\n```python\n" * 3_600,
    "bare fences in Markdown": "```md\n```\nx\n" * 6_000,
    "rows with too many cells": "|a|\n|-|\n" + "|||||||||\n" * 8_000,
    "bars in code": "|a|b|\n|-|-|\n|" + "`|" * 39_000,
    "runs of backticks in a row": "|a|b|\n|-|-|\n|" + "".join("`" * count + "|" for count in range(1, 390)),
    "one long line": "x" * 1_000_000,
    "East Asian emphasis": "**「a」**的" * 8_000,
    "links to nowhere": ("[x](y) " * 90 + "\n\n") * 125,
    "code that is hard to highlight": "```csharp\n" + "a\n" * 6_000,
    "many blocks of code": "```python\nx = 1\n```\n" * (ANSWER_CHARS // 20),
}


@pytest.mark.parametrize("name", EXPENSIVE)
def test_expensive_text_is_rendered_in_bounded_time(name: str) -> None:
    text = EXPENSIVE[name]
    began = time.process_time()
    html = render(text), render_typed(text)
    streamed = IncrementalMarkdown(text[: len(text) // 2])
    streamed.snapshot()
    streamed.add(text[len(text) // 2 :])
    _, open_block = streamed.snapshot()
    assert time.process_time() - began < HUNG_SECONDS
    if len(text) < 50_000:
        for one in (*html, *streamed.blocks[-3:], open_block):
            checked(one)


def test_text_beyond_the_limits_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts at a line end, and nothing is lost."""
    monkeypatch.setattr(markdown, "MAX_MARKDOWN_CHARS", 1_000)
    monkeypatch.setattr(markdown, "MAX_MARKDOWN_LINES", 50)
    for line, count in (("**b** " + "x" * 92 + "\n\n", 10), ("**b**\n\n", 25)):
        assert "**" not in words(render(line * count))
        root = checked(render(line * (count + 1)))
        assert exact_text(root).count("**b**") == 1 and len(root.every("strong")) == count
    assert words(render("**b** x\n\n" + "x" * 1_000)) == "b" + "x" * 1_001
    typed = "`b` <i>\n\n" + "x" * 1_000 + "\n`c` <i>"
    assert words(render_typed(typed)) == typed.replace("`b`", "b").replace("\n", "").replace(" ", "")


def test_paragraph_beyond_the_limits_is_plain() -> None:
    text = "**a** " * (markdown.MAX_PARAGRAPH_CHARS // 6 + 1)
    root = checked(render(text))
    assert tags(root) == {"p"} and exact_text(root).strip() == text.strip()
    typed = "a " * (markdown.MAX_PARAGRAPH_CHARS // 2)
    assert render_typed(f"{typed}`a`\n\n`b`") == f"<p>{typed}`a`\n\n<code>b</code></p>"


def test_number_of_cells_links_and_nested_lists_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """What exceeds the limits is a paragraph of text."""
    for name, limit in {"MAX_TABLE_CELLS": 300, "MAX_BRACKET_PAIRS": 2_000, "MAX_NESTED_LISTS": 20}.items():
        monkeypatch.setattr(markdown, name, limit)
    head, rows = "|a|b|\n|-|-|\n", 300 // 3 - 2
    assert checked(render(head + "|c|d|\n" * rows)).has("table")
    assert not checked(render(head + "|c|d|\n" * (rows + 1))).has("table")
    assert len(checked(render((head + "\n") * 10)).every("table")) == 10
    assert len(links(checked(render(("[a](http://b)" * 20 + "\n\n") * 8)))) == 2_000 // 20**2 * 20
    assert len(checked(render("- - a\n" * 30)).every("ul")) == 20 + 1
