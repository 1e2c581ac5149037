"""Answers: in several tabs, every way they end, editing and copying messages, and the settings of a room."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.steps import (
    OpenPage,
    ask,
    composer,
    create_room,
    message,
    messages,
    new_room,
    open_room,
    row,
    send,
    wait_for_requests,
    wait_for_route,
)
from tests.support.model_server import (
    DEADLINE,
    ModelServer,
    Reply,
    answer,
    end,
    held,
    reasoning,
    silent,
    text,
    tool_call,
    usage,
)
from tests.support.pictures import data_uri, png
from tests.support.server import Server, StartServer
from tests.support.waiting import until

# Records what screen readers are told, by ariaNotify or by a live region.
RECORD_ANNOUNCEMENTS = """way => {
    const heard = [];
    document.ariaNotify = way === "notify" ? (text) => heard.push(text) : undefined;
    const announcer = document.getElementById("announcer");
    new MutationObserver(() => announcer.textContent && heard.push(announcer.textContent))
        .observe(announcer, { childList: true });
    return heard;
}"""


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop").first.click()


def test_answer_grows_in_both_tabs_and_after_a_reload_and_a_restart(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """Reasoning too, and nothing appears twice. A restart leaves the answer interrupted, and the tabs reconnect."""
    one = open_page()
    path = new_room(one)
    two = open_page(path)
    reply = model_server.will(held(reasoning("Hm, a greeting")))
    send(one, "Hello from the first tab")
    for page in (one, two):
        expect(message(page, 1)).to_contain_text("Hello from the first tab")
        expect(message(page, 2, state="streaming").locator(".part--reasoning")).to_contain_text("Hm, a greeting")
    details = message(one, 2).locator(".part--reasoning")
    details.locator("summary").click()
    reply.say(text("First "), text("and second.\n\nA new paragraph"))
    for page in (one, two):
        expect(message(page, 2)).to_contain_text("First and second.")
        expect(message(page, 2)).to_contain_text("A new paragraph")
        expect(message(page, 2)).to_have_attribute("aria-busy", "true")
    wait_for_requests(two)
    two.reload()
    expect(two.locator("body")).to_have_attribute("data-live", "open")
    reply.say(text(" and the rest"), end())
    for page in (one, two):
        expect(message(page, 2, state="complete")).not_to_have_attribute("aria-busy", "true")
        expect(message(page, 2).locator(".part--text p")).to_have_text(
            ["First and second.", "A new paragraph and the rest"]
        )
        expect(messages(page)).to_have_count(2)
        expect(row(page, path)).to_have_attribute("data-messages", "2")
    expect(details).to_have_attribute("open", "")
    model_server.will(held(text("Cut off in")))
    send(one, "Go")
    expect(message(two, 4)).to_contain_text("Cut off in")
    wait_for_requests(one)
    server.restart()
    for page in (one, two):
        expect(message(page, 4, state="interrupted")).to_contain_text("Cut off in")
        expect(page.locator("body")).to_have_attribute("data-live", "open")
        expect(messages(page)).to_have_count(4)
    send(two, "Once more")
    expect(message(one, 6, state="complete")).to_contain_text("All right.")


def test_questions_from_two_tabs_are_queued_and_stop_all_ends_them(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    one = open_page()
    two = open_page(new_room(one))
    first = model_server.will(held(text("The first")))
    send(one, "From the first tab")
    expect(message(two, 2, state="streaming")).to_contain_text("The first")
    send(two, "From the second tab")
    expect(message(one, 3)).to_contain_text("From the second tab")
    send(one, "Once more from the first")
    for page in (one, two):
        expect(message(page, 3)).to_contain_text("From the second tab")
        expect(message(page, 4, state="waiting")).to_contain_text("Queued")
        expect(message(page, 5)).to_contain_text("Once more from the first")
        expect(message(page, 6, state="waiting")).to_contain_text("Queued")
    second = model_server.will(held(text("The second")))
    first.say(end())
    first.hang_up()
    for page in (one, two):
        expect(message(page, 4, state="streaming")).to_contain_text("The second")
        expect(message(page, 6, state="waiting")).to_contain_text("Queued")
    two.get_by_role("button", name="Stop all").click()
    for page in (one, two):
        expect(message(page, 4, state="stopped")).to_contain_text("The second")
        expect(message(page, 6, state="stopped")).to_be_visible()
    assert second.closed.wait(20)


def test_stop_in_reasoning_tool_or_text_closes_the_connection_and_keeps_what_arrived(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    """The last one by Escape, which first closes an open dialog; the next question can be asked at once."""
    page = open_page()
    new_room(page)
    roll = Reply(tool_call("roll_dice", '{"sides": 2}'), end("tool_calls"))
    cases: list[tuple[str, list[Reply], str]] = [
        (".part--reasoning", [held(reasoning("Let me think"))], "Let me think"),
        (".part--tool[data-state=done]", [roll, held()], "roll_dice"),
        (".part--text", [held(text("Half of an"))], "Half of an"),
    ]
    for number, (part, replies, kept) in enumerate(cases, 1):
        last = model_server.will(*replies)
        send(page, f"Question {number}")
        expect(message(page, 2 * number, state="streaming").locator(part)).to_be_visible()
        assert last.begun.wait(20), "Stop between two steps would reach no model"
        if number < 3:
            stop(page)
        else:
            page.keyboard.type("What?")  # a question mark in a field is text
            page.locator("#scroller").focus()
            page.keyboard.press("?")
            shortcuts = page.get_by_role("dialog", name="Keyboard shortcuts")
            expect(shortcuts).to_contain_text("stop the answer")
            page.keyboard.press("Escape")
            expect(shortcuts).to_be_hidden()
            expect(message(page, 6, state="streaming")).to_be_visible()
            composer(page).press("Escape")
        expect(message(page, 2 * number, state="stopped").locator(part)).to_contain_text(kept)
        assert last.closed.wait(20), "the connection to the model was not closed"
        expect(page.locator("[aria-busy]")).to_have_count(0)
    expect(composer(page)).to_have_value("What?")
    send(page, "And now?")
    expect(message(page, 8, state="complete")).to_contain_text("All right.")


def test_answer_can_be_continued_retried_and_regenerated(open_page: OpenPage, model_server: ModelServer) -> None:
    """At the length limit, after the model server was down, and after a question; a double-click on Retry asks once."""
    page = open_page()
    new_room(page)
    model_server.will(Reply(text("Once upon a"), end("length")))
    send(page, "A story")
    expect(message(page, 2, state="interrupted")).to_be_visible()
    more = model_server.will(held(text(" time")))
    page.get_by_role("button", name="Continue").click()
    body = message(page, 2).locator(".message__body")
    expect(message(page, 2, state="streaming").locator(".message__body")).to_have_text("Once upon a time")
    more.say(text(" there was an owl."), end())
    expect(message(page, 2, state="complete").locator(".message__body")).to_have_text(
        "Once upon a time there was an owl."
    )
    assert model_server.requests[-1]["messages"][-2] == {"role": "assistant", "content": "Once upon a"}
    expect(page.get_by_role("button", name="Continue")).to_have_count(0)
    wait_for_requests(page)
    page.reload()
    expect(body.locator("> *")).to_have_count(1)
    expect(body).to_have_text("Once upon a time there was an owl.")
    model_server.will(Reply(text("Second."), end()))
    message(page, 2).get_by_role("button", name="Regenerate").click()
    expect(message(page, 3, state="complete")).to_contain_text("Second.")
    expect(message(page, 3).get_by_role("group", name="Versions")).to_contain_text("2/2")

    model_server.will(Reply(text("Half")), held(text("Again")))
    send(page, "Hello")
    expect(message(page, 5, state="interrupted")).to_be_visible()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method) if request.url.endswith("/turn") else None)
    page.get_by_role("button", name="Retry").dblclick()
    expect(message(page, 6, state="streaming")).to_contain_text("Again")
    stop(page)
    expect(message(page, 6, state="stopped")).to_be_visible()
    assert sent == ["POST", "DELETE"]
    expect(page.locator("#error")).to_be_empty()

    model_server.close()
    send(page, "Hello?")
    expect(message(page, 8, state="failed")).to_contain_text("Start the model server")
    again = ModelServer(model_server.port)
    page.get_by_role("button", name="Retry").click()
    expect(message(page, 8, state="complete").locator(".message__body")).to_have_text("All right.")
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    again.close()


def test_busy_model_is_retried_with_a_countdown_that_stop_ends(open_page: OpenPage, model_server: ModelServer) -> None:
    def busy(seconds: int) -> Reply:
        return Reply(b'{"error": {"message": "Slow down."}}', status=429, headers={"Retry-After": str(seconds)})

    page = open_page()
    new_room(page)
    model_server.will(busy(1), answer("Here I am."))
    send(page, "Are you there?")
    expect(message(page, 2, state="complete")).to_contain_text("Here I am.")
    expect(page.locator("[data-countdown]")).to_have_count(0)
    model_server.will(busy(60))
    send(page, "And now?")
    countdown = message(page, 4, state="waiting").locator("[data-countdown]")
    expect(countdown).to_have_text(re.compile(r"^Next try in ([2-5]\d|60) s$"))
    first = int(countdown.inner_text().split()[3])
    until(lambda: int(countdown.inner_text().split()[3]) < first)
    stop(page)
    expect(message(page, 4, state="stopped")).to_be_visible()
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    assert len(model_server.requests) == 3


def test_waiting_answer_says_that_the_model_loads_or_answers_another_room(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    loaded, other, mine = threading.Event(), held(text("Long ago")), silent()

    def reply(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["content"] == "Tell me a story":
            return other
        return mine if loaded.is_set() else Reply(b'{"error": {"message": "Loading model"}}', status=503)

    model_server.otherwise = reply
    page = open_page()
    new_room(page)
    send(page, "Are you there?")
    expect(message(page, 2, state="waiting")).to_contain_text(re.compile(r"The model is loading… [1-9]\d* s"))
    ask(server, create_room(server), "Tell me a story", wait=False)
    assert other.begun.wait(DEADLINE)
    loaded.set()
    expect(message(page, 2, state="waiting")).to_contain_text("Waiting for the model: 1 answer ahead")
    stop(page)
    expect(message(page, 2, state="stopped")).to_be_visible()
    assert mine.closed.wait(DEADLINE)
    other.hang_up()


def test_edit_shows_another_version_of_a_question_in_every_tab(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """Cancel changes nothing."""
    path = create_room(server)
    for question in ("\nWhat is <b>one</b>?\n", "Two?", "Three?"):
        ask(server, path, question)
    other, page = open_page(path), open_page(path)
    edit = message(page, 1).get_by_role("link", name="Edit")
    edit.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("form", name="Edit message")
    box = dialog.get_by_role("textbox")
    expect(box).to_be_focused()
    expect(box).to_have_value("\nWhat is <b>one</b>?\n")
    expect(dialog).to_contain_text("The current one stays")
    box.fill("Never mind")
    dialog.get_by_role("link", name="Cancel").click()
    expect(dialog).to_be_hidden()
    expect(messages(page)).to_have_count(6)
    model_server.will(answer("Three minus two."))
    edit.click()
    box.fill("What is one, really?")
    dialog.get_by_role("button", name="Ask again").click()
    expect(dialog).to_be_hidden()
    for tab in (page, other):
        expect(message(tab, 8, state="complete")).to_contain_text("Three minus two.")
        expect(message(tab, 7)).to_contain_text("What is one, really?")
        expect(messages(tab)).to_have_count(2)


def test_edit_that_is_rejected_keeps_the_text_and_drops_nothing(
    open_page: OpenPage, server: Server, model_server: ModelServer, page_errors: list[str]
) -> None:
    """While an answer is in progress."""
    path = create_room(server, questions=1)
    page = open_page(path)
    message(page, 1).get_by_role("link", name="Edit").click()
    dialog = page.get_by_role("form", name="Edit message")
    alert = dialog.get_by_role("alert")
    dialog.get_by_role("textbox").fill("Better")
    running = model_server.will(held(text("Still at it")))
    ask(server, path, "Two?", wait=False)
    assert running.begun.wait(20)
    dialog.get_by_role("button", name="Ask again").click()
    expect(alert).not_to_be_empty()
    expect(dialog.get_by_role("textbox")).to_have_value("Better")
    expect(messages(page)).to_have_count(4)
    running.say(end())
    expect(message(page, 4, state="complete")).to_be_attached()
    dialog.get_by_role("textbox").press("Control+Enter")
    expect(message(page, 5)).to_contain_text("Better")
    expect(messages(page)).to_have_count(2)
    page_errors.clear()


def test_copy_takes_markdown_code_and_links_and_wrap_folds_long_lines(
    open_page: OpenPage, model_server: ModelServer, context: BrowserContext
) -> None:
    """A second click copies again and navigates nowhere."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = open_page()
    new_room(page)
    markdown = f"Some **bold** words:\n\n```python\nprint('a  b')  {'# long ' * 60}\n```\n"
    model_server.will(answer(markdown))
    send(page, "Show me")
    done = message(page, 2, state="complete")
    expect(done).to_be_visible()
    page.evaluate("window.sameDocument = true")
    clipboard = "navigator.clipboard.readText()"
    done.locator("[data-copy-message]").dblclick()
    expect(done.get_by_text("Copied")).to_be_visible()
    until(lambda: page.evaluate(clipboard) == markdown)
    expect(done.locator("[data-copy-message]")).to_have_text("Copy")
    assert page.evaluate("window.sameDocument") and "#" not in page.url
    block = done.locator("pre")
    overflows = "element => element.scrollWidth > element.clientWidth"
    assert block.evaluate(overflows) and page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    done.get_by_role("button", name="Wrap").click()
    expect(done.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "true")
    assert not block.evaluate(overflows)
    done.get_by_role("button", name="Copy").click()
    expect(done.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate(clipboard) == markdown.split("```python\n")[1].removesuffix("```\n")
    message(page, 1).hover()
    message(page, 1).get_by_role("link", name="Link").click()
    until(lambda: page.evaluate(clipboard) == f"{page.url}#message-1")
    page.goto(f"{page.url}#message-1")
    expect(page.locator(".message:target")).to_have_id("message-1")


def test_slider_that_is_moved_before_its_script_has_loaded_sets_the_temperature(open_page: OpenPage) -> None:
    page = open_page()
    new_room(page)
    held: list[Route] = []
    page.route("**/settings.js*", lambda route: held.append(route))
    page.locator(".settings > summary").click()
    wait_for_route(page, held)
    page.get_by_role("slider", name="Temperature").fill("0.3")
    held.pop().continue_()
    expect(page.locator("#setting-temperature")).to_have_value("0.3")
    expect(page.locator(".settings__unsaved")).to_have_text("Not saved yet")


def test_settings_are_sent_to_the_model_and_kept_after_reload_and_restart(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """A chosen model applies at once, in every tab; the list can be searched and refreshed."""
    model_server.models = ["stand-in", "owl-7b"]
    page = open_page()
    path = new_room(page)
    other = open_page(path)
    page.bring_to_front()
    models, chosen = page.locator("#models"), page.locator("#models [aria-current=true]")
    page.locator(".picker > summary").click()
    expect(models).to_contain_text("2 models available")
    expect(chosen).to_have_text("Default · stand-in")
    expect(page.locator("#model-filter")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    for tab in (page, other):
        expect(tab.locator(".picker > summary")).to_have_text("stand-in")
    expect(page.locator(".picker > summary")).to_be_focused()
    model_server.models.append("owl-70b")
    page.keyboard.press("Enter")
    expect(chosen).to_have_text("stand-in")
    page.get_by_role("button", name="Refresh").click()
    expect(models).to_contain_text("3 models available")
    page.locator("#model-filter").press_sequentially("70")
    page.keyboard.press("Enter")  # before the list has arrived
    for tab in (page, other):
        expect(tab.locator(".picker > summary")).to_have_text("owl-70b")
    page.locator(".picker > summary").click()
    page.locator("#model-filter").fill("my-owl")
    expect(models.get_by_role("button", name="my-owl")).to_contain_text("not listed by the server")
    page.keyboard.press("Enter")
    for tab in (page, other):
        expect(tab.locator(".picker > summary")).to_have_text("my-owl")
    page.locator(".settings > summary").click()
    expect(page.get_by_label("System prompt")).to_be_focused()
    page.get_by_label("System prompt").fill("You are an owl.\nBe brief.")
    slider = page.get_by_role("slider", name="Temperature")
    slider.fill("0.3")
    expect(page.locator("#setting-temperature")).to_have_value("0.3")
    page.locator("#setting-temperature").fill("0.25")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("System prompt")).to_be_hidden()
    model_server.will(Reply(text("Hoo."), usage(1234, 56), end()))
    send(page, "Who?")
    expect(message(page, 2, state="complete").locator(".message__meta")).to_contain_text("my-owl")
    body = model_server.requests[-1]
    assert (body["model"], body["temperature"]) == ("my-owl", 0.25)
    assert body["messages"][0] == {"role": "system", "content": "You are an owl.\nBe brief."}
    wait_for_requests(page)
    server.restart()
    page.goto(server.url + path)
    page.locator(".settings > summary").click()
    expect(page.locator("#setting-temperature")).to_have_value("0.25")
    expect(page.get_by_label("System prompt")).to_have_value("You are an owl.\nBe brief.")
    expect(message(page, 2).locator(".message__usage")).to_contain_text("1,234 in, 56 out")


def test_settings_that_are_not_saved_stay_typed(open_page: OpenPage, server: Server) -> None:
    """In the room that they belong to, through a push, another room, and a reload, until they are saved."""
    other, path = create_room(server, "Other"), create_room(server, "Kitchen")
    page = open_page(path)
    prompt, unsaved = page.get_by_label("System prompt"), page.locator(".settings__unsaved")
    page.locator(".settings > summary").click()
    prompt.fill("Be brief.")
    requests.patch(server.url + path, {"name": "Renamed"}, timeout=20)
    expect(page.locator("#header h1")).to_have_text("Renamed")
    expect(prompt).to_have_value("Be brief.")
    expect(prompt).to_be_focused()
    page.locator("#composer textarea").click()
    expect(prompt).to_be_hidden()
    open_room(page, other)
    page.locator(".settings > summary").click()
    expect(prompt).to_have_value("")
    expect(unsaved).to_be_empty()
    open_room(page, path)
    page.reload()
    page.locator(".settings > summary").click()
    expect(prompt).to_have_value("Be brief.")
    expect(unsaved).to_have_text("Not saved yet")
    page.get_by_role("button", name="Save").click()
    expect(prompt).to_be_hidden()
    page.reload()
    page.locator(".settings > summary").click()
    expect(prompt).to_have_value("Be brief.")
    expect(unsaved).to_be_empty()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    expect(prompt).to_be_hidden()


def test_settings_that_are_rejected_stay_typed(open_page: OpenPage, model_server: ModelServer) -> None:
    """A model list that cannot be loaded says so."""
    page = open_page()
    new_room(page)
    model_server.close()
    page.locator(".picker > summary").click()
    expect(page.locator("#models")).to_contain_text("Could not connect")
    page.locator(".settings > summary").click()
    temperature = page.locator("#setting-temperature")
    temperature.evaluate("box => box.type = 'text'")
    temperature.fill("hot")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#error")).not_to_be_empty()
    expect(temperature).to_be_visible()
    expect(temperature).to_have_value("hot")
    temperature.fill("0.5")
    page.get_by_role("button", name="Save").click()
    expect(temperature).to_be_hidden()
    expect(page.locator("#error")).to_be_empty()
    expect(page.locator(".settings > summary")).to_be_focused()


@pytest.fixture
def small_context_server(start_server: StartServer) -> Server:
    """A server whose model reads 256 tokens."""
    return start_server(OVERSEER_CONTEXT_TOKENS="256")


def test_line_marks_the_messages_that_the_model_no_longer_sees(
    context: BrowserContext, small_context_server: Server, model_server: ModelServer
) -> None:
    """It moves during the conversation, is at the same place after a reload, and disappears with Clear."""
    server = small_context_server
    path = create_room(server)
    page = context.new_page()
    page.goto(server.url + path)
    for question in ("First ", "Second "):
        ask(server, path, question + 400 * "x")
    expect(message(page, 4, state="complete")).to_be_visible()
    line = page.locator("#reading")
    expect(line).to_have_count(0)
    for asked, context_start in ((3, 3), (4, 5)):
        ask(server, path, f"Number {asked} " + 400 * "x")
        assert len(model_server.requests[-1]["messages"]) < 2 * asked
        for _ in range(2):
            expect(page.locator(f"#reading + #message-{context_start}")).to_be_visible()
            expect(line).to_have_count(1)
            page.reload()
    expect(line).to_have_text("The model no longer sees messages above this line")
    requests.delete(f"{server.url}{path}/messages", timeout=20)
    expect(messages(page)).to_have_count(0)
    expect(line).to_have_count(0)


@pytest.mark.parametrize("way", ["notify", "element"])
def test_screen_reader_is_told_an_answer_once_when_it_has_ended(
    open_page: OpenPage, model_server: ModelServer, way: str
) -> None:
    """The title of a hidden tab is marked too."""
    page = open_page()
    new_room(page)
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")
    heard = page.evaluate_handle(RECORD_ANNOUNCEMENTS, way)
    # A headless browser never hides a tab, so simulate it.
    hide = """hidden => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    reply = model_server.will(held(text("One word")))
    send(page, "Hello")
    expect(message(page, 2)).to_contain_text("One word")
    assert heard.json_value() == []
    page.evaluate(hide, True)
    reply.say(text(" and another."), end())
    expect(message(page, 2, state="complete")).to_be_visible()
    until(lambda: [words.strip() for words in heard.json_value()] == ["stand-in: One word and another."])
    expect(page.locator("#announcer")).to_be_empty()
    expect(page).to_have_title("● Hello · Overseer")
    page.evaluate(hide, False)
    expect(page).to_have_title("Hello · Overseer")
    model_server.close()
    send(page, "And now?")
    expect(message(page, 4, state="failed")).to_be_visible()
    until(lambda: len(heard.json_value()) == 2)


def test_picture_in_an_answer_is_shown_in_its_place(
    open_page: OpenPage, model_server: ModelServer, page_errors: list[str]
) -> None:
    """In both tabs while the answer grows, and after a reload; its data URI never is."""
    one = open_page()
    path = new_room(one)
    two = open_page(path)
    uri = data_uri(png(640, 360))
    reply = model_server.will(held(text("Look: ![A blue"), text(f" wall]({uri[:200]}")))
    send(one, "Draw a wall")
    expect(message(one, 2)).to_contain_text("Look:")
    reply.say(text(f"{uri[200:]}) Nice"), text(" wall."))
    for page in (one, two):
        picture = message(page, 2).get_by_role("img", name="A blue wall")
        expect(picture).to_have_js_property("naturalWidth", 640)
        box = picture.bounding_box()
        assert box and abs(box["width"] / box["height"] - 640 / 360) < 0.01
        expect(message(page, 2)).to_contain_text("Nice wall.")
    reply.say(end())
    reply.hang_up()
    one.reload()
    for page in (one, two):
        expect(message(page, 2, state="complete").get_by_role("img")).to_have_js_property("naturalWidth", 640)
        assert "base64" not in page.content()
    with one.expect_popup() as opened:
        one.get_by_role("img", name="A blue wall").click()
    expect(opened.value.locator("img")).to_have_js_property("naturalWidth", 640)
    assert all("is sandboxed" in error for error in page_errors)  # the picture's own page, in which no script may run
    page_errors.clear()


def test_edit_is_in_its_place_and_kept_until_it_is_sent_or_cancelled(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """No push replaces it, Escape keeps what was typed, and another message can be edited instead."""
    path = create_room(server)
    for question in ("One?", "Two?"):
        ask(server, path, question)
    page = open_page(path)
    form, box = page.locator("#editing"), page.locator("#editing textarea")
    message(page, 1).hover()
    message(page, 1).get_by_role("link", name="Edit").click()
    expect(box).to_be_focused()
    expect(message(page, 1).locator(".message__body")).to_be_hidden()
    box.fill("First?")
    page.keyboard.press("Escape")
    expect(form).to_have_count(0)
    expect(message(page, 1)).to_contain_text("One?")
    expect(composer(page)).to_be_focused()
    message(page, 1).hover()
    message(page, 1).get_by_role("link", name="Edit").click()
    expect(box).to_have_value("First?")
    message(page, 3).hover()
    message(page, 3).get_by_role("link", name="Edit").click()
    expect(box).to_have_value("Two?")
    expect(form).to_have_count(1)
    server.restart()
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    expect(box).to_have_value("Two?")
    form.get_by_role("link", name="Cancel").click()
    expect(form).to_have_count(0)
    model_server.will(answer("Second again."))
    message(page, 3).hover()
    message(page, 3).get_by_role("link", name="Edit").click()
    box.fill("Second?")
    page.keyboard.press("Control+Enter")
    expect(message(page, 6, state="complete")).to_contain_text("Second again.")
    expect(message(page, 5).locator(".message__body")).to_have_text("Second?")
    expect(form).to_have_count(0)


def test_edit_of_a_room_that_has_changed_shows_the_change_and_keeps_the_text(
    open_page: OpenPage, server: Server
) -> None:
    path = create_room(server)
    ask(server, path, "One?")
    page = open_page(path)
    form, box = page.locator("#editing"), page.locator("#editing textarea")
    message(page, 1).hover()
    message(page, 1).get_by_role("link", name="Edit").click()
    box.fill("Mine?")
    requests.patch(f"{server.url}{path}/messages/1", {"text": "Theirs?"}, timeout=20)
    expect(message(page, 3)).to_contain_text("Theirs?")
    expect(form).to_have_count(0)
    message(page, 3).get_by_role("button", name="Previous version").click()
    message(page, 1).hover()
    message(page, 1).get_by_role("link", name="Edit").click()
    expect(box).to_have_value("Mine?")
    form.get_by_role("button", name="Ask again").click()
    expect(message(page, 5).locator(".message__body")).to_have_text("Mine?")
    expect(message(page, 5).get_by_role("group", name="Versions")).to_contain_text("3/3")
    expect(messages(page)).to_have_count(2)


def test_long_code_and_long_questions_fold(open_page: OpenPage, model_server: ModelServer, server: Server) -> None:
    """Not the newest answer, which may be growing. Both unfold, also through a push."""
    path = create_room(server)
    code = "".join(f"line {n}\n" for n in range(60))
    for _ in range(2):
        model_server.will(answer(f"```\n{code}```\n"))
        ask(server, path, code)
    page = open_page(path)
    full = page.locator("#message-4 pre").evaluate("pre => pre.clientHeight")
    assert full > 1000 and page.get_by_role("button", name="Show all 60 lines").count() == 1
    folded, button = page.locator("#message-2 pre"), message(page, 2).get_by_role("button", name="Show all 60 lines")
    assert folded.evaluate("pre => pre.clientHeight") < 400
    button.click()
    assert folded.evaluate("pre => pre.clientHeight") == full
    requests.patch(f"{server.url}{path}", {"name": "Renamed"}, timeout=20)
    expect(page.locator("#header h1")).to_have_text("Renamed")
    message(page, 2).get_by_role("button", name="Show less").click()
    assert folded.evaluate("pre => pre.clientHeight") < 400
    question = message(page, 3).locator(".part__plain")
    assert question.evaluate("text => text.clientHeight") < 400
    message(page, 3).get_by_role("button", name="Show more").click()
    assert question.evaluate("text => text.clientHeight") > 1000
    ask(server, path, "And now?")
    expect(message(page, 6, state="complete")).to_be_visible()
    assert page.locator("#message-4 pre").evaluate("pre => pre.clientHeight") == full, "it may be read"
    page.emulate_media(media="print")
    assert folded.evaluate("pre => pre.clientHeight") > 700 and not button.is_visible()


def test_reasoning_says_how_long_it_took(open_page: OpenPage, model_server: ModelServer) -> None:
    page = open_page()
    new_room(page)
    reply = model_server.will(held(reasoning("Let me see.")))
    send(page, "Think")
    summary = message(page, 2).locator(".part--reasoning summary")
    expect(summary).to_have_text("Thinking…")
    expect(summary).to_have_text(re.compile(r"Thinking… [3-9] s"))
    reply.say(text("Done."), end())
    expect(message(page, 2, state="complete")).to_be_visible()
    expect(summary).to_have_text(re.compile(r"Thought for ([3-9]|\d\d) s"))
    shown = summary.inner_text()
    page.reload()
    expect(summary).to_have_text(shown)
