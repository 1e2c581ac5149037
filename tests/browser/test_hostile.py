"""Hostile text in a real browser: sanitising alone, and the content policy alone, keep it from acting."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.steps import ask, confirm, create_room, message, messages
from tests.hostile.fragments import HARMLESS, render_all
from tests.hostile.payloads import BY_VECTOR, CANARY, HANDLERS, LOADS, PAYLOADS, SCRIPTS
from tests.support.model_server import ModelServer, Reply, end, reasoning, text, tool_call, usage
from tests.support.server import Server, StartServer
from tests.support.waiting import until

# Compares the elements of pages with hostile text with those of the same page with harmless text, as the browser parses
# them. Text attributes may differ. Where Markdown makes elements, only harmless elements and attributes are allowed.
SHAPE = """(pairs) => {
  const WORDS = new Set(["value", "title", "aria-label", "alt", "hx-confirm", "data-q", "data-name", "placeholder",
    "download"]);
  const FREE = ".part__done, .part__open, .part--text, .part--reasoning, .part__plain";
  const all = (names) => new RegExp(`^(${names.trim().split(/\\s+/).join("|")})$`);
  const TAGS = all(`p br hr h[1-6] strong em s code pre span blockquote [uo]l li a table thead tbody t[rhd] div button
    kbd sub sup details summary`);
  const NAMES = all("class href target rel type tabindex start dir open data-wrap data-copy");
  const MATH = all(`math semantics annotation mrow mi mn mo mtext mspace msub msup msubsup munder mover munderover
    mmultiscripts mprescripts mfrac msqrt mroot mtable mtr mtd mpadded mphantom mstyle menclose`);
  const MATH_NAMES = all(`class display displaystyle scriptlevel stretchy symmetric movablelimits largeop separator
    encoding fence form lspace rspace minsize maxsize accent accentunder width height depth voffset
    linethickness mathvariant`);
  const wrong = [];
  const shape = (html, why) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    const lines = [];
    for (const one of page.querySelectorAll("*")) {
      const free = one.parentElement?.closest(FREE);
      if (free && !one.matches(FREE) && !one.matches(".part > summary")) {
        const isMath = one.namespaceURI === "http://www.w3.org/1998/Math/MathML";
        for (const { name, value } of one.attributes) {
          const safe = name !== "href" || /^(https?|mailto):$/.test(new URL(value, "http://here/").protocol);
          if (!(isMath ? MATH_NAMES : NAMES).test(name) || !safe) wrong.push([why, one.outerHTML]);
        }
        const isHtml = one.namespaceURI === "http://www.w3.org/1999/xhtml";
        const known = isMath ? MATH.test(one.localName) : isHtml && TAGS.test(one.localName);
        if (!known) wrong.push([why, one.outerHTML]);
        continue;
      }
      const attributes = [...one.attributes].map(({ name, value }) =>
        `${name}=${WORDS.has(name) ? "" : value.replace(/([?&](?:q|shown)=)[^&#]*/g, "$1")}`);
      lines.push([one.localName, ...attributes.sort()].join(" "));
    }
    return lines.join("\\n");
  };
  const expected = {};
  for (const [name, usual, hostile] of pairs) {
    expected[name] ??= shape(usual, name);
    if (expected[name] !== shape(hostile, name)) wrong.push([name, hostile]);
  }
  return wrong;
}"""

# The page without the conversation and the room list.
OUTSIDE = """() => {
  const page = document.documentElement.cloneNode(true);
  for (const one of page.querySelectorAll("#messages, #rooms, #rooms-place")) one.replaceChildren();
  for (const one of page.querySelectorAll("[hidden], .newer, #announcer, #rooms-place")) one.remove();
  return page.outerHTML;
}"""


class Canary:
    """A server that must not be called. Records the first line of each request."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                caller.settimeout(1)
                with caller, suppress(OSError):
                    self.requests.append(caller.recv(1000).split(b"\r\n")[0])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.close()


def echo(body: dict[str, Any]) -> Reply:
    """Reply with the question: as reasoning, as a tool call with its arguments, and as the answer."""
    question = [one for one in body["messages"] if one["role"] == "user"][-1]["content"]
    if question.endswith("refuse"):
        problem = json.dumps({"error": {"message": question, "type": question, "code": question}}).encode()
        return Reply(problem, status=400, headers={"Content-Type": "application/json"})
    if body["messages"][-1]["role"] == "tool":
        return Reply(
            text(question[: len(question) // 2]), text(question[len(question) // 2 :]), usage(1, 2), end(question[:50])
        )
    return Reply(reasoning(question), tool_call(question[:60], json.dumps({"sides": question})), end("tool_calls"))


def together(payloads: list[str], canary: Canary) -> str:
    return "\n\n".join(payloads).replace(CANARY, canary.address)


@pytest.fixture
def hostile_room(server: Server, model_server: ModelServer, canary: Canary) -> str:
    """A room that shows every payload in every place, beside rooms with hostile names."""
    model_server.otherwise = echo
    model_server.models = [one.replace(CANARY, canary.address) for one in PAYLOADS[:100]]
    for one in (SCRIPTS[7], HANDLERS[0], LOADS[1], *BY_VECTOR["dangling"][::6], *BY_VECTOR["htmx"][::10]):
        requests.post(f"{server.url}/rooms", {"name": one.replace(CANARY, canary.address)})
    name = together(["'\"></title>", HANDLERS[0], "<img src=//" + CANARY + ">"], canary)
    path = requests.post(f"{server.url}/rooms", {"name": name}).headers["Location"]
    settings = {"model": HANDLERS[1], "system_prompt": "</textarea>" + SCRIPTS[0]}
    assert requests.patch(f"{server.url}{path}", settings).status_code == 200
    for first in range(0, 22):
        ask(server, path, together(PAYLOADS[first::22], canary))
    ask(server, path, together([*SCRIPTS, *HANDLERS, "refuse"], canary))
    return path


@pytest.fixture
def watched(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Opens pages that must make no request to another server, and open no dialog or window."""
    contexts: list[BrowserContext] = []
    asked: list[str] = []

    def open_page(path: str, **options: Any) -> Page:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.on("dialog", lambda dialog: asked.append(dialog.message))
        contexts[-1].on("request", lambda request: asked.append(request.url))
        contexts[-1].on("page", lambda new: asked.append("a window"))
        page.goto(server.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    ours = (server.url + "/", server.url.replace("http", "ws") + "/", "data:image/svg+xml")
    assert not [one for one in asked if not one.startswith(ours)]


def sample(vector: str) -> list[str]:
    """Every payload that a browser may parse in another way than Python, some of the others; all with SEARCH=1."""
    step = 1 if vector in ("mutations", "dangling") or os.environ.get("SEARCH") else 12 if vector == "links" else 4
    return BY_VECTOR[vector][::step]


def test_browser_parses_hostile_text_to_the_same_elements_as_harmless_text(app: Flask, context: BrowserContext) -> None:
    """A page with a payload in every place, and every fragment with some of them."""
    page = context.new_page()
    usual = render_all(app, HARMLESS)
    for vector in BY_VECTOR:
        payloads = sample(vector)
        pairs = [("page", usual["page"], render_all(app, payload)["page"]) for payload in payloads]
        pairs += [(name, usual[name], html) for name, html in render_all(app, payloads[len(payloads) // 2]).items()]
        assert page.evaluate(SHAPE, pairs) == [], vector


def test_hostile_text_acts_on_nothing(
    server: Server, canary: Canary, hostile_room: str, watched: Callable[..., Page]
) -> None:
    """With and without the policy, pushed and reloaded, and without scripts: no script runs, no request is made."""
    page = watched(hostile_room, bypass_csp=True, java_script_enabled=False)
    expect(messages(page)).to_have_count(46)
    for path in (f"{hostile_room}/messages/1/edit", "/rooms?q=" + HANDLERS[0], "/rooms?q=</title>" + LOADS[0], "/<b>x"):
        page.goto(server.url + path)
        expect(page.locator("#room")).to_have_count(1)
        expect(page.locator("img, iframe, object, embed, video, audio, base, svg")).to_have_count(0)

    pages = [watched(hostile_room, bypass_csp=bypassed) for bypassed in (False, True)]
    before = []
    for page in pages:
        expect(page.locator("body")).to_have_attribute("data-live", "open")
        expect(messages(page)).to_have_count(46)
        before.append((page.title(), page.evaluate(OUTSIDE)))
    htmx = together(BY_VECTOR["htmx"] + BY_VECTOR["clobbers"], canary)
    for number, question in ((47, htmx), (49, together(SCRIPTS + LOADS + HANDLERS, canary))):
        ask(server, hostile_room, question)
        for page in pages:
            expect(message(page, number + 1, state="complete")).to_have_count(1)
    for page, (_, outside) in zip(pages, before, strict=True):
        page.bring_to_front()
        assert page.evaluate(OUTSIDE) == outside
        message(page, 47).get_by_role("link", name="Edit").click()
        expect(page.locator("#editing textarea")).to_have_value(htmx)
        page.locator("#editing [data-cancel]").click()
        page.locator(".picker > summary").click()
        expect(page.locator("#models [name=model]")).to_have_count(101)
        page.locator(".picker > summary").click()
        page.keyboard.press("Control+k")
        expect(page.locator("#palette-options > li").nth(3)).to_be_visible()
        page.keyboard.press("Escape")
        page.get_by_role("searchbox").fill("<img")
        expect(page.locator("#rooms")).to_have_attribute("data-q", "<img")
    pages[0].locator("#rooms > .row[aria-current] .row__more").evaluate("(button) => button.click()")
    pages[0].locator("#row-menu").get_by_role("button", name="Clear messages").click()
    assert "<img src=//" in confirm(pages[0])
    for page, (title, _) in zip(pages, before, strict=True):
        expect(messages(page)).to_have_count(0)
        assert page.evaluate("[window.hit, document.title]") == [None, title]
        page.reload()
    assert canary.requests == []


def test_bidirectional_controls_in_a_name_affect_the_name_only(server: Server, watched: Callable[..., Page]) -> None:
    """Neither the confirmation of a deletion nor the text beside the name."""
    name = "\N{RIGHT-TO-LEFT OVERRIDE}evil\N{RIGHT-TO-LEFT ISOLATE}"
    page = watched(create_room(server, name))
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    assert page.locator("#header h1").text_content() == name
    page.locator(".row__more").evaluate("(button) => button.click()")
    expect(page.locator("#row-menu")).to_be_visible()
    for button in page.locator("#row-menu [hx-confirm], #header [hx-confirm]").all():
        assert "“evil”" in (button.get_attribute("hx-confirm") or "")
    affected = """() => [...document.querySelectorAll(".row__name, .picker__summary span, .model strong, h1")]
      .filter((one) => getComputedStyle(one).unicodeBidi !== "isolate" && getComputedStyle(one).display === "inline")"""
    assert page.evaluate(affected) == []


# The policy stops neither navigations nor preconnections.
BEYOND = ("refresh", "preconnect", "dns-prefetch")


@pytest.fixture
def unsanitised(start_server: StartServer) -> Server:
    return start_server(altered={"no_sanitizer": {}})


@pytest.mark.breaks_policy
def test_content_policy_alone_stops_scripts_and_requests(
    browser: Browser, unsanitised: Server, model_server: ModelServer, canary: Canary, policy_violations: list[str]
) -> None:
    """With unsanitised HTML, nothing runs or is loaded; without the policy it would be."""
    model_server.otherwise = lambda body: Reply(text(body["messages"][-1]["content"]), end())
    live = [one for one in SCRIPTS + LOADS + HANDLERS if not any(word in one for word in BEYOND)]
    path = requests.post(f"{unsanitised.url}/rooms").headers["Location"]
    for first in range(8):
        ask(unsanitised, path, together(live[first::8], canary))
    for bypassed in (False, True):
        context = browser.new_context(bypass_csp=bypassed)
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.dismiss())
        page.goto(unsanitised.url + path, wait_until="load")
        if bypassed:
            until(lambda page=page: page.evaluate("window.hit") == 1 and canary.requests != [])  # type: ignore[misc]
        else:
            assert page.locator("#messages img").count() and page.locator("#messages script").count()
            page.evaluate("document.querySelector('form[action*=\"/form\"]')?.submit()")
            assert page.evaluate("[window.hit, document.title === 'hit']") == [None, False]
            assert any("script-src" in one for one in policy_violations) and any(
                "img-src" in one for one in policy_violations
            )
            assert canary.requests == []
        context.close()
