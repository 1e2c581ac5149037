"""No state of the page breaks a rule of WCAG 2.2 AA, or a best practice, that axe can check."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from overseer.domain.settings import MAX_SYSTEM_PROMPT_CHARS
from overseer.storage.instance_lock import room_file
from tests.browser.axe import violations
from tests.browser.steps import ask, composer, create_room, message, row, send
from tests.support.files import write_junk
from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, text, tool_call, usage
from tests.support.server import Server

ANSWER = """# A heading

Some *words* with `code` and [a link](https://example.com).

```python
def greet(name: str = "you") -> None:  # kindly
    print(f"Hello {name}", 42)
```

## Below

| step | low |
|------|----:|
| 1    |   0 |

1. one
2. two

> quoted
"""
# While the drawer is open the rest of the page is inert, with its main landmark and heading.
DRAWER = {"landmark-one-main", "page-has-heading-one"}


class Audit:
    """Collects axe's findings on one tab, each with the name of the state of the page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.found: list[str] = []

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)
        expect(self.page.locator("body")).to_have_attribute("data-live", "open")

    def check(self, state: str, *, but: Collection[str] = (), dark: bool = False) -> None:
        self.found += [f"{state}: {line}" for line in violations(self.page, but=but)]
        if dark:
            self.page.emulate_media(color_scheme="dark")
            self.found += [f"{state}, dark: {line}" for line in violations(self.page, only=["color-contrast"])]
            self.page.emulate_media(color_scheme="light")


@pytest.fixture
def audit(context: BrowserContext, server: Server) -> Audit:
    page = context.new_page()
    page.emulate_media(reduced_motion="reduce")
    return Audit(page, server.url)


def talk(server: Server, model_server: ModelServer) -> str:
    """Create a room with a conversation that has every kind of part."""
    path = create_room(server, "Talk")
    roll = Reply(reasoning("A *die*, then."), tool_call("roll_dice", '{"sides": 20}'), end("tool_calls"))
    model_server.will(roll, Reply(*map(text, ANSWER.splitlines(keepends=True)), usage(1200, 300), end()))
    ask(server, path, "A question?")
    model_server.will(answer("Again."))
    ask(server, path, "And now?")
    return path


def unfold(page: Page) -> None:
    for summary in page.locator("#messages summary").all():
        summary.click()


def test_conversation_with_its_menus_and_dialogs_passes_axe(
    audit: Audit, server: Server, model_server: ModelServer
) -> None:
    page, path = audit.page, talk(server, model_server)
    audit.open(path)
    unfold(page)
    audit.check("conversation", dark=True)
    page.locator(".picker summary").click()
    expect(page.locator("#models")).to_contain_text("available")
    audit.check("models")
    page.keyboard.press("Escape")
    page.locator(".settings summary").click()
    expect(page.get_by_label("System prompt")).to_be_focused()
    audit.check("settings", dark=True)
    page.keyboard.press("Escape")
    message(page, 1).get_by_role("link", name="Edit").click()
    expect(page.locator("#editing")).to_be_visible()
    audit.check("edit", dark=True)
    page.keyboard.press("Escape")
    row(page, path).hover()
    row(page, path).locator(".row__more").click()
    audit.check("row menu", dark=True)
    page.locator("#row-menu").get_by_role("button", name="Rename").click()
    expect(page.locator("#rename")).to_be_visible()
    audit.check("rename popover")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    expect(page.locator("#palette [role=option]").first).to_have_attribute("aria-selected", "true")
    audit.check("palette", dark=True)
    page.keyboard.press("Escape")
    page.locator("#open-keys").click()
    expect(page.locator("#keys")).to_be_visible()
    audit.check("shortcuts")
    page.keyboard.press("Escape")
    page.locator(".settings summary").click()
    page.get_by_label("System prompt").fill("x" * (MAX_SYSTEM_PROMPT_CHARS + 1))
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#error")).not_to_be_empty()
    page.get_by_label("Room actions").click()
    audit.check("room menu and error", dark=True)
    page.get_by_role("link", name="Export…").click()
    expect(page.locator("#formats")).to_be_visible()
    audit.check("formats", dark=True)
    page.get_by_role("button", name="Delete room").click()
    expect(page.locator("#confirm")).to_be_visible()
    audit.check("confirmation")
    page.keyboard.press("Escape")
    page.get_by_role("searchbox").fill("no such name")
    expect(page.locator("#rooms > [data-room]")).to_have_count(0)
    audit.check("empty filter result")
    audit.open(f"{path}/export")
    audit.check("page of exports")
    page.emulate_media(forced_colors="active")
    audit.check("forced colours", but=["color-contrast"])  # the system chooses the colours
    assert not audit.found, "\n".join(audit.found)


def test_answers_in_progress_and_failed_pass_axe(
    audit: Audit, server: Server, model_server: ModelServer, page_errors: list[str]
) -> None:
    page, path = audit.page, create_room(server, "Busy")
    model_server.will(Reply(b'{"error": {"message": "No such key."}}', status=401))
    ask(server, path, "First")
    model_server.will(Reply(text("Half of an")))
    ask(server, path, "Second")
    audit.open(path)
    expect(message(page, 4, state="interrupted")).to_be_visible()
    audit.check("failed and interrupted", dark=True)
    model_server.will(held(reasoning("Well."), text(ANSWER)))
    send(page, "Third")
    ask(server, path, "Fourth", wait=False)
    expect(page.locator("article[data-state=streaming] table")).to_be_visible()
    expect(message(page, 8, state="waiting")).to_be_visible()
    audit.check("streaming and queued")
    requests.delete(f"{server.url}{path}/turn?all=1", timeout=20)
    model_server.will(answer("One."), held(text("Half of")))
    several = {"text": "Fifth", "model": ["stand-in", "other"]}
    requests.post(f"{server.url}{path}/messages", several, timeout=20)
    expect(message(page, 11, state="streaming").or_(message(page, 10, state="streaming"))).to_be_visible()
    page.get_by_label("Ask several models").click()
    expect(page.locator("#several label")).to_have_count(1)
    audit.check("side by side", dark=True)
    page.keyboard.press("Escape")
    page.route("**/messages", lambda route: route.abort())
    send(page, "Do not lose me")
    expect(page.locator("#unreachable")).to_be_visible()
    audit.check("server unreachable")
    requests.delete(f"{server.url}{path}/turn", timeout=20)
    assert not audit.found, "\n".join(audit.found)
    page_errors.clear()


def test_phone_passes_axe(audit: Audit, server: Server, model_server: ModelServer) -> None:
    page = audit.page
    page.set_viewport_size({"width": 390, "height": 844})
    audit.open(talk(server, model_server))
    unfold(page)
    audit.check("conversation")
    page.locator(".picker summary").click()
    expect(page.locator("#models")).to_contain_text("available")
    audit.check("models")
    page.keyboard.press("Escape")
    page.locator(".settings summary").click()
    audit.check("settings")
    page.keyboard.press("Escape")
    page.locator("[data-open-drawer]").click()
    expect(page.locator("#filter")).to_be_focused()
    audit.check("drawer", but=DRAWER)
    assert not audit.found, "\n".join(audit.found)


def test_other_pages_pass_axe(audit: Audit, server: Server, model_server: ModelServer, instance: Path) -> None:
    path, empty, broken = talk(server, model_server), create_room(server, "Empty"), create_room(server, "Broken")
    server.stop()
    write_junk(room_file(instance, broken[-12:]))
    server.start()
    for address in (f"{path}?before=3", f"{path}/messages/1/edit?_plain=1", "/nowhere?_plain=1", "/rooms?_plain=1"):
        audit.open(address)
        audit.check(address)
    audit.open(broken)
    audit.check("broken room")
    audit.open(empty)
    audit.check("empty room")
    assert not audit.found, "\n".join(audit.found)
    expect(composer(audit.page)).to_be_focused()
    remove_name = "button => { button.replaceChildren(); button.removeAttribute('aria-label'); button.title = ''; }"
    audit.page.get_by_role("button", name="Send").evaluate(remove_name)
    audit.check("nameless button")
    assert [line.split(": ")[1] for line in audit.found] == ["button-name"]
