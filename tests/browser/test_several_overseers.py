"""Two Overseers of one server in one browser."""

from __future__ import annotations

import re

from playwright.sync_api import BrowserContext, Page, expect

from overseer.multi.directory import Directory
from overseer.web.password import hashed
from tests.browser.steps import composer, message, send
from tests.support.server import Server, StartServer


def opened(context: BrowserContext, server: Server, name: str) -> Page:
    page = context.new_page()
    page.goto(f"{server.url}/o/{name}/")
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    return page


def test_each_has_its_own_rooms_drafts_and_theme(context: BrowserContext, start_server: StartServer) -> None:
    server = start_server(OVERSEER_MULTI="1")
    for name in ("alpha", "beta"):
        Directory(server.instance).add(name, "")
    alpha, beta = (opened(context, server, name) for name in ("alpha", "beta"))
    send(alpha, "A question for alpha")
    expect(message(alpha, 2, state="complete")).to_be_visible()
    expect(alpha).to_have_url(re.compile("/o/alpha/rooms/"))
    expect(beta.locator("#rooms > .row")).to_have_count(0)
    send(beta, "A question for beta")
    expect(message(beta, 2, state="complete")).to_be_visible()
    composer(alpha).fill("A draft for alpha")
    other = opened(context, server, "alpha")
    expect(composer(other)).to_have_value("A draft for alpha")
    expect(composer(opened(context, server, "beta"))).to_have_value("")
    alpha.evaluate("store.set('theme', 'dark')")
    expect(other.locator("html")).to_have_attribute("data-theme", "dark")
    for page, theme in ((alpha, "dark"), (beta, "system")):
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
    keys = alpha.evaluate("Object.keys(localStorage)")
    assert keys and all(key.startswith(("/o/alpha ", "/o/beta ")) for key in keys)


def test_log_out_of_one_keeps_the_other(context: BrowserContext, start_server: StartServer) -> None:
    server = start_server(OVERSEER_MULTI="1")
    for name in ("alpha", "beta"):
        Directory(server.instance).add(name, hashed(name))
    pages = []
    for name in ("alpha", "beta"):
        page = context.new_page()
        page.goto(server.url)
        page.get_by_label("Name of your Overseer").fill(name)
        page.keyboard.press("Enter")
        page.get_by_label("Password").fill(name)
        page.keyboard.press("Enter")
        expect(page.locator("body")).to_have_attribute("data-live", "open")
        composer(page).fill(f"A draft for {name}")
        pages.append(page)
    alpha, beta = pages
    alpha.locator(".sidebar__log-out button").click()
    expect(alpha.get_by_label("Password")).to_be_visible()
    beta.reload()
    expect(beta.locator("body")).to_have_attribute("data-live", "open")
    expect(composer(beta)).to_have_value("A draft for beta")
    keys = beta.evaluate("Object.keys(localStorage)")
    assert not any(key.startswith("/o/alpha draft") for key in keys)
