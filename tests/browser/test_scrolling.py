"""Scrolling: the list follows its end, keeps a reader's position, and loads earlier messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Browser, Page, expect

from overseer.storage.instance_lock import room_file
from tests.browser.steps import (
    OpenPage,
    ask,
    composer,
    create_room,
    expect_open,
    intercept,
    message,
    messages,
    new_room,
    open_room,
    row,
    scroll_to,
    seed_messages,
    send,
    wait_for_requests,
    wait_for_routes,
)
from tests.support.chromium import launch
from tests.support.files import execute
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import Server, running
from tests.support.server_pool import ServerPool
from tests.support.waiting import until

EARLIER = "**/messages?before=*"
# The rooms that tests only read: name, number of messages, and whether their answers vary in height.
SEEDED = (("tall", 120, True), ("short", 300, False), ("long", 700, False), ("very long", 1_100, False))


@pytest.fixture(scope="module")
def module_model_server() -> Iterator[ModelServer]:
    with closing(ModelServer()) as model_server:
        yield model_server


@pytest.fixture(scope="module")
def module_server(
    tmp_path_factory: pytest.TempPathFactory, server_pool: ServerPool, module_model_server: ModelServer
) -> Iterator[Server]:
    instance = tmp_path_factory.mktemp("scrolling") / "instance"
    with running(instance, module_model_server, server_pool=server_pool) as server:
        yield server


@pytest.fixture(scope="module")
def paths(module_server: Server) -> dict[str, str]:
    """The paths of the seeded rooms by name."""
    found = {name: create_room(module_server, name) for name, _, _ in SEEDED}
    module_server.stop()
    for name, count, tall in SEEDED:
        seed_messages(module_server.instance, found[name], count, tall=tall)
    # As if the room had been cleared: numbers are not reused.
    execute(
        room_file(module_server.instance, found["very long"][-12:]),
        "DELETE FROM messages WHERE number < 31",
        "UPDATE messages SET depth = depth - 30",
        "UPDATE messages SET parent = NULL WHERE number = 31",
    )
    module_server.start()
    return found


@pytest.fixture
def server(module_server: Server) -> Server:
    return module_server


@pytest.fixture
def model_server(module_model_server: ModelServer) -> ModelServer:
    return module_model_server


def record_loads(page: Page) -> list[str]:
    """The requests for earlier messages that the page makes from now on."""
    made: list[str] = []
    page.on("request", lambda request: made.append(request.url) if "messages?before=" in request.url else None)
    return made


def wait_frames(page: Page, count: int = 8) -> None:
    page.evaluate("async (n) => { while (n--) await new Promise(requestAnimationFrame); }", count)


def scroll_top(page: Page) -> float:
    return float(page.locator("#scroller").evaluate("list => list.scrollTop"))


def distance_to_end(page: Page) -> float:
    return float(page.locator("#scroller").evaluate("list => list.scrollHeight - list.scrollTop - list.clientHeight"))


def top_of(page: Page, number: int) -> float:
    """Distance of a message from the top of the list, in pixels."""
    top = "element => element.getBoundingClientRect().top"
    return float(message(page, number).evaluate(top) - page.locator("#scroller").evaluate(top))


def wheel(page: Page, distance: int) -> None:
    page.locator("#scroller").hover()
    page.mouse.wheel(0, distance)


def swipe_up(page: Page) -> None:
    """Move the list towards its end by touch. The finger stays down: lifting it would leave the list in motion."""
    tools = page.context.new_cdp_session(page)
    tools.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    for kind, y in (("touchStart", 500), ("touchMove", 400), ("touchMove", 300)):
        tools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": 700, "y": y}]})


def read_message_41(page: Page) -> None:
    """In the room "tall", load earlier messages and scroll to message 41."""
    scroll_to(page, "start")
    expect(messages(page)).to_have_count(100)

    def scrolled() -> bool:
        message(page, 41).evaluate("article => article.scrollIntoView()")
        wait_frames(page)
        return abs(top_of(page, 41)) < 40

    until(scrolled)


def test_list_follows_a_growing_answer_until_the_reader_scrolls_up(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """The smallest scroll up stops it; End, the end of the list, the button and sending resume it."""
    page = open_page()
    path = new_room(page)
    reply = model_server.will(held(*[text(f"Line {n}\n\n") for n in range(80)]))
    send(page, "Much")
    expect(page.get_by_text("Line 79")).to_be_in_viewport()
    scroller, newer = page.locator("#scroller"), page.locator("#newer")
    expect(newer).to_be_hidden()
    scroller.evaluate("list => list.addEventListener('wheel', () => (list.dataset.moved = 'yes'))")
    wheel(page, -30)
    expect(scroller).to_have_attribute("data-moved", "yes")
    reply.say(*[text(f"More {n}\n\n") for n in range(20)])
    expect(message(page, 2)).to_contain_text("More 19")
    assert distance_to_end(page) > 100
    wheel(page, 50_000)
    expect(page.get_by_text("More 19")).to_be_in_viewport()
    scroll_to(page, "end")
    reply.say(*[text(f"Again {n}\n\n") for n in range(20)])
    expect(page.get_by_text("Again 19")).to_be_in_viewport()
    scroller.focus()
    page.keyboard.press("PageUp")
    until(lambda: distance_to_end(page) > 100)
    reply.say(text("\n\nParagraph" * 50 + " one"))
    expect(message(page, 2)).to_contain_text("one")
    wait_frames(page)
    assert distance_to_end(page) > 100
    page.keyboard.press("End")
    reply.say(text("\n\nParagraph" * 50 + " two"))
    expect(message(page, 2)).to_contain_text("two")
    until(lambda: distance_to_end(page) < 2)
    scroll_to(page, "start")
    expect(newer).to_have_text("↓")
    reply.say(text("\n\nBelow"), end())
    expect(message(page, 2, state="complete")).to_contain_text("Below")
    assert scroll_top(page) == 0
    ask(server, path, "New", wait=False)
    expect(newer).to_have_text("2 new ↓")
    newer.click()
    expect(message(page, 4)).to_be_in_viewport()
    expect(newer).to_be_hidden()
    expect(composer(page)).to_be_focused()
    scroll_to(page, "start")
    send(page, "Down here")
    expect(message(page, 5)).to_be_in_viewport()


def test_earlier_messages_load_at_the_top_and_move_nothing(open_page: OpenPage, paths: dict[str, str]) -> None:
    """The read message stays at its place in every frame, and a scroll in the frame of the insertion is kept."""
    page = open_page(paths["tall"])
    expect(messages(page)).to_have_count(50)
    expect(message(page, 120)).to_be_in_viewport()
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
    expect(messages(page)).to_have_count(100)
    wait_frames(page)
    places = page.evaluate("[...places]")
    assert max(places) - min(places) <= 1
    scroll_to(page, "start")
    expect(messages(page)).to_have_count(120)
    expect(page.get_by_role("link", name="Load earlier messages")).to_have_count(0)

    page.goto(page.url.split("/rooms")[0] + paths["short"])
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


def test_home_loads_one_page_per_press(open_page: OpenPage, paths: dict[str, str]) -> None:
    page = open_page(paths["long"])
    made = record_loads(page)
    page.locator("#scroller").focus()
    for _ in range(12):
        page.keyboard.press("Home")
    expect(messages(page)).to_have_count(650)
    wait_for_requests(page)
    assert len(made) == len(set(made)) == 12
    assert 0 < top_of(page, 101) < 150  # below the day, and the link that was above it


@pytest.mark.parametrize(("name", "first", "last"), [("short", 1, 300), ("very long", 31, 1_100)])
def test_ctrl_home_leads_to_the_first_message_and_ctrl_end_back(
    open_page: OpenPage, paths: dict[str, str], name: str, first: int, last: int
) -> None:
    """By loading the messages between, or, if they are many, by opening another address."""
    page = open_page(paths[name])
    page.locator("#scroller").focus()
    page.keyboard.press("Control+Home")
    expect(message(page, first)).to_be_in_viewport()
    expect(page.locator("#messages > .messages__earlier")).to_have_count(0)
    page.locator("#scroller").focus()
    page.keyboard.press("Control+End")
    expect(message(page, last)).to_be_in_viewport()
    until(lambda: distance_to_end(page) < 2)


@pytest.mark.parametrize("how", ["wheel", "key", "pointer", "touch", "scrollTop"])
def test_any_input_ends_the_way_to_the_first_message(open_page: OpenPage, paths: dict[str, str], how: str) -> None:
    """The page that is being loaded is still inserted, above; no other is requested."""
    page = open_page(paths["long"])
    made, requested = record_loads(page), intercept(page, EARLIER, after=2)
    page.locator("#scroller").focus()
    page.keyboard.press("Control+Home")
    wait_for_routes(page, requested, 1)
    expect(message(page, 551)).to_be_in_viewport()
    if how == "wheel":
        wheel(page, 300)
    elif how == "key":
        page.keyboard.press("ArrowDown")
    elif how == "pointer":
        message(page, 552).locator(".message__body").click()
    elif how == "touch":
        swipe_up(page)
    else:
        page.locator("#scroller").evaluate("list => { list.scrollTop = 300 }")
    until(lambda: scroll_top(page) > 0 or how == "pointer")
    requested[0].continue_()
    expect(messages(page)).to_have_count(200)
    wait_for_requests(page)
    wait_frames(page)
    expect(message(page, 553)).to_be_in_viewport()
    assert len(made) == 3


def test_position_is_restored_when_a_room_is_opened_again(
    open_page: OpenPage, server: Server, paths: dict[str, str]
) -> None:
    """Even among messages that have to be loaded, unless the reader scrolls; a list at its end is at its end again."""
    other = create_room(server, "Other", questions=12)
    page = open_page(paths["tall"])
    read_message_41(page)
    open_room(page, other)
    expect(message(page, 24)).to_be_in_viewport()
    open_room(page, paths["tall"])
    expect(messages(page)).to_have_count(100)
    until(lambda: abs(top_of(page, 41)) < 60)
    page.go_back()
    expect_open(page, other)
    expect(message(page, 24)).to_be_in_viewport()
    requested = intercept(page, EARLIER)
    row(page, paths["tall"]).locator("a").click()
    wait_for_routes(page, requested, 1)
    before = scroll_top(page)
    wheel(page, -400)
    until(lambda: scroll_top(page) < before)
    requested[0].continue_()
    expect(messages(page)).to_have_count(100)
    wait_frames(page)
    expect(message(page, 119)).to_be_in_viewport()


def test_failed_load_of_earlier_messages_is_repeated_only_on_request(
    open_page: OpenPage, paths: dict[str, str], page_errors: list[str]
) -> None:
    page = open_page(paths["short"])
    page.route(EARLIER, lambda route: route.abort())
    made = record_loads(page)
    scroll_to(page, "start")
    expect(page.locator("#unreachable")).to_be_visible()
    wait_for_requests(page)
    assert len(made) == 1
    page.unroute(EARLIER)
    page.get_by_role("link", name="Load earlier messages").click()
    expect(messages(page)).to_have_count(100)
    page.locator("#scroller").focus()
    page.keyboard.press("Home")
    expect(messages(page)).to_have_count(150)
    page_errors.clear()


def test_earlier_messages_load_until_a_tall_window_is_full(open_page: OpenPage, paths: dict[str, str]) -> None:
    page = open_page()
    page.set_viewport_size({"width": 1280, "height": 13_000})
    page.goto(page.url.split("/rooms")[0] + paths["short"])
    expect(messages(page)).to_have_count(150)


@pytest.fixture
def page_with_scroll_bars(browser: Browser) -> Iterator[Page]:
    """A tab with scroll bars, which a headless browser hides by default."""
    with launch(browser.browser_type, ignore_default_args=["--hide-scrollbars"]) as shown:
        yield shown.new_page(viewport={"width": 1280, "height": 800})


def drag_bar(page: Page, *, down: bool) -> None:
    """Drag the thumb of the list's scroll bar beyond the end of its track."""
    box = page.locator("#scroller").bounding_box()
    assert box
    share = scroll_top(page) / (scroll_top(page) + distance_to_end(page))
    arrow, thumb = 15, 20
    track = box["height"] - 2 * arrow - thumb
    x, y = box["x"] + box["width"] - 6, box["y"] + arrow + thumb / 2 + track * share
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, box["y"] + (box["height"] if down else 0), steps=30)
    wait_frames(page)


def test_drag_of_the_scroll_bar_reaches_the_top_and_the_end(
    page_with_scroll_bars: Page, server: Server, paths: dict[str, str]
) -> None:
    """The list does not grow under the thumb. At the top a page of messages is loaded."""
    page = page_with_scroll_bars
    page.goto(server.url + paths["tall"])
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    drag_bar(page, down=False)
    expect(messages(page)).to_have_count(100)
    wait_for_requests(page)
    wait_frames(page)
    expect(message(page, 71)).to_be_in_viewport()
    page.mouse.up()
    drag_bar(page, down=True)
    page.mouse.up()
    until(lambda: distance_to_end(page) < 2)


@pytest.mark.parametrize("number", [2, 119])
def test_link_to_a_message_scrolls_the_list_to_it(open_page: OpenPage, paths: dict[str, str], number: int) -> None:
    """Also if the message has to be loaded; the page itself does not scroll."""
    page = open_page(f"{paths['tall']}#message-{number}", live=False)
    expect(message(page, number)).to_be_in_viewport()
    expect(page.locator(".message:target")).to_have_id(f"message-{number}")
    header = page.locator("#header").bounding_box()
    assert header and header["y"] == 0
