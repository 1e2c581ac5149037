"""Sharing a room in the browser, and what visitors see who have no log-in."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.axe import violations
from tests.browser.steps import OpenPage, ask, create_room, message, send
from tests.hostile.payloads import CANARY, HANDLERS, LOADS, SCRIPTS
from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, text, tool_call
from tests.support.server import Server, StartServer
from tests.support.waiting import until

PASSWORD = "owl"
ANSWER = "Some *words*.\n\n```python\nprint('x')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n$$\\frac{a}{b}$$\n"


@pytest.fixture
def visitor(browser: Browser, page_errors: list[str]) -> Page:
    """A page of another person: without cookies of the owner."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.on("console", lambda message: page_errors.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: page_errors.append(str(error.error)))
    return context.new_page()


def share(server: Server, path: str, **form: str) -> str:
    """Share a room by HTTP. Return the address of the share."""
    response = requests.post(f"{server.url}{path}/shares", form, timeout=20)
    return server.url + response.headers["Location"]


def test_share_is_made_copied_visited_and_revoked(
    context: BrowserContext, visitor: Page, start_server: StartServer, model_server: ModelServer
) -> None:
    """On a server with a password. The visitor has no log-in, and sees an answer grow."""
    server = start_server(OVERSEER_PASSWORD=PASSWORD)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(server.url)
    page.locator("#password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    model_server.will(answer("It is ripe."))
    send(page, "The quince?")
    expect(message(page, 2, state="complete")).to_be_visible()
    page.get_by_label("Room actions").click()
    page.get_by_role("link", name="Share…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Share “The quince?”")
    page.get_by_label("Live").check()
    page.get_by_label("Expires").select_option("After 1 day")
    page.get_by_role("button", name="Create share").click()
    expect(page.locator("#shares")).to_contain_text("Expires")
    page.get_by_role("link", name="Copy address").click()
    expect(page.get_by_role("link", name="Copied")).to_be_visible()
    address = page.evaluate("navigator.clipboard.readText()")
    assert address == page.locator(".shares__address").evaluate("link => link.href")

    visitor.goto(address)
    expect(visitor.locator("body")).to_have_attribute("data-live", "open")
    expect(message(visitor, 2)).to_contain_text("It is ripe.")
    for control in ("form", "textarea", "nav", "[href*='/rooms/']", ".message__actions"):
        expect(visitor.locator(control)).to_have_count(0)
    assert visitor.context.cookies() == []
    reply = held(text("It "))
    model_server.will(reply)
    page.get_by_role("link", name="Back to the room").click()
    send(page, "And the medlar?")
    for words in ("grows", "and grows"):
        reply.say(text(f"{words} "))
        expect(message(visitor, 4, state="streaming")).to_contain_text(words)
    reply.say(text("now."), end())
    reply.hang_up()
    expect(message(visitor, 4, state="complete")).to_contain_text("It grows and grows now.")

    page.get_by_label("Room actions").click()
    page.get_by_role("link", name="Share…").click()
    expect(page.locator("#shares")).to_contain_text("last visit")
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("#shares")).to_contain_text("isn’t shared")
    began = time.monotonic()
    expect(visitor.locator("h1")).to_have_text("This share has ended.")
    expect(visitor.locator("body")).to_have_attribute("data-live", "ended")
    assert time.monotonic() - began < 1
    expect(visitor.locator("body")).not_to_contain_text("quince")
    response = visitor.reload()
    assert response is not None and response.status == 404
    expect(visitor.locator("h1")).to_have_text("This share has ended.")
    assert visitor.goto(server.url).status == 401  # type: ignore[union-attr]
    visitor.context.close()


def test_share_list_works_in_two_tabs_and_by_keyboard(open_page: OpenPage, server: Server) -> None:
    path = create_room(server, "Kitchen", questions=1)
    one, other = open_page(f"{path}/shares"), open_page(f"{path}/shares")
    one.get_by_label("Snapshot").focus()
    for key in ("Tab", "Tab", "Enter"):  # the kinds are one stop
        one.keyboard.press(key)
    expect(one.locator("#shares form")).to_have_count(1)
    expect(other.locator("#shares form")).to_have_count(0)
    other.get_by_role("button", name="Create share").click()
    expect(other.locator("#shares form")).to_have_count(2)
    other.get_by_role("button", name="Revoke share 1").click()
    expect(other.locator("#shares form")).to_have_count(1)
    one.get_by_role("button", name="Revoke share 1").click()
    expect(one.locator("#error")).to_contain_text("doesn’t exist or was revoked")


def test_snapshot_and_export_load_nothing_and_run_offline(
    visitor: Page, server: Server, model_server: ModelServer, tmp_path: Path
) -> None:
    path = create_room(server, "Kitchen")
    model_server.will(
        Reply(reasoning("Hm."), tool_call("roll_dice", '{"sides": 6}'), end("tool_calls")), answer(ANSWER)
    )
    ask(server, path, "What is it?")
    requested: list[str] = []
    visitor.on("request", lambda request: requested.append(request.url))
    address = share(server, path)
    visitor.goto(address)
    expect(visitor.locator("article")).to_have_count(2)
    assert requested == [address]
    file = tmp_path / "export.html"
    file.write_bytes(requests.get(f"{server.url}{path}/export.html", timeout=20).content)
    visitor.context.set_offline(True)
    visitor.goto(file.as_uri())
    assert requested == [address, file.as_uri()]
    expect(visitor.locator("math")).to_have_count(1)
    visitor.locator(".part--tool > summary").click()
    expect(visitor.locator(".part--tool dd").last).to_be_visible()
    assert visitor.locator(".code .nb").evaluate("one => getComputedStyle(one).color") != visitor.locator(
        "body"
    ).evaluate("one => getComputedStyle(one).color")
    assert visitor.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert len(visitor.pdf()) > 10_000
    visitor.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_shares_are_accessible(
    browser: Browser, server: Server, model_server: ModelServer, scheme: str
) -> None:
    """The page that shares, a snapshot, a live share and one that has ended, also on a phone."""
    path = create_room(server, "Kitchen")
    model_server.will(Reply(reasoning("Hm."), text(ANSWER), end()))
    ask(server, path, "What is it?")
    addresses = [
        share(server, path),
        share(server, path, live="1"),
        f"{server.url}{path}/shares",
        f"{server.url}/shares/x",
    ]
    for width in (1280, 390):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        for address in addresses:
            page.goto(address)
            assert violations(page) == [], address
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        context.close()


def test_live_share_follows_its_end_and_loads_earlier_messages(
    visitor: Page, server: Server, model_server: ModelServer
) -> None:
    path = create_room(server, "Kitchen", questions=30)
    visitor.goto(share(server, path, live="1"))
    expect(visitor.locator("body")).to_have_attribute("data-live", "open")
    at_end = "list => list.scrollHeight - list.scrollTop - list.clientHeight < 2"
    until(lambda: bool(visitor.locator("#scroller").evaluate(at_end)))
    ask(server, path, "One more?")
    expect(visitor.locator("article")).to_have_count(52)
    until(lambda: bool(visitor.locator("#scroller").evaluate(at_end)))
    visitor.locator("#scroller").evaluate("list => list.scrollTop = 0")
    expect(visitor.locator("article")).to_have_count(62)
    expect(visitor.locator(".messages__earlier")).to_have_count(0)
    visitor.context.close()


def test_live_share_is_readable_without_javascript(browser: Browser, server: Server) -> None:
    path = create_room(server, "Kitchen", questions=30)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.url}{path}")
    page.get_by_label("Room actions").click()
    page.get_by_role("link", name="Share…").click()
    page.get_by_label("Live").check()
    page.get_by_role("button", name="Create share").click()
    page.goto(server.url + (page.locator(".shares__address").get_attribute("href") or ""))
    expect(page.locator("article")).to_have_count(50)
    page.get_by_role("link", name="Load earlier messages").click()
    expect(page.locator("article")).to_have_count(10)
    page.get_by_role("link", name="Jump to latest").click()
    expect(page.locator("article")).to_have_count(50)
    page.goto(f"{server.url}{path}/shares")
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("#shares")).to_contain_text("isn’t shared")
    context.close()


def test_hostile_room_does_nothing_in_a_share(
    visitor: Page, server: Server, model_server: ModelServer, page_errors: list[str]
) -> None:
    """In its name, its questions, answers, reasoning and tool calls."""
    hostile = "\n\n".join([*SCRIPTS, *HANDLERS, *LOADS])
    path = create_room(server, SCRIPTS[0][:100])
    model_server.will(
        Reply(reasoning(hostile), tool_call(SCRIPTS[0], f'{{"x": "{CANARY}"}}'), end("tool_calls")), answer(hostile)
    )
    ask(server, path, hostile)
    requested: list[str] = []
    visitor.on("request", lambda request: requested.append(request.url))
    for address in (share(server, path), share(server, path, live="1")):
        visitor.goto(address)
        expect(visitor.locator("article")).to_have_count(2)
        for details in visitor.locator("article > .message__body > details > summary").all():
            details.click()
        visitor.locator("article").last.hover()
        assert visitor.evaluate("window.hit") is None and visitor.title() != "hit"
    assert not [url for url in requested if CANARY in url]
    visitor.context.close()


def test_live_share_that_ended_while_the_server_was_down_says_so(visitor: Page, server: Server) -> None:
    path = create_room(server, "Kitchen", questions=1)
    visitor.goto(share(server, path, live="1", expires="2"))
    expires_at = time.time() + 2
    expect(visitor.locator("body")).to_have_attribute("data-live", "open")
    server.stop()
    expect(visitor.locator("body")).to_have_attribute("data-live", "closed")
    until(lambda: time.time() > expires_at)
    server.start()
    expect(visitor.locator("h1")).to_have_text("This share has ended.")
    visitor.context.close()
