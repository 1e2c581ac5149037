"""Measurements in Chromium: when tokens enter the document, and what the main thread does meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.bench.script import Script

CLOCK_READINGS = 300  # of the browser's clock, of which the most precise counts
# Records by the page's clock: each time stamp in the messages and when it came, when Enter was pressed, when the
# answer ended, and the longest task since. The newest article, which needs no search, tells when the answer has ended.
WATCH = """() => {
    const watched = window.watched = { seen: [], entered: 0, ended: 0, longest: 0 };
    let newest = "";
    const answer = () => {
        let last = document.getElementById("messages").lastElementChild;
        while (last && last.tagName !== "ARTICLE") last = last.previousElementSibling;
        return last;
    };
    addEventListener("keydown", (event) => {
        if (event.key !== "Enter") return;
        Object.assign(watched, { seen: [], entered: event.timeStamp, ended: 0, longest: 0, before: answer()?.id });
    }, { capture: true });
    new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) watched.longest = Math.max(watched.longest, duration);
    }).observe({ type: "longtask" });
    new MutationObserver((records) => {
        const now = performance.now();
        for (const { type, target, addedNodes } of records) {
            for (const node of type === "characterData" ? [target] : addedNodes) {
                for (const [stamp] of node.textContent.matchAll(/T\\d{18}/g)) {
                    if (stamp > newest) watched.seen.push([newest = stamp, now]);
                }
            }
        }
        const last = answer();
        if (watched.ended || !last || last.id === watched.before || last.dataset.state !== "complete") return;
        watched.ended = now;
        watched.done?.();
    }).observe(document.getElementById("scroller"), { childList: true, characterData: true, subtree: true,
        attributeFilter: ["data-state"] });
}"""
ENDED = "() => new Promise((done) => (watched.ended ? done() : (watched.done = done)))"
# Wait for the next frame and for task observers, which are notified late.
SEEN = """() => new Promise((done) => {
    setTimeout(() => requestAnimationFrame(() => setTimeout(() => done(watched))), 100);
})"""
KINDS = ("Task", "Script", "RecalcStyle", "Layout")


@dataclass(frozen=True, slots=True)
class Watched:
    """Measurements of one answer, in ms."""

    late: list[float]  # sorted: from sending a token to its insertion into the document
    first: float  # from Enter to the first token
    last: float  # from Enter to the whole answer
    longest: float  # of the tasks of more than 50 ms
    busy: dict[str, float]  # CPU time of the main thread


class Watch:
    """A page that is connected and up to date."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.page = browser.new_page(viewport={"width": 1280, "height": 800})
        self.page.goto(url)
        expect(self.page.locator("body")).to_have_attribute("data-live", "open")
        self._tools = self.page.context.new_cdp_session(self.page)
        self._tools.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.page.evaluate(WATCH)
        self._origin, self.unsure = self._clock_offset()

    def ask(self, script: Script) -> Watched:
        """Type a message, and measure the answer to its end."""
        before = self.begin(script)
        return self.end(before)

    def begin(self, script: Script) -> dict[str, float]:
        """Type a message. Return how busy the main thread was before."""
        self.page.get_by_role("textbox", name="Message").fill(str(script))
        before = self._busy()
        self.page.keyboard.press("Enter")
        return before

    def end(self, before: dict[str, float]) -> Watched:
        """Measure the answer to its end."""
        self.page.evaluate(ENDED)
        watched: dict[str, Any] = self.page.evaluate(SEEN)
        busy = {kind: spent - before[kind] for kind, spent in self._busy().items()}
        late = sorted(at + self._origin - int(stamp[1:]) / 1e6 for stamp, at in watched["seen"])
        entered = watched["entered"]
        first = watched["seen"][0][1] - entered if late else 0.0
        return Watched(late, first, watched["ended"] - entered, watched["longest"], busy)

    def close(self) -> None:
        """Close the page."""
        self.page.close()

    def _busy(self) -> dict[str, float]:
        found = {one["name"]: one["value"] for one in self._tools.send("Performance.getMetrics")["metrics"]}
        return {kind: 1000 * found[f"{kind}Duration"] for kind in KINDS}

    def _clock_offset(self) -> tuple[float, float]:
        """Return when the page's clock was 0 by the monotonic clock, and the possible error; both in ms."""
        readings = []
        for _ in range(CLOCK_READINGS):
            began = time.monotonic_ns() / 1e6
            said = self._tools.send("Runtime.evaluate", {"expression": "performance.now()"})["result"]["value"]
            ended = time.monotonic_ns() / 1e6
            readings.append((ended - began, (began + ended) / 2 - said))
        width, origin = min(readings)
        return origin, width / 2


def load_all(page: Page) -> int:
    """Load all earlier messages of the room. Return their number."""
    while page.locator("#messages > .messages__earlier").count():
        before = page.locator("#messages article").count()
        page.locator("#messages > .messages__earlier a").evaluate("link => link.click()")
        page.wait_for_function("n => document.querySelectorAll('#messages article').length > n", arg=before)
    return page.locator("#messages article").count()
