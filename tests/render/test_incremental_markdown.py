"""A streamed text is rendered block by block, and its HTML equals that of the finished text."""

from __future__ import annotations

import os
import re
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from overseer.render import highlight, incremental_markdown, markdown
from overseer.render.highlight import BUTTONS_HTML
from overseer.render.incremental_markdown import CHUNK_CHARS, IncrementalMarkdown
from overseer.render.markdown import render
from tests.support.safe_html import checked, exact_text

SNIPPETS = [
    *("2", "2. b", "2. b\n", "1. a\n", "1) a\n", "- a\n", "* a\n", "+ a\n", "  - b\n", "    c\n", "- ", "-", "10. x\n"),
    *("a", "b c", " ", "\n", "\n\n", "\n\n\n", "\r\n", "\t", "  \n", "word\n", "word\n\n", "    code\n", "\\", "\\\n"),
    *("```", "```\n", "```python\n", "x = 1\n", "~~~\n", "````\n", "`", "> ```\n", "- ```\n"),
    *("|a|b|\n", "|-|-|\n", "|c|d|\n", "a|b\n", "-|-\n", "|", "> |a|\n", "> |-|\n"),
    *("> q\n", ">", "> ", ">\n", "> - a\n", ">> q\n", "lazy\n"),
    *("# h\n", "#", "## h ##\n", "h\n===\n", "===\n", "---\n", "--", "=", "***\n", "- - -\n"),
    *("[a]", "[a]\n", "[a]: /u\n", "[a]:\n", "/u\n", "'t\n", "t'\n", "[a]: /u 't'\n", "[b]: <x>\n", '"t"\n', "[a][b]"),
    *("*e", "**s**", "_", "~~d~~", "<div>\n", "</div>\n", "<!-- ", "-->\n", "<b>", "&amp;", "![i](http://a)"),
    *(
        r"\(x\)",
        r"\(",
        r"\)",
        "\\[\n",
        "\\]\n",
        r"\[x\]",
        "$$\n",
        "$$",
        "$x$",
        "$",
        "\\begin{align}\n",
        "\\end{align}\n",
    ),
    *(
        "<details>\n",
        "<details><summary>s</summary>\n",
        "</details>\n",
        "<summary>",
        "</summary>\n",
        "<br>",
        "<sub>x</sub>",
    ),
    *(
        "> [!NOTE]\n",
        "> [!TIP]",
        "```markdown\n",
        "```md\n",
        "[^1]",
        "[^1]: f\n",
        "[^b]:\n",
        "http://a.b/c",
        "www.a.b",
        "a@b.c",
    ),
    *("\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\x00", "\r", "é", "🦉"),
]
PLAIN_WORDS = ["word", " and more", ", so.", "don't", " – no!", "7", " ", "é"]
TEXTS = st.lists(st.sampled_from(SNIPPETS), max_size=30).map("".join)
CUTS = st.lists(st.integers(0, 200), max_size=12)
# The HTML between two chunks of a code block, a table or a list.
CHUNK_BOUNDARIES = [
    re.compile(r'</code></pre></div>\n?<div class="code code--more"><pre tabindex="0"><code>'),
    re.compile(
        r'</tbody>\n</table></div>\n<div class="table table--more" tabindex="0" dir="auto"><table>\n.*?<tbody>\n', re.S
    ),
    re.compile(r'</(ul|ol)>\n<\1(?: start="\d+")? class="list--more" dir="auto">\n'),
]


def set_chunk_chars(patch: pytest.MonkeyPatch, chars: int) -> None:
    patch.setattr(incremental_markdown, "CHUNK_CHARS", chars)
    patch.setattr(highlight, "CHUNK_CHARS", chars)


def stream(*pieces: str) -> tuple[list[str], str]:
    """Stream a text, with a snapshot after each piece. Return the finished blocks and the open one."""
    streamed = IncrementalMarkdown()
    open_block = ""
    for piece in pieces:
        streamed.add(piece)
        finished, open_block = streamed.snapshot()
        assert finished == len(streamed.blocks)
    return streamed.blocks, open_block


def split(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[begin:end] for begin, end in pairwise(ends)] or [text]


def join(blocks: list[str], open_block: str) -> str:
    """Join the chunks as growing.js does; without buttons."""
    html = "".join([*blocks, open_block]).replace(BUTTONS_HTML, "")
    for boundary in CHUNK_BOUNDARIES:
        html = boundary.sub("", html)
    return html


@given(TEXTS, CUTS, st.sampled_from([8, 13, 40, CHUNK_CHARS]))
@example("2. a\n2. b\n2", [5, 9, 10], CHUNK_CHARS)
@example("a\n\n[b]: /u\n\nc\n", [3, 11], CHUNK_CHARS)
@example("[a]\n\n[a]:\n/u\n\nb\n\nc\n", [10, 11], CHUNK_CHARS)
@example("a\n\n[a]: /u\n't\nt'\n\nb\n", [14], CHUNK_CHARS)
@example("a\x0cb\x0cc\n\n```\ncode\n```\n\nend\n\nlast\n", [8, 20, 22, 30], CHUNK_CHARS)
@example("a\u2028b\n\nc\n\nd\n", [5, 9], CHUNK_CHARS)
@example("a\rb\r\nc\n\nd\n", [2, 4], CHUNK_CHARS)
@example("|a|\n|-|\n|b|\n\n\n\nend\n", [13], 12)
@example("```\na\nb\n```\n\n\n\nend\n", [12], 12)
def test_streamed_blocks_depend_only_on_the_text(text: str, cuts: list[int], chunk_chars: int) -> None:
    """Not on the pieces in which it arrives. A finished block does not change."""
    with pytest.MonkeyPatch.context() as patch:
        set_chunk_chars(patch, chunk_chars)
        blocks, open_block = stream(text)
        assert stream(*split(text, cuts)) == stream(*text) == (blocks, open_block)
        for cut in cuts:
            before, _ = stream(text[: cut % (len(text) + 1)])
            assert blocks[: len(before)] == before


@given(TEXTS.map(lambda text: text.replace("[", "(").rstrip("\r")))  # references apply across blocks
@example("a\x0cb\x0cc\n\n```\ncode\n```\n\nend\n\nlast\n")
@example("a\rb\n\nc\n\n")
def test_streamed_blocks_together_equal_the_finished_text(text: str) -> None:
    """Except for the buttons of code that is still open. What is open at the end is shown as it may still become."""
    assert join(*stream(text)) == render(text, partial=True, unfinished=True).replace(BUTTONS_HTML, "")


PIECES = [
    *(
        r"so \(a_1\) and $b*c*d$ for $5",
        "\\[\nx\n= y\n- z\n\\]",
        "$$\nx\n\n+ y\n$$",
        "so: $$\nx\n- y\n$$ end",
        r"$$x$$.",
    ),
    *(
        "\\begin{align}\na&=b\\\\\nc&=d\n\\end{align}",
        r"refused \(\ce{H_2O}\)",
        "text\n\\[ a \\]\nmore",
        "verse\nverse",
    ),
    *("> [!NOTE]\n> Text $x$.\n>\n> - item", "> [!TIP]\n> One", "> quote\n> \\[\n> a\n> = b\n> \\]", "> quote\nlazy"),
    *(
        "a claim[^1]",
        "another[^two]\n[^two]: Note *two*.\n\n    More of it.",
        "[^1]: Note one.\n[^3]: Note three.",
        "see[^3]",
    ),
    *(
        "<details>\n<summary>S</summary>\n\n- a\n\n```py\nx\n```\n\n</details>",
        "<details><summary>S</summary>x</details>",
    ),
    *(
        "<details>\n<details>\n\nin\n</details>\n\nout\n</details>",
        "H<sub>2</sub>O <kbd>A</kbd> a<br>b",
        "text\n<details>\nx\n</details>",
    ),
    *(
        "```markdown\n# T\n```py\nx\n```\nend\n```",
        "```md\nRun:\n```\nmake\n```\nDone.\n```",
        "```markdown\na\n```",
        "```md\na\n```\nafter",
    ),
    *(
        "|a|b|\n|-|-|\n|`x || y`|$|z|$|\n|1|2|3|",
        "- a\n  1. b $c$\n  \\[\n  d\n  - e\n  \\]\n- [x] f",
        "1. مرحبا\n2. b",
    ),
    *(
        "https://a.example/x_y and www.b.example",
        "localhost:8000, a@b.example",
        "[x](src/a.py) ![p](b.png)",
        "**注意：**請先 **「重點」**的",
    ),
    *("# Head $x$", "---", "    code $x$", "```python\nx = 1\n```", "para *one* **two**", "~~~\n$x$\n~~~", "Head\n==="),
]
DOCUMENTS = 1_000 if os.environ.get("SEARCH") else 60


@pytest.mark.parametrize("chunk_chars", [30, CHUNK_CHARS])
def test_streamed_mixed_document_equals_the_finished_one(chunk_chars: int) -> None:
    """Wherever it is cut: notes, formulas, alerts and details are right as soon as they are complete."""
    random = Random(chunk_chars)
    # Of a list in chunks, the first ones do not show that a later item is apart from the others.
    known = [piece for piece in PIECES if chunk_chars == CHUNK_CHARS or not piece.startswith(("- ", "1. "))]
    with pytest.MonkeyPatch.context() as patch:
        set_chunk_chars(patch, chunk_chars)
        for _ in range(DOCUMENTS // 2):
            pieces = [*random.choices(known, k=random.randint(1, 8)), "see[^1] and[^3]\n\n[^1]: x\n\n[^3]: y\n\nend."]
            text = "".join(piece + random.choice(["\n\n", "\n\n", "\n\n\n", "\n"]) for piece in pieces)
            cuts = [random.randrange(len(text)) for _ in range(random.randint(0, 30))]
            assert join(*stream(*split(text, cuts))) == render(text).replace(BUTTONS_HTML, ""), text


LONG_BLOCKS = {
    "code": ("```python\n", "x = 'a'\n", "```\n"),
    "code in a longer fence": ("````\n", "```\n", "````\n"),
    "list": ("", "- an item\n", ""),
    "loose list": ("", "- an item\n\n  more of it\n\n", ""),
    "numbered list": ("", "{}. an item\n    - in it\n", ""),
    "table": ("|a|b|\n|:-|-|\n", "|c|d|\n", ""),
    "loose list of long items": ("", "- " + "item " * 20 + "\n\n", ""),
    "code with long lines": ("```\n", "y" * 70 + "\n", "```\n"),
}


@pytest.mark.parametrize("kind", LONG_BLOCKS)
@pytest.mark.parametrize("after", ["", "\n\n# end\n\nend"])
def test_streamed_long_block_is_finished_in_chunks(kind: str, after: str) -> None:
    """Joined, the chunks equal the whole block."""
    begin, line, end = LONG_BLOCKS[kind]
    text = begin + "".join(line.replace("{}", str(number)) for number in range(1, 26)) + end + after
    with pytest.MonkeyPatch.context() as patch:
        set_chunk_chars(patch, 60)
        blocks, open_block = stream(text)
        assert (blocks, open_block) == stream(*split(text, list(range(0, 200, 7))))
        whole = render(text).replace(BUTTONS_HTML, "")
    html = "".join([*blocks, open_block])
    checked(html)
    assert join(blocks, open_block) == whole
    assert len(blocks) >= 2 and max(map(len, blocks)) < 1_000
    if "code" in kind:
        assert html.count("code__bar") == 1 and html.count("code--more") == html.count("<pre") - 1


@pytest.mark.parametrize(
    "text",
    [
        "```a|b\nx = 1\nx = 2\n-|-\nx = 3\nx = 4\n",
        "~~~~ sh | less\nx = 1\nx = 2\n|-|-|\nx = 3\nx = 4\n",
        "- an item\n- an item\n- a|b\n-|-\n- an item\n- an item\n",
        "1. an item\n2. an item\n3. a|b\n-|-\n4. an item\n",
    ],
)
def test_streamed_chunk_with_a_bar_in_its_first_line_is_no_table(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        set_chunk_chars(patch, 12)
        blocks, open_block = stream(*text)
    root = checked("".join([*blocks, open_block]))
    assert exact_text(root).split() == exact_text(checked(render(text, growing=True))).split()
    assert not root.has("table")


@pytest.mark.parametrize("numbers", ["1. 1. 1. 1. 1. 1.", "0. 1. 2. 3. 4.", "1. 2. 3. 3. 4. 5. 6.", "7. 8. 9. 10."])
def test_streamed_list_in_chunks_has_the_numbers_of_the_whole(numbers: str) -> None:
    """Only the first number of a list counts, so it is split only where the next number follows."""
    with pytest.MonkeyPatch.context() as patch:
        set_chunk_chars(patch, 12)
        blocks, open_block = stream("".join(f"{number} an item\n" for number in numbers.split()))
    shown = []
    for element in checked("".join([*blocks, open_block])).all:
        if element.tag == "ol":
            number = int(element["start"] or "1")
        elif element.tag == "li":
            shown.append(number)
            number += 1
    first = int(numbers.partition(".")[0])
    assert shown == list(range(first, first + len(numbers.split())))
    assert len(blocks) > 1 or not numbers.startswith(("0.", "7."))


def test_streamed_block_of_each_kind_is_finished_by_the_next() -> None:
    blocks = ["# a\n\n", "b\nb\n\n", "- c\n\n  c\n- c\n\n", "1. d\n2. d\n\n", "```\n\ne\n\n```\n", "> f\n\n"]
    blocks += ["|g|\n|-|\n|g|\n\n", "---\n", "    h\n\n    h\n\n", "i\n===\n"]
    assert stream("".join(blocks), "end") == (list(map(render, blocks[:-1])), render(blocks[-1] + "end"))
    assert stream("".join(blocks), "end\n") == (list(map(render, blocks)), render("end\n"))
    assert stream("") == stream("\n\n") == ([], "")


def test_streamed_line_without_an_end_finishes_no_block() -> None:
    """A lone 2 may become the next item of the list above."""
    assert stream("1. a\n2") == ([], render("1. a\n2"))
    assert stream("1. a\n", "2", ". b\n") == ([], render("1. a\n2. b\n"))
    assert stream("1. a\n\n2", "\n") == ([render("1. a\n\n")], render("2\n"))


def test_streamed_block_that_cannot_continue_is_finished_at_once() -> None:
    """By a blank line, or by its closing fence."""
    for block, end in [(one, "\n\n") for one in ("word *b*", "# h", "---", "> q", "|a|\n|-|\n|b|")] + [
        ("```\nx\n```", "\n")
    ]:
        for pieces in ((block + end,), (block, end), tuple(block + end), (block, end + "then")):
            assert stream(*pieces) == ([render(block)], render("then") if "then" in pieces[-1] else "")
    for block in ("- a", "1. a", "    x", "- > q", "```\nx\n"):
        assert stream(block + "\n\n")[0] == []


@pytest.mark.parametrize("text", ["```python\nx\n", "- ```python\n  x\n", "> ```python\n> x\n> ```\n"])
def test_streamed_code_has_buttons_only_when_it_is_finished(text: str) -> None:
    """A push replaces the open block, and with it a button that has the focus."""
    _, open_block = stream(*text)
    assert checked(open_block).one(class_="code__bar").text == "python"
    blocks, _ = stream(text + "```\n" * text.startswith("`"), "\n\n# End\n")
    assert checked(blocks[0]).one(class_="code__bar").text == "python Wrap Copy"


@given(
    st.lists(st.sampled_from(["a", "**b** ", "\n", "\n\n", "- c\n", "```\n", "\r\n", "<i>"]), max_size=40),
    st.integers(0, 40),
)
def test_streamed_text_beyond_the_limits_depends_only_on_the_text(pieces: list[str], cut: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markdown, "MAX_MARKDOWN_CHARS", 20)
        patch.setattr(markdown, "MAX_MARKDOWN_LINES", 6)
        set_chunk_chars(patch, 8)
        text = "".join(pieces)
        blocks, open_block = stream(text)
        assert stream("".join(pieces[:cut]), "".join(pieces[cut:])) == (blocks, open_block)
        html, whole = "".join([*blocks, open_block]), render(text)
    marks = str.maketrans("", "", "*`-")
    shown, wanted = (exact_text(checked(one)).translate(marks).split() for one in (html, whole))
    assert "".join(shown) == "".join(wanted)


@given(st.lists(st.sampled_from([*SNIPPETS, *PLAIN_WORDS]), max_size=30))
@example(["- a", "-", " b"])
@example(["[a]: /u", "\n'", "t", "'"])
@example(["    co", "de ", " "])
@example(["|a|\n|-|\n", "b", " c ", "|"])
def test_plain_words_are_inserted_where_rendering_would_put_them(pieces: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incremental_markdown.InsertionPoint, "find", lambda text, render: None)
        rendered = stream(*pieces)
    assert stream(*pieces) == rendered


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the texts that are rendered."""
    counted = Counter[str]()

    def count(text: str, **options: Any) -> str:
        counted[text.removesuffix(incremental_markdown.PROBE)] += 1
        return render(text, **options)

    monkeypatch.setattr(incremental_markdown, "render", count)
    return counted


def test_streamed_text_is_rendered_once_for_all_tabs(rendered: Counter[str]) -> None:
    """A snapshot without new text renders nothing, and a finished block is not rendered again."""
    streamed = IncrementalMarkdown("a\n\nb\n\nc")
    assert streamed.snapshot() == streamed.snapshot() == streamed.snapshot()
    assert {text.strip(): count for text, count in rendered.items()} == {"a": 1, "b": 1, "c": 1}
    streamed.add("d")
    streamed.snapshot()
    assert rendered.total() == 3, "a plain word is inserted"
    streamed.add("**")
    streamed.snapshot()
    streamed.snapshot()
    assert rendered.total() == 4


@pytest.mark.parametrize("block", ["word and more words of it, " * 7 + "end.\n\n", "- an item of a list\n"])
def test_work_for_streamed_text_is_proportional_to_its_length(rendered: Counter[str], block: str) -> None:
    """A block is rendered again while it is open, but no more than `CHUNK_CHARS` of a list."""

    def count_chars(length: int) -> int:
        rendered.clear()
        text = (block * (length // len(block) + 1))[:length]
        stream(*(text[begin : begin + 50] for begin in range(0, length, 50)))
        return sum(len(text) * count for text, count in rendered.items())

    assert count_chars(20_000) < 8 * count_chars(4_000)
