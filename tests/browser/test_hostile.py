"""Hostile words in a real browser: each layer of what keeps them words is enough by itself."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.steps import agree, message
from tests.hostile.fragments import HARMLESS, render_all
from tests.hostile.payloads import BY_VECTOR, CANARY, HANDLERS, LOADS, PAYLOADS, SCRIPTS
from tests.support.model_server import ModelServer, Reply, end, reasoning, text, tool_call, usage
from tests.support.server import Server
from tests.support.server_pool import ServerPool

# The same question as tests/hostile/test_injection.py asks, of what a browser makes of it.
SHAPE = """(pairs) => {
  const WORDS = new Set(["value", "title", "aria-label", "hx-confirm", "data-q", "placeholder"]);
  const FREE = ".part__done, .part__open, .part--text, .part--reasoning, .part__plain";
  const TAGS = /^(p|br|hr|h[1-6]|strong|em|s|code|pre|span|blockquote|[uo]l|li|a|table|thead|tbody|t[rhd]|div|button)$/;
  const NAMES = /^(class|href|target|rel|type|tabindex|start|data-wrap|data-copy)$/;
  const wrong = [];
  const shape = (html, why) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    const lines = [];
    for (const one of page.querySelectorAll("*")) {
      const free = one.parentElement?.closest(FREE);
      if (free && !one.matches(FREE) && !one.matches(".part > summary")) {
        for (const { name, value } of one.attributes) {
          const safe = name !== "href" || /^(https?|mailto):$/.test(new URL(value, "http://here/").protocol);
          if (!NAMES.test(name) || !safe) wrong.push([why, one.outerHTML]);
        }
        const known = TAGS.test(one.localName) && one.namespaceURI === "http://www.w3.org/1999/xhtml";
        if (!known) wrong.push([why, one.outerHTML]);
        continue;
      }
      const attributes = [...one.attributes].map(({ name, value }) =>
        `${name}=${WORDS.has(name) ? "" : value.replace(/([?&](?:q|at)=)[^&#]*/g, "$1")}`);
      lines.push([one.localName, ...attributes.sort()].join(" "));
    }
    return lines.join("\\n");
  };
  for (const [name, usual, hostile] of pairs) {
    if (shape(usual, name) !== shape(hostile, name)) wrong.push([name, hostile]);
  }
  return wrong;
}"""

# All that is outside of the conversation and of the list of rooms.
OUTSIDE = """() => {
  const page = document.documentElement.cloneNode(true);
  for (const one of page.querySelectorAll("#messages, #rooms, #rooms-place")) one.replaceChildren();
  for (const one of page.querySelectorAll("[hidden], .newer, #announcer, #rooms-place")) one.remove();
  return page.outerHTML;
}"""


class Canary:
    """A server that nobody has a reason to call."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
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
                    self.heard.append(caller.recv(1000).split(b"\r\n")[0])

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
    """A model that says what it is told: as reasoning, as a tool and its arguments, and as its answer."""
    said = [one for one in body["messages"] if one["role"] == "user"][-1]["content"]
    if said.endswith("refuse"):
        problem = json.dumps({"error": {"message": said, "type": said, "code": said}}).encode()
        return Reply(problem, status=400, headers={"Content-Type": "application/json"})
    if body["messages"][-1]["role"] == "tool":
        return Reply(text(said[: len(said) // 2]), text(said[len(said) // 2 :]), usage(1, 2), end(said[:50]))
    return Reply(reasoning(said), tool_call(said[:60], json.dumps({"sides": said})), end("tool_calls"))


def ask(server: Server, path: str, words: str) -> None:
    answer = requests.post(f"{server.url}{path}/messages", {"text": words}, headers={"Prefer": "wait=60"})
    assert answer.status_code == 201, answer.text


def together(payloads: list[str], canary: Canary) -> str:
    return "\n\n".join(payloads).replace(CANARY, canary.address)


@pytest.fixture
def hostile_room(server: Server, model_server: ModelServer, canary: Canary) -> str:
    """A room that shows every payload, in everything it shows, and others with the worst of names."""
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
    """Opens a page that may ask nobody but the server, and may ask nothing of the person."""
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


@pytest.mark.parametrize("vector", BY_VECTOR)
def test_a_browser_sees_the_elements_of_harmless_words(app: Flask, context: BrowserContext, vector: str) -> None:
    """Every page and fragment with a payload in every place, parsed by the browser itself."""
    page = context.new_page()
    usual = render_all(app, HARMLESS)
    for first in range(0, len(BY_VECTOR[vector]), 40):
        payloads = BY_VECTOR[vector][first : first + 40]
        if vector == "links":
            payloads = payloads[first // 40 % 3 :: 3]  # the others are tried without a browser
        whole = [("page", usual["page"], render_all(app, one)["page"]) for one in payloads]
        assert page.evaluate(SHAPE, whole) == []
    some = BY_VECTOR[vector][:: max(10, len(BY_VECTOR[vector]) // 6)]
    assert (
        page.evaluate(SHAPE, [(name, usual[name], html) for one in some for name, html in render_all(app, one).items()])
        == []
    )


@pytest.mark.parametrize("bypassed", [False, True], ids=["with its policy", "without its policy"])
def test_nothing_hostile_acts_on_a_page(
    server: Server, canary: Canary, hostile_room: str, watched: Callable[..., Page], bypassed: bool
) -> None:
    """As it is opened, as it is pushed, and in all that opens over it: no script, no request, nothing else changed."""
    page = watched(hostile_room, bypass_csp=bypassed)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    expect(page.locator("#messages article")).to_have_count(46)
    title, outside = page.title(), page.evaluate(OUTSIDE)
    for number, vector in zip(
        (47, 49), (BY_VECTOR["htmx"] + BY_VECTOR["clobbers"], SCRIPTS + LOADS + HANDLERS), strict=True
    ):
        ask(server, hostile_room, together(vector, canary))
        expect(message(page, number + 1, state="complete")).to_have_count(1)
    assert page.evaluate(OUTSIDE) == outside
    message(page, 47).get_by_role("link", name="Edit").click()
    expect(page.locator("#edit textarea")).to_have_value(together(BY_VECTOR["htmx"] + BY_VECTOR["clobbers"], canary))
    page.locator("#edit [data-cancel]").click()
    page.locator(".settings > summary").click()
    expect(page.locator("#model-names option")).to_have_count(100)
    page.locator(".settings > summary").click()
    page.keyboard.press("Control+k")
    expect(page.locator("#palette-options > li").nth(3)).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("searchbox").fill("<img")
    expect(page.locator("#rooms")).to_have_attribute("data-q", "<img")
    page.locator("#rooms > .row[aria-current] .icon--clear").evaluate("(button) => button.click()")
    assert "<img src=//" in agree(page)
    expect(page.locator("#messages article")).to_have_count(0)
    assert page.evaluate("[window.hit, document.title]") == [None, title]
    page.reload()
    assert canary.heard == []


def test_nothing_hostile_acts_without_scripts(
    server: Server, canary: Canary, hostile_room: str, watched: Callable[..., Page]
) -> None:
    """No policy, no scripts: what is served is harmless as it stands, page after page."""
    page = watched(hostile_room, bypass_csp=True, java_script_enabled=False)
    expect(page.locator("#messages article")).to_have_count(46)
    for path in (f"{hostile_room}/messages/1/edit", "/rooms?q=" + HANDLERS[0], "/rooms?q=</title>" + LOADS[0], "/<b>x"):
        page.goto(server.url + path)
        expect(page.locator("#room")).to_have_count(1)
        expect(page.locator("img, iframe, object, embed, video, audio, base, svg")).to_have_count(0)
    assert canary.heard == []


def test_a_name_turns_nothing_round_but_itself(server: Server, watched: Callable[..., Page]) -> None:
    """Not the question whether to delete it, nor what stands beside it in a line."""
    name = "\N{RIGHT-TO-LEFT OVERRIDE}evil\N{RIGHT-TO-LEFT ISOLATE}"
    path = requests.post(f"{server.url}/rooms", {"name": name}).headers["Location"]
    page = watched(path)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    assert page.locator("#header h1").text_content() == name
    for button in page.locator(".row [hx-confirm], #header [hx-confirm]").all():
        question = button.get_attribute("hx-confirm") or ""
        assert "“evil”" in question
    turning = """() => [...document.querySelectorAll(".row__name, .settings__summary span, .model strong, h1")]
      .filter((one) => getComputedStyle(one).unicodeBidi !== "isolate" && getComputedStyle(one).display === "inline")"""
    assert page.evaluate(turning) == []


# The policy does not keep a page from being led elsewhere, nor a browser from connecting ahead.
BEYOND = ("refresh", "preconnect", "dns-prefetch")


@pytest.fixture
def unsanitised(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Server]:
    settings = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}
    server = Server(
        instance, environment=settings, program=("-m", "tests.support.unsanitised"), server_pool=server_pool
    ).start()
    yield server
    server.stop()


@pytest.mark.breaks_policy
def test_the_policy_alone_stops_scripts_and_requests(
    browser: Browser, unsanitised: Server, model_server: ModelServer, canary: Canary, violations: list[str]
) -> None:
    """With HTML let through, nothing of it runs or is fetched; and without the policy it would be."""
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
            page.wait_for_function("window.hit === 1")
            assert canary.heard
        else:
            assert page.locator("#messages img").count() and page.locator("#messages script").count()
            page.evaluate("document.querySelector('form[action*=\"/form\"]')?.submit()")
            assert page.evaluate("[window.hit, document.title === 'hit']") == [None, False]
            assert any("script-src" in one for one in violations) and any("img-src" in one for one in violations)
            assert canary.heard == []
        context.close()
