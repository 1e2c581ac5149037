"""Times: the server names them in UTC, and a page shows them in the reader's zone, by day."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from overseer.domain.messages import Text
from overseer.storage import room_rows
from overseer.storage.database import Storage
from overseer.storage.instance_lock import room_file
from overseer.storage.registry import Registry
from overseer.storage.room_store import RoomStore
from tests.browser.steps import message, say
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import Server
from tests.support.server_pool import ServerPool

Harness = Callable[[Sequence[datetime]], Server]
Open = Callable[..., Page]

NOON = datetime(2026, 3, 1, 2, 40, tzinfo=UTC)
SAID = [
    datetime(2026, 2, 20, 23, 30, tzinfo=UTC),
    datetime(2026, 2, 27, 15, 30, tzinfo=UTC),
    datetime(2026, 2, 28, 14, 59, tzinfo=UTC),
    datetime(2026, 2, 28, 15, 1, tzinfo=UTC),
    datetime(2026, 3, 1, 2, 31, tzinfo=UTC),
]
ROOM = "/rooms/ffffffffffff"


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@pytest.fixture
def harness(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Harness]:
    """Starts a server on a room in which something was said at each of these times, and on a room for each of them."""
    servers = []

    def harness(said: Sequence[datetime]) -> Server:
        (instance / "facets").mkdir(parents=True)
        with closing(storage := Storage(room_file(instance, "ffffffffffff"))):
            transcript = RoomStore(storage, create=True)
            transcript.initialize("Room", by_person=True)
            with storage.write() as db:
                for number, moment in enumerate(said):
                    role = "assistant" if number % 2 else "user"
                    room_rows.upsert_parts(db, room_rows.insert_message(db, role, "complete", None), [Text("Words.")])
                    db.execute(
                        "UPDATE messages SET created_at = ? WHERE number = ?", (milliseconds(moment), number + 1)
                    )
            summary = transcript.summary()
        with closing(storage := Storage(instance / "overseer.sqlite")):
            registry = Registry(storage)
            registry.adopt(
                (f"{n:012x}", replace(summary, active_at=milliseconds(moment))) for n, moment in enumerate(said)
            )
            registry.adopt([("ffffffffffff", summary)])
            with storage.write() as db:
                db.execute("UPDATE rooms SET active_at = ? WHERE id = 'ffffffffffff'", (milliseconds(max(said)),))
        environment = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}
        servers.append(Server(instance, environment=environment, server_pool=server_pool).start())
        return servers[-1]

    yield harness
    for server in servers:
        server.stop()


@pytest.fixture
def reader(browser: Browser) -> Iterator[Open]:
    """Opens a page in a reader's zone, whose clock begins at some time."""
    contexts = []

    def reader(
        server: Server, zone: str, *, at: datetime | None = None, locale: str = "en-GB", scripts: bool = True
    ) -> Page:
        context = browser.new_context(timezone_id=zone, locale=locale, java_script_enabled=scripts)
        contexts.append(context)
        page = context.new_page()
        if at:
            page.clock.install(time=at)
        page.goto(server.url + ROOM)
        if scripts:
            expect(page.locator("body")).to_have_attribute("data-live", "open")
        return page

    yield reader
    for context in contexts:
        context.close()


def times(page: Page) -> list[str]:
    return [time.replace("\u202f", " ") for time in page.locator(".message__when").all_inner_texts()]


def days(page: Page) -> list[tuple[str, int]]:
    """The separators, each with how many messages are below it."""
    return [
        (str(label), int(count))
        for label, count in page.evaluate("""() => {
        const found = [];
        for (const element of document.querySelectorAll("#messages article, #messages .messages__day")) {
            if (element.matches("article")) found.at(-1)[1]++;
            else found.push([element.textContent.trim(), 0]);
        }
        return found;
    }""")
    ]


def groups(page: Page) -> list[tuple[str, int]]:
    """The headings of the list in sight, each with how many rooms are below it."""
    return [
        (str(label), int(count))
        for label, count in page.evaluate("""() => {
        const found = [];
        for (const element of document.querySelectorAll("#rooms > .row, #rooms > .rooms__day")) {
            if (element.matches(".row")) found.at(-1)[1]++;
            else if (element.checkVisibility()) found.push([element.textContent.trim(), 0]);
        }
        return found;
    }""")
    ]


EXPECTED = {
    "Asia/Tokyo": (
        ["21 Feb, 08:30", "28 Feb, 00:30", "28 Feb, 23:59", "00:01", "11:31"],
        [("Saturday 21 February", 1), ("Yesterday", 2), ("Today", 2)],
        [("Today", 3), ("Yesterday", 2), ("Earlier", 1)],
    ),
    "America/Los_Angeles": (
        ["20 Feb, 15:30", "27 Feb, 07:30", "06:59", "07:01", "18:31"],
        [("Friday 20 February", 1), ("Yesterday", 1), ("Today", 3)],
        [("Today", 4), ("Yesterday", 1), ("Earlier", 1)],
    ),
    "Pacific/Kiritimati": (
        ["21 Feb, 13:30", "28 Feb, 05:30", "04:59", "05:01", "16:31"],
        [("Saturday 21 February", 1), ("Yesterday", 1), ("Today", 3)],
        [("Today", 4), ("Yesterday", 1), ("Earlier", 1)],
    ),
}  # fmt: skip


def test_page_in_any_zone_shows_the_readers_times_and_days(harness: Harness, reader: Open) -> None:
    """Messages and rooms are by the reader's own calendar, with the date where it is not today."""
    server = harness(SAID)
    for zone, expected in EXPECTED.items():
        page = reader(server, zone, at=NOON)
        assert (times(page), days(page), groups(page)) == expected, zone
        title = page.locator("#message-1 time").get_attribute("title") or ""
        assert re.search(r"February 2026", title) and "UTC" not in title
        page.locator("#filter").fill("Room")
        expect(page.locator("#rooms[data-q]")).to_have_count(1)
        assert groups(page) == expected[2], "what was swapped in"


def test_page_without_scripts_names_utc(harness: Harness, reader: Open) -> None:
    """What the server renders is in UTC and says so; the days are UTC's."""
    page = reader(harness(SAID), "Asia/Tokyo", scripts=False)
    assert times(page) == ["23:30 UTC", "15:30 UTC", "14:59 UTC", "15:01 UTC", "02:31 UTC"]
    assert days(page) == [
        *(("Friday, 20 February 2026", 1), ("Friday, 27 February 2026", 1)),
        *(("Saturday, 28 February 2026", 2), ("Sunday, 1 March 2026", 1)),
    ]
    assert page.locator("#message-1 time").get_attribute("title") == "Friday, 20 February 2026, 23:30 UTC"


def test_fragments_for_other_clients_are_in_utc(harness: Harness) -> None:
    """Whatever zone the server is in: curl is sent the instant, and the time in UTC."""
    html = requests.get(harness(SAID).url + ROOM + "/messages/5", timeout=20).text
    assert '<time datetime="2026-03-01T02:31:00+00:00" title="Sunday, 1 March 2026, 02:31 UTC">02:31 UTC</time>' in html


def test_times_are_written_in_the_browsers_way(harness: Harness, reader: Open) -> None:
    """By its language, and with 12 or 24 hours as is usual there."""
    server = harness(SAID)
    assert times(reader(server, "Asia/Tokyo", at=NOON, locale="en-US"))[-2:] == ["12:01 AM", "11:31 AM"]
    assert times(reader(server, "Asia/Tokyo", at=NOON, locale="de-DE"))[:1] == ["21. Feb., 08:30"]


def test_day_of_a_clock_change_is_one_day(harness: Harness, reader: Open) -> None:
    """It has 23 hours in Los Angeles, and ends at midnight all the same."""
    said = [datetime(2026, 3, 8, hour, 30, tzinfo=UTC) for hour in (7, 9, 10)]  # 23:30, 1:30, 3:30
    page = reader(harness(said), "America/Los_Angeles", at=datetime(2026, 3, 9, 6, 59, 50, tzinfo=UTC))
    assert times(page) == ["7 Mar, 23:30", "01:30", "03:30"]
    assert days(page) == [("Yesterday", 1), ("Today", 2)]
    page.clock.run_for(15_000)
    assert days(page) == [("Saturday 7 March", 1), ("Yesterday", 2)]


def test_midnight_renames_days_without_a_reload(harness: Harness, reader: Open) -> None:
    """What was today's is yesterday's, in the messages and in the list, also after the machine slept."""
    page = reader(harness(SAID), "Asia/Tokyo", at=datetime(2026, 3, 1, 14, 59, 50, tzinfo=UTC))
    assert groups(page)[0] == ("Today", 3)
    page.clock.run_for(15_000)
    assert groups(page) == [("Yesterday", 3), ("Last 7 days", 2), ("Earlier", 1)]
    assert days(page) == [("Saturday 21 February", 1), ("Saturday 28 February", 2), ("Yesterday", 2)]
    assert times(page)[-1] == "1 Mar, 11:31"
    page.clock.fast_forward(24 * 3600 * 1000)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))")
    assert groups(page) == [("Last 7 days", 5), ("Earlier", 1)]


def counted(moments: Sequence[datetime], zone: str) -> list[int]:
    """How many of these times are on each day in a zone."""
    local = [moment.astimezone(ZoneInfo(zone)).date() for moment in moments]
    edges = [0, *(n for n, (one, other) in enumerate(pairwise(local), 1) if one != other), len(local)]
    return [end - begin for begin, end in pairwise(edges)]


def test_earlier_messages_and_more_rooms_go_on_with_their_days(harness: Harness, reader: Open) -> None:
    """A page that begins in mid-day has no day of its own; headings of the list come once."""
    said = [NOON - timedelta(hours=5 * n) for n in reversed(range(120))]
    page = reader(harness(said), "Asia/Tokyo", at=NOON)
    assert [count for _, count in days(page)] == counted(said[-50:], "Asia/Tokyo")
    for shown in (100, 120):
        page.locator(".messages__earlier a").evaluate("link => link.click()")
        expect(page.locator("#messages article")).to_have_count(shown)
        assert [count for _, count in days(page)] == counted(said[-shown:], "Asia/Tokyo")
    for _ in range(2):
        before = page.locator("#rooms > .row").count()
        page.locator(".rooms__more").click()
        expect(page.locator("#rooms > .row")).not_to_have_count(before)
    expect(page.locator("#rooms > .row")).to_have_count(121)
    zone = ZoneInfo("Asia/Tokyo")
    ago = [(NOON.astimezone(zone).date() - moment.astimezone(zone).date()).days for moment in [*said, said[-1]]]
    sizes = [sum(low <= n <= high for n in ago) for low, high in ((0, 0), (1, 1), (2, 7), (8, 99))]
    assert groups(page) == list(zip(["Today", "Yesterday", "Last 7 days", "Earlier"], sizes, strict=True))


# Tells of each time that is put on the page in UTC, and counts the times that are written.
WATCH = """() => {
    window.seen = [];
    window.written = 0;
    const real = Object.getOwnPropertyDescriptor(Intl.DateTimeFormat.prototype, "format").get;
    const get = function () { window.written++; return real.call(this); };
    Object.defineProperty(Intl.DateTimeFormat.prototype, "format", { get });
    new MutationObserver((records) => {
        for (const { target } of records) if (/\\d UTC/.test(target.textContent)) window.seen.push(target.textContent);
    }).observe(document.getElementById("messages"), { childList: true, subtree: true, characterData: true });
}"""


def test_pushed_exchange_has_the_readers_time_in_each_tab(
    harness: Harness, reader: Open, model_server: ModelServer
) -> None:
    """In two zones at once; nothing is seen in UTC before, and a token costs no look at any other message."""
    server = harness(SAID)
    pages = {zone: reader(server, zone) for zone in ("Asia/Tokyo", "America/Los_Angeles")}
    for page in pages.values():
        page.evaluate(WATCH)
    reply = model_server.will(held(text("Some")))
    tokyo = pages["Asia/Tokyo"]
    say(tokyo, "A question")
    for zone, page in pages.items():
        expect(message(page, 7).locator(".message__body")).to_have_text("Some")
        instant = datetime.fromisoformat(
            message(page, 6).locator(".message__when time").get_attribute("datetime") or ""
        )
        assert times(page)[-2] == f"{instant.astimezone(ZoneInfo(zone)):%H:%M}"
        assert days(page)[-1] == ("Today", 2)
    written = tokyo.evaluate("window.written")
    for _ in range(20):
        reply.say(text(" more"))
    expect(message(tokyo, 7)).to_contain_text("Some" + " more" * 20)
    assert tokyo.evaluate("window.written") == written
    reply.say(end())
    for page in pages.values():
        expect(message(page, 7, state="complete")).to_be_visible()
        assert page.evaluate("window.seen") == []
        assert groups(page)[0] == ("Today", 1)
