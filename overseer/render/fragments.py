"""Fragments: what a page includes, a response returns and the socket pushes, from one partial each.

A partial has one root element with an id, and knows nothing of requests: everything it shows is an argument.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial as bind
from pathlib import Path
from urllib.parse import urlsplit

from cachetools import LRUCache
from flask import Flask
from jinja2 import FileSystemBytecodeCache, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup
from werkzeug.routing import MapAdapter

from overseer.domain.messages import Message, Part, ToolCall
from overseer.domain.records import Page, Room, RoomList
from overseer.domain.settings import Settings
from overseer.llm import Model
from overseer.render.assets import Assets
from overseer.render.days import grouped
from overseer.render.markdown import render, render_typed
from overseer.render.streaming_answers import StreamingAnswers

ENTRY_BYTES = 600  # that a cache takes for an entry beside its HTML: the key and four places in tables
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # characters that turn the words after them round
HTMX_CONFIG = {
    "includeIndicatorCSS": False,  # an inline style, which the page does not allow
    "defaultSettleDelay": 0,
    # What a reader unfolded or wrapped stays so.
    "morphIgnore": ["data-htmx-powered", "open", "data-wrapped", "aria-pressed"],
    "ws": {
        "reconnectCodes": [1000, 1001, 1005, 1006, 1008, 1011, 1012, 1013, 1014],
        "reconnectMaxDelay": 3000,
        "pauseOnBackground": False,
    },
}


@dataclass(frozen=True, slots=True)
class Cursor:
    """How much of a growing part somebody was shown: the part, and how many of its finished blocks."""

    number: int
    position: int
    blocks: int


@dataclass(frozen=True, slots=True)
class RefusedForm:
    """A form to show again: where it goes, its hidden (name, value) and its visible (name, label, value) fields."""

    action: str
    hidden: Sequence[tuple[str, str]]
    fields: Sequence[tuple[str, str, str]]


class Fragments:
    """Renders the partials of the app, with URLs below one mount point `prefix`; `locked` if people log in.

    `cache` keeps what is rendered often, and may be shared by all prefixes.
    """

    def __init__(
        self,
        app: Flask,
        prefix: str,
        *,
        streaming_answers: StreamingAnswers,
        model: Callable[[str], Model],
        locked: bool,
        cache: FragmentCache,
    ) -> None:
        self._env = app.jinja_env
        self._urls: MapAdapter = app.url_map.bind("localhost", script_name=prefix or "/")
        self._static = Assets(Path(app.static_folder or ""))
        self._streaming_answers = streaming_answers
        self._model = model
        self._locked = locked
        self._prefix = prefix
        self._cache = cache

    def page(
        self,
        open_room: str,
        rooms: RoomList,
        *,
        title: str,
        active: str | None,
        q: str,
        place: str,
        growing: bool = False,
    ) -> str:
        """The page: the list of rooms beside `open_room`, which is `#room` and called `title`.

        While an answer is `growing` there, a browser without JavaScript asks for it again and again.
        """
        return self._render(
            "page.html",
            open_room=Markup(open_room),
            title=title,
            rooms=rooms,
            active=active,
            q=q,
            place=place,
            under="",
            growing_at=time.time_ns() // 1_000_000 if growing else 0,
            htmx_config=json.dumps(HTMX_CONFIG),
        )

    def login(self, *, wanted: str, sentence: str = "", typed: str = "", again: str = "") -> str:
        """The page that asks for the password, to lead on to the address `wanted`.

        A `sentence` says why, `typed` is what was sent in vain, and `again` an address to try first.
        """
        return self._render("login.html", title="Log in", wanted=wanted, sentence=sentence, typed=typed, again=again)

    def rooms(self, rooms: RoomList, *, active: str | None, q: str, under: str = "") -> str:
        """`#rooms`: a page of the list. One that is not the first begins `under` the last heading before it."""
        return self._render("rooms/_rooms.html", rooms=rooms, active=active, q=q, under=under)

    def row(self, room: Room, *, active: str | None) -> Markup:
        """`#room-<id>`: a room in the list."""
        here = room.id == active
        return self._once((room.id, here, hash(room)), "rooms/_room.html", room=room, here=here)

    def list_place(self, place: str) -> str:
        """`#rooms-place`: how new the list of rooms is."""
        return self._render("rooms/_place.html", place=place)

    def default_model(self) -> str:
        """`#model`: what answers where a room is set to nothing else."""
        return self._render("rooms/_model.html")

    def room(self, room: Room, settings: Settings, page: Page, *, place: str, newest: bool, key: str) -> str:
        """`#room`: the open room. `place` says how new it is; `key` is for the first question asked in it."""
        return self._render(
            "rooms/_open.html", room=room, settings=settings, page=page, place=place, newest=newest, key=key
        )

    def broken(self, room: Room, *, sentence: str) -> str:
        """`#room` of a room whose file cannot be used."""
        return self._render("rooms/_broken.html", room=room, sentence=sentence)

    def no_room(self, *, sentence: str, back: str = "", typed: str = "", refused: RefusedForm | None = None) -> str:
        """Render `#room` when none is open, with the reason and the address to go `back` to, if there is one.

        The words of a request that failed are shown: in a form to correct and send again if it was `refused`,
        otherwise as `typed`, to copy.
        """
        return self._render("rooms/_none.html", sentence=sentence, back=back, typed=typed, refused=refused)

    def header(self, room: Room, settings: Settings) -> str:
        """`#header`: the open room's name, its settings and what can be done with it."""
        return self._render("rooms/_header.html", room=room, settings=settings)

    def models(self, names: Sequence[str], *, problem: str = "") -> str:
        """`#models`: the models a room may be set to, or why there are none."""
        return self._render("rooms/_models.html", names=names, problem=problem)

    def palette(self, rooms: RoomList, *, q: str, active: str | None) -> str:
        """`#palette-options`: the commands and rooms that `q` may mean."""
        return self._render("_palette.html", rooms=rooms, q=q, active=active)

    def notice(self, sentence: str) -> str:
        """`#messages` of a room that has none to show, with the reason."""
        return self._render("rooms/_notice.html", sentence=sentence)

    def messages(self, room_id: str, page: Page, *, newest: bool = True) -> str:
        """`#messages`: a page of the message list."""
        return self._render("messages/_messages.html", room_id=room_id, page=page, newest=newest)

    def exchange(self, room_id: str, question: Message, answer: Message) -> str:
        """The two messages that a question adds, and the new end of the list."""
        return self._render("messages/_exchange.html", room_id=room_id, question=question, answer=answer)

    def message(self, room_id: str, message: Message) -> Markup:
        """`#message-<n>`."""
        return self.message_and_cursor(room_id, message)[0]

    def message_and_cursor(self, room_id: str, message: Message) -> tuple[Markup, Cursor | None]:
        """`#message-<n>`, and how much of its growing part that shows."""
        if message.finished:
            # The hash of a dataclass is that of its fields: text and reasoning of the same words have the same one.
            state = hash((message, *(part.kind for part in message.parts)))
            key = (room_id, message.number, state)
            return self._once(key, "messages/_message.html", room_id=room_id, message=message, growth=None), None
        growth = cursor = None
        if message.parts and not isinstance(last := message.parts[-1], ToolCall):
            position = len(message.parts) - 1
            growth = self._streaming_answers.growth(room_id, message.number, position)
            if growth is not None:
                cursor = Cursor(message.number, position, growth.blocks)
            else:  # its events are still to come; until then there is nothing to count blocks in
                growth = self._streaming_answers.of_text(last.text)
        html = self._render("messages/_message.html", room_id=room_id, message=message, growth=growth)
        return Markup(html), cursor

    def part(self, number: int, position: int, part: Part) -> str:
        """`#part-<n>-<i>`, finished."""
        return self._render(
            "messages/_part.html", number=number, position=position, part=part, growth=None, plain=False
        )

    def reading(self) -> str:
        """`#reading`: the line from which on the model reads."""
        return self._render("messages/_reading.html")

    def editing(self, room_id: str, question: Message, *, drops: int, last: int, alone: bool) -> str:
        """`#editing`: a question to be changed, `alone` in a `#room`.

        That drops so many messages beside its answer; `last` is the number of the room's last one.
        """
        template = "rooms/_editing.html" if alone else "messages/_editing.html"
        return self._render(template, room_id=room_id, question=question, drops=drops, last=last, alone=alone)

    def error(self, sentence: str, *, log_in: str = "") -> str:
        """`#error`: what went wrong, and what to do; with a link to the address where one can `log_in`."""
        return self._render("_error.html", sentence=sentence, log_in=log_in)

    def url(self, endpoint: str, **values: object) -> str:
        """The path of a view below the prefix."""
        # The socket's rule builds ws://localhost/…; a path is right behind any proxy.
        url = urlsplit(self._urls.build(endpoint, values))
        return f"{url.path}?{url.query}" if url.query else url.path

    def _render(self, template: str, **values: object) -> str:
        return self._env.get_template(template).render(
            values,
            url_for=self.url,
            static=self._static_url,
            fragments=self,
            locked=self._locked,
            model=self._named,
            grouped=bind(grouped, today=datetime.now(UTC).date()),
        )

    def _once(self, key: tuple[Hashable, ...], template: str, **values: object) -> Markup:
        """Return what was rendered for a key, or render it.

        The key names what is shown and has the hash of all its fields: to hold those themselves would take as much
        memory as the HTML. A wrong hit needs two states of the same message or room with one 64-bit hash.
        """
        key = (self._prefix, template, *key)
        html = self._cache.get(key)
        if html is None:
            html = Markup(self._render(template, **values))
            self._cache.put(key, html)
        return html

    def _named(self, name: str = "") -> Model:
        return self._model(name)

    def _static_url(self, name: str) -> str:
        return self.url("static", filename=name, v=self._static.version(name))


class Compiled(FileSystemBytecodeCache):
    """The compiled templates, beside Python's own; where nothing can be written they are compiled at each start."""

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            Path(self.directory).mkdir(exist_ok=True)
            super().dump_bytecode(bucket)


class FragmentCache:
    """Rendered HTML by small keys, in at most `limit` bytes of memory; the least recently used is dropped first."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._known: LRUCache[Hashable, Markup] = LRUCache(limit, getsizeof=_held)

    def get(self, key: Hashable) -> Markup | None:
        with self._lock:
            return self._known.get(key)

    def put(self, key: Hashable, html: Markup) -> None:
        with self._lock, suppress(ValueError):  # it is larger than all that may be kept
            self._known[key] = html


def _held(html: Markup) -> int:
    """Return the bytes that an entry takes: a string holds one, two or four for each of its characters."""
    return sys.getsizeof(html) + ENTRY_BYTES


def _formatted(ms: int, *, form: str) -> str:
    """A moment, in milliseconds since 1970, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime(form)


def dom_id(noun: str, *numbers: object) -> str:
    """The id of an element: `message-12`, `part-12-0`, `room-3f9c21ab77d0`."""
    return "-".join([noun, *map(str, numbers)])


def partial(target: str, swap: str, html: str) -> str:
    """htmx 4's wire form: put `html` where the element `target` is."""
    return f'<hx-partial hx-target="#{target}" hx-swap="{swap}">{html}</hx-partial>'


def prepare(app: Flask) -> None:
    """Give the templates what they all use."""
    app.jinja_env.bytecode_cache = Compiled(str(Path(app.root_path) / "__pycache__"))
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals["dom_id"] = dom_id
    app.jinja_env.filters["markdown"] = lambda text: Markup(render(text))
    app.jinja_env.filters["typed"] = lambda text: Markup(render_typed(text))
    app.jinja_env.filters["number"] = lambda number: f"{number:,}"
    app.jinja_env.filters["level"] = lambda words: TURNS.sub("", words)
    app.jinja_env.filters["rate"] = lambda rate: f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
    # In UTC, so that a fragment is the same for all readers; times.js shows the reader's own time.
    for name, form in {
        "date": "%A, %-d %B %Y, %H:%M UTC",
        "day": "%A, %-d %B %Y",
        "isoday": "%Y-%m-%d",
        "clock": "%H:%M UTC",
        "iso": "%Y-%m-%dT%H:%M:%S+00:00",
    }.items():
        app.jinja_env.filters[name] = bind(_formatted, form=form)
