"""`make shots`: pictures of the page in eight states, into build/shots/, for a person to look at."""

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


@contextmanager
def opened(browser: Browser, url: str, size: dict[str, int], scheme: str = "light") -> Iterator[Page]:
    """A page of a size, live."""
    phone = size is PHONE
    context = browser.new_context(viewport=size, color_scheme=scheme, has_touch=phone, is_mobile=phone)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    yield page
    context.close()


def shoot(page: Page, name: str) -> None:
    page.screenshot(path=SHOTS / f"{name}.png")
    print(SHOTS.relative_to(ROOT) / f"{name}.png")


def take(browser: Browser, server: Server, model: ModelServer) -> None:
    """All eight, and some variants of them."""
    with opened(browser, server.url, DESK) as page:
        expect(page.locator("#composer")).to_be_visible()
        shoot(page, "home")
    url = server.url + talk(server, model)
    with opened(browser, url, DESK) as page:
        shoot(page, "conversation")
        page.keyboard.press("Control+k")
        page.keyboard.type("r")
        expect(page.locator("#palette-options")).to_have_attribute("data-q", "r")
        shoot(page, "palette")
        page.keyboard.press("Escape")
        page.locator(".settings > summary").click()
        expect(page.locator("#models")).to_contain_text("model")
        shoot(page, "settings")
    for scheme, size, name in (("dark", DESK, "dark"), ("light", PHONE, "phone"), ("dark", PHONE, "phone-dark")):
        with opened(browser, url, size, scheme) as page:
            shoot(page, name)
    with opened(browser, url, PHONE) as page:
        page.locator("[data-open-drawer]").tap()
        expect(page.locator("[data-close-drawer]")).to_be_focused()
        shoot(page, "phone-drawer")
    with opened(browser, url, DESK) as page:
        reply = model.will(held(text("It depends on what the rows are. If they come from a database, then")))
        page.locator("textarea[name=text]").first.fill("And without a profiler?")
        page.keyboard.press("Enter")
        expect(page.locator("article[aria-busy]")).to_contain_text("database, then")
        shoot(page, "streaming")
        reply.say(end())
        reply.hang_up()
        expect(page.locator("article[aria-busy]")).to_have_count(0)
        model.will(Reply(b'{"error": {"message": "The model is not loaded."}}', status=500))
        page.locator("#composer textarea").fill("One more?")
        page.keyboard.press("Enter")
        expect(page.locator("article[data-state=failed]")).to_be_visible()
        shoot(page, "failed")


def main() -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium() as browser,
        closing(ModelServer()) as model,
        running(Path(folder), model, environment={"OPENAI_MODEL": "qwen3-8b"}) as server,
    ):
        take(browser, server, model)


if __name__ == "__main__":
    main()
