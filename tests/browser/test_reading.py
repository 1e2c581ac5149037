"""Reading: the end is followed, a place is kept, links lead to messages, and what is new is told."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.browser.conftest import FLAGS
from tests.browser.steps import message, new_room, row, say, scroll, settled, until
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import Server

OpenPage = Callable[..., Page]

# What is said to a screen reader, by the way that new browsers have, or by an element for the others.
LISTEN = """way => {
    const heard = [];
    if (way === "notify") document.ariaNotify = (words) => heard.push(words);
    else document.ariaNotify = undefined;
    const announcer = document.getElementById("announcer");
    new MutationObserver(() => announcer.textContent && heard.push(announcer.textContent))
        .observe(announcer, { childList: true });
    return heard;
}"""


def fill(server: Server, path: str, questions: int, words: str = "Question {}.") -> None:
    """Say many things in a room, and wait for the last answer."""
    for n in range(1, questions + 1):
        wait = {"Prefer": "wait=60"} if n == questions else {}
        requests.post(f"{server.url}{path}/messages", {"text": words.format(n)}, headers=wait, timeout=90)


def room_of(server: Server, name: str = "Long", questions: int = 0) -> str:
    path = requests.post(f"{server.url}/rooms", {"name": name}, timeout=20).headers["Location"]
    fill(server, path, questions)
    return str(path)


def long_room(server: Server, messages: int, *, tall: bool = False) -> str:
    """A room with so many messages, written into its file while the server is down; `tall` answers vary in height."""
    path = room_of(server, questions=1)
    server.stop()
    with closing(sqlite3.connect(server.instance / "facets" / f"room-{path[-12:]}.sqlite")) as db, db:
        for number in range(3, messages + 1):
            fields = (number, "user" if number % 2 else "assistant")
            db.execute("INSERT INTO messages (number, role, state, created_at) VALUES (?, ?, 'complete', 1)", fields)
            words = f"Message {number}.\n\n" + "Another paragraph.\n\n" * (number % 23 if tall else 0)
            db.execute("INSERT INTO parts (message, position, kind, text) VALUES (?, 0, 'text', ?)", (number, words))
    server.start()
    return path


def loads(page: Page) -> list[str]:
    """The requests for earlier messages that the page makes from now on."""
    made: list[str] = []
    page.on("request", lambda request: made.append(request.url) if "messages?before=" in request.url else None)
    return made


def hold_loads(page: Page, *, after: int = 0) -> list[Route]:
    """Hold back the requests for earlier messages that follow the first `after` ones."""
    held: list[Route] = []
    seen: list[Route] = []

    def handle(route: Route) -> None:
        seen.append(route)
        held.append(route) if len(seen) > after else route.continue_()

    page.route("**/messages?before=*", handle)
    return held


def release_loads(page: Page, held: list[Route]) -> None:
    """Let the requests go on, and wait until their responses are on the page."""
    for route in held:
        route.continue_()
    page.unroute("**/messages?before=*")
    settled(page)
    frames(page)


def frames(page: Page, count: int = 8) -> None:
    """Wait until the page has drawn so many frames."""
    page.evaluate("async (n) => { while (n--) await new Promise(requestAnimationFrame); }", count)


def place(page: Page) -> float:
    """How far the list is scrolled."""
    return float(page.locator("#scroller").evaluate("list => list.scrollTop"))


def to_end(page: Page) -> float:
    """How far the list is from its end."""
    return float(page.locator("#scroller").evaluate("list => list.scrollHeight - list.scrollTop - list.clientHeight"))


def wheel(page: Page, distance: int) -> None:
    """Turn the wheel over the list."""
    page.locator("#scroller").hover()
    page.mouse.wheel(0, distance)


def swipe_up(page: Page) -> None:
    """Move the list by a finger, towards its end. The finger stays there: lifted it would leave the list in motion."""
    tools = page.context.new_cdp_session(page)
    tools.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    for kind, y in (("touchStart", 500), ("touchMove", 400), ("touchMove", 300)):
        tools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": 700, "y": y}]})


def top_of(page: Page, number: int) -> float:
    """How far below the window's edge a message begins."""
    top = "element => element.getBoundingClientRect().top"
    return float(message(page, number).evaluate(top) - page.locator("#scroller").evaluate(top))


def read_on_from(page: Page, number: int) -> bool:
    """Move the list to a message; whether it is there some frames later, when what came in before is done moving."""
    move = """async (article) => {
        article.scrollIntoView();
        for (let frame = 0; frame < 8; frame++) await new Promise(requestAnimationFrame);
    }"""
    message(page, number).evaluate(move)
    return abs(top_of(page, number)) < 40


def test_what_came_meanwhile_is_counted_and_one_press_away(open_page: OpenPage, server: Server) -> None:
    """Who reads back is told how many messages are new below; the button leads there and goes."""
    path = room_of(server, questions=20)
    page = open_page(path)
    newer = page.locator("#newer")
    expect(newer).to_be_hidden()
    scroll(page, "start")
    expect(newer).to_have_text("↓")
    requests.post(f"{server.url}{path}/messages", {"text": "New"}, timeout=20)
    expect(newer).to_have_text("2 new ↓")
    newer.click()
    expect(message(page, 42)).to_be_in_viewport()
    expect(newer).to_be_hidden()
    expect(page.locator("#composer textarea")).to_be_focused()


def test_earlier_messages_come_by_themselves_and_move_nothing(open_page: OpenPage, server: Server) -> None:
    """At the top of the list the fifty before are fetched; what is read stays where it is, in every frame."""
    page = open_page(long_room(server, 120, tall=True))
    expect(page.locator("#messages article")).to_have_count(50)
    record = """() => {
        const list = document.getElementById("scroller"), article = document.getElementById("message-71");
        window.places = new Set();
        list.scrollTop = 0;
        requestAnimationFrame(function look() {
            places.add(Math.round(article.getBoundingClientRect().top));
            requestAnimationFrame(look);
        });
    }"""
    page.evaluate(record)
    expect(page.locator("#messages article")).to_have_count(100)
    frames(page)
    places = page.evaluate("[...places]")
    assert max(places) - min(places) <= 1
    scroll(page, "start")
    expect(page.locator("#messages article")).to_have_count(120)
    expect(page.locator("#messages > .messages__earlier")).to_have_count(0)


def test_a_move_right_after_earlier_messages_came_is_not_undone(open_page: OpenPage, server: Server) -> None:
    """In the first frame that shows them the reader moves on; some frames later the list is where that led."""
    page = open_page(long_room(server, 120))
    move = """() => new Promise((done) => {
        const list = document.getElementById("scroller");
        new MutationObserver((_, observer) => {
            observer.disconnect();
            requestAnimationFrame(async () => {
                const goal = (list.scrollTop -= 1000);
                for (let frame = 0; frame < 8; frame++) await new Promise(requestAnimationFrame);
                done(Math.abs(list.scrollTop - goal));
            });
        }).observe(document.getElementById("messages"), { childList: true });
        list.scrollTop = 0;
    })"""
    assert page.evaluate(move) < 1


def test_each_press_of_home_loads_a_page_once(open_page: OpenPage, server: Server) -> None:
    """Also when it is pressed again before the page has come; then the list is at the top before the last page."""
    page = open_page(long_room(server, 700))
    made = loads(page)
    page.locator("#scroller").focus()
    for _ in range(12):
        page.keyboard.press("Home")
    expect(page.locator("#messages article")).to_have_count(650)
    settled(page)
    assert len(made) == len(set(made)) == 12
    assert 0 < top_of(page, 101) < 150  # below the link and the day that were above it


@pytest.mark.parametrize("messages", [300, 1_100])
def test_ctrl_home_leads_to_the_first_message_and_ctrl_end_back(
    open_page: OpenPage, server: Server, messages: int
) -> None:
    """By loading what is between, or, where that is much, on a page of its own."""
    page = open_page(long_room(server, messages))
    page.locator("#scroller").focus()
    page.keyboard.press("Control+Home")
    expect(message(page, 1)).to_be_in_viewport()
    expect(page.locator("#messages > .messages__earlier")).to_have_count(0)
    page.locator("#scroller").focus()
    page.keyboard.press("Control+End")
    expect(message(page, messages)).to_be_in_viewport()
    until(lambda: to_end(page) < 2)


def test_ctrl_home_after_the_room_was_cleared_leads_to_its_first_message(open_page: OpenPage, server: Server) -> None:
    """Numbers go on after a room was cleared, so the first message need not be message 1."""
    path = long_room(server, 1_200)
    with closing(sqlite3.connect(server.instance / "facets" / f"room-{path[-12:]}.sqlite")) as db, db:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("DELETE FROM messages WHERE number < 31")
    page = open_page(path)
    page.locator("#scroller").focus()
    page.keyboard.press("Control+Home")
    expect(message(page, 31)).to_be_in_viewport()


@pytest.mark.parametrize("how", ["wheel", "key", "pointer", "touch", "scrollTop"])
def test_any_input_ends_the_way_to_the_first_message(open_page: OpenPage, server: Server, how: str) -> None:
    """What is being loaded still comes in, above, and nothing more is loaded."""
    page = open_page(long_room(server, 600))
    made, held = loads(page), hold_loads(page, after=2)
    page.locator("#scroller").focus()
    page.keyboard.press("Control+Home")
    until(lambda: bool(page.evaluate("true")) and len(held) == 1)
    expect(message(page, 451)).to_be_in_viewport()
    if how == "wheel":
        wheel(page, 300)
    elif how == "key":
        page.keyboard.press("ArrowDown")
    elif how == "pointer":
        message(page, 452).locator(".message__body").click()
    elif how == "touch":
        swipe_up(page)
    else:
        page.locator("#scroller").evaluate("list => { list.scrollTop = 300 }")
    until(lambda: place(page) > 0 or how == "pointer")
    release_loads(page, held)
    expect(page.locator("#messages article")).to_have_count(200)
    expect(message(page, 453)).to_be_in_viewport()
    assert len(made) == 3


def test_the_wheel_ends_the_search_for_a_place_that_was_kept(open_page: OpenPage, server: Server) -> None:
    """Who scrolls while the messages around the place are loaded stays where that led."""
    other, path = room_of(server, "Other"), long_room(server, 120, tall=True)
    page = open_page(path)
    scroll(page, "start")
    expect(page.locator("#messages article")).to_have_count(100)
    until(lambda: read_on_from(page, 41))
    row(page, other[-12:]).locator("a").click()
    expect(page.locator("#room")).to_have_attribute("data-room", other[-12:])
    held = hold_loads(page)
    row(page, path[-12:]).locator("a").click()
    until(lambda: bool(page.evaluate("true")) and len(held) == 1)
    before = place(page)
    wheel(page, -400)
    until(lambda: place(page) < before)
    release_loads(page, held)
    expect(page.locator("#messages article")).to_have_count(100)
    expect(message(page, 119)).to_be_in_viewport()


def test_a_load_that_failed_leaves_a_link_that_works(
    open_page: OpenPage, server: Server, complaints: list[str]
) -> None:
    """It is not asked again by itself; a press of the link, or of Home, does."""
    page = open_page(long_room(server, 160))
    page.route("**/messages?before=*", lambda route: route.abort())
    made = loads(page)
    scroll(page, "start")
    expect(page.locator("#unreachable")).to_be_visible()
    settled(page)
    assert len(made) == 1
    page.unroute("**/messages?before=*")
    page.get_by_role("link", name="Load earlier messages").click()
    expect(page.locator("#messages article")).to_have_count(100)
    page.locator("#scroller").focus()
    page.keyboard.press("Home")
    expect(page.locator("#messages article")).to_have_count(150)
    complaints.clear()


def test_pages_that_do_not_fill_the_window_load_the_ones_before(open_page: OpenPage, server: Server) -> None:
    """Until the window is full, or there are no more."""
    path = long_room(server, 160)
    page = open_page("/")
    page.set_viewport_size({"width": 1280, "height": 30_000})
    page.goto(server.url + path)
    expect(page.locator("#messages article")).to_have_count(160)


@pytest.fixture
def barred(browser: Browser, server: Server) -> Iterator[Page]:
    """A tab with scroll bars, which a headless browser hides otherwise."""
    launch = browser.browser_type.launch
    with launch(
        executable_path=os.environ.get("CHROMIUM", "chromium"), args=FLAGS, ignore_default_args=["--hide-scrollbars"]
    ) as shown:
        yield shown.new_page(viewport={"width": 1280, "height": 800})


def drag_bar(page: Page, *, down: bool) -> None:
    """Drag the thumb of the list's scroll bar from where it is beyond the end of its track."""
    box = page.locator("#scroller").bounding_box()
    assert box
    share = place(page) / (place(page) + to_end(page))
    arrow, thumb = 15, 20
    track = box["height"] - 2 * arrow - thumb
    x, y = box["x"] + box["width"] - 6, box["y"] + arrow + thumb / 2 + track * share
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, box["y"] + (box["height"] if down else 0), steps=30)
    frames(page)


def test_a_drag_of_the_bar_reaches_the_top_and_the_end(barred: Page, server: Server) -> None:
    """One drag each: the list does not grow under the thumb. At the top a page is loaded, at the end it follows."""
    path = long_room(server, 1_000, tall=True)
    page = barred
    page.goto(server.url + path)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    drag_bar(page, down=False)
    expect(page.locator("#messages article")).to_have_count(100)
    settled(page)
    frames(page)
    expect(message(page, 951)).to_be_in_viewport()
    page.mouse.up()
    drag_bar(page, down=True)
    page.mouse.up()
    until(lambda: to_end(page) < 2)
    requests.post(f"{server.url}{path}/messages", {"text": "New\n" * 20}, timeout=20)
    expect(message(page, 1_002)).to_be_in_viewport()


def test_end_follows_a_growing_answer_again(open_page: OpenPage, server: Server, model_server: ModelServer) -> None:
    """And a press of Page Up leaves it."""
    page = open_page(long_room(server, 60))
    reply = model_server.will(held(text("Begun")))
    say(page, "Go")
    expect(message(page, 62)).to_contain_text("Begun")
    page.locator("#scroller").focus()
    page.keyboard.press("PageUp")
    until(lambda: to_end(page) > 100)
    reply.say(text("\n\nParagraph" * 50 + " one"))
    expect(message(page, 62)).to_contain_text("one")
    frames(page)
    assert to_end(page) > 100
    page.keyboard.press("End")
    reply.say(text("\n\nParagraph" * 50 + " two"))
    expect(message(page, 62)).to_contain_text("two")
    until(lambda: to_end(page) < 2)
    reply.say(end())
    reply.hang_up()


def test_a_place_is_kept_when_one_goes_to_another_room_and_back(open_page: OpenPage, server: Server) -> None:
    """Even among messages that had to be fetched; a room that was at its end is there again."""
    other = room_of(server, "Other", 12)
    path = room_of(server, questions=60)
    page = open_page(path)
    page.locator("#scroller").evaluate("list => list.scrollTop = 0")
    expect(page.locator("#messages article")).to_have_count(100)
    until(lambda: read_on_from(page, 41))
    row(page, other[-12:]).locator("a").click()
    expect(page.locator("#room")).to_have_attribute("data-room", other[-12:])
    expect(message(page, 24)).to_be_in_viewport()
    row(page, path[-12:]).locator("a").click()
    expect(page.locator("#messages article")).to_have_count(100)
    until(lambda: abs(top_of(page, 41)) < 60)
    page.go_back()
    expect(page.locator("#room")).to_have_attribute("data-room", other[-12:])
    expect(message(page, 24)).to_be_in_viewport()


@pytest.mark.parametrize("number", [2, 119])
def test_a_link_leads_to_its_message_and_marks_it(open_page: OpenPage, server: Server, number: int) -> None:
    """One that is loaded, and one far up that is not."""
    page = open_page(f"{room_of(server, questions=60)}#message-{number}", live=False)
    expect(message(page, number)).to_be_in_viewport()
    expect(page.locator(".message:target")).to_have_id(f"message-{number}")
    header = page.locator("#header").bounding_box()
    assert header and header["y"] == 0, "the page itself was scrolled"


def test_the_time_names_the_date_on_hover(open_page: OpenPage, server: Server) -> None:
    """2:03 PM on the page, the whole date in its title, and a link to the message."""
    page = open_page(room_of(server, questions=1))
    time = message(page, 1).locator("time")
    words = time.inner_text()
    assert re.fullmatch(r"\d?\d:\d\d\s[AP]M", words)
    title = time.get_attribute("title") or ""
    assert title.endswith(words) and title.count(",") == 2 and "20" in title


def test_an_answer_that_ended_elsewhere_is_marked_until_it_is_read(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """While it is made the row pulses; then there is a dot, which goes when the room is opened, and stays gone."""
    path, here = room_of(server), room_of(server, "Here")
    page = open_page(here)
    unread = row(page, path[-12:]).locator(".row__unread")
    expect(unread).to_be_hidden()
    reply = model_server.will(held(text("Slowly")))
    requests.post(f"{server.url}{path}/messages", {"text": "Go"}, timeout=20)
    expect(row(page, path[-12:]).locator(".row__answering")).to_be_visible()
    expect(unread).to_be_hidden()
    reply.say(end())
    reply.hang_up()
    expect(unread).to_be_visible()
    expect(row(page, path[-12:]).locator("a")).to_have_accessible_name("Long new answer 2 messages Slowly")
    page.reload()
    expect(unread).to_be_visible()
    row(page, path[-12:]).locator("a").click()
    expect(message(page, 2)).to_be_visible()
    expect(unread).to_be_hidden()
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    expect(unread).to_be_hidden()
    row(page, here[-12:]).locator("a").click()
    expect(page.locator("#header h1")).to_have_text("Here")
    expect(page.locator(".row__unread:visible")).to_have_count(0)


def test_the_title_of_a_hidden_tab_is_marked_when_its_answer_ended(
    open_page: OpenPage, model_server: ModelServer, context: BrowserContext
) -> None:
    """And the mark goes when one looks."""
    page = open_page()
    new_room(page)
    reply = model_server.will(held(text("Wait")))
    say(page, "Hello")
    expect(message(page, 2)).to_contain_text("Wait")
    # A headless browser never hides a tab; so the page is told what a browser with a screen would tell it.
    hide = """hidden => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(hide, True)
    reply.say(end())
    reply.hang_up()
    expect(page).to_have_title("● Hello · Overseer")
    page.evaluate(hide, False)
    expect(page).to_have_title("Hello · Overseer")


@pytest.mark.parametrize("way", ["notify", "element"])
def test_a_screen_reader_hears_an_answer_once_when_it_has_ended(
    open_page: OpenPage, model_server: ModelServer, way: str
) -> None:
    """The log is silent while words come; then its text is told, or the reason that there is none."""
    page = open_page()
    new_room(page)
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")
    heard = page.evaluate_handle(LISTEN, way)
    reply = model_server.will(held(text("One word")))
    say(page, "Hello")
    expect(message(page, 2)).to_contain_text("One word")
    assert heard.json_value() == []
    reply.say(text(" and another."), end())
    reply.hang_up()
    expect(message(page, 2, state="complete")).to_be_visible()
    until(lambda: [words.strip() for words in heard.json_value()] == ["stand-in: One word and another."])
    expect(page.locator("#announcer")).to_be_empty()
    model_server.close()
    say(page, "And now?")
    expect(message(page, 4, state="failed")).to_be_visible()
    until(lambda: len(heard.json_value()) == 2)
    assert "Retry" in heard.json_value()[1]
