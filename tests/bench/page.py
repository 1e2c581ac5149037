"""What the page costs: the first one, a switch of rooms, and a room so long that nobody reads it whole."""

from __future__ import annotations

import os
import sqlite3
import statistics
from collections.abc import Iterator
from contextlib import closing, contextmanager

import requests
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from tests.support.server import Server

WATCH = """() => {
    window.longest = 0;
    new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration);
    }).observe({ type: "longtask" });
}"""
# The composer can be typed into, and what is typed would be sent by htmx.
USABLE = """() => new Promise((done) => {
    const look = () => (document.activeElement?.name === "text" && window.htmx && document.readyState !== "loading"
        ? done(performance.now()) : setTimeout(look, 1));
    look();
})"""
SWITCH = """(id) => new Promise((done) => {
    const began = performance.now();
    const frame = () => requestAnimationFrame(() => done(performance.now() - began));
    document.addEventListener("room:opened", frame, { once: true });
    document.querySelector(`#room-${id} a`).click();
})"""
# Up and down again, half a window a frame: every frame is another picture.
SCROLL = """() => new Promise((done) => {
    const list = document.getElementById("scroller");
    const gaps = [];
    let last = performance.now(), step = -list.clientHeight / 2;
    function move(now) {
        gaps.push(now - last);
        last = now;
        const before = list.scrollTop;
        list.scrollTop += step;
        if (gaps.length === 300 || list.scrollTop === before) step = -step;
        if (gaps.length > 600) done(gaps.slice(2).sort((one, other) => one - other));
        else requestAnimationFrame(move);
    }
    requestAnimationFrame(move);
})"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser that the tests use."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def filled(server: Server, questions: int) -> str:
    """A room with a conversation; returns its path."""
    path = requests.post(f"{server.url}/rooms", timeout=20).headers["Location"]
    for n in range(1, questions + 1):
        wait = {"Prefer": "wait=60"} if n == questions else {}
        requests.post(f"{server.url}{path}/messages", {"text": f"Question {n} of this room"}, headers=wait, timeout=90)
    return path


def long_room(server: Server, messages: int) -> str:
    """A room with so many messages, written into its file while the server is down; returns its path."""
    path = filled(server, 1)
    server.stop()
    with closing(sqlite3.connect(server.instance / "facets" / f"room-{path[-12:]}.sqlite")) as db, db:
        for number in range(3, messages + 1):
            role = "user" if number % 2 else "assistant"
            row = (number, role, 1_700_000_000_000)
            db.execute("INSERT INTO messages (number, role, state, created_at) VALUES (?, ?, 'complete', ?)", row)
            words = f"Message {number}. " + "Some words that fill a line or two of it. " * (number % 7)
            db.execute("INSERT INTO parts (message, position, kind, text) VALUES (?, 0, 'text', ?)", (number, words))
    server.start()
    return path


def first_page(browser: Browser, url: str) -> tuple[float, int, float]:
    """KB over the wire, requests, and milliseconds from the navigation until one can type, in a browser new to it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    asked: list[Request] = []
    page.on("requestfinished", lambda request: asked.append(request))
    page.goto(url, wait_until="commit")
    usable = float(page.evaluate(USABLE))
    page.wait_for_load_state("networkidle")
    sizes = [request.sizes() for request in asked]
    context.close()
    return sum(one["responseBodySize"] + one["responseHeadersSize"] for one in sizes) / 1024, len(asked), usable


def switches(browser: Browser, server: Server, paths: list[str]) -> tuple[float, float]:
    """KB over the wire of a switch to a room of fifty messages, and milliseconds from click to its first frame."""
    page = browser.new_page()
    page.goto(server.url + paths[0])
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    with page.expect_request_finished(lambda request: request.url.endswith(paths[1])) as asked:
        page.evaluate(SWITCH, paths[1][-12:])
    sizes = asked.value.sizes()
    took = [float(page.evaluate(SWITCH, paths[n % 2][-12:])) for n in range(20)]
    page.close()
    return (sizes["responseBodySize"] + sizes["responseHeadersSize"]) / 1024, statistics.median(took)


def scrolling(browser: Browser, url: str, messages: int) -> tuple[float, float]:
    """Milliseconds between two frames while a room is scrolled with all its messages, at the median and at p99."""
    page: Page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(url)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    while page.locator("#messages > .messages__earlier").count():
        before = page.locator("#messages article").count()
        page.locator("#messages > .messages__earlier a").evaluate("link => link.click()")
        page.wait_for_function("n => document.querySelectorAll('#messages article').length > n", arg=before)
    assert page.locator("#messages article").count() == messages
    page.locator("#scroller").evaluate("list => (list.scrollTop = list.scrollHeight)")
    gaps = page.evaluate(SCROLL)
    page.close()
    return gaps[len(gaps) // 2], gaps[int(len(gaps) * 0.99)]
