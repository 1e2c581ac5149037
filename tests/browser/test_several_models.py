"""Ask several models: the choice in the composer, and answers side by side or one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.steps import OpenPage, ask, composer, create_room, message, messages, reload_until
from tests.support.model_server import ModelServer, Reply, answer, end, held, text
from tests.support.server import Server

NAMES = ["ant", "bee", "cat", "dog", "eel"]


@pytest.fixture
def replies(model_server: ModelServer) -> dict[str, Reply]:
    """The replies of models by name. Other models answer with their name."""
    replies: dict[str, Reply] = {}

    def otherwise(body: dict[str, Any]) -> Reply:
        return replies.pop(body["model"], None) or answer(f"I am {body['model']}.")

    model_server.models, model_server.otherwise = list(NAMES), otherwise
    return replies


def choose(page: Page, *names: str) -> None:
    """Choose these models in the composer's menu."""
    page.get_by_label("Ask several models").click()
    expect(page.locator("#several label")).to_have_count(len(NAMES))
    for name in names:
        page.locator("#several").get_by_text(name, exact=True).click()
    page.keyboard.press("Escape")
    expect(page.locator("#several")).not_to_be_visible()


def send(page: Page, words: str) -> None:
    composer(page).fill(words)
    composer(page).press("Enter")


def boxes(page: Page, *numbers: int) -> list[tuple[float, float]]:
    """Return where these messages are."""
    found = [message(page, number).bounding_box() for number in numbers]
    return [(box["x"], box["y"]) for box in found if box]


def test_answers_of_several_models_are_side_by_side_in_every_tab_until_one_is_chosen(
    open_page: OpenPage, server: Server, replies: dict[str, Reply]
) -> None:
    path = create_room(server)
    slow = replies["bee"] = held(text("Slowly"))
    page, other = open_page(path), open_page(path)
    choose(page, "ant", "bee", "cat")
    expect(composer(page)).to_have_attribute("placeholder", "Message 3 models…")
    send(page, "Who are you?")
    for tab in (page, other):
        expect(message(tab, 2, state="complete")).to_contain_text("I am ant.")
        expect(message(tab, 3, state="streaming")).to_contain_text("Slowly")
        expect(message(tab, 4, state="complete")).to_contain_text("I am cat.")
        (x2, y2), (x3, y3), (x4, y4) = boxes(tab, 2, 3, 4)
        assert x2 < x3 < x4 and y2 == y3 == y4
    slow.say(text(" but surely"))
    expect(message(other, 3)).to_contain_text("Slowly but surely")
    message(other, 3).get_by_role("button", name="Stop").click()
    expect(message(page, 3, state="stopped")).to_contain_text("You stopped this answer.")
    page.reload()
    expect(page.locator(".beside article")).to_have_count(3)
    message(page, 4).get_by_role("button", name="Use this answer").click()
    for tab in (page, other):
        expect(messages(tab)).to_have_count(2)
        expect(message(tab, 4).get_by_role("group", name="Versions")).to_contain_text("3/3")
    send(page, "And now?")
    expect(message(other, 6, state="complete")).to_be_visible()


def test_next_question_goes_to_the_same_models_until_they_are_not_chosen_any_more(
    open_page: OpenPage, server: Server, replies: dict[str, Reply]
) -> None:
    page = open_page(create_room(server))
    choose(page, "ant", "bee")
    send(page, "Who are you?")
    expect(message(page, 3, state="complete")).to_be_visible()
    send(page, "And now?")
    expect(message(page, 6, state="complete")).to_contain_text("I am bee.")
    expect(page.locator(".beside")).to_have_count(2)
    choose(page, "ant")  # not any more
    expect(composer(page)).to_have_attribute("placeholder", "Message bee…")
    choose(page, "bee")
    expect(composer(page)).to_have_attribute("placeholder", "Message stand-in…")


def test_first_question_of_a_room_can_be_asked_of_several(open_page: OpenPage, replies: dict[str, Reply]) -> None:
    page = open_page("/")
    choose(page, "cat", "dog")
    send(page, "Who are you?")
    expect(message(page, 2, state="complete")).to_contain_text("I am cat.")
    expect(message(page, 3, state="complete")).to_contain_text("I am dog.")


def test_no_more_than_four_can_be_chosen(open_page: OpenPage, server: Server, replies: dict[str, Reply]) -> None:
    page = open_page(create_room(server))
    choose(page, *NAMES[:4])
    page.get_by_label("Ask several models").click()
    expect(page.get_by_role("checkbox", name="eel")).to_be_disabled()
    page.get_by_role("checkbox", name="ant").uncheck()
    expect(page.get_by_role("checkbox", name="eel")).to_be_enabled()


def test_models_are_chosen_with_the_keyboard(open_page: OpenPage, server: Server, replies: dict[str, Reply]) -> None:
    """Enter in the search chooses the first one, and the choice stays when something else is searched for."""
    page = open_page(create_room(server))
    page.get_by_label("Ask several models").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#several-filter")).to_be_focused()
    for typed, name in (("b", "bee"), ("d", "dog")):
        page.locator("#several-filter").fill(typed)
        expect(page.locator("#several")).to_have_attribute("data-q", typed)
        page.keyboard.press("Enter")
        expect(page.get_by_role("checkbox", name=name)).to_be_checked()
    page.locator("#several-filter").fill("")
    expect(page.locator("#several label")).to_have_count(len(NAMES))
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("checkbox", name="bee")).to_be_focused()
    composer(page).evaluate("field => { field.value = 'Not finished' }")
    page.keyboard.press("Space")
    expect(page.get_by_role("checkbox", name="bee")).not_to_be_checked()
    page.keyboard.press("Enter")
    expect(page.get_by_role("checkbox", name="bee")).to_be_checked()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Ask several models")).to_be_focused()
    expect(composer(page)).to_have_attribute("placeholder", "Message dog…")
    expect(messages(page)).to_have_count(0)


def test_menu_stays_open_when_its_text_is_clicked(
    open_page: OpenPage, server: Server, replies: dict[str, Reply]
) -> None:
    """Of every menu. One that closes while the mouse is pressed on it crashes Chromium 156."""
    page = open_page(create_room(server))
    for menu, words in ((".several", "#several .picker__status"), ("#header .picker", "#models .picker__status span")):
        page.locator(f"{menu} > summary").click()
        page.locator(words).click()
        expect(page.locator(words)).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(words)).not_to_be_visible()


def test_answer_that_failed_is_generated_again_in_its_place(
    open_page: OpenPage, server: Server, replies: dict[str, Reply]
) -> None:
    page = open_page(create_room(server))
    replies["ant"] = Reply(b'{"error": {"message": "Not loaded."}}', status=500)
    replies["bee"] = held(text("Slowly"))
    choose(page, "ant", "bee")
    send(page, "Who are you?")
    expect(message(page, 2, state="failed")).to_be_visible()
    message(page, 2).get_by_role("button", name="Retry").click()
    expect(message(page, 2, state="complete")).to_contain_text("I am ant.")
    expect(message(page, 3, state="streaming")).to_contain_text("Slowly")
    page.get_by_role("button", name="Stop", exact=True).last.click()
    expect(message(page, 3, state="stopped")).to_be_visible()


def test_one_answer_is_shown_at_a_time_on_a_phone(browser: Browser, server: Server, replies: dict[str, Reply]) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(server.url + create_room(server))
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    choose(page, "ant", "bee", "cat")
    send(page, "Who are you?")
    expect(message(page, 2, state="complete")).to_be_visible()
    expect(message(page, 3, state="complete")).not_to_be_visible()
    page.get_by_role("radio", name="cat").tap()
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(message(page, 2)).not_to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(page.url.partition("#")[0] + "/messages/3")
    expect(message(page, 3)).to_be_visible()
    expect(message(page, 2)).not_to_be_visible()
    page.get_by_role("radio", name="cat").tap()
    message(page, 4).get_by_role("button", name="Use this answer").tap()
    expect(messages(page)).to_have_count(2)
    expect(message(page, 4)).to_be_visible()
    context.close()


def test_focus_stays_in_an_answer_while_another_grows(
    open_page: OpenPage, server: Server, replies: dict[str, Reply]
) -> None:
    page = open_page(create_room(server))
    slow = replies["bee"] = held(text("Slowly"))
    choose(page, "ant", "bee")
    send(page, "Who are you?")
    expect(message(page, 2, state="complete")).to_be_visible()
    expect(message(page, 3, state="streaming")).to_contain_text("Slowly")
    expect(message(page, 2).get_by_role("button", name="Use this answer")).not_to_be_visible()
    expect(page.get_by_role("button", name="Stop all")).not_to_be_visible()
    message(page, 2).get_by_role("link", name="Copy").focus()
    slow.say(text(" but surely."))
    expect(message(page, 3)).to_contain_text("but surely")
    page.keyboard.press("Tab")
    expect(message(page, 2).locator(":focus")).to_have_count(1)
    send(page, "And then?")
    expect(page.get_by_role("button", name="Stop all")).to_be_visible()
    slow.say(end())
    slow.hang_up()
    expect(message(page, 2).get_by_role("button", name="Use this answer")).to_be_visible()


def test_all_answers_are_printed(open_page: OpenPage, server: Server, replies: dict[str, Reply]) -> None:
    """Also on paper that is as narrow as a phone, and without what can be pressed."""
    page = open_page(create_room(server))
    choose(page, "ant", "bee")
    send(page, "Who are you?")
    expect(message(page, 3, state="complete")).to_be_visible()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 400, "height": 800})
    for number in (2, 3):
        expect(message(page, number)).to_be_visible()
    expect(page.locator(".message__use")).to_have_count(2)
    expect(page.locator(".message__use").first).not_to_be_visible()


def test_models_are_typed_and_an_answer_is_chosen_without_javascript(
    browser: Browser, server: Server, replies: dict[str, Reply]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server.url + create_room(server))
    page.get_by_label("Ask several models").click()
    page.get_by_label("Model 1 to ask").fill("cat")
    page.get_by_label("Model 3 to ask").fill("dog")
    slow = replies["dog"] = held(text("Slowly"))
    page.get_by_role("textbox", name="Message").fill("Who are you?")
    page.get_by_role("button", name="Send").click()
    reload_until(page, message(page, 2, state="complete"))
    expect(message(page, 3, state="streaming")).to_contain_text("Slowly")
    slow.say(end("length"))
    reload_until(page, message(page, 3, state="interrupted"))
    message(page, 3).get_by_role("button", name="Use this answer").click()
    expect(messages(page)).to_have_count(2)
    expect(message(page, 3)).to_contain_text("Slowly")
    context.close()


@pytest.mark.parametrize("leave", [Page.reload, lambda page: page.goto("about:blank")], ids=["reload", "leave"])
def test_answers_go_on_when_the_tab_has_gone(
    open_page: OpenPage, server: Server, replies: dict[str, Reply], leave: Callable[[Page], object]
) -> None:
    path = create_room(server)
    ask(server, path, "Hello?")
    page = open_page(path)
    slow = replies["bee"] = held(text("Slowly"))
    choose(page, "ant", "bee")
    send(page, "Who are you?")
    expect(message(page, 5, state="streaming")).to_contain_text("Slowly")
    leave(page)
    slow.say(text(" but surely."), end())
    slow.hang_up()
    expect(message(open_page(path), 5, state="complete")).to_contain_text("Slowly but surely.")
