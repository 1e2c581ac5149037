"""A server with a password: log-in, log-out, and text that must not be lost when a log-in ends."""

from __future__ import annotations

import re

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.axe import violations
from tests.browser.steps import composer, message, new_room, send
from tests.support.model_server import ModelServer, held, text
from tests.support.server import Server, StartServer
from tests.support.waiting import until

PASSWORD = "correct horse battery"


@pytest.fixture
def locked(start_server: StartServer) -> Server:
    """A server on all addresses, with the name chat.test."""
    return start_server(host="0.0.0.0", OVERSEER_PASSWORD=PASSWORD, OVERSEER_HOSTS="chat.test")


def log_in(page: Page, password: str = PASSWORD) -> None:
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def expect_live(page: Page) -> None:
    expect(page.locator("body")).to_have_attribute("data-live", "open")


def create_room(server: Server, name: str) -> str:
    response = requests.post(f"{server.url}/rooms", {"name": name}, auth=("", PASSWORD), timeout=20)
    return response.headers["Location"]


def stored(page: Page) -> str:
    """All that the browser stores for the page."""
    return str(page.evaluate("JSON.stringify([localStorage, sessionStorage])"))


@pytest.fixture
def page(context: BrowserContext, locked: Server) -> Page:
    """A tab that is logged in, in a new room."""
    page = context.new_page()
    page.goto(locked.url)
    log_in(page)
    expect_live(page)
    new_room(page)
    return page


def test_log_in_leads_to_the_page_that_was_requested(context: BrowserContext, locked: Server) -> None:
    """Also for a link from another site, with which the cookie is not sent."""
    path = create_room(locked, "Kitchen")
    page = context.new_page()
    page.goto(locked.url + path)
    expect(page.get_by_label("Password")).to_be_focused()
    assert "Kitchen" not in page.content()
    assert violations(page) == []
    log_in(page, "wrong")
    expect(page.get_by_role("alert")).not_to_be_empty()
    log_in(page)
    expect(page).to_have_url(locked.url + path)
    expect(page.get_by_role("heading", name="Kitchen")).to_be_visible()
    expect_live(page)

    def follow_link_from_another_site() -> None:
        page.goto(f"http://localhost:{locked.port}/login")  # another site than 127.0.0.1
        page.evaluate("href => { document.body.innerHTML = `<a href='${href}'>go</a>` }", locked.url + path)
        page.get_by_role("link", name="go").click()

    follow_link_from_another_site()
    expect(page.get_by_role("heading", name="Kitchen")).to_be_visible()
    expect_live(page)
    context.clear_cookies()
    follow_link_from_another_site()
    log_in(page)
    expect(page.get_by_role("heading", name="Kitchen")).to_be_visible()


@pytest.mark.parametrize("host", ["127.0.0.1", "chat.test"])
def test_log_out_ends_every_tab_and_deletes_drafts(
    browser: Browser, locked: Server, model_server: ModelServer, host: str
) -> None:
    """Back shows nothing of the rooms; a stream works over plain HTTP under another name too."""
    context = browser.new_context()  # over plain HTTP the page reports errors, which `context` rejects
    one, two = context.new_page(), context.new_page()
    url = f"http://{host}:{locked.port}"
    one.goto(url)
    log_in(one)
    expect_live(one)
    path = new_room(one)
    two.goto(url + path)
    expect_live(two)
    reply = model_server.will(held(text("As it ")))
    send(one, "Hello")
    reply.say(text("grows"))
    expect(message(two, 2, state="streaming")).to_contain_text("As it grows")
    one.get_by_role("button", name="Stop").click()
    expect(message(two, 2, state="stopped")).to_be_visible()
    composer(two).fill("Another secret draft")
    composer(one).fill("A secret draft")
    one.bring_to_front()
    one.get_by_role("button", name="Log out").click()
    expect(one.get_by_label("Password")).to_be_visible()
    expect(two.locator("#error").get_by_role("link", name="Log in")).to_be_visible()
    expect(two.locator("body")).to_have_attribute("data-live", "closed")
    one.go_back()
    expect(one.get_by_label("Password")).to_be_visible()
    for page in (one, two):
        until(lambda page=page: "secret" not in stored(page))  # type: ignore[misc]
    two.bring_to_front()
    two.locator("#error").get_by_role("link", name="Log in").click()
    log_in(two)
    expect_live(two)
    context.close()


def test_log_out_after_the_log_in_has_ended_deletes_drafts(page: Page, context: BrowserContext) -> None:
    """The request is rejected, but the intention counts."""
    composer(page).fill("A secret draft")
    context.clear_cookies()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    until(lambda: "secret" not in stored(page))


def test_message_sent_after_the_log_in_has_ended_is_kept(page: Page, locked: Server) -> None:
    """The page asks for a log-in, and the text is in the composer after it."""
    room = page.url
    locked.stop()
    for path in locked.instance.glob("sessions.sqlite*"):  # ends all log-ins
        path.unlink()
    locked.start()
    error = page.locator("#error")
    expect(error.get_by_role("link", name="Log in")).to_be_visible()
    expect(page.locator("#connection")).to_be_hidden()
    error.get_by_role("button", name="Dismiss").click()
    send(page, "Something long and thought through")
    error.get_by_role("link", name="Log in").click()
    log_in(page)
    expect(page).to_have_url(room)
    expect_live(page)
    expect(composer(page)).to_have_value("Something long and thought through")
    composer(page).press("Enter")
    expect(message(page, 2, state="complete")).to_be_visible()


def test_edit_after_the_log_in_has_ended_is_kept(page: Page, context: BrowserContext) -> None:
    """The form stays open and links to a log-in in another tab; after that the edit can be sent."""
    send(page, "A questoin")
    expect(message(page, 2, state="complete")).to_be_visible()
    message(page, 1).get_by_role("link", name="Edit").click()
    edit = page.locator("#editing")
    edit.get_by_role("textbox").fill("A question")
    context.clear_cookies()
    edit.get_by_role("button", name="Ask again").click()
    with context.expect_page() as opened:
        edit.get_by_role("alert").get_by_role("link", name="Log in").click()
    log_in(opened.value)
    expect_live(opened.value)
    page.bring_to_front()
    edit.get_by_role("button", name="Ask again").click()
    expect(edit).to_be_hidden()
    expect(message(page, 3)).to_contain_text("A question")


def test_log_in_and_out_work_without_javascript_over_plain_http(browser: Browser, locked: Server) -> None:
    """Under a name other than localhost browsers send less about the origin of a request."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    url = f"http://chat.test:{locked.port}"
    page.goto(url)
    log_in(page, "wrong")
    expect(page.get_by_role("alert")).not_to_be_empty()
    log_in(page)
    page.locator("#new-room").click()
    expect(page).to_have_url(re.compile(rf"^{re.escape(url)}/rooms/[0-9a-f]{{12}}$"))
    page.get_by_role("textbox", name="Message").fill("Hello")
    page.get_by_role("button", name="Send").click()
    expect(message(page, 1)).to_contain_text("Hello")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    context.close()
