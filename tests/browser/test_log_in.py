"""A server with a password, in a browser: in, on, out, and what is not lost on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.axe import violations
from tests.browser.steps import message, new_room, say, until
from tests.support.model_server import ModelServer, held, text
from tests.support.server import Server
from tests.support.server_pool import ServerPool

PASSWORD = "correct horse battery"
OTHERS = {"auth": ("", PASSWORD), "timeout": 20}


@pytest.fixture
def locked(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Server]:
    """A server that others can reach, under the name chat.test."""
    environment = {
        "OPENAI_BASE_URL": model_server.url,
        "OPENAI_MODEL": "stand-in",
        "OVERSEER_PASSWORD": PASSWORD,
        "OVERSEER_HOSTS": "chat.test",
    }
    server = Server(instance, environment=environment, host="0.0.0.0", server_pool=server_pool).start()
    yield server
    server.stop()


def log_in(page: Page, password: str = PASSWORD) -> None:
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def live(page: Page) -> None:
    expect(page.locator("body")).to_have_attribute("data-live", "open")


def test_one_logs_in_and_is_where_one_wanted_to_be(context: BrowserContext, locked: Server) -> None:
    """The page of a room asks for the password first; a wrong one is told, the right one leads to the room."""
    room = requests.post(f"{locked.url}/rooms", {"name": "Kitchen"}, **OTHERS).headers["Location"]
    page = context.new_page()
    page.goto(locked.url + room)
    expect(page.get_by_label("Password")).to_be_focused()
    assert "Kitchen" not in page.content()
    assert violations(page) == []
    log_in(page, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("Wrong password")
    log_in(page)
    expect(page).to_have_url(locked.url + room)
    expect(page.get_by_role("heading", name="Kitchen")).to_be_visible()
    live(page)
    page.reload()
    live(page)


@pytest.mark.parametrize("host", ["127.0.0.1", "chat.test"])
def test_a_log_out_ends_every_tab_and_lets_nobody_back(browser: Browser, locked: Server, host: str) -> None:
    """The other tab is told at once, and stays shut; Back shows nothing of the rooms; drafts are gone, also over plain
    HTTP from elsewhere."""
    context = browser.new_context()  # over plain HTTP it complains, and the fixture would fail for that
    one, two = context.new_page(), context.new_page()
    url = f"http://{host}:{locked.port}"
    one.goto(url)
    log_in(one)
    live(one)
    room = new_room(one)
    two.goto(url + room)
    live(two)
    two.get_by_role("textbox", name="Message").fill("Another secret draft")
    one.get_by_role("textbox", name="Message").fill("A secret draft")
    assert violations(one) == []
    one.bring_to_front()
    one.get_by_role("button", name="Log out").click()
    expect(one.get_by_label("Password")).to_be_visible()
    expect(two.locator("#error")).to_contain_text("been logged out")
    expect(two.locator("body")).to_have_attribute("data-live", "closed")
    one.go_back()
    expect(one.get_by_label("Password")).to_be_visible()
    for page in (one, two):
        until(lambda page=page: "secret" not in page.evaluate("JSON.stringify([localStorage, sessionStorage])"))
    two.bring_to_front()
    two.locator("#error").get_by_role("link", name="Log in").click()
    log_in(two)
    live(two)
    context.close()


def test_who_leaves_when_the_log_in_has_ended_leaves_no_drafts(context: BrowserContext, locked: Server) -> None:
    """The log-out is refused then, but it was meant."""
    page = context.new_page()
    page.goto(locked.url)
    log_in(page)
    live(page)
    new_room(page)
    page.get_by_role("textbox", name="Message").fill("A secret draft")
    context.clear_cookies()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    until(lambda: "secret" not in page.evaluate("JSON.stringify([localStorage, sessionStorage])"))


def test_a_text_sent_after_the_log_in_ended_is_not_lost(context: BrowserContext, locked: Server) -> None:
    """The page says to log in; when that is done the text is in the composer still, and is sent."""
    page = context.new_page()
    page.goto(locked.url)
    log_in(page)
    live(page)
    room = new_room(page)
    locked.stop()
    for path in locked.instance.glob("sessions.sqlite*"):
        path.unlink()
    locked.start()
    expect(page.locator("#error")).to_contain_text("been logged out")
    expect(page.locator("#connection")).to_be_hidden()
    page.locator("#error").get_by_role("button", name="Dismiss").click()
    say(page, "Something long and thought through")
    expect(page.locator("#error")).to_contain_text("been logged out")
    page.locator("#error").get_by_role("link", name="Log in").click()
    log_in(page)
    expect(page).to_have_url(locked.url + room)
    live(page)
    box = page.get_by_role("textbox", name="Message")
    expect(box).to_have_value("Something long and thought through")
    box.press("Enter")
    expect(message(page, 2, state="complete")).to_be_visible()


def test_an_edit_after_the_log_in_ended_can_be_finished(context: BrowserContext, locked: Server) -> None:
    """The dialog stays, says so, and has a link that opens another tab; once logged in there, it is sent."""
    page = context.new_page()
    page.goto(locked.url)
    log_in(page)
    live(page)
    new_room(page)
    say(page, "A questoin")
    expect(message(page, 2, state="complete")).to_be_visible()
    message(page, 1).get_by_role("link", name="Edit").click()
    edit = page.locator("#edit")
    edit.get_by_role("textbox").fill("A question")
    context.clear_cookies()
    edit.get_by_role("button", name="Ask again").click()
    expect(edit.get_by_role("alert")).to_contain_text("been logged out")
    with context.expect_page() as opened:
        edit.get_by_role("alert").get_by_role("link", name="Log in").click()
    log_in(opened.value)
    live(opened.value)
    page.bring_to_front()
    edit.get_by_role("button", name="Ask again").click()
    expect(edit).to_be_hidden()
    expect(message(page, 1)).to_contain_text("A question")


def test_a_link_from_another_site_leads_in(context: BrowserContext, locked: Server, model_server: ModelServer) -> None:
    """The cookie is not sent along from there, so the page goes on by itself; who has none is asked once."""
    room = requests.post(f"{locked.url}/rooms", {"name": "Kitchen"}, **OTHERS).headers["Location"]
    elsewhere = f"http://localhost:{locked.port}"  # another site than 127.0.0.1
    page = context.new_page()
    page.goto(locked.url)
    log_in(page)
    live(page)
    page.goto(f"{elsewhere}/login")
    page.evaluate("href => { document.body.innerHTML = `<a href='${href}'>go</a>` }", locked.url + room)
    page.get_by_role("link", name="go").click()
    expect(page.get_by_role("heading", name="Kitchen")).to_be_visible()
    live(page)
    context.clear_cookies()
    page.goto(f"{elsewhere}/login")
    page.evaluate("href => { document.body.innerHTML = `<a href='${href}'>go</a>` }", locked.url + room)
    page.get_by_role("link", name="go").click()
    log_in(page)
    expect(page.get_by_role("heading", name="Kitchen")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without"])
def test_it_works_over_plain_http_under_a_name_of_ones_own(
    browser: Browser, locked: Server, model_server: ModelServer, javascript: bool
) -> None:
    """There browsers say nothing of where a request comes from but the origin, and trust the page less."""
    context = browser.new_context(java_script_enabled=javascript)
    page = context.new_page()
    page.goto(f"http://chat.test:{locked.port}/")
    log_in(page, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("Wrong password")
    log_in(page)
    page.get_by_role("button", name="New", exact=True).click()
    expect(page).to_have_url(re.compile(rf"^http://chat\.test:{locked.port}/rooms/[0-9a-f]{{12}}$"))
    if javascript:
        live(page)
        reply = model_server.will(held(text("As it ")))
        say(page, "Hello")
        expect(message(page, 2, state="streaming")).to_contain_text("As it")
        reply.say(text("grows"))
        expect(message(page, 2)).to_contain_text("As it grows")
        page.get_by_role("button", name="Stop").click()
        expect(message(page, 2, state="stopped")).to_be_visible()
    else:
        page.get_by_role("textbox", name="Message").fill("Hello")
        page.get_by_role("button", name="Send").click()
        expect(message(page, 1)).to_contain_text("Hello")
        page.goto(f"http://chat.test:{locked.port}/rooms/000000000000")
        expect(page.locator("#room")).to_contain_text("This room doesn’t exist")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    context.close()
