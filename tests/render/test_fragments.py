"""Fragments: one root each, everything escaped, every URL below the mount point; and the cache of rendered HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from jinja2 import DictLoader, Environment, Template
from markupsafe import Markup

from overseer import create_app
from overseer.domain.events import PartAdded, PartGrew, PathChanged
from overseer.domain.messages import (
    CallState,
    File,
    Message,
    Part,
    Reasoning,
    Source,
    State,
    Text,
    ToolCall,
    Usage,
    Versions,
)
from overseer.domain.records import Import, Imported, Page, Room, RoomList, Session
from overseer.domain.search import Found, Hit, Kind, Piece
from overseer.domain.settings import Settings
from overseer.domain.shares import Share
from overseer.llm.choice import ModelSettings
from overseer.llm.offline import OfflineResponder
from overseer.render.assets import Assets
from overseer.render.fragments import (
    ENTRY_BYTES,
    BytecodeCache,
    Cursor,
    FragmentCache,
    Fragments,
    HitsOfRoom,
    dom_id,
    partial,
)
from overseer.render.markdown import render
from overseer.render.streaming_answers import StreamingAnswers
from overseer.web.exports import FORMATS
from overseer.web.extensions import instance as instance_of
from tests.support.html import Element, parsed, root
from tests.support.measured import measured
from tests.support.model_server import NOBODY

HIT_KINDS: tuple[Kind, ...] = ("question", "answer", "reasoning")
ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
ROOM_ID = "0123456789ab"
HOSTILE = """<script>alert("'x'")</script>"' onclick=alert(1) {{ 7*7 }} &amp; `b \\"""
MB = 1_000_000
ADDRESS = ROOM_ID + "A" * 32
FILES = (File("0" * 64, "image/png", "", 3, 2), File("0" * 64, "text/html"))
STATES: tuple[State, ...] = ("waiting", "streaming", "complete", "stopped", "failed", "interrupted")
URLS = {"href", "src", "action", "hx-get", "hx-post", "hx-put", "hx-patch", "hx-delete", "hx-ws:connect", "data-rename"}
DUPLICATE_ATTRIBUTE = re.compile(r'<\w[^>]*\s([\w:-]+)="[^"]*"[^>]*\s\1="')


def room(**changes: Any) -> Room:
    usual = Room(ROOM_ID, "Owls", 2, "Hello", answering=False, problem="", rank=1, active_at=0)
    return replace(usual, **changes)


def question(text: str = "Hello?") -> Message:
    return Message(1, "user", "complete", (Text(text),), created_at=1_700_000_000_000)


def reply(state: State = "complete", *parts: Part, reason: str = "", model: str = "m") -> Message:
    return Message(2, "assistant", state, parts, reason=reason, model=model, created_at=1_700_000_000_000)


def call(state: CallState = "done", text: str = "x") -> ToolCall:
    return ToolCall(text, text, text, text, state)


def a_page(text: str) -> Page:
    return Page((question(text), reply("failed", Text("x"), reason=text, model=text)), more=True, last_used=2)


def side_by_side(text: str) -> Page:
    """Answers of three models, of which one is complete, one grows and one has failed."""
    answers = tuple(
        replace(answer, number=1 + lane, parent=1, lane=lane, asked_model=text)
        for lane, answer in enumerate(
            [reply("complete", Text("x"), model=text), reply("streaming", Text("x"), model=""), reply("failed")], 1
        )
    )
    return Page((question(text), answers[0]), more=False, last_used=5, beside={1: answers})


def replies(text: str) -> Iterator[Message]:
    """An answer in each state, with a part of each kind and with none, and in special states."""
    for state in STATES:
        yield reply(state, Reasoning("x"), call("done", text), Text("x"), reason=text, model=text)
        yield reply(state, reason=text, model=text)
    yield reply("streaming", call("running", text))
    yield reply("streaming", Reasoning("x"))
    sources = (Source("https://example.com/?a=1&b=2", text), Source("https://example.com/"))
    yield replace(reply("complete", Text("x")), usage=Usage(9, 9, 2.0, 1.0, True, 18, 90), sources=sources)
    yield replace(reply("waiting", reason=text), retry_at=1_700_000_000_000)


def all_fragments(f: Fragments, text: str) -> Iterator[tuple[str, str]]:
    """Yield the expected id and the HTML of every fragment, with `text` wherever text from outside can be."""
    named, settings = room(name=text, preview=text), Settings(text, text, 0.5)
    rooms, nothing = RoomList((named, room(id="ba9876543210", name=text)), after=5), RoomList((), None)
    yield "room", f.room(named, settings, a_page(text), revision="p.1", key="k")
    yield "room", f.room(named, settings, replace(a_page(text), hidden=True, newest=False), revision="p.1", key="k")
    yield "room", f.broken(named, sentence=text)
    yield "room", f.home(key="k", text=text)
    yield "room", f.no_room(sentence=text, typed=text)
    yield "room", f.editing(ROOM_ID, question(text), alone=True)
    yield "editing", f.editing(ROOM_ID, question(text), alone=False)
    for listed, active, q in ((rooms, ROOM_ID, ""), (rooms, None, text), (nothing, None, text)):
        yield "rooms", f.rooms(listed, active=active, q=q)
    for row, active in ((named, None), (room(name=text, answering=True), ROOM_ID), (room(problem=text), None)):
        yield f"room-{ROOM_ID}", f.row(row, active=active)
    yield "rooms-place", f.list_revision("p.1")
    put_away = replace(rooms, rooms=(replace(named, archived=True),), archived=True)
    yield "rooms", f.rooms(replace(put_away, apart=room(id="0" * 12, temporary=True)), active=ROOM_ID, q=text)
    for archived in (put_away, nothing):
        yield "rooms-archived", f.archive_link(archived)
        yield "archived", f.archive(archived, q=text)
        yield "room", f.archive(archived, q=text, whole=True)
    yield "model", f.default_model()
    yield "header", f.header(named, settings)
    for state in ("running", "done"):
        made = Import("ab", state, (text, text), 0, size=9, read=3, reason=text, outcomes={"imported": 1})
        lines = [
            Imported(1, "imported", text, 1, ROOM_ID, text, text),
            Imported(2, "skipped", text, 0, ROOM_ID, text, text),
            Imported(3, "failed", text, 0, "", text, text),
            Imported(4, "failed", "", 0, "", text, text),
        ]
        yield "room", f.imports([made])
        yield "import", f.import_report(made, lines, more=True)
        yield "room", f.import_report(made, [], more=False, whole=True)
    yield "formats", f.exports(named, FORMATS)
    yield "room", f.exports(named, FORMATS, whole=True)
    yield "header", f.header(named, replace(settings, archived=True))
    yield "header", f.header(named, replace(settings, temporary=True))
    yield "palette-options", f.palette(put_away, q="", active=room(name=text, temporary=True))
    for models, problem in (([text, text], ""), ([], ""), ([], text)):
        yield "models", f.models(models, problem=problem)
    yield "palette-options", f.palette(rooms, q="", active=room(id="ba9876543210", answering=True))
    yield "palette-options", f.palette(nothing, q="zz", active=None)
    yield "messages", f.notice(text)
    yield "messages", f.messages(ROOM_ID, a_page(text))
    yield "messages", f.messages(ROOM_ID, replace(a_page(text), newest=False, more=False, missing=7))
    yield "messages", f.messages(ROOM_ID, Page((), more=False, last_used=0))
    hits = [Hit(ROOM_ID, 3, kind, 1_700_000_000_000, (Piece(text), Piece(text, marked=True))) for kind in HIT_KINDS]
    groups = [HitsOfRoom(replace(named, archived=True), [Hit(ROOM_ID, 0, "name", 1), *hits])]
    found = Found(tuple(hits), after=20, progress=(3, 9), cut=True)
    yield "search", f.search(groups, found, q=text, within=named)
    yield "search", f.search([], Found(), q=text, within=named, sentence=text)
    yield "search", f.search([], Found(), q=text, within=None)
    yield "room", f.search(groups, found, q=text, within=named, whole=True)
    yield "rooms", f.rooms(rooms, active=None, q=text, groups=groups)
    yield "palette-options", f.palette(rooms, q=text, active=None, groups=groups)
    for several, problem in (([text, "b"], ""), ([], text)):
        yield "several", f.several(several, chosen=[text], q="zz", problem=problem)
    yield "messages", f.messages(ROOM_ID, side_by_side(text))
    yield "reading", f.context_line()
    yield "message-1", f.message(ROOM_ID, question(text))
    yield "message-1", f.message(ROOM_ID, replace(question(text), versions=Versions(2, 3, earlier=1, later=5)))
    for answer in replies(text):
        yield "message-2", f.message(ROOM_ID, answer)
    parts: list[Part] = [Text("x"), Reasoning("x"), *(call(state, text) for state in ("running", "done", "failed"))]
    parts.append(File("0" * 64, "image/png", text, 3, 2))
    for position, part in enumerate(parts):
        yield f"part-2-{position}", f.part(ROOM_ID, 2, position, part)
    yield "error", f.error(text)
    shares = [Share(ROOM_ID, 1, "A" * 32, False, 1, 2, 3), Share(ROOM_ID, 2, "B" * 32, True, 1)]
    yield "shares", f.shares(ROOM_ID, shares)
    yield "shares", f.shares(ROOM_ID, [])
    yield "room", f.sharing(named, shares)
    yield "room", f.share_ended(text, text)
    yield "header", f.share_header(named)
    visitor = f.for_share(ADDRESS)
    yield "messages", visitor.messages(ROOM_ID, a_page(text))
    yield "messages", visitor.messages(ROOM_ID, side_by_side(text))
    yield "messages", visitor.messages(ROOM_ID, Page((), more=False, last_used=0))
    for answer in replies(text):
        yield "message-2", visitor.message(ROOM_ID, answer)
    for file in FILES:
        yield "part-2-0", visitor.part(ROOM_ID, 2, 0, replace(file, text=text, name=text))
        yield "part-2-0", f.for_export(lambda _: "").part(ROOM_ID, 2, 0, replace(file, text=text, name=text))
    yield "sessions", f.sessions([Session(n, 1, 2, 3, text, text) for n in "ab"], current="a", page=False)


def whole_page(fragments: Fragments, text: str = "x", *, q: str = "") -> str:
    """A page with a room open and every kind of message in it."""
    answers = (replace(message, number=number) for number, message in enumerate(replies(text), 2))
    page = Page((question(text), *answers), more=True, last_used=19, context_start=3)
    opened = fragments.room(room(name=text), Settings(text, text, 0.5), page, revision="p.1", key="k")
    rooms = RoomList((room(name=text), room(id="ba9876543210")), after=5)
    return fragments.page(opened, rooms, title="A room", active=ROOM_ID, q=q, revision="p.1")


def shape(element: Element) -> list[tuple[str, list[str]]]:
    return [(one.tag, sorted(one.attributes)) for one in element.all]


def urls(html: str) -> set[str]:
    return {value for one in parsed(html).all for name, value in one.attributes.items() if name in URLS}


def make_fragments(app: Flask, streaming_answers: StreamingAnswers) -> Fragments:
    model, cache = OfflineResponder(), FragmentCache(MB)
    return Fragments(app, "", streaming_answers=streaming_answers, model=lambda _: model, locked=False, cache=cache)


@pytest.fixture
def fragments(app: Flask) -> Fragments:
    """The fragments of the app, mounted at the root."""
    found = instance_of(app).fragments("")
    assert isinstance(found, Fragments)
    return found


# All fragments


def test_all_fragments_use_all_templates(app: Flask, fragments: Fragments) -> None:
    for _ in all_fragments(fragments, "x"):
        pass
    whole_page(fragments)
    fragments.login(wanted="")
    fragments.sessions([], current="", page=True)
    list(fragments.export(room(), [question()], now=0))
    fragments.share_ended("x", "x", page=True)
    fragments.for_share(ADDRESS).live_share(room(), a_page("x"), revision="p.1")
    fragments.exchange(ROOM_ID, question(), [reply("waiting")])
    assert app.jinja_env.cache is not None
    used = {name for _, name in app.jinja_env.cache.keys()}  # noqa: SIM118 - it is not a dict
    others = {"front.html"}  # a page of a server with several Overseers
    assert used | others == {path.relative_to(ROOT / "templates").as_posix() for path in TEMPLATES}


def test_fragment_has_one_root_with_an_id_and_nothing_inline(app: Flask, fragments: Fragments) -> None:
    """Also on a page that shows the offline responder."""
    html = [whole_page(fragments), whole_page(make_fragments(app, StreamingAnswers()))]
    for element_id, fragment in all_fragments(fragments, "x"):
        assert root(fragment)["id"] == element_id
        assert not any(one.strip() for one in parsed(fragment).content if isinstance(one, str)), element_id
        html.append(fragment)
    for one in html:
        assert not DUPLICATE_ATTRIBUTE.search(one)
        for element in parsed(one).all:
            assert not any(re.match(r"on|style$|hx-on|hx-vals|hx-swap-oob", name) for name in element.attributes)
            assert element.tag != "style"
            assert element.tag != "script" or ((element["src"] or "").startswith("/static/") and not element.content)


def test_fragment_with_hostile_text_has_the_shape_of_one_with_harmless_text(fragments: Fragments) -> None:
    """tests/hostile does the same with many payloads in one place of each kind."""
    for (name, hostile), (_, harmless) in zip(
        all_fragments(fragments, HOSTILE), all_fragments(fragments, "Owls"), strict=True
    ):
        assert shape(parsed(hostile)) == shape(parsed(harmless)), name
    page = parsed(whole_page(fragments, HOSTILE, q=HOSTILE))
    assert shape(page) == shape(parsed(whole_page(fragments, "x", q="x")))
    assert page.one("input", id="filter")["value"] == HOSTILE


def test_fragment_shows_text_as_it_was_written(fragments: Fragments) -> None:
    """Text is escaped exactly once."""
    row = root(fragments.row(room(name=HOSTILE, preview=HOSTILE), active=None))
    assert row.text.count(HOSTILE) == 1 and row.one("a")["title"] == HOSTILE
    assert root(fragments.row(room(problem=HOSTILE), active=None)).one("a")["title"] == HOSTILE
    assert row.has("button", data_name=HOSTILE, aria_label=f"Actions for {HOSTILE}")
    assert any(
        HOSTILE in (button["hx-confirm"] or "")
        for button in root(fragments.header(room(name=HOSTILE), Settings())).every("button")
    )
    assert root(fragments.rooms(RoomList((), None), active=None, q=HOSTILE))["data-q"] == HOSTILE
    assert root(fragments.part(ROOM_ID, 2, 0, call("failed", HOSTILE))).text.count(HOSTILE) == 3
    for html in (
        fragments.header(room(name=HOSTILE), Settings()),
        fragments.message(ROOM_ID, reply("failed", reason=HOSTILE)),
        fragments.message(ROOM_ID, reply(model=HOSTILE)),
        fragments.message(ROOM_ID, question(HOSTILE)),
        fragments.error(HOSTILE),
        fragments.no_room(sentence=HOSTILE),
        fragments.broken(room(), sentence=HOSTILE),
    ):
        assert HOSTILE in root(html).text


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_template_contains_nothing_unsafe(path: Path) -> None:
    source = path.read_text("utf-8")
    banned = r"\|\s*safe\b|autoescape|hx-swap-oob|hx-on\b|<style|\sstyle\s*=|\son\w+\s*=|<script(?![^>]*\ssrc=)|=\{\{"
    assert not re.search(banned, source, re.I)


# URLs


@pytest.mark.parametrize("prefix", ["", "/a/b"])
def test_fragment_urls_are_below_the_mount_point(app: Flask, prefix: str) -> None:
    fragments: Fragments = instance_of(app).fragments(prefix)
    pages = [whole_page(fragments), *(html for _, html in all_fragments(fragments, "x"))]
    elsewhere = ("#", "https://example.com/")  # anchors, and cited pages
    paths = {url for html in pages for url in urls(html) if not url.startswith(elsewhere)}
    assert len(paths) > 20
    for url in paths:
        assert re.match(
            rf"{prefix}/($|rooms\b|export\.zip\b|imports?\b|messages$|search\b|palette\b|models\b|live\b|static/|sessions\b|shares/)",
            url,
        ), url
    assert any(url.startswith(f"{prefix}/live?room={ROOM_ID}&seen=") for url in paths)
    assert f"{prefix}/rooms/{ROOM_ID}/messages" in paths


def test_fragment_url_quotes_its_query(fragments: Fragments) -> None:
    html = fragments.rooms(RoomList((room(),), after=5), active=None, q="a&b=c #?\"'<é")
    (more,) = {url for url in urls(html) if "after=5" in url}
    assert parse_qs(urlsplit(more).query) == {"q": ["a&b=c #?\"'<é"], "after": ["5"], "under": ["earlier"]}


def test_static_url_contains_a_hash_of_the_content(fragments: Fragments) -> None:
    found = {url for url in urls(whole_page(fragments)) if url.startswith("/static/")}
    assert {Path(url.split("?")[0]).suffix for url in found} == {".css", ".js", ".json", ".png", ".svg"}
    for url in found:
        path, _, version = url.partition("?v=")
        content = Assets(ROOT / "static").content(path.removeprefix("/static/"))
        assert version == sha256(content).hexdigest()[:12]


def test_partial_names_its_target_and_swap() -> None:
    assert (dom_id("message", 12), dom_id("part", 12, 0)) == ("message-12", "part-12-0")
    html = '<hx-partial hx-target="#room" hx-swap="outerMorph"><p>x</p></hx-partial>'
    assert partial("room", "outerMorph", "<p>x</p>") == html


# Pages and messages


def test_page_contains_the_fragments_that_are_pushed(fragments: Fragments) -> None:
    """A reload and a push show the same."""
    page = whole_page(fragments)
    assert fragments.header(room(name="x"), Settings("x", "x", 0.5)) in page
    assert fragments.context_line() in page
    assert fragments.row(room(name="x"), active=ROOM_ID) in page
    assert fragments.list_revision("p.1") in page
    assert fragments.message(ROOM_ID, question("x")) in page
    ids = {element["id"] for element in parsed(page).all}
    assert {"room", "rooms", "rooms-place", "header", "messages", "error", "after-19"} <= ids


def test_answer_goes_on_growing_when_a_question_behind_it_is_removed() -> None:
    """Otherwise each further token would be sent with all text before it."""
    answers = StreamingAnswers()
    answers.apply(PartAdded(ROOM_ID, 2, 0, "text", "One"))
    answers.apply(PathChanged(ROOM_ID))
    answers.apply(PartGrew(ROOM_ID, 2, 0, " two"))
    growth = answers.growth(ROOM_ID, 2, 0)
    assert growth is not None and "One two" in growth.open


def test_message_list_ends_with_the_place_for_the_next_exchange(fragments: Fragments) -> None:
    """A page of earlier messages has no such place."""
    exchange = parsed(fragments.exchange(ROOM_ID, question(), [reply("waiting")]))
    assert [element["id"] for element in exchange.children] == ["message-1", "message-2", "after-2"]
    page = Page((question(), reply()), more=False, last_used=2)
    assert root(fragments.messages(ROOM_ID, page)).has("div", id="after-2")
    assert root(fragments.messages(ROOM_ID, Page((), more=False, last_used=0))).has("div", id="after-0")
    assert "after-" not in fragments.messages(ROOM_ID, replace(page, newest=False))


@pytest.mark.parametrize("state", STATES)
def test_message_shows_its_state_and_the_possible_actions(fragments: Fragments, state: State) -> None:
    message = root(fragments.message(ROOM_ID, reply(state, Text("Once"), reason="Because.")))
    unfinished, broken = state in ("waiting", "streaming"), state in ("stopped", "failed", "interrupted")
    assert (message["data-state"], message["data-role"]) == (state, "assistant")
    assert message["aria-busy"] == ("true" if unfinished else None)
    assert "Once" in message.text and ("Because." in message.text) == (state != "complete")
    assert message.has("input", name="_method", value="DELETE") == unfinished, "Stop, without JavaScript"
    assert message.has("form", hx_post=f"/rooms/{ROOM_ID}/turn") != unfinished
    assert message.has("button", name="resume") == broken
    assert not root(fragments.message(ROOM_ID, reply(state))).has("button", name="resume")


def test_question_is_plain_text_except_for_code(fragments: Fragments) -> None:
    text = "# not a heading *but* [words](http://a) <b>"
    assert text in root(fragments.message(ROOM_ID, question(text))).text
    assert root(fragments.message(ROOM_ID, reply("complete", Text(text)))).has("h1")
    code = "```python\nx = 1\n```"
    message = root(fragments.message(ROOM_ID, question(f"*Why* `a  b`?\n\n{code}")))
    assert message.has("div", class_="part__plain", dir="auto") and len(message.every("code")) == 2
    for shown in (question(f"a\n{code}\nb"), reply("complete", Text(code))):
        assert render(code).strip() in fragments.message(ROOM_ID, shown)


def test_message_names_its_author(fragments: Fragments) -> None:
    """An answer has the name of the model, once that is known."""
    assert "You" in root(fragments.message(ROOM_ID, question())).text
    assert "llama" in root(fragments.message(ROOM_ID, reply(model="llama"))).text
    assert "Assistant" in root(fragments.message(ROOM_ID, reply("waiting", model=""))).text


def test_message_contains_its_parts_in_order_as_they_are_pushed(fragments: Fragments) -> None:
    parts = (Reasoning("Hm"), call("failed"), Text("Yes"))
    html = fragments.message(ROOM_ID, reply("complete", *parts))
    found = [one for one in parsed(html).all if re.fullmatch(r"part-2-\d", one["id"] or "")]
    assert [part["id"] for part in found] == ["part-2-0", "part-2-1", "part-2-2"]
    kinds = [part.attributes["class"].split()[-1] for part in found]
    assert kinds == ["part--reasoning", "part--tool", "part--text"]
    assert found[1]["data-state"] == "failed"
    assert fragments.part(ROOM_ID, 2, 1, parts[1]).strip() in html


# Growing answers


def test_growing_part_has_finished_blocks_and_an_open_one(app: Flask) -> None:
    """The cursor counts the blocks that are shown."""
    streaming = StreamingAnswers()
    fragments = make_fragments(app, streaming)
    streaming.apply(PartAdded(ROOM_ID, 2, 1, "text", "# One\n\n*two"))
    streaming.apply(PartGrew(ROOM_ID, 2, 1, "*\n\n```\nx\n```\n\nthr"))
    message = reply("streaming", Reasoning("Hm"), Text("stale"))
    html, cursor = fragments.message_and_cursor(ROOM_ID, message)
    assert cursor == Cursor(2, 1, 3)
    done, opened = '<div id="part-2-1-done" class="part__done">', '<div id="part-2-1-open" class="part__open">'
    assert done + render("# One\n\n*two*\n\n```\nx\n```\n\n") + "</div>" in html
    assert opened + render("thr") + "</div>" in html
    assert "part-2-0-open" not in html and "stale" not in html
    streaming.apply(PartGrew(ROOM_ID, 2, 1, "ee\n"))
    growth, rest = (streaming.growth(ROOM_ID, 2, 1, since=since) for since in (0, 1))
    assert growth is not None and rest is not None and (growth.blocks, rest.blocks) == (3, 3)
    assert opened + str(growth.open) + "</div>" in fragments.message(ROOM_ID, message)
    assert rest.open == growth.open and growth.done == render("# One\n\n") + str(rest.done)


def test_growing_part_whose_events_are_undelivered_has_no_cursor(fragments: Fragments) -> None:
    """Otherwise its blocks would be sent twice when the events arrive."""
    html, cursor = fragments.message_and_cursor(ROOM_ID, reply("streaming", Text("one\n\ntwo\n")))
    assert cursor is None and "one" in html and "two" in html and "part-2-0-open" in html
    for message in (reply("complete", Text("x")), reply("waiting"), reply("streaming", call("running"))):
        html, cursor = fragments.message_and_cursor(ROOM_ID, message)
        assert cursor is None and "-open" not in html


# Caches


def test_fragment_cache_that_is_full_drops_the_least_recently_used() -> None:
    cache, html = FragmentCache(3 * (ENTRY_BYTES + 1100)), Markup("x" * 1000)
    for key in "abc":
        cache.put(key, html)
    assert cache.get("a") is html
    cache.put("d", html)
    assert [cache.get(key) is html for key in "abcd"] == [True, False, True, True]
    cache.put("e", Markup("x" * 10_000))
    assert cache.get("e") is None and cache.get("a") is html


@pytest.mark.parametrize(("character", "length"), [("x", 0), ("x", 5_000), ("字", 5_000), ("😀", 5_000)])
def test_fragment_cache_takes_no_more_memory_than_its_limit(character: str, length: int) -> None:
    """Measured, for strings with one, two and four bytes per character."""
    limit = MB // 10
    cache = FragmentCache(limit)
    with measured() as held:
        for number in range(3 * limit // (length + ENTRY_BYTES)):
            key = ("/chat", "messages/_message.html", ROOM_ID, number, hash(str(number)))
            cache.put(key, Markup(character * length))
    assert limit // 2 < held[0] < limit


def test_fragment_cache_is_shared_by_all_prefixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overseer.application.FRAGMENT_CACHE_BYTES", MB // 4)
    app = create_app(tmp_path, models=ModelSettings(base_url=NOBODY, name="m"))
    below = [instance_of(app).fragments(prefix) for prefix in ["", *(f"/p{n}" for n in range(15))]]
    for fragments in below:
        fragments.message(ROOM_ID, question("字" * 100))
    with measured() as held:
        for fragments in below:
            for number in range(1, 4):
                fragments.message(ROOM_ID, replace(question("字" * 10_000), number=number))
    assert MB // 8 < held[0] < MB // 3  # the app itself takes a few kB
    message = reply("failed", Text("x"), reason="x")
    here, there = (fragments.message(ROOM_ID, message) for fragments in below[:2])
    assert f'"/rooms/{ROOM_ID}/turn"' in here and f'"/p0/rooms/{ROOM_ID}/turn"' in there
    assert f'"/rooms/{ROOM_ID}/turn"' not in there


def test_message_or_room_that_differs_in_any_field_is_rendered_again(fragments: Fragments) -> None:
    """The cache key changes with everything that the HTML shows."""
    known = Message(2, "assistant", "complete", (Text("a"),), model="m", created_at=1, ended_at=2, usage=Usage(1, 2))
    changes: list[dict[str, Any]] = [
        {},
        {"state": "stopped", "reason": "b"},
        {"state": "stopped", "reason": "c"},
        {"parts": (Text("b"),)},
        {"parts": (Reasoning("a"),)},
        {"parts": (Text("a"), Text("a"))},
        {"model": "n"},
        {"created_at": 10**12},
        {"usage": Usage(1, 3)},
        {"usage": None},
        {"number": 3},
    ]
    assert len({fragments.message(ROOM_ID, replace(known, **one)) for one in changes}) == len(changes)
    rooms = [room(), room(name="b"), room(messages=3), room(preview="c"), room(answering=True), room(problem="d")]
    rooms += [room(active_at=10**12), room(archived=True), room(temporary=True)]
    assert len({fragments.row(one, active=active) for one in rooms for active in (None, ROOM_ID)}) == 2 * len(rooms)


def test_finished_message_is_rendered_once(app: Flask, fragments: Fragments, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unfinished one is rendered each time."""
    rendered: list[str] = []
    get_template: Callable[..., Template] = app.jinja_env.get_template

    def counting(name: str, *args: Any) -> Template:
        rendered.append(name)
        return get_template(name, *args)

    monkeypatch.setattr(app.jinja_env, "get_template", counting)
    for _ in range(3):
        fragments.message(ROOM_ID, reply("complete", Text("x")))
    assert rendered.count("messages/_message.html") == 1
    assert "ba9876543210" in fragments.message("ba9876543210", reply("failed", Text("x")))
    assert rendered.count("messages/_message.html") == 2
    for _ in range(2):
        fragments.message(ROOM_ID, reply("waiting"))
    assert rendered.count("messages/_message.html") == 4


@pytest.mark.parametrize("folder", ["__pycache__", "a file/__pycache__"])
def test_templates_are_compiled_once_if_the_directory_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """A template that has changed is compiled again."""
    (tmp_path / "a file").touch()
    compiled: list[object] = []
    compile_template: Callable[..., Any] = Environment.compile

    def counting(*args: Any, **options: Any) -> Any:
        compiled.append(args)
        return compile_template(*args, **options)

    def start(source: str) -> str:
        cache = BytecodeCache(str(tmp_path / folder))
        return Environment(loader=DictLoader({"x.html": source}), bytecode_cache=cache).get_template("x.html").render()

    monkeypatch.setattr(Environment, "compile", counting)
    assert start("{{ 1 + 1 }}") == start("{{ 1 + 1 }}") == "2"
    assert len(compiled) == (2 if "file" in folder else 1)
    assert start("{{ 2 + 2 }}") == "4"
