"""Code blocks: highlighted within a time limit, and the same each time."""

from __future__ import annotations

import pytest

from overseer.render import highlight
from overseer.render.markdown import render
from tests.support.safe_html import checked, exact_text


def count_tokens(text: str) -> int:
    """The number of highlighted tokens in the code of a rendered text."""
    return render(text).partition("<pre")[2].count("<span class=")


def test_code_block_has_a_bar_with_language_and_buttons() -> None:
    """Fenced, indented, in a list or in a quote."""
    assert render("```c\nx\n```") == (
        '<div class="code"><div class="code__bar"><span class="code__language">c</span>'
        '<button type="button" class="code__button" data-wrap="">Wrap</button>'
        '<button type="button" class="code__button" data-copy="">Copy</button></div>'
        '<pre tabindex="0"><code><span class="n">x</span>\n</code></pre></div>\n'
    )
    assert render("```\nx\n```").split() == render("    x").split()
    nested = checked(render("- a\n\n  ```c\n  x\n  ```\n\n> ```c\n> x\n> ```"))
    assert [bar.text for bar in nested.every(class_="code__bar")] == ["c Wrap Copy"] * 2


@pytest.mark.parametrize(
    ("info", "label"),
    [
        ("Python title=x", "Python"),
        ("a" * 30, "a" * 30),
        ("a" * 200, "a" * 29 + "…"),
        ("<b>&amp;</b>\"'onclick=x", "<b>&amp;</b>\"'onclick=x"),
    ],
)
def test_code_block_language_is_shown_as_written(info: str, label: str) -> None:
    """The first word after the fence, at most 30 characters of it."""
    for growing in (False, True):
        bar = checked(render(f"~~~{info}\nx\n~~~", growing=growing)).one(class_="code__bar")
        assert bar.text == label + " Wrap Copy" * (not growing)


def test_code_in_known_language_is_highlighted() -> None:
    code = "def f(x: int) -> str:\n\n    return '<b>' # é\n"
    root = checked(render(f"```python title\n{code}```"))
    assert exact_text(root).strip() == code.strip() and root.has("span", class_="k")
    line = "x = 'a'\n"
    count = 20_000 // len(line)
    assert count_tokens(f"```python\n{line * count}```\n") == count_tokens(f"```python\n{line}```\n") * count


@pytest.mark.parametrize("language", ["", "<script>", "a" * 5000, "python\u0000"])
def test_code_in_unknown_language_is_plain(language: str) -> None:
    root = checked(render(f"```{language}\n\n  <b> & 'x'\n\n```"))
    assert {span["class"] for span in root.every("span")} <= {"code__language"}
    assert exact_text(root).rstrip("\n") == "\n  <b> & 'x'"


def test_code_line_that_is_too_long_is_plain() -> None:
    line = "y" * (highlight.MAX_LINE_CHARS + 1)
    root = checked(render(f"```python\nx = 1\n{line}\nx = 1\n```"))
    assert line in exact_text(root) and len(root.every("span", class_="mi")) == 2


@pytest.mark.parametrize(
    ("language", "program", "line"),
    [
        ("c", "/* a\n{}*/\nint x;\n", ' * word "x\n'),
        ("html", "<p>\n<!-- a\n{}-->\n<b>x</b>\n", "<i>a</i> b\n"),
        ("python", 'def f():\n    """A\n{}    """\n    return 1\n', "    word # it's\n"),
        ("js", "let x = `\n{}`;\nlet y = 1;\n", "word ${y} // it's\n"),
        ("html", "<script>\n{}</script>\n<b>x</b>\n", "let x = 'a';\n"),
        ("html", "<style>\n{}</style>\n<b>x</b>\n", "a { color: red }\n"),
        ("bash", "x='\n{}'\necho $x\n", "word $y # z\n"),
        ("rust", "/* a /* b */\n{}*/\nlet x = 1;\n", "let's // c\n"),
    ],
)
def test_code_in_chunks_is_highlighted_as_a_whole(
    language: str, program: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments, strings and embedded languages continue in the next chunk."""
    for limit in ("CHUNK_SECONDS", "TEXT_SECONDS"):  # a busy machine may need more for the whole
        monkeypatch.setattr(highlight, limit, 60.0)
    code = program.replace("{}", line * (6 * highlight.CHUNK_CHARS // len(line)))
    in_chunks = highlight.code_block(code, language)
    assert len(list(highlight.split_code(code))) > 5
    monkeypatch.setattr(highlight, "CHUNK_CHARS", len(code))
    monkeypatch.setattr(highlight, "MAX_LINE_CHARS", len(code))
    assert in_chunks == highlight.code_block(code, language)


def test_code_that_takes_too_long_is_plain_each_time_from_the_same_place() -> None:
    """A page, a push and a reload show the same."""
    slow = "```csharp\n" + "a\n" * 30_000 + "```"
    first = render(slow)
    assert "<span" not in first[-1_000:] and render(slow) == first


def test_code_is_plain_when_the_time_of_the_text_is_used_up() -> None:
    session = highlight.HighlightSession()
    before = session.seconds_left
    assert 'class="mi"' in highlight.code_block("x = 1", "python", highlighting=session)
    assert session.seconds_left < before
    session.seconds_left = 0.0
    assert 'class="mi"' not in highlight.code_block("x = 1", "python", highlighting=session)


def test_timings_keep_the_first_time_of_the_latest_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highlight, "MAX_TIMINGS", 2)
    timings = highlight.Timings()
    assert (timings.first(1, 0.1), timings.first(1, 0.2), timings.get(2)) == (0.1, 0.1, None)
    timings.first(2, 1.0)
    timings.first(3, 1.0)
    assert timings.get(1) is None and timings.get(2) == 1.0
