"""Render the page and every fragment with the same text wherever text from outside appears."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from flask import Flask

from overseer.domain.messages import File, Message, Reasoning, Source, Text, ToolCall, Usage
from overseer.domain.records import Page, Room, RoomList
from overseer.domain.settings import Settings
from overseer.domain.shares import Share
from overseer.domain.text import Invalid, clean, room_name
from overseer.render.fragments import Fragments, RefusedForm
from overseer.web.extensions import instance as instance_of

ROOM = "0123456789ab"
HARMLESS = "harmless words"


def render_all(app: Flask, text: str) -> dict[str, str]:
    """Return the page with a conversation, and each fragment that is not part of it, by name."""
    fragments: Fragments = instance_of(app).fragments("")
    words, name = clean(text), HARMLESS
    with suppress(Invalid):
        name = room_name(text[:120])
    room = Room(ROOM, name, 6, words, False, "", 7, 1_700_000_000_000)
    broken = Room(ROOM[::-1], name, 1, "", False, words, 6, 1_700_000_000_000)
    rooms = RoomList((room, broken), after=5)
    settings = Settings(model=words, system_prompt=words, temperature=0.5)
    question = Message(1, "user", "complete", (Text(words),))
    parts = (
        Reasoning(words),
        ToolCall("id", words, words, words, "done"),
        ToolCall("id", words, words, words, "failed"),
        File("0" * 64, "image/png", words, 3, 2),
        Text(words),
    )
    usage, sources = Usage(1, 2, 3.0, 2.0, context_used=3, context_limit=9), (Source("https://example.com/", words),)
    answer = Message(2, "assistant", "failed", parts, words, words, usage=usage, sources=sources)
    growing = Message(4, "assistant", "streaming", parts, model=words)
    waiting = Message(6, "assistant", "waiting", (), words, words, retry_at=1_700_000_000_000)
    messages = (question, answer, replace(question, number=3), growing, replace(question, number=5), waiting)
    page = Page(messages, more=True, last_used=6, context_start=2)
    visitor = fragments.for_share(ROOM + "A" * 32)
    open_room = fragments.room(room, settings, page, revision="a.1", key=words)
    return {
        "page": fragments.page(open_room, rooms, title=name, active=ROOM, q=words, revision="a.1", growing=True),
        "earlier": fragments.messages(ROOM, page),
        "palette": fragments.palette(rooms, q="", active=None),
        "asked palette": fragments.palette(RoomList((), None), q=f"{words} zqxj", active=None),
        "models": fragments.models([words, words]),
        "no models": fragments.models([], problem=words),
        "error": fragments.error(words),
        "notice": fragments.notice(words),
        "home": fragments.home(key=words, text=words),
        "typed": fragments.no_room(sentence=words, typed=words),
        "refused": fragments.no_room(
            sentence=words, refused=RefusedForm("/rooms", [("key", words)], [("text", "Message", words)])
        ),
        "broken": fragments.broken(broken, sentence=words),
        "editing": fragments.editing(ROOM, question, alone=False),
        "question": str(fragments.message(ROOM, question)),
        "part": fragments.part(ROOM, 2, 1, parts[1]),
        "export": "".join(fragments.for_export(lambda _: "").export(room, messages, now=1_700_000_000_000)),
        "share": visitor.live_share(room, replace(page, context_start=0), revision="a.1"),
        "file": visitor.part(ROOM, 2, 1, File("0" * 64, "text/html", words, name=words)),
        "left out": fragments.for_export(lambda _: "").part(ROOM, 2, 1, File("0" * 64, "text/html", name=words)),
        "sharing": fragments.sharing(room, [Share(ROOM, 1, "A" * 32, True, 1)]),
    }
