"""The cost of the page in Chromium: first load, answers, long rooms, a long list of rooms, switches."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from playwright.sync_api import Browser, Page, Request

from overseer.storage.instance_lock import room_file
from tests.bench.browser import Watch, Watched, load_all
from tests.bench.figure import Figure, percentile, repeats
from tests.bench.files import message
from tests.bench.script import Script
from tests.bench.seeded_instance import SeededInstance, seeded
from tests.support.chromium import chromium
from tests.support.seed_data import insert_messages

LONG = 5_000  # messages
MANY = 300  # rooms
FEW = 10
STEADY = Script(200, 50, "stamped")
FAST = Script(3_000, 1_000)
FRAMES = 200  # more than there are during FAST
# All scripts have run: the composer accepts text and can send it.
USABLE = "() => performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
READY = "() => document.activeElement.name === 'text' && document.body.matches(':has([data-htmx-powered])')"
SWITCH = """(id) => new Promise((done) => {
    const began = performance.now();
    const frame = () => requestAnimationFrame(() => done(performance.now() - began));
    document.addEventListener("room:opened", frame, { once: true });
    document.querySelector(`#room-${id} a`).click();
})"""
# Scroll up and down by half a window per frame, for some frames or until the answer ends. Return the sorted intervals.
SCROLL = """(frames) => new Promise((done) => {
    const list = document.getElementById("scroller");
    const gaps = [];
    const meanwhile = !watched.ended;
    const began = performance.now();
    let last = began, step = -list.clientHeight / 2;
    function move(now) {
        gaps.push(now - last);
        last = now;
        const before = list.scrollTop;
        list.scrollTop += step;
        if (gaps.length === frames / 2 || list.scrollTop === before) step = -step;
        const enough = gaps.length > frames / 10 && (meanwhile ? watched.ended : now - began > 5000);
        if (enough || gaps.length > frames) done(gaps.slice(2).sort((one, other) => one - other));
        else requestAnimationFrame(move);
    }
    requestAnimationFrame(move);
})"""
BARE = """<!doctype html><html lang="en"><head><title>Bare</title><link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/style.css"><script src="/store.js"></script><script src="/app.js" type="module"></script>
</head><body><textarea name="text"></textarea><script src="/htmx.js"></script><script src="/ws.js"></script>
</body></html>"""


def figures() -> Iterator[Figure]:
    """Yield all figures, each in a browser that does nothing else."""
    with seeded() as home, chromium() as browser:
        few = by_rooms(home, browser, FEW)
        yield from tokens(few)
        yield from full_speed(home, browser)
        rooms = [filled(home, 25), filled(home, 25)]
        yield from first(browser, home.server.url + rooms[0])
        yield from switches(browser, home.server.url, rooms)
        yield from many_rooms(few, by_rooms(home, browser, MANY))
        yield from long_rooms(home, browser)


def filled(home: SeededInstance, questions: int) -> str:
    """Create a room with a conversation. Return its path."""
    room = home.new_room()
    for _ in range(questions):
        home.answered(room, Script(60))
    return f"/rooms/{room}"


def first(browser: Browser, url: str) -> Iterator[Figure]:
    """Yield figures of the first load of a page with an empty cache. The floor is a minimal page."""
    seen = [first_page(browser, url) for _ in range(repeats(7))]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Static)
    Thread(target=server.serve_forever, daemon=True).start()
    bare = f"http://127.0.0.1:{server.server_port}"
    floors = [first_page(browser, bare, scripted=False)[2] for _ in range(repeats(7))]
    server.shutdown()
    server.server_close()
    yield Figure("first page over the wire, 50 messages", tuple(one for one, _, _ in seen), "KB", 50)
    yield Figure("requests of the first page", tuple(one for _, one, _ in seen), "", 8)
    floor = percentile(sorted(floors), 50)
    yield Figure("first page usable, from navigation", tuple(one for _, _, one in seen), "ms", 150, floor)


class Static(BaseHTTPRequestHandler):
    """Serves a page with as many files as the real one, all of them empty."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = BARE.encode() if self.path == "/" else b""
        kinds = {".js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
        self.send_response(200)
        self.send_header("Content-Type", kinds.get(self.path[-3:], "text/html"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def first_page(browser: Browser, url: str, *, scripted: bool = True) -> tuple[float, int, float]:
    """Load a page with an empty cache. Return KB over the wire, requests, and milliseconds until it is usable."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    asked: list[Request] = []
    page.on("requestfinished", lambda request: asked.append(request))
    page.goto(url, wait_until="networkidle")
    assert page.evaluate(READY) or not scripted
    usable = float(page.evaluate(USABLE))
    sizes = [request.sizes() for request in asked]
    context.close()
    return sum(one["responseBodySize"] + one["responseHeadersSize"] for one in sizes) / 1024, len(asked), usable


def switches(browser: Browser, url: str, paths: list[str]) -> Iterator[Figure]:
    """Yield figures of a switch between rooms of fifty messages."""
    watch = Watch(browser, url + paths[0])
    with watch.page.expect_request_finished(lambda request: request.url.endswith(paths[1])) as asked:
        watch.page.evaluate(SWITCH, paths[1][-12:])
    sizes = asked.value.sizes()
    took = [float(watch.page.evaluate(SWITCH, paths[n % 2][-12:])) for n in range(repeats(20))]
    watch.close()
    kilobytes = (sizes["responseBodySize"] + sizes["responseHeadersSize"]) / 1024
    yield Figure("a switch over the wire, 50 messages", (kilobytes,), "KB", 20)
    yield Figure("a switch, click to its first frame", tuple(took), "ms", 100)


def tokens(seen: list[Watched]) -> Iterator[Figure]:
    """Yield figures of an answer at reading speed."""
    yield Figure("token to the document, 50/s, p50", tuple(percentile(one.late, 50) for one in seen), "ms", 4)
    yield Figure("the same, p99", tuple(percentile(one.late, 99) for one in seen), "ms", 12)
    yield Figure("main thread for that, a token", tuple(one.busy["Task"] / STEADY.tokens for one in seen), "ms")


def full_speed(home: SeededInstance, browser: Browser) -> Iterator[Figure]:
    """Yield figures of answers at full speed, measured from Enter. The first message of a page fills caches."""
    watch = Watch(browser, f"{home.server.url}/rooms/{home.new_room()}")
    firsts = [watch.ask(Script(1, form="stamped")).first for _ in range(1 + repeats(15))]
    yield Figure("Enter to the first token in the document", tuple(firsts[1:]), "ms", 40)
    watch.close()
    rooms = [home.new_room() for _ in range(repeats(5))]
    seen = []
    for room in rooms:
        watch = Watch(browser, f"{home.server.url}/rooms/{room}")
        watch.ask(Script(3))
        seen.append(watch.ask(Script(3_000)))
        watch.close()
    yield Figure("Enter to the last of 3,000 tokens at full speed", tuple(one.last for one in seen), "ms", 600)
    for kind, name in (("Task", "all"), ("Script", "scripts"), ("RecalcStyle", "style"), ("Layout", "layout")):
        yield Figure(f"main thread for that, {name}", tuple(one.busy[kind] for one in seen), "ms")


def by_rooms(home: SeededInstance, browser: Browser, count: int) -> list[Watched]:
    """Measure a steady answer a few times, with a list of `count` rooms that are all loaded."""
    room = home.new_room()
    watch = Watch(browser, f"{home.server.url}/rooms/{room}")
    have = watch.page.locator("#rooms > .row").count()
    for _ in range(count - have):
        home.new_room()
    watch.page.reload()
    watch.close()
    watch = Watch(browser, f"{home.server.url}/rooms/{room}")
    while watch.page.locator("#rooms-more").count():
        before = watch.page.locator("#rooms > .row").count()
        watch.page.locator("#rooms-more a").evaluate("link => link.click()")
        watch.page.wait_for_function("n => document.querySelectorAll('#rooms > .row').length > n", arg=before)
    assert watch.page.locator("#rooms > .row").count() >= count
    watch.ask(Script(3))
    seen = [watch.ask(STEADY) for _ in range(repeats(3))]
    watch.close()
    return seen


def many_rooms(few: list[Watched], many: list[Watched]) -> Iterator[Figure]:
    """Yield figures of the same answer with a short and a long list."""
    for percent in (50, 99):
        one, other = (sorted(percentile(seen.late, percent) for seen in runs) for runs in (few, many))
        name = f"token to the document with {MANY} rooms in the list, p{percent}"
        yield Figure(name, tuple(other), "ms", floor=percentile(one, 50), times=1.5)
    one, other = (sorted(seen.busy["Task"] / STEADY.tokens for seen in runs) for runs in (few, many))
    name = f"main thread, a token, with {MANY} rooms in the list"
    yield Figure(name, tuple(other), "ms", floor=percentile(one, 50), times=1.5)


@dataclass(frozen=True, slots=True)
class Read:
    """Measurements of one room: an answer, and frame intervals when scrolling during an answer and without one."""

    followed: Watched
    meanwhile: list[list[float]]
    alone: list[list[float]]


def long_rooms(home: SeededInstance, browser: Browser) -> Iterator[Figure]:
    """Yield figures of an answer in a long room, with the newest messages loaded and with all."""
    paths = {count: long_room(home, count) for count in (50, LONG)}
    read = {}
    for count, whole in ((50, True), (LONG, False), (LONG, True)):
        watch = Watch(browser, home.server.url + paths[count])
        have = load_all(watch.page) if whole else watch.page.locator("#messages article").count()
        read[have, count] = reading(watch)
        watch.close()
    for (have, count), seen in read.items():
        what = f"{count:,} messages, {have:,} loaded" if count > 50 else f"{count} messages"
        floor = read[50, 50]
        yield Figure(f"longest task over 50 ms, 1,000/s into {what}", (seen.followed.longest,), "ms", 50)
        busy = (seen.followed.busy["Task"],)
        yield Figure(f"main thread for 3,000 tokens, {what}", busy, "ms", floor=floor.followed.busy["Task"])
        for name, gaps, reference in (
            ("scrolling", seen.alone, floor.alone),
            ("scrolling meanwhile", seen.meanwhile, floor.meanwhile),
        ):
            for percent in (50, 99):
                yield Figure(
                    f"between two frames, {name}, {what}, p{percent}",
                    tuple(percentile(one, percent) for one in gaps),
                    "ms",
                    floor=statistics.median(percentile(one, percent) for one in reference) if count > 50 else None,
                    times=2 if count > 50 else None,
                )


def reading(watch: Watch) -> Read:
    """Measure an answer, scrolling, and scrolling during answers (repeatedly, because a single frame may be late)."""
    page: Page = watch.page
    page.locator("#scroller").evaluate("list => (list.scrollTop = list.scrollHeight)")
    watch.ask(Script(3))
    followed = watch.ask(FAST)
    alone = [page.evaluate(SCROLL, FRAMES)]
    meanwhile = []
    for _ in range(repeats(3)):
        before = watch.begin(FAST)
        meanwhile.append(page.evaluate(SCROLL, FRAMES))
        watch.end(before)
    return Read(followed, meanwhile, alone)


def long_room(home: SeededInstance, messages: int) -> str:
    """Create a room whose messages are written into its file while the server is down. Return its path."""
    room = home.new_room()
    home.answered(room, Script(60))
    home.server.stop()
    insert_messages(room_file(home.server.instance, room), range(3, messages + 1), message)
    home.server.start()
    return f"/rooms/{room}"
