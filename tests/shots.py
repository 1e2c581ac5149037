"""`make shots`: pictures of the page in twelve states, light, dark and on a phone, in build/shots/."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import requests
from playwright.sync_api import Browser, Page, expect

from tests.browser.steps import ask, create_room
from tests.support.chromium import chromium
from tests.support.model_server import ModelServer, Reply, end, held, reasoning, text, tool_call, usage
from tests.support.server import ROOT, Server, running

SHOTS = ROOT / "build" / "shots"
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
ROOMS = (
    "Sourdough at altitude",
    "Trip to Lofoten",
    "Rust lifetimes",
    "Letter to the landlord",
    "Garden plan",
    "Chess: the Caro-Kann",
)
QUESTION = (
    "How do I find the slow part of this?\n\n```python\ndef total(rows):\n    return sum(r['price'] for r in rows)\n```"
)
ANSWER = """\
Measure first. Python brings a profiler along, so nothing has to be installed:

```python
import cProfile, pstats

with cProfile.Profile() as profile:
    total(rows)

pstats.Stats(profile).sort_stats("cumulative").print_stats(10)
```

| column | says |
|---|---|
| `tottime` | seconds in the function itself |
| `cumtime` | the same with all that it called |

Then:

- [x] look at the **cumulative** time
- [ ] change *one* thing
- [ ] measure again

> A generator costs little; reading the rows usually costs more.
"""


def talk(server: Server, model: ModelServer) -> str:
    """Rooms with a conversation in the newest; returns its path."""
    for name in ROOMS[1:][::-1]:
        path = create_room(server, name)
        ask(server, path, f"Tell me about {name.lower()}.")
    requests.patch(f"{server.url}{path}", {"pinned": "1"}, timeout=20)
    path = create_room(server, "Why is it slow?")
    model.will(
        Reply(reasoning("They want to profile."), tool_call("get_current_time", "{}"), end("tool_calls")),
        Reply(text(ANSWER), usage(412, 236), end()),
    )
    ask(server, path, QUESTION)
    return path


VARIANTS = (("light", DESK, ""), ("dark", DESK, "-dark"), ("light", PHONE, "-phone"))


class Camera:
    """One page, live, in a colour scheme and a size, and the pictures of it."""

    def __init__(self, page: Page, model: ModelServer, suffix: str) -> None:
        self.page, self.model, self.suffix = page, model, suffix

    def shoot(self, name: str) -> None:
        path = SHOTS / f"{name}{self.suffix}.png"
        self.page.screenshot(path=path)
        print(path.relative_to(ROOT))

    def home(self, url: str) -> None:
        self.page.goto(url)
        expect(self.page.locator("body")).to_have_attribute("data-live", "open")
        self.shoot("home")

    def conversation(self, url: str) -> None:
        self.page.goto(url)
        expect(self.page.locator("body")).to_have_attribute("data-live", "open")
        self.shoot("conversation")

    def menus(self) -> None:
        """The model, the settings, the actions of a room, and on a phone the drawer with the list."""
        page = self.page
        page.locator(".picker > summary").click()
        expect(page.locator("#models")).to_contain_text("available")
        self.shoot("model")
        page.locator(".picker > summary").click()
        page.locator(".settings > summary").click()
        self.shoot("settings")
        page.locator(".settings > summary").click()
        if self.suffix == "-phone":
            page.locator("[data-open-drawer]").first.tap()
            expect(page.locator("[data-close-drawer]")).to_be_focused()
            self.shoot("rooms")
            page.locator("[data-close-drawer]").tap()
        else:
            page.locator(".row").nth(2).hover()
            page.locator(".row__more").nth(2).click()
            self.shoot("rooms")
            page.keyboard.press("Escape")

    def dialogs(self) -> None:
        page = self.page
        page.keyboard.press("Control+k")
        page.keyboard.type("r")
        expect(page.locator("#palette-options")).to_have_attribute("data-q", "r")
        self.shoot("palette")
        page.keyboard.press("Escape")
        page.keyboard.press("Control+/")
        expect(page.locator("#keys")).to_be_visible()
        self.shoot("keys")
        page.keyboard.press("Escape")
        page.locator("[href$='/edit']").last.click()
        expect(page.locator("#editing")).to_be_visible()
        self.shoot("edit")
        page.keyboard.press("Escape")
        expect(page.locator("#editing")).to_have_count(0)

    def answers(self) -> None:
        """An answer that grows, questions that wait, and an answer that failed."""
        page, composer = self.page, self.page.locator("#composer textarea")
        reply = self.model.will(held(text("It depends on what the rows are. If they come from a database, then")))
        composer.fill("And without a profiler?")
        composer.press("Enter")
        expect(page.locator("article[aria-busy]")).to_contain_text("database, then")
        self.shoot("streaming")
        composer.fill("What about memory?")
        composer.press("Enter")
        expect(page.locator("[data-queued]")).to_be_visible()
        self.shoot("queued")
        failure = b'{"error": {"message": "The model is not loaded."}}'
        self.model.will(Reply(text("Use tracemalloc."), end()), Reply(failure, status=500))
        reply.say(end())
        reply.hang_up()
        expect(page.locator("article[aria-busy]")).to_have_count(0)
        composer.fill("One more?")
        composer.press("Enter")
        expect(page.locator("article[data-state=failed]").last).to_be_visible()
        self.shoot("failed")


def take(browser: Browser, model: ModelServer) -> None:
    """Take the twelve pictures in each variant. The last one is of a server with a password."""
    environment = {"OPENAI_MODEL": "qwen3-8b"}
    for scheme, size, suffix in VARIANTS:
        with tempfile.TemporaryDirectory() as folder, opened(browser, size, scheme) as page:
            camera = Camera(page, model, suffix)
            with running(Path(folder, "open"), model, environment=environment) as server:
                with opened(browser, size, scheme) as first:
                    Camera(first, model, suffix).home(server.url)
                camera.conversation(server.url + talk(server, model))
                camera.menus()
                camera.dialogs()
                camera.answers()
            with running(Path(folder, "locked"), model, environment={"OVERSEER_PASSWORD": "owl"}) as server:
                page.goto(server.url)
                camera.shoot("log-in")


@contextmanager
def opened(browser: Browser, size: dict[str, int], scheme: str) -> Iterator[Page]:
    """Open a page of a size, without animations."""
    phone = size is PHONE
    context = browser.new_context(
        viewport=size,  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
        has_touch=phone,
        is_mobile=phone,
    )
    yield context.new_page()
    context.close()


def main() -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with chromium() as browser, closing(ModelServer()) as model:
        take(browser, model)


if __name__ == "__main__":
    main()
