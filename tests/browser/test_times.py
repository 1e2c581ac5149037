"""Times: the server renders them in UTC, and the page shows them in the reader's time zone, by day."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from overseer.storage.instance_lock import room_file
from tests.browser.steps import create_room, message, messages, seed_messages, send
from tests.support.files import execute
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import Server

StartSeeded = Callable[[Sequence[datetime]], str]
OpenAs = Callable[..., Page]

NOON = datetime(2026, 3, 1, 2, 40, tzinfo=UTC)
SENT = [
    datetime(2026, 2, 20, 23, 30, tzinfo=UTC),
    datetime(2026, 2, 27, 15, 30, tzinfo=UTC),
    datetime(2026, 2, 28, 14, 59, tzinfo=UTC),
    datetime(2026, 2, 28, 15, 1, tzinfo=UTC),
    datetime(2026, 3, 1, 2, 31, tzinfo=UTC),
]


@pytest.fixture
def start_seeded(server: Server) -> StartSeeded:
    """Return a function that starts the server with a room with a message of each time, and a room active at each time.

    It returns the address of the first room.
    """

    def start_seeded(sent: Sequence[datetime]) -> str:
        path = create_room(server, "Room")
        server.stop()
        seed_messages(server.instance, path, len(sent))
        times = [int(moment.timestamp() * 1000) for moment in sent]
        execute(
            room_file(server.instance, path[-12:]),
            *(f"UPDATE messages SET created_at = {moment} WHERE number = {n}" for n, moment in enumerate(times, 1)),
        )
        insert = "INSERT INTO rooms (id, name, created_at, rank, active_at, synced_at) VALUES"
        execute(
            server.instance / "overseer.sqlite",
            *(f"{insert} ('{n:012x}', 'Room', 1, {100 + n}, {moment}, 1)" for n, moment in enumerate(times)),
            f"UPDATE rooms SET rank = 1000, active_at = {max(times)} WHERE id = '{path[-12:]}'",
        )
        server.start()
        return server.url + path

    return start_seeded


@pytest.fixture
def open_as(browser: Browser) -> Iterator[OpenAs]:
    """Opens a page in a time zone, with a clock that starts at a given time."""
    contexts = []

    def open_as(
        url: str, zone: str, *, at: datetime | None = None, locale: str = "en-GB", scripts: bool = True
    ) -> Page:
        context = browser.new_context(timezone_id=zone, locale=locale, java_script_enabled=scripts)
        contexts.append(context)
        page = context.new_page()
        if at:
            page.clock.install(time=at)
        page.goto(url)
        if scripts:
            expect(page.locator("body")).to_have_attribute("data-live", "open")
        return page

    yield open_as
    for context in contexts:
        context.close()


def times(page: Page) -> list[str]:
    return [time.replace("\u202f", " ") for time in page.locator(".message__when").all_inner_texts()]


def days(page: Page) -> list[tuple[str, int]]:
    """The day separators, each with the number of messages below it."""
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
    """The visible headings of the list, each with the number of rooms below it."""
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


def test_page_shows_times_and_days_in_the_readers_zone_and_locale(start_seeded: StartSeeded, open_as: OpenAs) -> None:
    """Messages and rooms are grouped by the reader's calendar; times of another day include the date."""
    url = start_seeded(SENT)
    for zone, expected in EXPECTED.items():
        page = open_as(url, zone, at=NOON)
        assert (times(page), days(page), groups(page)) == expected, zone
        title = page.locator("#message-1 time").get_attribute("title") or ""
        assert re.search(r"February 2026", title) and "UTC" not in title
        page.locator("#filter").fill("Room")
        expect(page.locator("#rooms[data-q]")).to_have_count(1)
        assert groups(page) == expected[2], "after a swap"
    assert times(open_as(url, "Asia/Tokyo", at=NOON, locale="en-US"))[-2:] == ["12:01 AM", "11:31 AM"]
    assert times(open_as(url, "Asia/Tokyo", at=NOON, locale="de-DE"))[:1] == ["21. Feb., 08:30"]


def test_page_without_javascript_shows_utc(start_seeded: StartSeeded, open_as: OpenAs) -> None:
    """As other clients do."""
    page = open_as(start_seeded(SENT), "Asia/Tokyo", scripts=False)
    assert times(page) == ["23:30 UTC", "15:30 UTC", "14:59 UTC", "15:01 UTC", "02:31 UTC"]
    assert days(page) == [
        *(("Friday, 20 February 2026", 1), ("Friday, 27 February 2026", 1)),
        *(("Saturday, 28 February 2026", 2), ("Sunday, 1 March 2026", 1)),
    ]
    assert page.locator("#message-1 time").get_attribute("title") == "Friday, 20 February 2026, 23:30 UTC"
    assert page.locator("#message-1 time").get_attribute("datetime") == "2026-02-20T23:30:00+00:00"


def test_day_of_a_clock_change_is_one_day(start_seeded: StartSeeded, open_as: OpenAs) -> None:
    """It has 23 hours in Los Angeles, and ends at midnight."""
    sent = [datetime(2026, 3, 8, hour, 30, tzinfo=UTC) for hour in (7, 9, 10)]  # 23:30, 1:30, 3:30
    page = open_as(start_seeded(sent), "America/Los_Angeles", at=datetime(2026, 3, 9, 6, 59, 50, tzinfo=UTC))
    assert times(page) == ["7 Mar, 23:30", "01:30", "03:30"]
    assert days(page) == [("Yesterday", 1), ("Today", 2)]
    page.clock.run_for(15_000)
    assert days(page) == [("Saturday 7 March", 1), ("Yesterday", 2)]


def test_midnight_renames_days_without_a_reload(start_seeded: StartSeeded, open_as: OpenAs) -> None:
    """In the messages and in the list, also after the machine was suspended."""
    page = open_as(start_seeded(SENT), "Asia/Tokyo", at=datetime(2026, 3, 1, 14, 59, 50, tzinfo=UTC))
    assert groups(page)[0] == ("Today", 3)
    page.clock.run_for(15_000)
    assert groups(page) == [("Yesterday", 3), ("Last 7 days", 2), ("Earlier", 1)]
    assert days(page) == [("Saturday 21 February", 1), ("Saturday 28 February", 2), ("Yesterday", 2)]
    assert times(page)[-1] == "1 Mar, 11:31"
    page.clock.fast_forward(24 * 3600 * 1000)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))")
    assert groups(page) == [("Last 7 days", 5), ("Earlier", 1)]


def counted(moments: Sequence[datetime], zone: str) -> list[int]:
    """The number of these times on each day in a zone."""
    local = [moment.astimezone(ZoneInfo(zone)).date() for moment in moments]
    edges = [0, *(n for n, (one, other) in enumerate(pairwise(local), 1) if one != other), len(local)]
    return [end - begin for begin, end in pairwise(edges)]


def test_earlier_messages_and_more_rooms_continue_their_days(start_seeded: StartSeeded, open_as: OpenAs) -> None:
    """A page that begins within a day repeats no separator, and no heading of the list appears twice."""
    sent = [NOON - timedelta(hours=5 * n) for n in reversed(range(120))]
    page = open_as(start_seeded(sent), "Asia/Tokyo", at=NOON)
    assert [count for _, count in days(page)] == counted(sent[-50:], "Asia/Tokyo")
    for shown in (100, 120):
        page.locator(".messages__earlier a").evaluate("link => link.click()")
        expect(messages(page)).to_have_count(shown)
        assert [count for _, count in days(page)] == counted(sent[-shown:], "Asia/Tokyo")
    for _ in range(2):
        before = page.locator("#rooms > .row").count()
        page.locator("#rooms-more a").click()
        expect(page.locator("#rooms > .row")).not_to_have_count(before)
    expect(page.locator("#rooms > .row")).to_have_count(121)
    zone = ZoneInfo("Asia/Tokyo")
    ago = [(NOON.astimezone(zone).date() - moment.astimezone(zone).date()).days for moment in [*sent, sent[-1]]]
    sizes = [sum(low <= n <= high for n in ago) for low, high in ((0, 0), (1, 1), (2, 7), (8, 99))]
    assert groups(page) == list(zip(["Today", "Yesterday", "Last 7 days", "Earlier"], sizes, strict=True))


# Records each time that is shown in UTC, and counts the formatted times.
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
    start_seeded: StartSeeded, open_as: OpenAs, model_server: ModelServer
) -> None:
    """In two zones at once. No time is shown in UTC before, and a token formats no time again."""
    url = start_seeded(SENT)
    pages = {zone: open_as(url, zone) for zone in ("Asia/Tokyo", "America/Los_Angeles")}
    for page in pages.values():
        page.evaluate(WATCH)
    reply = model_server.will(held(text("Some")))
    tokyo = pages["Asia/Tokyo"]
    send(tokyo, "A question")
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
