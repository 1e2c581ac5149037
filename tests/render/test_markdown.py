"""Markdown: hostile text stays text, and a growing text is rendered block by block."""

from __future__ import annotations

import re
import time
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pygments.token import STANDARD_TYPES

from overseer.render import highlight, markdown
from overseer.render import incremental_markdown as grows
from overseer.render.incremental_markdown import IncrementalMarkdown
from overseer.render.markdown import render, render_typed
from overseer.render.sanitizer import sanitize

TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "span", "blockquote"),
    *("ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td", "div", "button"),
}
CLASSES = {
    "span": set(STANDARD_TYPES.values()) - {""} | {"code__language", "task__box"},
    "div": {"table", "table--more", "code", "code--more", "code__bar"},
    "button": {"code__button"},
    "li": {"task"},
    "ul": {"list--more"},
    "ol": {"list--more"},
    "th": {"left", "center", "right"},
    "td": {"left", "center", "right"},
}
VOID = {"br", "hr"}
SCHEME = re.compile(r"[\x00- ]*([a-z][a-z0-9+.-]*):", re.I)  # as browsers see it
LINK = {"target": "_blank", "rel": "noopener noreferrer nofollow"}
WRAP = ("button", {"type": "button", "class": "code__button", "data-wrap": ""})
COPY = ("button", {"type": "button", "class": "code__button", "data-copy": ""})
CODE = {"div", "button", "pre", "code"}  # the elements of a block of code in no known language
A_WHILE = 20.0  # seconds; what is quadratic takes minutes


class Page(HTMLParser):
    """The elements of some HTML, the text a reader sees, and what the bars above its code say."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.bars: list[str] = []
        self.open: list[str] = []
        self._bar = 0
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), "an attribute came twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if ("class", "code__bar") in attrs:
            self.bars.append("")
            self._bar = len(self.open)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if len(self.open) < self._bar:
            self._bar = 0

    def handle_data(self, data: str) -> None:
        if self._bar:
            self.bars[-1] += data
        else:
            self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def but_buttons(self) -> list[tuple[str, dict[str, str | None]]]:
        return [element for element in self.elements if element[0] != "button"]

    def links(self) -> list[str | None]:
        return [attributes.get("href") for tag, attributes in self.elements if tag == "a"]


def checked(html: str) -> Page:
    """The parsed HTML, in which nothing but the allowed tags and attributes occurs."""
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag in TAGS, tag
        assert tag != "button" or (tag, attributes) in (WRAP, COPY), attributes
        for name, value in attributes.items():
            value = value or ""
            if name == "class":
                assert set(value.split()) <= CLASSES[tag], (tag, value)
            elif tag == "button" or (tag in ("pre", "div") and (name, value) == ("tabindex", "0")):
                continue
            elif (tag, name) == ("ol", "start"):
                assert value.isdigit()
            elif (tag, name) == ("a", "href"):
                scheme = SCHEME.match(re.sub(r"[\t\r\n]", "", value))
                assert scheme is None or scheme[1].lower() in ("http", "https", "mailto"), value
            else:
                assert tag == "a" and LINK.get(name) == value, (tag, name, value)
        assert tag != "a" or LINK.items() <= attributes.items()
    return page


HTML = [
    "<script>alert(1)</script>",
    '<script src="//evil.example/x.js"></script>',
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><animate onbegin=alert(1)></svg>",
    '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    '<a href="javascript:alert(1)">x</a>',
    '<form action="/rooms" method="post"><button autofocus>x</button></form>',
    '<input autofocus onfocus=alert(1) name="_method" value="DELETE">',
    '<hx-partial hx-target="#room" hx-swap="outerHTML">x</hx-partial>',
    '<template hx type="partial" hx-target="#room">x</template>',
    '<div hx-swap-oob="true" id="room">x</div>',
    '<div hx-get="/rooms" hx-trigger="load">x</div>',
    '<div hx-on:click="alert(1)" data-hx-on="x">x</div>',
    '<div hx-ws:connect="/live">x</div>',
    "<title>gone</title>",
    "<head><title>x</title></head>",
    "<body onload=alert(1) data-live=open>",
    "<style>body { display: none }</style>",
    '<p style="position:fixed" id="header" class="message">x</p>',
    "<link rel=stylesheet href=//evil.example>",
    '<meta http-equiv="refresh" content="0;url=//evil.example">',
    "<base href=//evil.example>",
    "<object data=x></object><embed src=x>",
    "<video><source onerror=alert(1)></video>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<details open ontoggle=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<!-- comment --><!doctype html><?php x ?><![CDATA[x]]>",
    "<plaintext><xmp><textarea></textarea>",
    "<SCRIPT>alert(1)</SCRIPT >",
    "<script\t>alert(1)</script\t>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "</div></article></main><h1>outside</h1>",
    "<a name=room id=room>",
    "<slot name=x></slot><portal src=x></portal><dialog open>",
]


@pytest.mark.parametrize("payload", HTML)
def test_html_is_text(payload: str) -> None:
    """A reader sees what was written, tags and all; as a paragraph, in a list, a quote, a table and a heading."""
    page = checked(render(payload))
    assert page.tags() <= {"p", "br"}
    assert "".join(page.text.split()) == "".join(payload.split())
    line = " ".join(payload.split()).replace("|", "")
    for framed in (f"- {line}", f"> {line}", f"# {line}", f"|a|\n|-|\n|{line}|", f"**{line}**", f"1. > - {line}"):
        assert "".join(line.split()) in "".join(checked(render(framed)).text.split())


FRAMES = [
    "```html\n{}\n```",
    "```{}\n{}\n```",
    "`{}`",
    "    {}",
    "[{}](http://a)",
    "![{}](http://a/{})",
    '[x](http://a "{}")',
    "[x](<{}>)",
    "[x]({})",
    "<{}>",
    "<http://a/{}>",
    "[x]: http://a '{}'\n\n[x]",
    "[{}]: http://a\n\n[{}]",
    "|{}|\n|:-:|\n|{}|",
    "|a|\n|:{}-|\n|b|",
    "\\{}",
    "~~{}~~",
    "{}:::{}",
]


@pytest.mark.parametrize("payload", HTML)
def test_html_is_harmless_everywhere(payload: str) -> None:
    """In code, in languages, in links, their titles and their names, nothing gets through."""
    for frame in FRAMES:
        checked(render(frame.replace("{}", payload)))
        checked(render(frame.replace("{}", " ".join(payload.split()))))


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java&#10;script:alert(1)",
        "java%0Ascript:alert(1)",
        "&#106;avascript:alert(1)",
        "&#x6A;avascript&colon;alert(1)",
        "javascript&colon;alert(1)",
        "\\javascript:alert(1)",
        "\u0001javascript:alert(1)",
        "&#1;javascript:alert(1)",
        "javascript://a%0aalert(1)",
        "vbscript:msgbox(1)",
        "data:text/html,<script>alert(1)</script>",
        "data:text/html;base64,PHNjcmlwdD4=",
        "data:image/png;base64,AAAA",
        "data:image/svg+xml,<svg/onload=alert(1)>",
        "file:///etc/passwd",
        "blob:http://a/b",
        "filesystem:http://a/b",
        "view-source:http://a",
        "jar:http://a",
        "ws://a",
        "ftp://a",
        "tel:1",
        "x-apple:1",
    ],
)
def test_an_address_is_of_a_harmless_kind(address: str) -> None:
    """Links to anything but http, https and mail are none; images likewise; as entities and escapes too."""
    for text in (f"[x]({address})", f"[x](<{address}>)", f"![x]({address})", f"<{address}>", f"[x]: {address}\n\n[x]"):
        checked(render(text))
    assert "x" in checked(render(f"![x]({address})")).text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("&lt;script&gt;alert(1)&lt;/script&gt;", "<script>alert(1)</script>"),
        ("&#60;img src=x onerror=alert(1)&#62;", "<img src=x onerror=alert(1)>"),
        ("&#x3c;b&#x3e;", "<b>"),
        ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
        ("`&lt;b&gt;`", "&lt;b&gt;"),
        ("\\<b\\>", "<b>"),
        ("&nosuch; &#0; &#x110000;", "&nosuch; \ufffd \ufffd"),
        ("a & b < c > d \" e ' f", "a & b < c > d \" e ' f"),
    ],
)
def test_entities_are_characters_and_never_tags(text: str, shown: str) -> None:
    """What is written as an entity is shown as the character."""
    page = checked(render(text))
    assert page.tags() <= {"p", "code"}
    assert page.text.strip().replace("&#x110000;", "\ufffd") == shown


@pytest.mark.parametrize(
    "text",
    [
        "[a](<b)c>(d)[e](javascript:x)",
        "[a]([b](javascript:x))",
        "[![x](javascript:x)](javascript:y)",
        "[![x](http://a/i.png)](http://b)",
        "![[x](javascript:x)](http://a)",
        "[a\n](javascript:x\n)",
        "[a](http://b 'c' onclick=x)",
        '[a](http://b" onmouseover="alert(1))',
        "[a](http://b'onmouseover='alert(1))",
        "[a](http://b`onmouseover=alert(1)`)",
        '![a" onerror="alert(1)](http://b"onerror="alert(1))',
        '![a](http://b "c\\" onerror=\\"x")',
        '<http://a"onmouseover=alert(1)>',
        "<http://a'onmouseover=alert(1)>",
        "[a][b]\n\n[b]: <javascript:x>",
        "[a]: http://b\n'title\" onclick=\"x'\n\n[a]",
        '``` " onclick="x\ncode\n```',
        '```html" class="message\ncode\n```',
        '|a|\n|:-:" onclick="x|\n|b|',
        '1" onclick="x. a',
        "\u202e<tpircs>\u202c <\u200bscript>",
        "\x00<script\x00>",
        '<a@b.c"onclick=x>',
        '[x](mailto:a@b?body="onclick=x)',
        "[x](http://[::1]:80/)",
        "[x](//evil.example) [y](/rooms) [z](#room) [w](?q)",
    ],
)
def test_link_tricks_give_no_attribute(text: str) -> None:
    """Quotes, brackets and line ends in addresses, titles, languages and cells stay where they belong."""
    checked(render(text))


MIXTURE = [
    *HTML,
    *"<>\"'`&[]()!|\\\n#*_~:-",
    *("\n\n", "    ", "```", "http://a", "javascript:", "](", "&lt;", "&#x27;", "<a ", "</", "data:"),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(MIXTURE), max_size=12))
def test_no_mixture_gets_through(pieces: list[str]) -> None:
    """Whatever is put together of hostile pieces, and whichever way it grew."""
    text = "".join(pieces)
    checked(render(text))
    growing = IncrementalMarkdown()
    for part in pieces:
        growing.add(part)
        growing.snapshot()
    _, open_block = growing.snapshot()
    for block in (*growing.blocks, open_block):
        checked(block)


# What Markdown becomes


def test_links_open_elsewhere_and_tell_nothing() -> None:
    """A link leaves the room open, and the other side learns neither the room nor the window."""
    page = checked(render('[a](https://a.example/?x=1&y=2 "title") <http://b.example> [c](mailto:c@d.example)'))
    assert page.links() == ["https://a.example/?x=1&y=2", "http://b.example", "mailto:c@d.example"]
    assert all(attributes.keys() == {"href", "target", "rel"} for tag, attributes in page.elements if tag == "a")


def test_images_are_links() -> None:
    """Nothing is fetched from elsewhere by showing an answer; a person may follow."""
    page = checked(render("![a *cat*](https://a.example/cat.png) ![](https://a.example/dog.png)"))
    assert page.tags() == {"p", "a"}
    assert page.links() == ["https://a.example/cat.png", "https://a.example/dog.png"]
    assert "cat" in page.text and "https://a.example/dog.png" in page.text


def test_code_is_coloured() -> None:
    """A fence with a known language holds spans with the highlighter's classes, and every character of the code."""
    words = "def f(x: int) -> str:\n\n    return '<b>' # é\n"
    page = checked(render(f"```python title\n{words}```"))
    assert page.text.rstrip("\n") == words.rstrip("\n")
    assert "k" in {attributes.get("class") for tag, attributes in page.elements if tag == "span"}


@pytest.mark.parametrize("language", ["", "nosuchlanguage", "<script>", "a" * 5000, "../x", "python\u0000", "é"])
def test_code_in_an_unknown_language_is_plain(language: str) -> None:
    """It is shown as it is."""
    page = checked(render(f"```{language}\n\n  <b> & 'x'\n\n```"))
    assert page.tags() - {"span"} == CODE
    assert {attributes["class"] for tag, attributes in page.elements if tag == "span"} <= {"code__language"}
    assert page.text.rstrip("\n") == "\n  <b> & 'x'"


def coloured(text: str) -> int:
    """How many words of code in a rendered text have a colour."""
    return render(text).partition("<pre")[2].count("<span class=")


def test_long_code_is_coloured_to_its_end() -> None:
    """Not its length bounds that, but the time: 30,000 ordinary characters have it."""
    line = "x = 'a'\n"
    count = 30_000 // len(line)
    assert coloured("```python\n" + line * count + "```\n") == coloured("```python\n" + line + "```\n") * count


def test_a_monstrous_line_of_code_is_plain() -> None:
    """Colouring is bounded; the code is all there, and the lines beside it have their colours."""
    monstrous = "y" * (highlight.MAX_LINE_CHARS + 1)
    shown = checked(render(f"```python\nx = 1\n{monstrous}\nx = 1\n```"))
    assert monstrous in shown.text and shown.elements.count(("span", {"class": "mi"})) == 2


PROGRAMS = {
    "a comment in C": ("c", "/* a\n{}*/\nint x;\n", ' * word "x\n'),
    "a comment in JavaScript": ("js", "let x;\n/* a\n{}*/\nlet y = 1;\n", " * it's\n"),
    "a comment in HTML": ("html", "<p>\n<!-- a\n{}-->\n<b>x</b>\n", "<i>a</i> b\n"),
    "a docstring": ("python", 'def f():\n    """A\n{}    """\n    return 1\n', "    word # it's\n"),
    "a string in Python": ("python", "x = '''\n{}'''\ny = 1\n", "def # word\n"),
    "a template in JavaScript": ("js", "let x = `\n{}`;\nlet y = 1;\n", "word ${y} // it's\n"),
    "a script in HTML": ("html", "<script>\n{}</script>\n<b>x</b>\n", "let x = 'a';\n"),
    "a style in HTML": ("html", "<style>\n{}</style>\n<b>x</b>\n", "a { color: red }\n"),
    "a string in a shell": ("bash", "x='\n{}'\necho $x\n", "word $y # z\n"),
    "a comment in Rust": ("rust", "/* a /* b */\n{}*/\nlet x = 1;\n", "let's // c\n"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_code_in_pieces_has_the_colours_of_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment or string of many lines goes on from piece to piece, and ends where it ends."""
    language, program, line = PROGRAMS[name]
    text = program.replace("{}", line * (6 * highlight.CHUNK_CHARS // len(line)))
    in_pieces = highlight.code_block(text, language)
    monkeypatch.setattr(highlight, "CHUNK_CHARS", len(text))
    monkeypatch.setattr(highlight, "MAX_LINE_CHARS", len(text))
    assert len(list(highlight.split_code(text))) == 1
    assert in_pieces == highlight.code_block(text, language)


def test_code_that_takes_long_has_the_same_colours_again() -> None:
    """What a piece took at first counts: a page, a push and a reload show the same."""
    hard = "```csharp\n" + "a\n" * 30_000 + "```"
    assert "<span" not in render(hard)[-1_000:] and render(hard) == render(hard)


def test_time_of_code_measured_again_is_that_of_the_first_time() -> None:
    """The first measure stays, and the oldest of too many go."""
    taken = highlight.Timings()
    assert (taken.first(1, 0.1), taken.first(1, 0.2), taken.get(2)) == (0.1, 0.1, None)
    for key in range(2, highlight.MAX_TIMINGS + 2):
        taken.first(key, 1.0)
    assert taken.get(1) is None and taken.get(2) == 1.0


def test_tables_have_alignments_as_classes() -> None:
    """No inline style is needed, which the page would not allow."""
    page = checked(render("|a|b|c|d|\n|:-|:-:|-:|-|\n|1|2|3|4|\n"))
    cells = [(tag, attributes.get("class")) for tag, attributes in page.elements if tag in ("th", "td")]
    wanted = ["left", "center", "right", None]
    assert cells == [("th", name) for name in wanted] + [("td", name) for name in wanted]
    assert ("div", {"class": "table", "tabindex": "0"}) in page.elements, "it can be scrolled by the keyboard"


def test_code_has_a_bar_and_can_be_scrolled() -> None:
    """Its language and two buttons, known to others by their attributes; the keyboard can scroll it."""
    assert render("```c\nx\n```") == (
        '<div class="code"><div class="code__bar"><span class="code__language">c</span>'
        '<button type="button" class="code__button" data-wrap="">Wrap</button>'
        '<button type="button" class="code__button" data-copy="">Copy</button></div>'
        '<pre tabindex="0"><code><span class="n">x</span>\n</code></pre></div>\n'
    )
    plain = checked(render("    x"))
    assert plain.bars == ["WrapCopy"] and "span" not in plain.tags() and WRAP in plain.elements
    assert checked(render("```\nx\n```")).elements == plain.elements
    nested = checked(render("- a\n\n  ```c\n  x\n  ```\n\n> ```c\n> x\n> ```"))
    assert nested.bars == ["cWrapCopy"] * 2


@pytest.mark.parametrize(
    ("info", "label"),
    [
        ("Python title=x", "Python"),
        ("  C++ ", "C++"),
        ("a" * 30, "a" * 30),
        ("a" * 200, "a" * 29 + "…"),
        ("<" * 200, "<" * 29 + "…"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("\"'onclick=x", "\"'onclick=x"),
        ("\u202egnp.exe", "\u202egnp.exe"),
    ],
)
def test_the_language_is_shown_as_it_was_written(info: str, label: str) -> None:
    """The first word of what stands behind the fence, at most 30 characters of it, and as words."""
    assert checked(render(f"~~~{info}\nx\n~~~")).bars == [label + "WrapCopy"]
    assert checked(render(f"~~~{info}\nx", growing=True)).bars == [label]


@pytest.mark.parametrize(
    "text",
    [
        '<button type="button" class="code__button" data-copy="" hx-delete="/rooms/x">Copy</button>',
        '<div class="code" data-wrapped><pre tabindex="0" id="x" style="top:0">x</pre></div>',
        '<li class="task"><span class="task__box">☑</span></li>',
    ],
)
def test_our_own_elements_are_text_too(text: str) -> None:
    """Who writes what the page is made of has written words."""
    for words in (render(text), render_typed(text)):
        assert checked(words).tags() == {"p"} and checked(words).text.strip() == text
    for fenced in (f"```html\n{text}\n```", f"~~~{text}\n~~~"):
        for page in (checked(render(fenced)), checked(render_typed(fenced))):
            assert [element for element in page.elements if element[0] == "button"] == [WRAP, COPY]


def test_what_is_left_of_html_is_named() -> None:
    """If markup came through the renderer all the same, no id, no style, no hx- and no other value would."""
    assert sanitize(
        '<button type="submit" data-copy="x" data-hx-get="/" hx-get="/" id="a" name="_method">x</button>'
    ) == ("<button>x</button>")
    hostile = (
        '<pre tabindex="5" style="top:0" class="code">x</pre><div class="code message" tabindex="-1" id="room">x</div>'
    )
    assert sanitize(hostile) == '<pre>x</pre><div class="code">x</div>'
    assert sanitize('<li class="task row" data-copy="" tabindex="0">x</li>') == '<li class="task">x</li>'
    assert sanitize('<p tabindex="0" data-wrap="">x</p>') == "<p>x</p>"


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("- [ ] a\n- [x] b\n- [X] c", "☐☑☑"),
        ("1. [ ] a\n2. [x] b", "☐☑"),
        ("- [ ] a\n\n  [ ] a\n\n- [x] b", "☐☑"),
        ("- a\n  - [x] *b*\n- [ ] `c`", "☑☐"),
        ("> - [x]\ta", "☑"),
        ("- [x] a\n\n[x]: http://a", "☑"),
    ],
)
def test_a_task_has_its_box(text: str, boxes: str) -> None:
    """An item that begins with a box is marked, and shows a character that any reader can see."""
    page = checked(render(text))
    assert [attributes for tag, attributes in page.elements if tag == "li" and attributes] == [{"class": "task"}] * len(
        boxes
    )
    assert page.elements.count(("span", {"class": "task__box"})) == len(boxes)
    assert "".join(box for box in page.text if box in "☐☑") == boxes and "x]" not in page.text


def test_a_task_is_written_like_this() -> None:
    """The box comes first, in the item or in its paragraph."""
    task = '<li class="task"><span class="task__box">☑</span> <em>a</em></li>'
    assert render("- [x] *a*") == f"<ul>\n{task}\n</ul>\n"
    assert '<li class="task">\n<p><span class="task__box">☐</span> a</p>' in render("- [ ] a\n\n- b")


@pytest.mark.parametrize(
    "text", ["[ ] a", "- a [x] b", "- [x]", "- [ ]", "- [y] a", "- [x]a", "- # [x] a", "- a\n\n  [x] b", "- > [x] a"]
)
def test_other_brackets_are_no_task(text: str) -> None:
    """A box stands at the beginning of an item's first paragraph, with words behind it."""
    page = checked(render(text))
    assert "span" not in page.tags() and "[" in page.text and ("li", {"class": "task"}) not in page.elements


def test_everything_else_is_ordinary_markdown() -> None:
    """Headings, lists with their start, emphasis, quotes, rules, breaks and strikethrough."""
    page = checked(render("# a\n## b\n3. c\n4. d\n- *e* **f** ~~g~~ `h`\n\n> i\n\n---\nj  \nk\n"))
    wanted = {"h1", "h2", "ol", "li", "ul", "em", "strong", "code", "blockquote", "p", "hr", "br"}
    assert page.tags() - {"s", "del"} == wanted
    assert ("ol", {"start": "3"}) in page.elements
    assert page.tags() & {"s", "del"}


def test_a_monstrous_paragraph_is_plain_text() -> None:
    """It is all there, but its marks are not looked at."""
    text = "**a** " * (markdown.MAX_PARAGRAPH_CHARS // 6 + 1)
    page = checked(render(text))
    assert page.tags() == {"p"} and page.text.strip() == text.strip()
    assert "strong" in checked(render("**a** " * 100)).tags()


# What a person typed


@pytest.mark.parametrize(
    "text",
    [
        "# a\n\n*b*  **c**\n   d\n\n\n- [x] e\n> f\n    g",
        "[a](http://b) ![c](d) <http://e> &amp; \\* <b>\n---\n|a|\n|-|",
        "\n\n  a\n \n",
        "a ` b\n\nc ` d `` e",
        "`a\n \nb`",
        "``",
        "x ```y",
        "\u2028 a\x0cb \x85",
    ],
)
def test_what_was_typed_is_shown_as_it_was_typed(text: str) -> None:
    """Every character, space and line end, whatever it would mean in Markdown."""
    page = checked(render_typed(text))
    assert page.text == text and page.tags() == {"p"}


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a `*b*`  c", "<p>a <code>*b*</code>  c</p>"),
        ("``a`b``", "<p><code>a`b</code></p>"),
        ("`a\n  b` c", "<p><code>a\n  b</code> c</p>"),
        ("`a`\n\n`b` `", "<p><code>a</code>\n\n<code>b</code> `</p>"),
        ("`<b>&amp;`", "<p><code>&lt;b&gt;&amp;amp;</code></p>"),
        ("\0`\0`\r`\r\n`", "<p>\ufffd<code>\ufffd</code>\n<code>\n</code></p>"),
    ],
)
def test_code_in_a_typed_line_is_code(text: str, html: str) -> None:
    """What stands between backticks of one paragraph, with its spaces and line ends."""
    assert render_typed(text) == html


@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("a\n", "\nb"), ("a\n\n", "\n\nb"), ("a\n \n\n", "\n\t\n\n  b\n"), ("\n", "\n\n")]
)
def test_a_typed_block_of_code_is_that_of_an_answer(before: str, after: str) -> None:
    """With colour, label and buttons; it keeps its distance by itself, so that no blank line is shown beside it."""
    block = "```python title\nx = `1`\n\n```"
    words = [f"<p>{one}</p>" if one else "" for one in (before.rstrip(), after.strip("\n\t").rstrip("\n"))]
    assert render_typed(before + block + after) == words[0] + render(block).rstrip("\n") + words[1]


def test_typed_code_that_does_not_end_is_code() -> None:
    """To the end of the text, as in an answer; a fence may be indented."""
    page = checked(render_typed("a\n  ~~~py\n  b\n    `c`\n\n# d"))
    assert page.bars == ["pyWrapCopy"] and page.text.startswith("ab\n  `c`\n\n# d")
    assert checked(render_typed("a\r```\r\nb\r```\r\nc\r")).text == "ab\nc"
    assert checked(render_typed("```\na\n```\n~~~\nb")).text.split() == ["a", "b"]


def test_a_monstrous_typed_paragraph_is_as_it_was_typed() -> None:
    """Its backticks are not looked at; those of the next one are."""
    words = "a " * (markdown.MAX_PARAGRAPH_CHARS // 2)
    assert checked(render_typed(f"`a` {words}")).tags() == {"p"}
    assert render_typed(f"{words}`a`\n\n`b`") == f"<p>{words}`a`\n\n<code>b</code></p>"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*MIXTURE, "``", "~~~", "a b", "\0", "\r"]), max_size=12).map("".join))
def test_no_typed_mixture_gets_through(text: str) -> None:
    """Words, inline code and blocks of code are all that typing makes, and nobody's words get lost."""
    page = checked(render_typed(text))
    assert page.tags() <= CODE | {"p", "span"}
    if "pre" not in page.tags():
        wanted = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
        assert re.sub("[` ]", "", page.text) == re.sub("[` ]", "", wanted)


PATHOLOGICAL = {
    "brackets": "[" * 50_000,
    "images": "![" * 50_000,
    "links that never close": "[a](" * 25_000,
    "closing brackets": "](" * 50_000,
    "brackets in many paragraphs": ("[" * markdown.MAX_PARAGRAPH_BRACKETS + "\n\n") * 100,
    "as many brackets as allowed": "[" * markdown.MAX_PARAGRAPH_BRACKETS
    + "](x)" * markdown.MAX_PARAGRAPH_BRACKETS
    + "y" * 19_000,
    "quotes": "> " * 50_000,
    "quoted lines": "> a\n" * 5_000,
    "quotes ever deeper": "".join("> " * depth + "a\n" for depth in range(300)),
    "lists in one line": "- " * 50_000,
    "numbers in one line": "1. " * 50_000,
    "lists ever deeper": "".join("  " * depth + "- a\n" for depth in range(500)),
    "quotes and lists": "> - " * 25_000,
    "hashes": "#" * 200_000,
    "spaces": " " * 200_000,
    "tabs": "\t" * 200_000,
    "line ends": "\n" * 200_000,
    "NULs": "\0" * 100_000,
    "stars": "*" * 50_000,
    "emphasis that never closes": "*a **b _c " * 2_000,
    "emphasis both ways": "*a_" * 6_600,
    "strikethrough": "~~a" * 6_600,
    "backticks": "".join("`" * count + " " for count in range(1, 199)),
    "angle brackets": "<" * 50_000,
    "tags": "<a " * 6_600,
    "comments": "<!--" * 5_000,
    "entities": "&amp;" * 4_000,
    "ampersands": "&" * 20_000,
    "backslashes": "\\" * 20_000,
    "a wide table": "|a" * 200 + "|\n" + "|-" * 200 + "|\n" + "|b\n" * 100,
    "a long table": "|a|b|\n|-|-|\n" + "|c|d|\n" * 1_000,
    "references": "".join(f"[r{number}]: /u{number}\n" for number in range(5_000)),
    "rules": "---\n" * 5_000,
    "headings": "a\n=\n" * 2_500,
    "fences": "```\n" * 10_000,
    "many backticks": "`" * 200_000,
    "pairs of backticks": "`a" * 25_000,
    "backticks in many paragraphs": "`a` ``\n\n" * 6_000,
    "backticks in ever longer runs": "".join("`" * count + "\n" for count in range(1, 316)),
    "tasks": "- [ ] a\n" * 2_500,
    "tildes": "~" * 200_000,
    "paragraphs": "word word\n\n" * 2_500,
    "code that opens": "```java\n" + "a<" * 5_000,
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_pathological_text_is_rendered_in_bounded_time(name: str) -> None:
    """Whole and while it grows, no text of a message's size keeps the server busy for long."""
    text = PATHOLOGICAL[name]
    began = time.monotonic()
    checked(render(text))
    checked(render_typed(text))
    growing = IncrementalMarkdown(text[: len(text) // 2])
    growing.snapshot()
    growing.add(text[len(text) // 2 :])
    _, open_block = growing.snapshot()
    assert time.monotonic() - began < A_WHILE
    for block in (*growing.blocks[-3:], open_block):
        checked(block)


ANSWER = 400_000  # characters of the longest answer
SECONDS = 4.0  # of computing; what is not bounded takes ten or a hundred
ENDLESS = {
    "wide tables": "|a" * 200 + "|\n" + "|-" * 200 + "|\n" + "|b\n" * 100 + "\n",
    "one wide table": "|a" * 200 + "|\n" + "|-" * 200 + "|\n" + "|b\n" * ANSWER,
    "brackets in many paragraphs": "[" * markdown.MAX_PARAGRAPH_BRACKETS + "\n\n",
    "links in many paragraphs": "[a](b)" * 99 + "\n\n",
    "emphasis in many paragraphs": "*a_" * 6600 + "\n\n",
    "strikes in many paragraphs": "~~a" * 6600 + "\n\n",
    "rules": "---\n",
    "items": "- a\n",
    "items after tabs": "-\ta\n",
    "items in items": "- - - - - - - - a\n",
    "tasks": "- [ ] a\n",
    "code in Python": "```python\nx = 1\n```\n",
    "quoted lines": "> a\n",
    "a definition without end": "[a]: /u '" + "x\n" * ANSWER,
    "ampersands": "&",
    "line ends of another kind": "# a\r",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_the_longest_text_takes_no_longer(name: str) -> None:
    """Of a text as long as an answer may be, nobody else waits for more than about a second."""
    once = ENDLESS[name]
    text = (once * (ANSWER // len(once) + 1))[:ANSWER]
    for shown in (render, render_typed, lambda text: IncrementalMarkdown(text).snapshot()):
        began = time.process_time()
        shown(text)
        assert time.process_time() - began < SECONDS


def words(html: str) -> str:
    """What a reader sees, without the distances between."""
    return "".join(Page(html).text.split())


def test_so_much_of_a_text_is_read_as_markdown() -> None:
    """To a number of characters or of lines; what comes after is there as it was written, from the next line on."""
    for line, count in (
        ("**b** " + "x" * 92 + "\n\n", markdown.MAX_MARKDOWN_CHARS // 100),
        ("**b**\n\n", markdown.MAX_MARKDOWN_LINES // 2),
    ):
        most, more = line * count, line * (count + 1)
        assert "**" not in checked(render(most)).text
        shown = checked(render(more))
        assert shown.text.count("**b**") == 1 and shown.elements.count(("strong", {})) == count
    half = "**b** x\n\n" + "x" * markdown.MAX_MARKDOWN_CHARS
    assert words(render(half)) == "b" + "x" * (markdown.MAX_MARKDOWN_CHARS + 1)
    typed = "`b` <i>\n\n" + "x" * markdown.MAX_MARKDOWN_CHARS + "\n`c` <i>"
    assert words(render_typed(typed)) == typed.replace("`b`", "b").replace("\n", "").replace(" ", "")


def test_so_many_cells_links_and_nested_lists_are_made() -> None:
    """A table beyond them is its own words, like a paragraph of links, and a list a paragraph."""
    head = "|a|b|\n|-|-|\n"
    rows = markdown.MAX_TABLE_CELLS // 3 - 2
    assert checked(render(head + "|c|d|\n" * rows)).elements.count(("table", {})) == 1
    assert not checked(render(head + "|c|d|\n" * (rows + 1))).elements.count(("table", {}))
    assert checked(render((head + "\n") * 10)).elements.count(("table", {})) == 10
    links = ("[a](b)" * 99 + "\n\n") * 30
    assert len(checked(render(links)).links()) == markdown.MAX_BRACKET_PAIRS // 99**2 * 99
    lists = [tag for tag, _ in checked(render("- - a\n" * (markdown.MAX_NESTED_LISTS + 10))).elements]
    assert lists.count("ul") == markdown.MAX_NESTED_LISTS + 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "**b** ", "\n", "\n\n", "- c\n", "```\n", "\r\n", "<i>"]), max_size=40), st.data()
)
def test_a_text_that_outgrows_its_bounds_does_not_depend_on_the_pieces(pieces: list[str], data: st.DataObject) -> None:
    """However it comes, the same blocks, safe, with all its words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markdown, "MAX_MARKDOWN_CHARS", 20)
        patch.setattr(markdown, "MAX_MARKDOWN_LINES", 6)
        cut_at(patch, 8)
        text = "".join(pieces)
        cut = data.draw(st.integers(0, len(text)))
        growing = IncrementalMarkdown()
        for piece in (text[:cut], text[cut:]):
            growing.add(piece)
            growing.snapshot()
        whole = IncrementalMarkdown(text)
        assert (growing.snapshot(), growing.blocks) == (whole.snapshot(), whole.blocks)
        grown = "".join([*whole.blocks, whole.snapshot()[1]])
        marks = str.maketrans("", "", "*`-")
        assert words(grown).translate(marks) == words(render(text)).translate(marks)
        checked(render(text))
        checked(grown)


def test_all_code_of_a_text_has_one_time_for_its_colours() -> None:
    """What one piece takes is gone for the next, and with none left code is plain."""
    colours = highlight.HighlightSession()
    before = colours.seconds_left
    assert "<span class=" in highlight.code_block("x = 1", "python", highlighting=colours).partition("<pre")[2]
    assert colours.seconds_left < before
    colours.seconds_left = 0.0
    assert "<span" not in highlight.code_block("x = 1", "python", highlighting=colours).partition("<pre")[2]


def test_code_that_is_hard_to_colour_is_shown_in_bounded_time() -> None:
    """A model that repeats one line for ever does not stop the server: some lexers take the square of its length."""
    began = time.monotonic()
    checked(render("```csharp\n" + "a\n" * 6_000 + "```"))
    assert time.monotonic() - began < A_WHILE


# Growing

SNIPPETS = [
    *("2", "2. b", "2. b\n", "1. a\n", "1) a\n", "- a\n", "* a\n", "+ a\n", "  - b\n", "    c\n", "- ", "-", "10. x\n"),
    *("a", "b c", " ", "\n", "\n\n", "\n\n\n", "\r\n", "\t", "  \n", "word\n", "word\n\n", "    code\n", "\\", "\\\n"),
    *("```", "```\n", "```python\n", "x = 1\n", "~~~\n", "````\n", "`", "> ```\n", "- ```\n"),
    *("|a|b|\n", "|-|-|\n", "|c|d|\n", "a|b\n", "-|-\n", "|", "> |a|\n", "> |-|\n"),
    *("> q\n", ">", "> ", ">\n", "> - a\n", ">> q\n", "lazy\n"),
    *("# h\n", "#", "## h ##\n", "h\n===\n", "===\n", "---\n", "--", "=", "***\n", "- - -\n"),
    *("[a]", "[a]\n", "[a]: /u\n", "[a]:\n", "/u\n", "'t\n", "t'\n", "[a]: /u 't'\n", "[b]: <x>\n", '"t"\n', "[a][b]"),
    *("*e", "**s**", "_", "~~d~~", "<div>\n", "</div>\n", "<!-- ", "-->\n", "<b>", "&amp;", "![i](http://a)"),
    *("\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\x00", "\r", "é", "🦉"),
]
TEXTS = st.lists(st.sampled_from(SNIPPETS), max_size=30).map("".join)
CUTS = st.lists(st.integers(0, 200), max_size=12)


def cut_at(patch: pytest.MonkeyPatch, size: int) -> None:
    """Have long blocks be cut into pieces of so many characters."""
    patch.setattr(grows, "CHUNK_CHARS", size)
    patch.setattr(highlight, "CHUNK_CHARS", size)


def grown(*pieces: str) -> tuple[list[str], str]:
    """The finished blocks and the open one of a text that came in pieces, looked at after each."""
    growing = IncrementalMarkdown()
    open_block = ""
    for piece in pieces:
        growing.add(piece)
        finished, open_block = growing.snapshot()
        assert finished == len(growing.blocks)
    return growing.blocks, open_block


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[begin:end] for begin, end in pairwise(ends)] or [text]


@settings(max_examples=500, deadline=None)
@given(TEXTS, CUTS)
@example("2. a\n2. b\n2", [5, 9, 10])
@example("a\n\n[b]: /u\n\nc\n", [3, 11])
@example("[a]\n\n[a]:\n/u\n\nb\n\nc\n", [10])
@example("a\n\n[a]: /u\n't\nt'\n\nb\n", [14])
@example("a\x0cb\x0cc\n\n```\ncode\n```\n\nend\n\nlast\n", [8, 20, 30])
@example("a\u2028b\n\nc\n\nd\n", [5, 9])
@example("a\rb\r\nc\n\nd\n", [2, 4])
def test_blocks_do_not_depend_on_the_pieces(text: str, cuts: list[int]) -> None:
    """However a text came, its finished blocks and its open one are the same as if it had come at once."""
    assert grown(*pieces_of(text, cuts)) == grown(text)


@settings(max_examples=500, deadline=None)
@given(TEXTS, st.integers(0, 200))
@example("[a]\n\n[a]:\n/u\n\nb\n\nc\n", 11)
@example("a\n\n[a]: /u\n't\nt'\n\nb\n", 14)
@example("a\x0cb\x0cc\n\n```\ncode\n```\n\nend\n\nlast\n", 22)
def test_a_finished_block_never_changes(text: str, cut: int) -> None:
    """The finished blocks of a text's beginning are the first ones of the whole: what was pushed stays true."""
    before, _ = grown(text[: cut % (len(text) + 1)])
    after, _ = grown(text)
    assert after[: len(before)] == before


@settings(max_examples=300, deadline=None)
@given(TEXTS.map(lambda text: text.replace("[", "(").rstrip("\r")))  # which is no line end yet
@example("a\x0cb\x0cc\n\n```\ncode\n```\n\nend\n\nlast\n")
@example("a\rb\n\nc\n\n")
def test_the_blocks_together_are_the_whole(text: str) -> None:
    """Without references, which look across blocks, a finished answer has the HTML that was shown while it grew.

    Only the buttons of code that still grew are new in it.
    """
    assert in_one(*grown(text)) == render(text).replace(highlight.BUTTONS_HTML, "")


JOINTS = [
    re.compile(r'</code></pre></div>\n?<div class="code code--more"><pre tabindex="0"><code>'),
    re.compile(r'</tbody>\n</table></div>\n<div class="table table--more" tabindex="0"><table>\n.*?<tbody>\n', re.S),
    re.compile(r'</(ul|ol)>\n<\1(?: start="\d+")? class="list--more">\n'),
]


def in_one(blocks: list[str], open_block: str) -> str:
    """Pieces of one block put together, as growing.js does it; without buttons."""
    html = "".join([*blocks, open_block]).replace(highlight.BUTTONS_HTML, "")
    for joint in JOINTS:
        html = joint.sub("", html)
    return html


LONG = {
    "code": ("```python\n", "x = 'a'\n", "```\n"),
    "code in a longer fence": ("````\n", "```\n", "````\n"),
    "a list": ("", "- an item\n", ""),
    "a loose list": ("", "- an item\n\n  more of it\n\n", ""),
    "a numbered list": ("", "{}. an item\n    - in it\n", ""),
    "a table": ("|a|b|\n|:-|-|\n", "|c|d|\n", ""),
    "long loose items": ("", "- " + "item " * 20 + "\n\n", ""),
    "lines that are too long": ("```\n", "y" * 70 + "\n", "```\n"),
}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(LONG)), st.integers(0, 30), st.sampled_from(["", "\n", "\n\n# end\n\nend"]), CUTS)
def test_a_long_block_is_finished_in_pieces(kind: str, count: int, after: str, cuts: list[int]) -> None:
    """However it came: the pieces are the same, and together they say what the whole says."""
    begin, once, end = LONG[kind]
    text = begin + "".join(once.replace("{}", str(number)) for number in range(count)) + end + after
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, 60)
        blocks, open_block = grown(*pieces_of(text, cuts))
        assert (blocks, open_block) == grown(text) == grown(*text)
        whole = render(text).replace(highlight.BUTTONS_HTML, "")
    html = "".join([*blocks, open_block])
    checked(html)
    assert in_one(blocks, open_block) == whole
    if len(text) > 300:
        assert len(blocks) >= 2 and max(map(len, blocks)) < 1_000
    if "code" in kind:
        assert html.count("code__bar") == 1 and html.count("code--more") == html.count("<pre") - 1


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(8, 40), CUTS)
@example("|a|\n|-|\n|b|\n\n\n\nend\n", 12, [13])
@example("```\na\nb\n```\n\n\n\nend\n", 12, [12])
def test_where_a_block_is_cut_does_not_depend_on_the_pieces(text: str, piece: int, cuts: list[int]) -> None:
    """Blank lines after a block that has ended are no part of it, whether they came with it or later."""
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, piece)
        assert grown(*pieces_of(text, cuts)) == grown(text) == grown(*text)


@pytest.mark.parametrize(
    "text",
    [
        "```a|b\nx = 1\nx = 2\n-|-\nx = 3\nx = 4\n",
        "~~~~ sh | less\nx = 1\nx = 2\n|-|-|\nx = 3\nx = 4\n",
        "- an item\n- an item\n- a|b\n-|-\n- an item\n- an item\n",
        "1. an item\n2. an item\n3. a|b\n-|-\n4. an item\n",
    ],
)
def test_a_piece_is_no_table_by_its_first_line(text: str) -> None:
    """A bar in it, and dashes below, make none inside of code or of a list, and so none where these are cut."""
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, 12)
        blocks, open_block = grown(*text)
        assert (blocks, open_block) == grown(text)
    shown = checked("".join([*blocks, open_block]))
    assert shown.text.split() == checked(render(text, growing=True)).text.split() and "table" not in shown.tags()


NUMBERS = ["1. 1. 1. 1. 1. 1.", "3. 3. 3. 3.", "0. 1. 2. 3. 4.", "1. 2. 3. 3. 4. 5. 6.", "7. 8. 9. 10.", "2. 1. 2. 3."]


@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_list_in_pieces_has_the_numbers_of_the_whole(numbers: str) -> None:
    """Only the first number of a list counts, and so it is cut only where the next is the number that comes then."""
    text = "".join(f"{number} an item\n" for number in numbers.split())
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, 12)
        blocks, open_block = grown(text)
    shown = []
    for tag, attributes in checked("".join([*blocks, open_block])).elements:
        if tag == "ol":
            number = int(attributes.get("start") or "1")
        elif tag == "li":
            shown.append(number)
            number += 1
    first = int(numbers.partition(".")[0])
    assert shown == list(range(first, first + len(numbers.split())))
    assert len(blocks) > 1 or not numbers.startswith(("0.", "7."))


def test_every_kind_of_block_is_finished_by_the_next() -> None:
    """Headings, paragraphs, lists, code, quotes, tables and rules are each a block of their own."""
    blocks = ["# a\n\n", "b\nb\n\n", "- c\n\n  c\n- c\n\n", "1. d\n2. d\n\n", "```\n\ne\n\n```\n", "> f\n\n"]
    blocks += ["|g|\n|-|\n|g|\n\n", "---\n", "    h\n\n    h\n\n", "i\n===\n"]
    finished, open_block = grown("".join(blocks), "end")
    assert finished == list(map(render, blocks[:-1])), "the line that ends the last of them has not ended itself"
    assert open_block == render(blocks[-1] + "end")
    assert grown("".join(blocks), "end\n") == (list(map(render, blocks)), render("end\n"))


def test_a_line_that_has_not_ended_finishes_nothing() -> None:
    """A lone 2 may become the next item of the list above."""
    assert grown("1. a\n2") == ([], render("1. a\n2"))
    assert grown("1. a\n", "2", ". b\n") == ([], render("1. a\n2. b\n"))
    assert grown("1. a\n\n2", "\n") == ([render("1. a\n\n")], render("2\n"))


@pytest.mark.parametrize(
    ("block", "next_line"),
    [
        ("word *b*", ""),
        ("word", ""),
        ("# h", ""),
        ("---", ""),
        ("> q", ""),
        ("|a|\n|-|\n|b|", ""),
        ("```\nx\n```", None),
    ],
)
def test_what_cannot_go_on_is_finished_at_once(block: str, next_line: str | None) -> None:
    """A blank line ends these, and its fence ends code; what comes next does not wait for its own line to end."""
    end = "\n" if next_line is None else f"\n{next_line}\n"
    for pieces in ((block + end,), (block, end), tuple(block + end), (block, end + "then")):
        blocks, open_block = grown(*pieces)
        assert blocks == [render(block)]
        assert open_block == (render("then") if "then" in pieces[-1] else "")


@pytest.mark.parametrize("block", ["- a", "1. a", "    x", "- > q", "```\nx\n"])
def test_what_may_go_on_is_not_finished_by_a_blank_line(block: str) -> None:
    """A list may have another item, and indented code another line."""
    assert grown(block + "\n\n")[0] == []


def test_code_that_has_not_ended_is_code() -> None:
    """An open fence is shown as code from its first line, and finished only by what follows its end."""
    text = "```python\nx = 1\n\n# no heading\n"
    blocks, open_block = grown(*text)
    assert blocks == [] and checked(open_block).tags() == {"div", "pre", "code", "span"}
    assert len(grown(text, "```\n", "\nb\n")[0]) == 1


@pytest.mark.parametrize("text", ["```python\nx\n", "- ```python\n  x\n", "> ```python\n> x\n> ```\n"])
def test_code_has_its_buttons_when_it_has_grown(text: str) -> None:
    """A push replaces the open block, and with it a button that has the focus; a finished block stays."""
    _, open_block = grown(text)
    assert "button" not in checked(open_block).tags() and Page(open_block).bars == ["python"]
    blocks, _ = grown(text + "```\n" * text.startswith("`"), "\n\n# End\n")
    assert Page(blocks[0]).bars == ["pythonWrapCopy"]
    assert Page(grown("    x\n")[1]).bars == [""] and Page(grown("    x\n", "y\n")[0][0]).bars == ["WrapCopy"]


def test_nothing_yet_is_nothing() -> None:
    """An empty text has no blocks, and an empty open one."""
    assert grown("") == ([], "")
    assert grown("\n\n") == ([], "")
    assert IncrementalMarkdown("a\n\nb\n").snapshot()[0] == 1, "the first text may come with it"


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the texts that are rendered, and their characters as `Counter.total` weighs them."""
    counted = Counter[str]()

    def counting(text: str, **options: Any) -> str:
        counted[text] += 1
        return render(text, **options)

    monkeypatch.setattr(grows, "render", counting)
    return counted


def test_the_open_block_is_rendered_once_for_all_tabs(rendered: Counter[str]) -> None:
    """A snapshot of the same text costs nothing, and neither does an empty addition; finished blocks are kept."""
    growing = IncrementalMarkdown("a\n\nb\n\nc")
    assert growing.snapshot() == growing.snapshot() == growing.snapshot()
    assert {text.strip(): count for text, count in rendered.items()} == {"a": 1, "b": 1, "c": 1}
    before = rendered.copy()
    growing.add("d")
    growing.snapshot()
    growing.snapshot()
    assert (rendered - before).total() == 1


def characters(rendered: Counter[str], length: int) -> int:
    """How many characters are rendered while a text of paragraphs grows to `length`, word by word."""
    paragraph = "word and more words of it, " * 7 + "end.\n\n"
    text = (paragraph * (length // len(paragraph) + 1))[:length]
    growing = IncrementalMarkdown()
    rendered.clear()
    for begin in range(0, length, 5):
        growing.add(text[begin : begin + 5])
        growing.snapshot()
    return sum(len(text) * count for text, count in rendered.items())


def test_the_work_grows_with_the_text_and_not_with_its_square(rendered: Counter[str]) -> None:
    """Ten times as long an answer of paragraphs costs about ten times as much."""
    assert 8 < characters(rendered, 20_000) / characters(rendered, 2_000) < 12
