"""The page itself: the keyboard, the composer, the list, small screens, and no JavaScript at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect

from tests.browser.steps import message, new_room, reload_until, room_id, room_rows, row, say, scroll, settled, until
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import Server

OpenPage = Callable[..., Page]


def test_enter_sends_shift_enter_breaks_and_the_focus_stays(open_page: OpenPage) -> None:
    """A message of two lines is one message, and the next can be typed at once."""
    page = open_page()
    new_room(page)
    box = page.get_by_role("textbox", name="Message")
    expect(box).to_be_focused()
    low = box.bounding_box()
    page.keyboard.type("First line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    assert low is not None
    until(lambda: (high := box.bounding_box()) is not None and high["height"] > low["height"])
    page.keyboard.press("Enter")
    expect(message(page, 1).locator(".message__body")).to_contain_text("First line\nsecond line", use_inner_text=True)
    expect(box).to_have_value("")
    expect(box).to_be_focused()
    page.keyboard.press("Enter")
    expect(message(page, 2, state="complete")).to_be_visible()
    expect(page.locator("#messages article")).to_have_count(2)


def test_enter_belongs_to_an_input_method_while_it_composes(open_page: OpenPage) -> None:
    """Choosing a character with Enter sends nothing."""
    page = open_page()
    new_room(page)
    page.get_by_role("textbox", name="Message").fill("にほ")
    page.locator("#composer textarea").dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    expect(page.get_by_role("textbox", name="Message")).to_have_value("にほ")
    page.get_by_role("textbox", name="Message").press("Enter")
    expect(message(page, 1)).to_contain_text("にほ")


def test_what_could_not_be_sent_comes_back(open_page: OpenPage, complaints: list[str]) -> None:
    """The server is away: that is said, the text is in the box again, and it is asked once when it can be."""
    page = open_page()
    new_room(page)
    page.route("**/messages", lambda route: route.abort())
    say(page, "Do not lose me")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("Do not lose me")
    expect(page.locator("#unreachable")).to_contain_text("Can’t reach the server. Your message wasn’t sent.")
    page.unroute("**/messages")
    page.get_by_role("textbox", name="Message").press("Enter")
    expect(message(page, 2, state="complete")).to_be_visible()
    expect(page.locator("#messages article")).to_have_count(2)
    expect(page.locator("#unreachable")).not_to_be_visible()
    complaints.clear()


def test_a_proxy_that_cannot_reach_the_server_says_nothing_in_the_page(
    open_page: OpenPage, complaints: list[str]
) -> None:
    """Its own error page is not put into ours: the text comes back, the room stays, and it is said what happened."""
    page = open_page()
    new_room(page)
    gone = "<html><head><title>502</title></head><body><h1>502 Bad Gateway</h1></body></html>"
    page.route("**/rooms/**", lambda route: route.fulfill(status=502, content_type="text/html", body=gone))
    page.route("**/rooms", lambda route: route.fulfill(status=502, content_type="text/html", body=gone))
    say(page, "Do not lose me")
    expect(page.locator("#unreachable")).to_contain_text("Can’t reach the server. Your message wasn’t sent.")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("Do not lose me")
    page.get_by_role("button", name="New", exact=True).click()
    expect(page.get_by_role("button", name="New", exact=True)).to_be_enabled()
    expect(page.get_by_role("textbox", name="Message")).to_have_value("Do not lose me")
    assert "Bad Gateway" not in page.content()
    page.unroute_all()
    page.get_by_role("textbox", name="Message").press("Enter")
    expect(message(page, 2, state="complete")).to_be_visible()
    expect(page.locator("#unreachable")).not_to_be_visible()
    complaints.clear()


def test_an_error_says_what_to_do(open_page: OpenPage) -> None:
    """A name that cannot be is refused in a sentence, and the page stays as it is."""
    page = open_page()
    new_room(page)
    page.locator("[aria-label='Room actions']").click()
    name = page.get_by_role("textbox", name="Room name")
    name.fill("   ")
    name.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="A room needs a name")).to_be_visible()
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert").filter(has_text="A room needs a name")).to_have_count(0)


def test_renaming_from_the_list_and_from_the_header(open_page: OpenPage) -> None:
    """Both change the name everywhere: header, list and title."""
    page = open_page()
    new_room(page)
    room = room_id(page)
    row(page, room).hover()
    row(page, room).get_by_role("button", name="Rename").click()
    page.locator("#rename input").fill("   ")
    page.keyboard.press("Enter")
    expect(page.locator("#rename").get_by_role("alert")).to_contain_text("A room needs a name")
    page.locator("#rename input").fill("Kitchen")
    page.keyboard.press("Enter")
    expect(page.locator("#rename")).not_to_be_visible()
    expect(page.locator("#header h1")).to_have_text("Kitchen")
    expect(row(page, room)).to_contain_text("Kitchen")
    expect(page).to_have_title("Kitchen · Overseer")
    page.locator("[aria-label='Room actions']").click()
    page.get_by_role("textbox", name="Room name").fill("Cellar")
    page.get_by_role("textbox", name="Room name").press("Enter")
    expect(page.locator("#header h1")).to_have_text("Cellar")
    expect(row(page, room)).to_contain_text("Cellar")


def test_a_refused_confirmation_deletes_nothing(open_page: OpenPage) -> None:
    """Clear and Delete ask first."""
    page = open_page()
    new_room(page)
    say(page, "Keep me")
    expect(message(page, 2, state="complete")).to_be_visible()
    room = row(page, room_id(page))
    dialog = page.locator("#confirm")
    expect(room).to_have_attribute("data-messages", "2")
    expect(room).to_contain_text("Keep me")
    for name, refuse in (("Clear", "Escape"), ("Delete", "Cancel")):
        room.hover()
        button = room.get_by_role("button", name=name)
        button.click()
        expect(dialog).to_contain_text("2 messages in “Keep me”" if name == "Clear" else "“Keep me”? Its 2 messages")
        expect(dialog.get_by_role("button", name=name)).to_be_visible()
        if refuse == "Escape":
            page.keyboard.press("Escape")
        else:
            dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_be_hidden()
        expect(button).to_be_focused()
    expect(room).to_be_visible()
    expect(page.locator("#messages article")).to_have_count(2)


def test_the_list_can_be_filtered_and_stays_filtered(open_page: OpenPage, server: Server) -> None:
    """Only rooms of that name are shown, also when others change meanwhile."""
    for name in ("Apples", "Pears", "Pineapples"):
        requests.post(f"{server.url}/rooms", {"name": name})
    page = open_page()
    rows = page.locator("#rooms > [data-room]")
    expect(rows).to_have_count(3)
    page.get_by_role("searchbox").fill("apple")
    expect(rows).to_have_count(2)
    pears = requests.post(f"{server.url}/rooms", {"name": "More pears"}).headers["Location"].rsplit("/", 1)[-1]
    requests.post(f"{server.url}/rooms", {"name": "Crab apple"})
    expect(rows).to_have_count(3)
    expect(row(page, pears)).to_have_count(0)
    page.get_by_role("searchbox").fill("")
    expect(rows).to_have_count(5)


def test_the_scroll_follows_only_at_the_end(open_page: OpenPage, model_server: ModelServer) -> None:
    """Who reads back is left there; who is at the end sees the newest."""
    page = open_page()
    new_room(page)
    reply = model_server.will(held(*[text(f"Line {n}\n\n") for n in range(80)]))
    say(page, "Much")
    expect(page.get_by_text("Line 79")).to_be_in_viewport()
    scroll(page, "start")
    expect(page.get_by_text("Line 2", exact=True)).to_be_in_viewport()
    reply.say(text("Below the reader\n\n"))
    expect(page.get_by_text("Below the reader")).to_be_attached()
    assert page.locator("#scroller").evaluate("list => list.scrollTop") == 0
    scroll(page, "end")
    reply.say(text("In view again\n\n"), end())
    reply.hang_up()
    expect(page.get_by_text("In view again")).to_be_in_viewport()


def test_earlier_messages_load_above(open_page: OpenPage, server: Server) -> None:
    """A long room opens at its end, fifty messages long, and gives the rest on demand, each once."""
    page = open_page()
    path = new_room(page)
    for n in range(1, 41):
        wait = {"Prefer": "wait=60"} if n == 40 else {}
        requests.post(f"{server.url}{path}/messages", {"text": f"Question {n}."}, headers=wait)
    page.goto(server.url + path)
    expect(page.locator("#messages article")).to_have_count(50)
    expect(message(page, 80)).to_be_in_viewport()
    page.locator("#scroller").evaluate("list => list.scrollTop = 0")
    expect(page.locator("#messages article")).to_have_count(80)
    expect(page.locator("#messages article").first).to_contain_text("Question 1.")
    expect(page.get_by_role("link", name="Load earlier messages")).to_have_count(0)
    expect(message(page, 31)).to_be_in_viewport()
    say(page, "At the end")
    expect(message(page, 82, state="complete")).to_be_visible()
    expect(page.locator("#messages article")).to_have_count(82)


def test_what_a_reader_unfolded_stays_unfolded(open_page: OpenPage, model_server: ModelServer) -> None:
    """A push does not fold the reasoning that somebody is reading."""
    from tests.support.model_server import reasoning

    page = open_page()
    new_room(page)
    reply = model_server.will(held(reasoning("Because.")))
    say(page, "Why?")
    details = message(page, 2).locator(".part--reasoning")
    details.locator("summary").click()
    expect(details).to_have_attribute("open", "")
    reply.say(text("So."), end())
    reply.hang_up()
    expect(message(page, 2, state="complete")).to_contain_text("So.")
    expect(details).to_have_attribute("open", "")
    expect(details).to_contain_text("Because.")


@pytest.mark.parametrize("size", [(390, 844), (360, 640)])
def test_a_phone_has_no_sideways_scroll_and_a_drawer(open_page: OpenPage, size: tuple[int, int]) -> None:
    """Everything is reachable on a small screen."""
    page = open_page()
    page.set_viewport_size({"width": size[0], "height": size[1]})
    new_room(page)
    say(page, "averyveryverylongwordthatnobodyeverbroke" * 10)
    expect(message(page, 2, state="complete")).to_be_visible()
    until(lambda: page.evaluate("document.documentElement.scrollWidth") <= size[0])
    expect(page.get_by_role("button", name="New", exact=True)).not_to_be_visible()
    page.locator("[data-open-drawer]").click()
    expect(page.get_by_role("button", name="New", exact=True)).to_be_in_viewport()
    first = room_id(page)
    new_room(page)
    expect(page.get_by_role("button", name="New", exact=True)).not_to_be_visible()
    page.locator("[data-open-drawer]").click()
    row(page, first).locator("a").click()
    expect(message(page, 2)).to_be_visible()


def test_hostile_words_do_nothing(open_page: OpenPage, model_server: ModelServer, complaints: list[str]) -> None:
    """What a person or a model said is text, in the list, the header and the messages."""
    evil = (
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
        "<hx-partial hx-target=\"#header\">owned</hx-partial><div hx-swap-oob='true' id='header'>owned</div>"
        '<template hx type="partial" hx-target="#rooms">owned</template><title>owned</title>'
    )
    page = open_page()
    new_room(page)
    model_server.will(held(text(evil + "\n\n" + evil), end())).hang_up()
    say(page, evil)
    expect(message(page, 2, state="complete")).to_contain_text("<script>")
    expect(message(page, 1)).to_contain_text("<hx-partial")
    expect(page.locator("#header h1")).not_to_have_text("owned")
    expect(page.locator("#header h1")).to_contain_text("<img")
    assert not page.title().startswith("owned")
    assert page.locator("#messages :is(img, script, template, form form, [hx-swap-oob])").count() == 0
    settled(page)
    page.reload()
    expect(message(page, 2)).to_contain_text("<script>")
    assert not complaints


def test_without_javascript_everything_but_live_works(browser: Browser, server: Server) -> None:
    """Forms and links do it all: make, ask, rename, clear, filter, delete."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_role("button", name="New", exact=True).click()
    page.get_by_role("textbox", name="Message").fill("Hello without scripts")
    page.get_by_role("button", name="Send").click()
    expect(page).to_have_url(f"{server.url}/rooms/{page.locator('#room').get_attribute('data-room')}#message-1")
    reload_until(page, message(page, 2, state="complete"))
    expect(message(page, 2, state="complete")).to_contain_text("All right.")
    page.locator("[aria-label='Room actions']").click()
    page.get_by_role("textbox", name="Room name").fill("Plain")
    page.locator("#header").get_by_role("button", name="Rename").click()
    expect(page.locator("#header h1")).to_have_text("Plain")
    page.get_by_role("searchbox").fill("nothing of the kind")
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator("#rooms > [data-room]")).to_have_count(0)
    page.goto(server.url)
    page.locator("[aria-label='Room actions']").click()
    page.get_by_role("button", name="Clear messages").click()
    expect(page.locator("#messages article")).to_have_count(0)
    page.locator("[aria-label='Room actions']").click()
    page.get_by_role("button", name="Delete room").click()
    expect(page.locator("#rooms > [data-room]")).to_have_count(0)
    context.close()


def test_without_javascript_a_growing_answer_comes_by_itself(
    browser: Browser, server: Server, model_server: ModelServer
) -> None:
    """The page asks for itself again until the answer has ended, and then no more."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_role("button", name="New", exact=True).click()
    reply = model_server.will(held(text("Slowly")))
    page.get_by_role("textbox", name="Message").fill("Go on")
    page.get_by_role("button", name="Send").click()
    expect(message(page, 2, state="streaming")).to_contain_text("Slowly")
    reply.say(text(" but surely."), end())
    reply.hang_up()
    expect(message(page, 2, state="complete")).to_contain_text("Slowly but surely.")
    expect(page.locator("head meta[http-equiv=refresh]")).to_have_count(0)
    context.close()


def test_the_keyboard_alone_does_it(open_page: OpenPage) -> None:
    """New, a message, the row's actions: all by Tab, Enter and Space."""
    page = open_page()
    page.locator("#new-room").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#composer textarea")).to_be_focused()
    page.keyboard.type("By keyboard")
    page.keyboard.press("Enter")
    expect(message(page, 2, state="complete")).to_be_visible()
    expect(row(page, room_id(page))).to_have_attribute("data-messages", "2")
    expect(row(page, room_id(page))).to_have_attribute("data-state", "idle")
    row(page, room_id(page)).locator("a").focus()
    page.keyboard.press("Tab")
    expect(row(page, room_id(page)).get_by_role("button", name="Pin")).to_be_focused()
    page.keyboard.press("Tab")
    expect(row(page, room_id(page)).get_by_role("button", name="Rename")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#rename input")).to_be_focused()
    page.keyboard.type("Typed")
    page.keyboard.press("Enter")
    expect(page.locator("#header h1")).to_have_text("Typed")


def test_a_row_that_rises_under_the_focus_keeps_it(open_page: OpenPage, server: Server) -> None:
    """An answer in a lower room moves its row to the top; whoever is on that row with the keyboard stays on it."""
    page = open_page()
    lower, upper = new_room(page), new_room(page)
    expect(room_rows(page).first).to_have_id(f"room-{upper[-12:]}")
    button = row(page, lower[-12:]).get_by_role("button", name="Clear")
    button.focus()
    requests.post(f"{server.url}{lower}/messages", data={"text": "Up"}, timeout=20)
    expect(room_rows(page).first).to_have_attribute("data-messages", "2")
    expect(button).to_be_focused()


def test_the_page_says_that_no_language_model_is_connected(browser: Browser, offline_server: Server) -> None:
    """With nothing configured it can be tried whole, and says so, and how to change it."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(offline_server.url)
    expect(page.locator("#model")).to_contain_text("No model connected")
    page.locator("#model summary").click()
    for name in ("Ollama", "llama.cpp", "OpenAI", "OpenRouter"):
        expect(page.locator("#model")).to_contain_text(name)
    new_room(page)
    say(page, "What time is it? And roll a die with 20 sides.")
    expect(message(page, 2, state="complete").locator(".part--tool")).to_have_count(2)
    expect(message(page, 2)).to_contain_text("The die shows")
    context.close()


def test_what_is_typed_while_a_message_is_on_its_way_is_the_next(open_page: OpenPage, server: Server) -> None:
    """Two are sent at once, a third is being typed: each is asked once, and what is typed stays."""
    page = open_page()
    new_room(page)
    held: list[Route] = []
    page.route("**/messages", lambda route: held.append(route))
    for words in ("one", "two"):
        say(page, words)
        expect(page.get_by_role("textbox", name="Message")).to_have_value("")
    page.get_by_role("textbox", name="Message").press_sequentially("three is still")
    for number in (1, 2):
        until(lambda: page.evaluate("true") and len(held) >= number)  # noqa: B023  Playwright hears of the request
        held[number - 1].continue_()
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(page.get_by_role("textbox", name="Message")).to_have_value("three is still")
    expect(page.locator("article[data-role=user] .message__body")).to_have_text(["one", "two"])


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_an_empty_room_fills_the_window(open_page: OpenPage, size: tuple[int, int]) -> None:
    """The composer is at the bottom, whatever the list and the messages hold."""
    page = open_page()
    new_room(page)
    page.set_viewport_size({"width": size[0], "height": size[1]})

    def at_the_bottom() -> bool:
        box = page.locator("#composer").bounding_box()
        return box is not None and abs(box["y"] + box["height"] - size[1]) < 2

    until(at_the_bottom)


def test_the_first_page_is_small(context: BrowserContext, server: Server) -> None:
    """At most 16 requests and 60 KB, in a room with a conversation; what follows is kept by the browser."""
    path = requests.post(f"{server.url}/rooms", timeout=20).headers["Location"]
    requests.post(f"{server.url}{path}/messages", {"text": "Hello"}, headers={"Prefer": "wait=60"}, timeout=90)
    page = context.new_page()
    asked: list[Request] = []
    page.on("requestfinished", lambda request: asked.append(request))
    page.goto(server.url + path)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    page.wait_for_load_state("networkidle")
    sizes = [request.sizes() for request in asked]
    assert 5 < len(asked) <= 16, [request.url for request in asked]
    assert sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes) <= 60 * 1024


def test_a_link_with_ctrl_held_opens_a_tab_of_its_own(open_page: OpenPage, server: Server) -> None:
    """As everywhere on the web."""
    page = open_page()
    first = new_room(page)
    new_room(page)
    with page.context.expect_page() as opened:
        row(page, first.rsplit("/", 1)[-1]).locator("a").click(modifiers=["ControlOrMeta"])
    expect(opened.value).to_have_url(server.url + first)
    expect(page.locator("#room")).not_to_have_attribute("data-room", first.rsplit("/", 1)[-1])


def test_who_sends_from_above_sees_what_was_sent(open_page: OpenPage, model_server: ModelServer) -> None:
    """The list follows its end again."""
    page = open_page()
    new_room(page)
    model_server.will(held(*[text(f"Line {n}\n\n") for n in range(80)], end())).hang_up()
    say(page, "Much")
    expect(message(page, 2, state="complete")).to_be_visible()
    scroll(page, "start")
    say(page, "Down here")
    expect(message(page, 3)).to_be_in_viewport()


def test_a_page_of_earlier_messages_sends_to_the_newest(open_page: OpenPage, server: Server) -> None:
    """There the new message has no place, so one is taken to where it has."""
    page = open_page()
    path = new_room(page)
    requests.post(f"{server.url}{path}/messages", {"text": "One"})
    requests.post(f"{server.url}{path}/messages", {"text": "Two"}, headers={"Prefer": "wait=60"})
    page.goto(f"{server.url}{path}?before=3")
    expect(page.locator("#messages article")).to_have_count(2)
    expect(page.get_by_role("link", name="Jump to latest")).to_be_visible()
    say(page, "Three")
    expect(message(page, 6, state="complete")).to_be_visible()
    expect(page.locator("#messages article")).to_have_count(6)


def test_a_double_click_on_new_makes_one_room(open_page: OpenPage) -> None:
    """The button rests while a room is being made."""
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    page.get_by_role("button", name="New", exact=True).dblclick()
    expect(page.locator("#composer")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("button", name="New", exact=True)).to_be_enabled()
    assert len(asked) == 1
