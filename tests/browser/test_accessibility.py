"""Every state of the page, by axe: no rule of WCAG 2.2 AA that a machine can check is broken, nor a good practice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.axe import violations
from tests.browser.steps import message, row
from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, silent, text, tool_call, usage
from tests.support.server import Server
from tests.support.server_pool import ServerPool
from tests.web.test_bad_input import not_sqlite

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
LIVE: dict[str, Callable[[], Reply]] = {
    "Waiting": silent,
    "Streaming": lambda: held(reasoning("Well."), text(ANSWER)),
}


@dataclass(frozen=True)
class Harness:
    """A server with a room in every state; `paths` are theirs."""

    url: str
    model: ModelServer
    paths: dict[str, str] = field(default_factory=dict)

    def room(self, name: str) -> str:
        self.paths[name] = requests.post(f"{self.url}/rooms", {"name": name}, timeout=20).headers["Location"]
        return self.paths[name]

    def ask(self, name: str, *replies: Reply, wait: bool = True, words: str = "A question?") -> None:
        """Ask in a room, and wait until the answer has ended, or begun."""
        last = self.model.will(*replies)
        headers = {"Prefer": "wait=20"} if wait else {}
        url = f"{self.url}{self.paths[name]}/messages"
        assert requests.post(url, {"text": words}, headers=headers, timeout=30).status_code == 201
        assert last.begun.wait(20)

    def stop(self, name: str) -> None:
        requests.delete(f"{self.url}{self.paths[name]}/turn", timeout=20)

    @contextmanager
    def answering(self, name: str) -> Iterator[None]:
        """If the room's answer is one that never ends, the time in which it is made."""
        if name not in LIVE:
            yield
            return
        self.ask(name, LIVE[name](), wait=False)
        yield
        self.stop(name)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory, server_pool: ServerPool) -> Iterator[Harness]:
    """One for all: what a test looks at, it leaves as it was."""
    model = ModelServer()
    instance: Path = tmp_path_factory.mktemp("harness") / "instance"
    settings = {"OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "stand-in"}
    server = Server(instance, environment=settings, server_pool=server_pool).start()
    harness = Harness(server.url, model)
    broken = harness.room("Broken").rsplit("/", 1)[-1]
    server.stop()
    not_sqlite(instance / "facets" / f"room-{broken}.sqlite")
    server.start()
    for name in ("Empty", "Talk", "Failed", "Interrupted", "Stopped", "Waiting", "Streaming"):
        harness.room(name)
    roll = Reply(reasoning("A *die*, then."), tool_call("roll_dice", '{"sides": 20}'), end("tool_calls"))
    harness.ask("Talk", roll, Reply(*map(text, ANSWER.splitlines(keepends=True)), usage(1200, 300), end()))
    harness.ask("Talk", answer("Again."), words="And now?")
    harness.ask("Failed", Reply(b'{"error": {"message": "No such key."}}', status=401))
    harness.ask("Interrupted", Reply(text("Half of an")))
    harness.ask("Stopped", held(text("One")), wait=False)
    harness.stop("Stopped")
    yield harness
    server.stop()
    model.close()


def reading(page: Page) -> None:
    """Unfold everything in the messages."""
    for summary in page.locator("#messages summary").all():
        summary.click()


def in_state(state: str) -> Callable[[Page], None]:
    """Waits for an answer in this state."""
    return lambda page: expect(page.locator(f"article[data-state={state}]")).to_be_visible()


def growing(page: Page) -> None:
    expect(page.locator("article[data-state=streaming] table")).to_be_visible()


def settings(page: Page) -> None:
    page.locator(".settings summary").click()
    expect(page.locator("#models")).to_contain_text("available")


def room_menu(page: Page) -> None:
    page.locator("[aria-label='Room actions']").click()


def renaming(page: Page) -> None:
    first = row(page, page.url.rsplit("/", 1)[-1])
    first.hover()
    first.get_by_role("button", name="Rename").click()
    expect(page.locator("#rename")).to_be_visible()


def editing(page: Page) -> None:
    message(page, 1).get_by_role("link", name="Edit").click()
    expect(page.locator("#editing")).to_be_visible()


def refused(page: Page) -> None:
    room_menu(page)
    page.get_by_role("textbox", name="Room name").fill(" ")
    page.get_by_role("textbox", name="Room name").press("Enter")
    expect(page.get_by_role("alert").filter(has_text="A room needs a name")).to_be_visible()


def unreachable(page: Page) -> None:
    page.route("**/messages", lambda route: route.abort())
    page.get_by_role("textbox", name="Message").fill("Do not lose me")
    page.get_by_role("textbox", name="Message").press("Enter")
    expect(page.locator("#unreachable")).to_be_visible()


def drawer(page: Page) -> None:
    page.locator("[data-open-drawer]").click()
    expect(page.locator("#filter")).to_be_focused()


def filtered(page: Page) -> None:
    page.get_by_role("searchbox").fill("nothing of the kind")
    expect(page.locator("#rooms > [data-room]")).to_have_count(0)


def palette(page: Page) -> None:
    page.keyboard.press("Control+k")
    expect(page.locator("#palette [role=option]").first).to_have_attribute("aria-selected", "true")


def keys(page: Page) -> None:
    page.locator("#open-keys").click()
    expect(page.locator("#keys")).to_be_visible()


def asked_first(page: Page) -> None:
    room_menu(page)
    page.get_by_role("button", name="Delete room").click()
    expect(page.locator("#confirm")).to_be_visible()


# Every state of a room: its name, the room, and how one gets there.
STATES: dict[str, tuple[str, Callable[[Page], None] | None]] = {
    "an empty room": ("Empty", None),
    "a conversation": ("Talk", reading),
    "waiting": ("Waiting", in_state("waiting")),
    "streaming": ("Streaming", growing),
    "failed": ("Failed", in_state("failed")),
    "interrupted": ("Interrupted", in_state("interrupted")),
    "stopped": ("Stopped", in_state("stopped")),
    "settings": ("Talk", settings),
    "the room's menu": ("Talk", room_menu),
    "a question to edit": ("Talk", editing),
    "renaming": ("Talk", renaming),
    "an error": ("Talk", refused),
    "the palette": ("Talk", palette),
    "the keys": ("Talk", keys),
    "a question before something goes": ("Talk", asked_first),
    "no server": ("Empty", unreachable),
    "a filter that nothing passes": ("Talk", filtered),
    "a broken room": ("Broken", None),
}
ON_A_PHONE: dict[str, tuple[str, Callable[[Page], None] | None]] = {
    "a conversation": ("Talk", reading),
    "settings": ("Talk", settings),
    "the room's menu": ("Talk", room_menu),
    "the drawer": ("Talk", drawer),
}
# While the drawer is open the rest of the page is out of reach, its main part and its heading too.
DRAWER = {"landmark-one-main", "page-has-heading-one"}


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A tab, at rest."""
    page = context.new_page()
    page.emulate_media(reduced_motion="reduce")
    return page


def looked_at(page: Page, url: str, step: Callable[[Page], None] | None = None, *, but: Collection[str] = ()) -> None:
    """Go there, take the step, and have axe find nothing, and no colours in the dark that are hard to tell apart."""
    page.goto(url)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    if step:
        step(page)
    found = violations(page, but=but)
    page.emulate_media(color_scheme="dark")
    found += [f"{line} (dark)" for line in violations(page, only=["color-contrast"])]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("state", STATES)
def test_a_room_can_be_used_by_everybody(page: Page, harness: Harness, complaints: list[str], state: str) -> None:
    """A room in each of its states."""
    room, step = STATES[state]
    with harness.answering(room):
        looked_at(page, harness.url + harness.paths[room], step)
    complaints.clear()


@pytest.mark.parametrize("state", ON_A_PHONE)
def test_a_phone_can_be_used_by_everybody(page: Page, harness: Harness, state: str) -> None:
    """What is another on a small screen."""
    page.set_viewport_size({"width": 390, "height": 844})
    room, step = ON_A_PHONE[state]
    looked_at(page, harness.url + harness.paths[room], step, but=DRAWER if step is drawer else ())


def test_the_systems_own_colours_can_be_used_by_everybody(page: Page, harness: Harness) -> None:
    """Forced colours; whether they contrast is the system's part, and axe would look at those the page asked for."""
    page.emulate_media(forced_colors="active")
    page.goto(harness.url + harness.paths["Talk"])
    reading(page)
    assert not (found := violations(page, but=["color-contrast"])), "\n".join(found)


@pytest.mark.parametrize("path", ["{}?before=3", "{}/messages/1/edit?_plain=1", "/nowhere?_plain=1", "/rooms?_plain=1"])
def test_other_pages_can_be_used_by_everybody(page: Page, harness: Harness, path: str) -> None:
    """Earlier messages, a question to edit on a page of its own, an error, and no room chosen."""
    looked_at(page, harness.url + path.format(harness.paths["Talk"]))


def test_the_first_page_can_be_used_by_everybody(page: Page, offline_server: Server) -> None:
    """No room yet, and how to connect a model unfolded."""
    looked_at(page, offline_server.url, lambda page: page.locator("#model summary").click())


def test_what_cannot_be_used_is_found(page: Page, harness: Harness) -> None:
    """axe runs in the page, whatever its content policy: a button without a name is told."""
    page.goto(harness.url + harness.paths["Empty"])
    nameless = "button => { button.replaceChildren(); button.removeAttribute('aria-label'); button.title = ''; }"
    page.locator("#composer button").evaluate(nameless)
    (found,) = violations(page)
    assert found.startswith("button-name: ") and '<button class="composer__send' in found
