"""Versions of questions and answers: edit, regenerate, switch, in two tabs and with the keyboard."""

from __future__ import annotations

import requests
from playwright.sync_api import Page, expect

from tests.browser.steps import OpenPage, act_on_room, ask, confirm, create_room, message, messages
from tests.support.model_server import ModelServer, answer, held, text
from tests.support.server import Server


def versions(page: Page, number: int) -> str:
    return message(page, number).get_by_role("group", name="Versions").inner_text().replace("\n", " ")


def switch(page: Page, number: int, to: str) -> None:
    message(page, number).get_by_role("button", name=f"{to} version").click()


def test_switch_shows_a_version_and_what_follows_it_in_every_tab(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    path = create_room(server)
    model_server.will(answer("First."), answer("More."), answer("Edited."))
    ask(server, path, "One?")
    ask(server, path, "And then?")
    page, other = open_page(path), open_page(path)
    message(page, 1).hover()
    message(page, 1).get_by_role("link", name="Edit").click()
    page.locator("#editing textarea").fill("Two?")
    page.keyboard.press("Control+Enter")
    for tab in (page, other):
        expect(message(tab, 6, state="complete")).to_contain_text("Edited.")
        expect(messages(tab)).to_have_count(2)
        assert versions(tab, 5) == "‹ 2/2 ›"
    switch(other, 5, "Previous")
    for tab in (page, other):
        expect(message(tab, 4, state="complete")).to_contain_text("More.")
        expect(messages(tab)).to_have_count(4)
        assert versions(tab, 1) == "‹ 1/2 ›"
    page.reload()
    expect(messages(page)).to_have_count(4)
    expect(message(page, 1).get_by_role("button", name="Previous version")).to_be_disabled()


def test_arrow_keys_go_from_version_to_version(open_page: OpenPage, server: Server, model_server: ModelServer) -> None:
    path = create_room(server)
    model_server.will(answer("First."), answer("Second."))
    ask(server, path, "One?")
    page = open_page(path)
    page.get_by_role("button", name="Regenerate").click()
    expect(message(page, 3, state="complete")).to_contain_text("Second.")
    message(page, 3).get_by_role("button", name="Previous version").focus()
    page.keyboard.press("ArrowLeft")
    expect(message(page, 2)).to_contain_text("First.")
    expect(message(page, 2).get_by_role("button", name="Next version")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(message(page, 3)).to_contain_text("Second.")
    expect(message(page, 3).get_by_role("button", name="Previous version")).to_be_focused()


def test_switch_while_another_tab_shows_an_answer_that_grows_is_refused(
    open_page: OpenPage, server: Server, model_server: ModelServer, page_errors: list[str]
) -> None:
    path = create_room(server)
    model_server.will(answer("First."), answer("Second."))
    ask(server, path, "One?")
    page, other = open_page(path), open_page(path)
    page.get_by_role("button", name="Regenerate").click()
    expect(message(page, 3, state="complete")).to_contain_text("Second.")
    reply = model_server.will(held(text("Slowly")))
    ask(server, path, "Two?", wait=False)
    expect(message(other, 5, state="streaming")).to_contain_text("Slowly")
    switch(page, 3, "Previous")
    expect(page.locator("#error")).to_contain_text("Stop it, or wait")
    for tab in (page, other):
        expect(message(tab, 5, state="streaming")).to_be_visible()
    reply.hang_up()
    expect(message(other, 5, state="interrupted")).to_be_visible()
    switch(page, 3, "Previous")
    for tab in (page, other):
        expect(message(tab, 2)).to_contain_text("First.")
        expect(messages(tab)).to_have_count(2)
    page_errors.clear()


def test_version_stays_where_the_reader_saw_it(open_page: OpenPage, server: Server, model_server: ModelServer) -> None:
    """Also when it is far from the end of its path."""
    path = create_room(server, questions=40)
    page = open_page(path)
    requests.patch(f"{server.url}{path}/messages/61", {"text": "Otherwise?"}, timeout=20).raise_for_status()
    expect(message(page, 82, state="complete")).to_be_visible()
    before = message(page, 81).bounding_box()
    switch(page, 81, "Previous")
    expect(message(page, 61)).to_be_in_viewport()
    after = message(page, 61).bounding_box()
    assert before and after and abs(before["y"] - after["y"]) < 2
    expect(messages(page)).to_have_count(50)
    requests.patch(f"{server.url}{path}/messages/3", {"text": "Early?"}, timeout=20).raise_for_status()
    expect(messages(page)).to_have_count(4)
    switch(page, 83, "Previous")
    expect(message(page, 3)).to_be_in_viewport()
    expect(page).to_have_url(f"{server.url}{path}?at=3#message-3")


def test_other_version_can_be_read_without_a_switch(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """It says so, with a way back and a way to switch."""
    path = create_room(server)
    model_server.will(answer("First."), answer("Edited."))
    ask(server, path, "One?")
    requests.patch(f"{server.url}{path}/messages/1", {"text": "Two?"}, timeout=20).raise_for_status()
    page, other = open_page(f"{path}?at=2"), open_page(path)
    expect(message(page, 2)).to_contain_text("First.")
    expect(page.locator("#composer")).to_have_count(0)
    expect(page.get_by_text("You’re reading another version")).to_be_visible()
    expect(message(other, 4, state="complete")).to_contain_text("Edited.")
    page.get_by_role("link", name="Back to the current version").click()
    expect(message(page, 4)).to_contain_text("Edited.")
    page.go_back()
    page.get_by_role("button", name="Switch to this version").click()
    for tab in (page, other):
        expect(message(tab, 2)).to_contain_text("First.")
    expect(page).to_have_url(f"{server.url}{path}#message-2")


def test_edit_and_switch_on_the_page_of_another_version_lead_to_the_room(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """That page is not live."""
    path = create_room(server)
    model_server.will(answer("First."), answer("Edited."), answer("Third."))
    ask(server, path, "One?")
    requests.patch(f"{server.url}{path}/messages/1", {"text": "Two?"}, timeout=20).raise_for_status()
    page = open_page(path)
    expect(message(page, 4, state="complete")).to_be_visible()
    page.goto(f"{server.url}{path}?at=2#message-2")
    switch(page, 1, "Next")
    expect(page).to_have_url(f"{server.url}{path}#message-3")
    expect(message(page, 4)).to_contain_text("Edited.")
    page.goto(f"{server.url}{path}?at=2#message-2")
    message(page, 1).hover()
    message(page, 1).get_by_role("link", name="Edit").click()
    page.locator("#editing textarea").fill("Three?")
    page.keyboard.press("Control+Enter")
    expect(page).to_have_url(f"{server.url}{path}#message-5")
    expect(message(page, 6, state="complete")).to_contain_text("Third.")
    expect(page.locator("#composer")).to_be_visible()


def test_clear_and_delete_say_how_many_messages_are_in_other_versions(open_page: OpenPage, server: Server) -> None:
    path = create_room(server)
    for question in ("One?", "Two?"):
        ask(server, path, question)
    page = open_page(path)
    requests.patch(f"{server.url}{path}/messages/1", {"text": "Three?"}, timeout=20).raise_for_status()
    expect(message(page, 6, state="complete")).to_be_visible()
    page.get_by_label("Room actions").click()
    page.locator("#header").get_by_role("button", name="Clear").click()
    assert "also the 4 in other versions and its shares? This" in confirm(page)
    expect(messages(page)).to_have_count(0)
    ask(server, path, "One?")
    requests.patch(f"{server.url}{path}/messages/7", {"text": "Two?"}, timeout=20).raise_for_status()
    expect(message(page, 10, state="complete")).to_be_visible()
    act_on_room(page, path, "Delete room")
    assert "Its 2 messages, and 2 in other versions will be gone" in confirm(page)
