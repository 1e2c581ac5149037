"""The partials: one root each, everything escaped, every URL below the mount point."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from jinja2 import DictLoader, Environment, Template
from markupsafe import Markup

from overseer import create_app
from overseer.domain.events import PartAdded, PartGrew
from overseer.domain.messages import CallState, Message, Part, Reasoning, State, Text, ToolCall, Usage
from overseer.domain.records import Page, Room, RoomList
from overseer.domain.settings import Settings
from overseer.llm import Model
from overseer.llm.choice import ModelSettings
from overseer.llm.offline import OfflineResponder
from overseer.llm.openai import OpenAIServer
from overseer.render.assets import Assets
from overseer.render.fragments import ENTRY_BYTES, BytecodeCache, Cursor, FragmentCache, Fragments, dom_id, partial
from overseer.render.markdown import render
from overseer.render.streaming_answers import StreamingAnswers
from tests.support.measured import measured
from tests.support.model_server import NOBODY

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
ROOM_ID = "0123456789ab"
HOSTILE = """<script>alert("'x'")</script>"' onclick=alert(1) {{ 7*7 }} &amp; `b \\"""
MB = 1_000_000
STATES: tuple[State, ...] = ("waiting", "streaming", "complete", "stopped", "failed", "interrupted")
VOID = {"input", "meta", "link", "br", "hr"}
URLS = {"href", "src", "action", "hx-get", "hx-post", "hx-put", "hx-patch", "hx-delete", "hx-ws:connect", "data-rename"}
Element = tuple[str, dict[str, str | None]]


class Html(HTMLParser):
    """The elements of some HTML, its roots, and the text outside of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.roots: list[Element] = []
        self.text = ""
        self.loose = ""
        self._open: list[str] = []
        self.feed(str(html))
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} came twice"
        self.elements.append((tag, dict(attrs)))
        if not self._open:
            self.roots.append(self.elements[-1])
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if not self._open:
            self.loose += data.strip()
        assert not self._open or self._open[-1] not in ("script", "style"), "inline code"

    def shape(self) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in self.elements]

    def find(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]

    def buttons(self) -> list[str]:
        return [word for word in ("Stop", "Continue", "Retry", "Regenerate") if re.search(rf"\b{word}\b", self.text)]


def room(**changes: object) -> Room:
    """A room in the list."""
    usual = Room(ROOM_ID, "Owls", 2, "Hello", answering=False, problem="", rank=1, active_at=0)
    return replace(usual, **changes)  # type: ignore[arg-type]


def question(words: str = "Hello?") -> Message:
    return Message(1, "user", "complete", (Text(words),), created_at=1_700_000_000_000)


def reply(state: State = "complete", *parts: Part, reason: str = "", model: str = "m") -> Message:
    return Message(2, "assistant", state, parts, reason=reason, model=model, created_at=1_700_000_000_000)


def call(state: CallState = "done", words: str = "x") -> ToolCall:
    return ToolCall(words, words, words, words, state)


def a_page(words: str) -> Page:
    """A page of messages with these words."""
    return Page((question(words), reply("failed", Text("x"), reason=words, model=words)), more=True, last=2)


def settings(words: str) -> Settings:
    """Settings with these words."""
    return Settings(words, words, 0.5)


def some_rooms(words: str) -> RoomList:
    """A page of rooms that have this name."""
    return RoomList((room(name=words, preview=words), room(id="ba9876543210", name=words)), after=5)


def all_parts(words: str) -> tuple[Part, ...]:
    """A part of each kind."""
    return Reasoning("x"), call("done", words), Text("x")


def answering(state: State, *, empty: bool = False) -> Callable[[Fragments, str], str]:
    """How an answer in this state is made, with a part of each kind or none."""

    def make(fragments: Fragments, words: str) -> str:
        parts = () if empty else all_parts(words)
        return fragments.message(ROOM_ID, reply(state, *parts, reason=words, model=words))

    return make


# Every fragment there is: its id, and how it is made with some words wherever words can be.
EVERYTHING: dict[str, tuple[str, Callable[[Fragments, str], str]]] = {
    "the open room": (
        "room",
        lambda f, words: f.room(room(name=words), settings(words), a_page(words), place="p.1", newest=True, key="k"),
    ),
    "a broken room": ("room", lambda f, words: f.broken(room(name=words), sentence=words)),
    "no room": ("room", lambda f, words: f.no_room(sentence=words)),
    "the rooms": ("rooms", lambda f, words: f.rooms(some_rooms(words), active=ROOM_ID, q="")),
    "rooms that match": ("rooms", lambda f, words: f.rooms(some_rooms(words), active=None, q=words)),
    "no room that matches": ("rooms", lambda f, words: f.rooms(RoomList((), None), active=None, q=words)),
    "a row": (f"room-{ROOM_ID}", lambda f, words: f.row(room(name=words, preview=words), active=None)),
    "the open row": (f"room-{ROOM_ID}", lambda f, words: f.row(room(name=words, answering=True), active=ROOM_ID)),
    "a broken row": (f"room-{ROOM_ID}", lambda f, words: f.row(room(name=words, problem=words), active=None)),
    "how new the rooms are": ("rooms-place", lambda f, words: f.list_place("p.1")),
    "the header": ("header", lambda f, words: f.header(room(name=words), settings(words))),
    "the models": ("models", lambda f, words: f.models([words, words])),
    "the palette": (
        "palette-options",
        lambda f, words: f.palette(RoomList((room(name=words),), None), q="", active="ba9876543210"),
    ),
    "a palette without options": (
        "palette-options",
        lambda f, words: f.palette(RoomList((), None), q="zz", active=None),
    ),
    "no models": ("models", lambda f, words: f.models([])),
    "models that could not be listed": ("models", lambda f, words: f.models([], problem=words)),
    "a room that is gone": ("messages", lambda f, words: f.notice(words)),
    "the messages": ("messages", lambda f, words: f.messages(ROOM_ID, a_page(words))),
    "earlier messages": ("messages", lambda f, words: f.messages(ROOM_ID, a_page(words), newest=False)),
    "no messages": ("messages", lambda f, words: f.messages(ROOM_ID, Page((), more=False, last=0))),
    "from where the model reads": ("reading", lambda f, words: f.reading()),
    "a question to edit": (
        "editing",
        lambda f, words: f.editing(ROOM_ID, question(words), drops=3, last=6, alone=False),
    ),
    "a question to edit alone": (
        "room",
        lambda f, words: f.editing(ROOM_ID, question(words), drops=0, last=2, alone=True),
    ),
    "an answer that took something": (
        "message-2",
        lambda f, words: f.message(ROOM_ID, replace(reply("complete", Text("x")), usage=Usage(9, 9, 2.0, 1.0, True))),
    ),
    "an answer that waits": (
        "message-2",
        lambda f, words: f.message(ROOM_ID, replace(reply("waiting", reason=words), retry_at=1_700_000_000_000)),
    ),
    "a question": ("message-1", lambda f, words: f.message(ROOM_ID, question(words))),
    **{f"an answer, {state}": ("message-2", answering(state)) for state in STATES},
    **{f"an empty answer, {state}": ("message-2", answering(state, empty=True)) for state in STATES},
    "an answer that uses a tool": (
        "message-2",
        lambda f, words: f.message(ROOM_ID, reply("streaming", call("running", words))),
    ),
    "an answer that thinks": ("message-2", lambda f, words: f.message(ROOM_ID, reply("streaming", Reasoning("x")))),
    "a text": ("part-2-0", lambda f, words: f.part(2, 0, Text("x"))),
    "a reasoning": ("part-2-1", lambda f, words: f.part(2, 1, Reasoning("x"))),
    "a tool call, running": ("part-2-2", lambda f, words: f.part(2, 2, call("running", words))),
    "a tool call, done": ("part-2-2", lambda f, words: f.part(2, 2, call("done", words))),
    "a tool call, failed": ("part-2-2", lambda f, words: f.part(2, 2, call("failed", words))),
    "an error": ("error", lambda f, words: f.error(words)),
}


def everything(fragments: Fragments, words: str) -> list[str]:
    return [make(fragments, words) for _, make in EVERYTHING.values()]


@pytest.fixture
def fragments(app: Flask) -> Fragments:
    """The fragments of the app, mounted at the root."""
    found = app.extensions["fragments"]("")
    assert isinstance(found, Fragments)
    return found


def answered_by(app: Flask, model: Model, drafts: StreamingAnswers | None = None) -> Fragments:
    """Fragments of a page on which this model answers."""
    return Fragments(
        app,
        "",
        streaming_answers=drafts or StreamingAnswers(),
        model=lambda name="": model,
        locked=False,
        cache=FragmentCache(MB),
    )


def whole_page(fragments: Fragments, words: str = "x", *, q: str = "") -> str:
    """A page with a room open and every kind of message in it."""
    said = (replace(reply(state, *all_parts(words), reason=words), number=n) for n, state in enumerate(STATES, 2))
    opened = fragments.room(
        room(name=words),
        settings(words),
        Page((question(words), *said), more=True, last=9, reads_from=3),
        place="p.1",
        newest=True,
        key="k",
    )
    rooms = RoomList((room(name=words), room(id="ba9876543210")), after=5)
    return fragments.page(opened, rooms, title="A room", active=ROOM_ID, q=q, place="p.1")


# One root


def test_every_template_is_looked_at(app: Flask, fragments: Fragments) -> None:
    """What this file renders uses all there are, and none is left over."""
    everything(fragments, "x")
    whole_page(fragments)
    fragments.login(wanted="")
    fragments.exchange(ROOM_ID, question(), reply("waiting"))
    assert app.jinja_env.cache is not None
    used = {name for _, name in app.jinja_env.cache.keys()}  # noqa: SIM118 - it is no dict
    assert used == {path.relative_to(ROOT / "templates").as_posix() for path in TEMPLATES}


def test_a_fragment_has_one_root_with_an_id(fragments: Fragments) -> None:
    """It can be found, replaced and morphed: one element, its id where it is expected, nothing beside it."""
    for name, (wanted, make) in EVERYTHING.items():
        parsed = Html(make(fragments, "x"))
        assert [attributes.get("id") for _, attributes in parsed.roots] == [wanted], name
        assert parsed.loose == "", name


def test_an_exchange_is_two_messages_and_the_new_end(fragments: Fragments) -> None:
    """It takes the place of the list's end: three elements, each with its id."""
    parsed = Html(fragments.exchange(ROOM_ID, question(), reply("waiting")))
    assert [attributes["id"] for _, attributes in parsed.roots] == ["message-1", "message-2", "after-2"]
    assert parsed.loose == ""


def test_the_list_ends_where_the_next_exchange_goes(fragments: Fragments) -> None:
    """The end is named by the highest number, also in an empty room; a page of earlier messages has none."""
    page = Page((question(), reply()), more=False, last=2)
    assert Html(fragments.messages(ROOM_ID, page)).find("div", id="after-2")
    assert Html(fragments.messages(ROOM_ID, Page((), more=False, last=0))).find("div", id="after-0")
    assert "after-" not in fragments.messages(ROOM_ID, page, newest=False)


def test_an_id_occurs_once_on_a_page(fragments: Fragments) -> None:
    """What is pushed to an id has one place to go."""
    ids = [attributes["id"] for _, attributes in Html(whole_page(fragments)).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"room", "rooms", "rooms-place", "header", "messages", "error", "after-9"} <= set(ids)


def test_a_page_holds_the_same_fragments_as_are_pushed(fragments: Fragments) -> None:
    """There is one partial for each, so that a reload shows nothing else than a push."""
    page = whole_page(fragments)
    assert fragments.header(room(name="x"), settings("x")) in page
    assert fragments.reading() in page
    assert fragments.row(room(name="x"), active=ROOM_ID) in page
    assert fragments.list_place("p.1") in page
    assert fragments.message(ROOM_ID, question("x")) in page


# Messages


@pytest.mark.parametrize("state", STATES)
def test_a_message_says_what_state_it_is_in(fragments: Fragments, state: State) -> None:
    """For style, for readers of screens, and for hands: Stop while it grows, then the way on."""
    parsed = Html(fragments.message(ROOM_ID, reply(state, Text("Once"), reason="Because.")))
    article = parsed.roots[0][1]
    unfinished, broken = state in ("waiting", "streaming"), state in ("stopped", "failed", "interrupted")
    assert article["data-state"] == state and article["data-role"] == "assistant"
    assert article.get("aria-busy") == ("true" if unfinished else None)
    assert parsed.buttons() == (["Stop"] if unfinished else ["Continue", "Retry"] if broken else ["Regenerate"])
    assert ("Because." in parsed.text) == broken
    assert bool(parsed.find("button", **{"hx-delete": f"/rooms/{ROOM_ID}/turn"})) == unfinished
    assert bool(parsed.find("form", **{"hx-post": f"/rooms/{ROOM_ID}/turn"})) != unfinished
    nothing = Html(fragments.message(ROOM_ID, reply(state, reason="Because.")))
    assert "Continue" not in nothing.buttons(), "there is nothing to go on with"
    assert "Once" in parsed.text


def test_a_question_is_plain_text(fragments: Fragments) -> None:
    """What a person typed is shown as it was typed; an answer is Markdown."""
    words = "# not a heading\n\n*but* [words](http://a)\n  <b>"
    assert words in Html(fragments.message(ROOM_ID, question(words))).text
    parsed = Html(fragments.message(ROOM_ID, reply("complete", Text(words))))
    assert {"h1", "em", "a"} <= {tag for tag, _ in parsed.elements}


def test_code_in_a_question_is_code(fragments: Fragments) -> None:
    """In a line or in a block, as in an answer; the words around it are plain."""
    parsed = Html(fragments.message(ROOM_ID, question("*Why* `a  b`?\n\n```python\nx = 1\n```")))
    assert parsed.find("div", **{"class": "part__plain", "dir": "auto"}) and "*Why* a  b?" in parsed.text
    assert len(parsed.find("code")) == 2 and parsed.find("span", **{"class": "code__language"})
    block = render("```python\nx = 1\n```").strip()
    assert block in fragments.message(ROOM_ID, question("a\n```python\nx = 1\n```\nb"))
    assert block in fragments.message(ROOM_ID, reply("complete", Text("```python\nx = 1\n```")))


def test_code_has_no_buttons_while_it_grows(fragments: Fragments) -> None:
    """A block that is pushed again and again cannot hold the focus; the finished ones and the finished answer can."""
    words = "```\na\n```\n\n```\nb\n"
    growing, done = (Html(fragments.message(ROOM_ID, reply(state, Text(words)))) for state in ("streaming", "complete"))
    assert len(growing.find("button", **{"data-copy": ""})) == 1
    assert len(done.find("button", **{"data-copy": ""})) == len(done.find("button", **{"data-wrap": ""})) == 2


def test_a_message_names_who_said_it(fragments: Fragments) -> None:
    """The model, once it is known; before, nobody in particular."""
    assert "You" in Html(fragments.message(ROOM_ID, question())).text
    assert "llama" in Html(fragments.message(ROOM_ID, reply(model="llama"))).text
    assert "Assistant" in Html(fragments.message(ROOM_ID, reply("waiting", model=""))).text


def test_parts_are_shown_in_order_each_by_its_kind(fragments: Fragments) -> None:
    """Text, reasoning and tool calls have ids of their own, by which they are pushed."""
    parsed = Html(fragments.message(ROOM_ID, reply("complete", Reasoning("Hm"), call("failed"), Text("Yes"))))
    parts = [attributes for _, attributes in parsed.elements if re.fullmatch(r"part-2-\d", attributes.get("id") or "")]
    assert [part["id"] for part in parts] == ["part-2-0", "part-2-1", "part-2-2"]
    assert [(part["class"] or "").split()[-1] for part in parts] == ["part--reasoning", "part--tool", "part--text"]
    assert parts[1]["data-state"] == "failed"


def test_a_finished_part_is_the_same_alone_and_in_its_message(fragments: Fragments) -> None:
    """A tool call is pushed as what a reload would show."""
    made = call("done", "result")
    assert fragments.part(2, 1, made).strip() in fragments.message(ROOM_ID, reply("streaming", Text("x"), made))


def test_a_growing_text_has_its_finished_blocks_and_its_open_one(app: Flask) -> None:
    """The last part of an unfinished answer comes with a cursor that counts the blocks it shows."""
    drafts = StreamingAnswers()
    fragments = answered_by(app, OfflineResponder(), drafts)
    drafts.apply(PartAdded(ROOM_ID, 2, 1, "text", "# One\n\n*two"))
    drafts.apply(PartGrew(ROOM_ID, 2, 1, "*\n\nthr"))
    message = reply("streaming", Reasoning("Hm"), Text("stale"))
    html, cursor = fragments.message_and_cursor(ROOM_ID, message)
    assert cursor == Cursor(2, 1, 2)
    done, opened = '<div id="part-2-1-done" class="part__done">', '<div id="part-2-1-open" class="part__open">'
    assert done + render("# One\n\n*two*\n\n") + "</div>" in html
    assert opened + render("thr") + "</div>" in html
    assert "part-2-0-open" not in html and "stale" not in html
    drafts.apply(PartGrew(ROOM_ID, 2, 1, "ee\n"))
    growth = drafts.growth(ROOM_ID, 2, 1)
    assert growth is not None and growth.blocks == 2
    assert opened + str(growth.open) + "</div>" in fragments.message(ROOM_ID, message)
    rest = drafts.growth(ROOM_ID, 2, 1, since=1)
    assert rest is not None and rest.open == growth.open and rest.blocks == 2
    assert growth.done == render("# One\n\n") + str(rest.done) and rest.done == render("*two*\n\n")


def test_growing_text_whose_events_are_undelivered_is_rendered_without_a_cursor(fragments: Fragments) -> None:
    """It is shown block by block all the same. Blocks are counted only in what was delivered, else they would be sent
    twice when the events come."""
    html, cursor = fragments.message_and_cursor(ROOM_ID, reply("streaming", Text("one\n\ntwo\n")))
    assert cursor is None and "one" in html and "two" in html and "part-2-0-open" in html


@pytest.mark.parametrize(
    "message", [reply("complete", Text("x")), reply("waiting"), reply("streaming", call("running"))]
)
def test_what_does_not_grow_has_no_cursor(fragments: Fragments, message: Message) -> None:
    """There is nothing to go on with in a finished answer, an empty one, or one that waits for a tool."""
    html, cursor = fragments.message_and_cursor(ROOM_ID, message)
    assert cursor is None and "-open" not in html


# Escaping


def test_words_are_never_markup(fragments: Fragments) -> None:
    """Hostile names, reasons, models, arguments, results and searches change no element and no attribute's name."""
    for name, (_, make) in EVERYTHING.items():
        assert Html(make(fragments, HOSTILE)).shape() == Html(make(fragments, "Owls")).shape(), name


def test_words_are_shown_as_they_are(fragments: Fragments) -> None:
    """Escaped once: a reader sees each character that was written."""
    assert HOSTILE in Html(fragments.header(room(name=HOSTILE), Settings())).text
    row = Html(fragments.row(room(name=HOSTILE, preview=HOSTILE), active=None))
    assert row.text.count(HOSTILE) == 2
    assert row.find("button", title="Rename", **{"aria-label": f"Rename {HOSTILE}"})
    assert any(HOSTILE in (button.get("hx-confirm") or "") for button in row.find("button"))
    assert HOSTILE in Html(fragments.row(room(problem=HOSTILE), active=None)).text
    assert HOSTILE in Html(fragments.part(2, 0, call("done", HOSTILE))).text
    assert Html(fragments.part(2, 0, call("failed", HOSTILE))).text.count(HOSTILE) == 3
    for state in ("stopped", "failed", "interrupted"):
        assert HOSTILE in Html(fragments.message(ROOM_ID, reply(state, reason=HOSTILE))).text
    assert HOSTILE in Html(fragments.message(ROOM_ID, reply(model=HOSTILE))).text
    assert HOSTILE in Html(fragments.message(ROOM_ID, question(HOSTILE))).text
    assert HOSTILE in Html(fragments.error(HOSTILE)).text
    assert HOSTILE in Html(fragments.no_room(sentence=HOSTILE)).text
    assert Html(fragments.broken(room(name=HOSTILE), sentence=HOSTILE)).text.count(HOSTILE) == 2
    found = Html(fragments.rooms(RoomList((), None), active=None, q=HOSTILE))
    assert found.roots[0][1]["data-q"] == HOSTILE


def test_a_page_with_hostile_words_has_the_shape_of_one_without(app: Flask) -> None:
    """Also around the room: the search that is shown, and the model's name."""
    hostile = answered_by(app, OpenAIServer(NOBODY).model(HOSTILE))
    harmless = answered_by(app, OpenAIServer(NOBODY).model("m"))
    parsed = Html(whole_page(hostile, HOSTILE, q=HOSTILE))
    assert parsed.shape() == Html(whole_page(harmless, "x", q="x")).shape()
    assert parsed.find("input", id="filter")[0]["value"] == HOSTILE
    assert HOSTILE in parsed.text


def test_an_answer_cannot_leave_its_place(fragments: Fragments) -> None:
    """Markdown is shown as such, and what is raw HTML in it as text."""
    words = f"{HOSTILE}\n\n</div></article><main id=room>\n\n```html\n</pre>{HOSTILE}\n```\n"
    for state in ("streaming", "complete"):
        parsed = Html(fragments.message(ROOM_ID, reply(state, Reasoning(words), Text(words))))
        assert len(parsed.roots) == 1 and not parsed.find("script") and not parsed.find("main")
        assert all(not name.startswith("on") for _, attributes in parsed.elements for name in attributes)


# What no page needs


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_trusts_nothing_and_stays_in_its_place(path: Path) -> None:
    """No `|safe`, no `autoescape false`, no out-of-band swap, no inline script, style or handler."""
    source = path.read_text()
    for banned in (
        r"\|\s*safe\b",
        r"autoescape",
        r"hx-swap-oob",
        r"hx-on\b",
        r"<style",
        r"\sstyle\s*=",
        r"\son\w+\s*=",
    ):
        assert not re.search(banned, source, re.I), banned
    assert not re.search(r"<script(?![^>]*\ssrc=)", source)
    assert not re.search(r"=\{\{", source), "an attribute without quotes"


@pytest.mark.parametrize("model", [OfflineResponder(), OpenAIServer(NOBODY).model("m")], ids=["offline", "model"])
def test_nothing_is_inline(app: Flask, model: Model) -> None:
    """The page's policy allows none of it: no handler, no style, no script but files of ours."""
    fragments = answered_by(app, model)
    pages = [whole_page(fragments), *everything(fragments, "x")]
    for tag, attributes in (element for html in pages for element in Html(html).elements):
        assert not any(re.match(r"on|style$|hx-on|hx-vals|hx-swap-oob", name) for name in attributes), attributes
        assert tag != "style"
        assert tag != "script" or (attributes["src"] or "").startswith("/static/")


# URLs


def urls(html: str) -> set[str]:
    return {
        value
        for _, attributes in Html(html).elements
        for name, value in attributes.items()
        if name in URLS and value is not None
    }


@pytest.mark.parametrize("prefix", ["", "/chat", "/a/b"])
def test_urls_are_below_the_mount_point(app: Flask, prefix: str) -> None:
    """Wherever the app is mounted, every address on its pages leads to itself."""
    fragments: Fragments = app.extensions["fragments"](prefix)
    pages = [whole_page(fragments), *everything(fragments, "x")]
    paths = {url for html in pages for url in urls(html) if not url.startswith("#")}
    assert len(paths) > 20
    for url in paths:
        assert re.match(rf"{prefix}/($|rooms\b|palette\b|models\b|live\b|static/)", url), url
    assert any(url.startswith(f"{prefix}/live?room={ROOM_ID}&seen=") for url in paths)
    assert f"{prefix}/rooms/{ROOM_ID}/messages" in paths


def test_mount_points_do_not_mix(app: Flask) -> None:
    """A message that was shown below one mount point has its own addresses below another."""
    message = reply("failed", Text("x"), reason="x")
    here, there = (app.extensions["fragments"](prefix).message(ROOM_ID, message) for prefix in ("", "/chat"))
    assert f'"/rooms/{ROOM_ID}/turn"' in here and f'"/chat/rooms/{ROOM_ID}/turn"' in there
    assert f'"/rooms/{ROOM_ID}/turn"' not in there


def test_queries_are_quoted_in_urls(fragments: Fragments) -> None:
    """A search goes on with what was looked for, whatever characters it has."""
    html = fragments.rooms(RoomList((room(),), after=5), active=None, q="a&b=c #?\"'<é")
    (more,) = {url for url in urls(html) if "after=5" in url}
    assert (
        parse_qs(urlsplit(more).query) == {"q": ["a&b=c #?\"'<é"], "after": ["5"], "under": ["earlier"]}
        and "#" not in more
    )


def test_static_files_are_named_with_their_content(fragments: Fragments) -> None:
    """A browser may keep each for good: another content has another address."""
    found = {url for url in urls(whole_page(fragments)) if url.startswith("/static/")}
    assert {Path(url.split("?")[0]).suffix for url in found} == {".css", ".js", ".svg"}
    for url in found:
        path, _, version = url.partition("?v=")
        content = Assets(ROOT / "static").content(path.removeprefix("/static/"))
        assert version == sha256(content).hexdigest()[:12]


def test_ids_and_partials_have_one_form() -> None:
    """What is pushed names its target, and how to swap it."""
    assert dom_id("message", 12) == "message-12"
    assert dom_id("part", 12, 0) == "part-12-0"
    assert partial("room", "outerMorph", "<p>x</p>") == (
        '<hx-partial hx-target="#room" hx-swap="outerMorph"><p>x</p></hx-partial>'
    )


# The memo


def test_memo_that_is_full_drops_the_least_recently_used() -> None:
    """What was read counts as used, and what is larger than the whole memo is not kept."""
    memo, html = FragmentCache(3 * (ENTRY_BYTES + 1100)), Markup("x" * 1000)
    for key in "abc":
        memo.put(key, html)
    assert memo.get("a") is html
    memo.put("d", html)
    assert [memo.get(key) is html for key in "abcd"] == [True, False, True, True]
    memo.put("e", Markup("x" * 10_000))
    assert memo.get("e") is None and memo.get("a") is html


@pytest.mark.parametrize("character", ["x", "\N{LATIN SMALL LETTER E WITH ACUTE}", "字", "😀"])
@pytest.mark.parametrize("length", [0, 5_000])
def test_memo_takes_no_more_memory_than_its_limit(character: str, length: int) -> None:
    """Measured, whatever a character takes, and however many entries there are; nor is much of it left unused."""
    limit = MB // 10
    memo = FragmentCache(limit)
    with measured() as held:
        for number in range(3 * limit // (length + ENTRY_BYTES)):
            memo.put(
                ("/chat", "messages/_message.html", ROOM_ID, number, hash(str(number))), Markup(character * length)
            )
    assert limit // 2 < held[0] < limit


def test_memory_for_rendered_messages_is_bounded_for_all_prefixes_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversation in Chinese takes no more than one in English, and sixteen prefixes no more than one."""
    monkeypatch.setattr("overseer.FRAGMENT_CACHE_BYTES", MB // 4)
    app = create_app(tmp_path, models=ModelSettings(base_url=NOBODY, name="m"))
    below = [app.extensions["fragments"](prefix) for prefix in ["", *(f"/p{n}" for n in range(15))]]
    for fragments in below:
        fragments.message(ROOM_ID, question("字" * 100))
    with measured() as held:
        for fragments in below:
            for number in range(1, 4):
                fragments.message(ROOM_ID, replace(question("字" * 10_000), number=number))
    assert MB // 8 < held[0] < MB // 3  # a few kB are the app's own


def test_message_that_differs_in_any_field_is_rendered_anew(fragments: Fragments) -> None:
    """The key of the memo changes with everything that the HTML shows."""
    known = Message(2, "assistant", "complete", (Text("a"),), model="m", created_at=1, ended_at=2, usage=Usage(1, 2))
    shown = {fragments.message(ROOM_ID, known)}
    others = [
        replace(known, state="stopped", reason="b"),
        replace(known, state="stopped", reason="c"),
        replace(known, parts=(Text("b"),)),
        replace(known, parts=(Reasoning("a"),)),
        replace(known, parts=(Text("a"), Text("a"))),
        replace(known, model="n"),
        replace(known, created_at=10**12),
        replace(known, usage=Usage(1, 3)),
        replace(known, usage=None),
        replace(known, number=3),
    ]
    for other in others:
        html = fragments.message(ROOM_ID, other)
        assert html not in shown, other
        shown.add(html)
    rows = [room(), room(name="b"), room(messages=3), room(preview="c"), room(answering=True), room(problem="d")]
    rows += [room(active_at=10**12)]
    assert len({fragments.row(one, active=here) for one in rows for here in (None, ROOM_ID)}) == 2 * len(rows)


def test_a_finished_message_is_rendered_once(app: Flask, fragments: Fragments, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all tabs and all reloads, until it changes; an unfinished one is rendered each time."""
    rendered: list[str] = []
    get_template = app.jinja_env.get_template

    def counting(name: str, *args: Any) -> Template:
        rendered.append(name)
        return get_template(name, *args)

    monkeypatch.setattr(app.jinja_env, "get_template", counting)
    for _ in range(3):
        fragments.message(ROOM_ID, reply("complete", Text("x")))
    assert rendered.count("messages/_message.html") == 1
    assert "edited" in fragments.message(ROOM_ID, reply("complete", Text("edited")))
    assert "ba9876543210" in fragments.message("ba9876543210", reply("failed", Text("x")))
    assert rendered.count("messages/_message.html") == 3
    for _ in range(2):
        fragments.message(ROOM_ID, reply("waiting"))
    assert rendered.count("messages/_message.html") == 5


# Templates


@pytest.mark.parametrize("folder", ["__pycache__", "a file/__pycache__"])
def test_templates_are_compiled_once_for_all_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """As Python's own modules are, but where nothing can be written, and not if their words are others meanwhile."""
    (tmp_path / "a file").touch()

    def started(words: str) -> str:
        environment = Environment(
            loader=DictLoader({"x.html": words}), bytecode_cache=BytecodeCache(str(tmp_path / folder))
        )
        return environment.get_template("x.html").render()

    assert started("{{ 1 + 1 }}") == "2"
    compiled: list[object] = []
    compile_anew = Environment.compile
    monkeypatch.setattr(
        Environment,
        "compile",
        lambda *a, **k: [compiled.append(a), compile_anew(*a, **k)][1],  # type: ignore[func-returns-value]
    )
    assert started("{{ 1 + 1 }}") == "2" and len(compiled) == ("file" in folder)
    assert started("{{ 2 + 2 }}") == "4"
