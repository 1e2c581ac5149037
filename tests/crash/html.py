"""Read messages, names and rows of the list from HTML fragments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

from tests.crash.history import Observation, ShownMessage, clock
from tests.support.tab import PARTIAL

MESSAGE = re.compile(
    r'<article id="message-(\d+)".*?data-role="(\w+)" data-state="(\w+)".*?"message__body">(.*?)</article>', re.S
)
AFTER_BODY = re.compile(r'<(footer|form class="message__(?:versions|use)|div class="message__actions).*', re.S)
HEADER = re.compile(r'class="header__name"[^>]*>(.*?)</h1>')
ROW = re.compile(r'<li id="room-(\w+)"[^>]*data-messages="(\d+)"\s+data-state="(\w+)".*?row__name">(.*?)</span>', re.S)
DELETED = "This room was deleted."


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def messages(html: str) -> tuple[ShownMessage, ...]:
    return tuple(
        ShownMessage(int(number), role, state, text_of(AFTER_BODY.sub("", body)))
        for number, role, state, body in MESSAGE.findall(html)
    )


def header(html: str) -> str | None:
    found = HEADER.search(html)
    return text_of(found[1]) if found else None


def rows(html: str) -> Iterator[tuple[str, int, str, str]]:
    """Yield id, number of messages, state and name of each room in the list."""
    for room, count, state, name in ROW.findall(html):
        yield room, int(count), state, text_of(name)


def observe(room: str, source: str, html: str) -> Observation:
    """Return what a fragment shows of a room."""
    return Observation(room, source, clock(), messages(html), name=header(html))


def observe_push(room: str | None, frame: str) -> Iterator[Observation]:
    """Yield what a frame shows to a tab that has this room open."""
    source, at = f"a push to a tab on {room or 'no room'}", clock()
    for target, swap, html in PARTIAL.findall(frame):
        for listed, _, _, name in rows(html):
            yield Observation(listed, source, at, name=name)
        if target.startswith("room-") and swap == "delete" and f'<li id="{target}"' not in frame:
            yield Observation(target[5:], source, at, gone=True)
        if room is None:
            continue
        if target == "messages":
            yield Observation(room, source, at, gone=True) if DELETED in html else observe(room, source, html)
        elif target == "header":
            yield Observation(room, source, at, name=header(html))
        elif target.startswith(("after-", "message-")) and (shown := messages(html)):
            yield Observation(room, source, at, shown)
