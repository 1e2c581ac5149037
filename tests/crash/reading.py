"""What fragments say, read the way a person would: messages, names, rows of the list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

from tests.crash.log import Shown, Sight, clock
from tests.support.tab import PARTIAL

MESSAGE = re.compile(
    r'<article id="message-(\d+)".*?data-role="(\w+)" data-state="(\w+)".*?"message__body">(.*?)</article>', re.S
)
AFTER_BODY = re.compile(r'<(footer|div class="message__actions).*', re.S)
END = re.compile(r'id="after-(\d+)"')
EARLIER = re.compile(r'id="earlier-(\d+)"')
HEADER = re.compile(r'class="header__name"[^>]*>(.*?)</h1>')
ROW = re.compile(
    r'<li id="room-(\w+)"[^>]*data-messages="(\d+)"\s+data-state="(\w+)".*?row__name">(.*?)</span>'
    r'.*?row__preview">(.*?)</span>',
    re.S,
)
OPEN = re.compile(r'<main id="room"[^>]*data-room="(\w+)"')
LIST = '<div id="messages"'
DELETED = "This room was deleted."


def messages(html: str) -> tuple[Shown, ...]:
    """Every message in a fragment, in its order."""
    return tuple(
        Shown(int(number), role, state, words(AFTER_BODY.sub("", body)))
        for number, role, state, body in MESSAGE.findall(html)
    )


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def page(room: str, by: str, html: str) -> Sight:
    """What a fragment shows of a room; a list of its newest messages also shows what is not there."""
    shown = messages(html)
    span = None
    if LIST in html and (end := END.search(html)):
        span = (int(earlier[1]) if (earlier := EARLIER.search(html)) else 1, int(end[1]))
    return Sight(room, by, clock(), shown, span, name=header(html))


def header(html: str) -> str | None:
    found = HEADER.search(html)
    return words(found[1]) if found else None


def rows(html: str) -> Iterator[tuple[str, int, str, str, str]]:
    """Of each room in the list: its id, count, state, name and preview."""
    for room, count, state, name, preview in ROW.findall(html):
        yield room, int(count), state, words(name), words(preview)


def pushed(room: str | None, frame: str) -> Iterator[Sight]:
    """What a frame shows to a tab that has this room open."""
    by, at = f"a push to a tab on {room or 'no room'}", clock()
    for target, swap, html in PARTIAL.findall(frame):
        for seen, _, _, name, _ in rows(html):
            yield Sight(seen, by, at, name=name)
        if target.startswith("room-") and swap == "delete" and f'<li id="{target}"' not in frame:
            yield Sight(target[5:], by, at, gone=True)
        if room is None:
            continue
        if target == "messages":
            yield Sight(room, by, at, gone=True) if DELETED in html else page(room, by, html)
        elif target == "header":
            yield Sight(room, by, at, name=header(html))
        elif target.startswith(("after-", "message-")) and (shown := messages(html)):
            yield Sight(room, by, at, shown)
