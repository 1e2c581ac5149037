"""Render fragments: the parts of a page that pages include, responses return and the WebSocket pushes.

Each is one partial template with one root element that has an id. Partials do not use the request: everything that they
show is an argument.
"""

from __future__ import annotations

import copy
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial as bind
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from cachetools import LRUCache
from flask import Flask
from jinja2 import FileSystemBytecodeCache, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup
from werkzeug.routing import MapAdapter

from overseer.domain.messages import File, Message, Part, Reasoning, Text, Usage
from overseer.domain.records import Import, Imported, Page, Room, RoomList, Session
from overseer.domain.search import Found, Hit
from overseer.domain.settings import Settings
from overseer.domain.shares import Share
from overseer.domain.times import utc
from overseer.llm import Model
from overseer.llm.model_name import model_label
from overseer.render.assets import Assets
from overseer.render.days import grouped
from overseer.render.markdown import render, render_typed
from overseer.render.palette import matching_commands
from overseer.render.streaming_answers import StreamingAnswers

ENTRY_BYTES = 600  # overhead of a cache entry: its key and four hash table slots
BIDI_CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # they change the direction of the text after them
PAUSE_INTERVAL_SECONDS = 0.005
EXPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
EXPORT_CHUNK_CHARS = 16_384
# Without a script they do nothing. In rendered Markdown, no text can look like one.
SCRIPTED_BUTTON = re.compile(r'<button type="button" class="(?:code__button|unfold)"[^>]*>[^<]*</button>')
HTMX_CONFIG = {
    "includeIndicatorCSS": False,  # it is an inline style, which the content policy forbids
    "defaultSettleDelay": 0,
    # Keep what a reader has unfolded or wrapped.
    "morphIgnore": ["data-htmx-powered", "open", "data-wrapped", "data-unfolded", "data-foldable", "aria-pressed"],
    "ws": {
        "reconnectCodes": [1000, 1001, 1005, 1006, 1008, 1011, 1012, 1013, 1014],
        "reconnectMaxDelay": 3000,
        "pauseOnBackground": False,
    },
}


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a tab shows of a growing part: `blocks` is the number of its finished blocks."""

    number: int
    position: int
    blocks: int


@dataclass(frozen=True, slots=True)
class RefusedForm:
    """A rejected form, to be shown again with hidden (name, value) and visible (name, label, value) fields."""

    action: str
    hidden: Sequence[tuple[str, str]]
    fields: Sequence[tuple[str, str, str]]


class HitsOfRoom(NamedTuple):
    """The hits of a search in one room, the best first."""

    room: Room
    hits: list[Hit]


class Fragments:
    """Renders the partials, with URLs below the mount point `prefix`.

    `locked` says whether a password is required. All prefixes may share one `cache`. `for_share` and `for_export`
    return renderers of read-only messages.
    """

    _read_only = False
    _share = ""  # the address of a live share
    _file_url: Callable[[File], str] | None = None

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
        self._static: Assets = app.extensions["assets"]
        self._streaming_answers = streaming_answers
        self._model = model
        self._locked = locked
        self._prefix = prefix
        self._cache = cache
        self._paused_at = 0.0  # monotonic time

    def for_share(self, address: str) -> Fragments:
        """Return a renderer of messages as visitors of a live share see them. Its links lead to that share only."""
        shared = copy.copy(self)
        shared._read_only, shared._share = True, address
        shared._file_url = lambda file: self.url("shares.show_shared_file", address=address, sha256=file.sha256)
        return shared

    def for_export(self, file_url: Callable[[File], str]) -> Fragments:
        """Return a renderer of messages for a page that stands alone. Nothing that it renders is cached.

        `file_url` returns the URL of a file, or an empty string for one that is left out.
        """
        exported = copy.copy(self)
        exported._read_only, exported._cache, exported._file_url = True, FragmentCache(0), file_url
        return exported

    def export(self, room: Room, messages: Iterable[Message], *, now: int) -> Iterator[str]:
        """Yield a page that stands alone, with these messages of a room, in chunks. `now` is in UTC milliseconds."""
        template = self._env.get_template("shares/export.html")
        style = Markup("<style>{}</style>").format(Markup(self._static.content("export.css").decode()))
        values = {"room": room, "messages": messages, "now": now, "style": style, "policy": EXPORT_POLICY}
        chunk, size = [], 0
        for piece in template.generate(self._globals() | values):
            piece = SCRIPTED_BUTTON.sub("", piece)
            chunk.append(piece)
            size += len(piece)
            if size >= EXPORT_CHUNK_CHARS:
                yield "".join(chunk)
                chunk, size = [], 0
        yield "".join(chunk)

    def shares(self, room_id: str, shares: Sequence[Share]) -> str:
        """Render `#shares`, the list of the shares of a room."""
        return self._render("shares/_shares.html", room_id=room_id, shares=shares)

    def sharing(self, room: Room, shares: Sequence[Share]) -> str:
        """Render `#room` with a form that shares the room, and with the list of its shares."""
        return self._render("shares/_page.html", room=room, shares=shares)

    def live_share(self, room: Room, page: Page, *, revision: str) -> str:
        """Render the page of a live share; call it on what `for_share` returns."""
        return self._render(
            "shares/live.html",
            title=room.name,
            room=room,
            page=page,
            revision=revision,
            htmx_config=json.dumps(HTMX_CONFIG),
        )

    def share_header(self, room: Room) -> str:
        """Render `#header` of the page of a live share."""
        return self._render("shares/_header.html", room=room)

    def share_ended(self, sentence: str, advice: str, *, page: bool = False) -> str:
        """Render `#room` for visitors of a share that cannot be read, alone or as a page."""
        template = "shares/ended.html" if page else "shares/_ended.html"
        return self._render(template, title="Share", sentence=sentence, advice=advice)

    def page(
        self,
        open_room: str,
        rooms: RoomList,
        *,
        title: str,
        active: str | None,
        q: str,
        revision: str,
        growing: bool = False,
        refresh: int = 0,
        groups: Sequence[HitsOfRoom] = (),
    ) -> str:
        """Render the page: the list of rooms beside `open_room`, which is the HTML of `#room`.

        `groups` are the best hits of a search for `q`.

        Without JavaScript, the page reloads itself while an answer is `growing`, and after `refresh` seconds.
        """
        return self._render(
            "page.html",
            open_room=Markup(open_room),
            title=title,
            rooms=rooms,
            active=active,
            q=q,
            revision=revision,
            under="",
            groups=groups,
            refresh=refresh,
            growing_at=time.time_ns() // 1_000_000 if growing else 0,
            htmx_config=json.dumps(HTMX_CONFIG),
        )

    def login(self, *, wanted: str, sentence: str = "", typed: str = "", again: str = "") -> str:
        """Render the log-in page, which leads on to the address `wanted`.

        `sentence` is the reason, `typed` the text of a request that was rejected, and `again` an address to try first.
        """
        return self._render("login.html", title="Log in", wanted=wanted, sentence=sentence, typed=typed, again=again)

    def sessions(self, sessions: Sequence[Session], *, current: str, page: bool) -> str:
        """Render `#sessions`, the valid sessions, alone or as a page; `current` is the id of the reader's own."""
        template = "sessions.html" if page else "_sessions.html"
        return self._render(template, title="Log-ins", sessions=sessions, current=current)

    def rooms(
        self, rooms: RoomList, *, active: str | None, q: str, under: str = "", groups: Sequence[HitsOfRoom] = ()
    ) -> str:
        """Render `#rooms`, a page of the list, and the best hits of a search in the texts of rooms.

        `under` is the key of the last heading on the page before.
        """
        return self._render("rooms/_rooms.html", rooms=rooms, active=active, q=q, under=under, groups=groups)

    def search(
        self,
        groups: Sequence[HitsOfRoom],
        found: Found,
        *,
        q: str,
        within: Room | None,
        sentence: str = "",
        whole: bool = False,
    ) -> str:
        """Render `#search`, a page of hits, or with `whole` the `#room` around it, with a field for the query.

        `within` is the room that was searched, or None for all.
        """
        template = "search/_search.html" if whole else "search/_results.html"
        return self._render(template, groups=groups, found=found, q=q, within=within, sentence=sentence)

    def imports(self, imports: Sequence[Import]) -> str:
        """Render `#room` with a form to import files, and the imports that there were."""
        return self._render("imports/_imports.html", imports=imports)

    def import_report(self, found: Import, lines: Sequence[Imported], *, more: bool, whole: bool = False) -> str:
        """Render `#import`, a page of the report of an import, or with `whole` the `#room` around it."""
        template = "imports/_import.html" if whole else "imports/_report.html"
        return self._render(template, found=found, lines=lines, more=more)

    def row(self, room: Room, *, active: str | None) -> Markup:
        """Render `#room-<id>`, a room in the list."""
        here = room.id == active
        return self._cached((room.id, here, hash(room)), "rooms/_room.html", room=room, here=here)

    def archive_link(self, rooms: RoomList) -> str:
        """Render `#rooms-archived`, the link to the archived rooms at the end of the list, if there are any."""
        return self._render("rooms/_archive_link.html", rooms=rooms, q="")

    def archive(self, rooms: RoomList, *, q: str, whole: bool = False) -> str:
        """Render `#archived`, a page of the archived rooms, or with `whole` the `#room` around it."""
        return self._render("rooms/_archive.html" if whole else "rooms/_archived.html", rooms=rooms, q=q)

    def list_revision(self, revision: str) -> str:
        """Render `#rooms-place`, the revision of the list of rooms."""
        return self._render("rooms/_place.html", revision=revision)

    def default_model(self) -> str:
        """Render `#model`, the default model."""
        return self._render("rooms/_model.html")

    def room(self, room: Room, settings: Settings, page: Page, *, revision: str, key: str) -> str:
        """Render `#room`, the open room. `key` is the idempotency key of the next question."""
        return self._render("rooms/_open.html", room=room, settings=settings, page=page, revision=revision, key=key)

    def broken(self, room: Room, *, sentence: str) -> str:
        """Render `#room` of a room whose file cannot be used."""
        return self._render("rooms/_broken.html", room=room, sentence=sentence)

    def home(self, *, key: str, text: str = "") -> str:
        """Render `#room` when no room is open: a composer with this text, which creates a room."""
        return self._render("rooms/_home.html", key=key, text=text)

    def no_room(self, *, sentence: str, back: str = "", typed: str = "", refused: RefusedForm | None = None) -> str:
        """Render `#room` when no room is open, with the reason and an optional address to go `back` to.

        The text of a request that failed is shown: in a form to correct if it was `refused`, otherwise as `typed`.
        """
        return self._render("rooms/_none.html", sentence=sentence, back=back, typed=typed, refused=refused)

    def exports(self, room: Room, formats: Mapping[str, object], *, whole: bool = False) -> str:
        """Render `#formats`, which a room can be exported in, by their extensions; with `whole` the `#room` around it.

        A format has a `name` and says what it is `about`.
        """
        template = "rooms/_export.html" if whole else "rooms/_formats.html"
        return self._render(template, room=room, formats=formats, whole=whole)

    def header(self, room: Room, settings: Settings) -> str:
        """Render `#header`: the open room's name, settings and actions."""
        return self._render("rooms/_header.html", room=room, settings=settings)

    def models(
        self, names: Sequence[str], *, room_id: str | None = None, chosen: str = "", q: str = "", problem: str = ""
    ) -> str:
        """Render `#models`: the models whose names contain `q`, or why there are none.

        `chosen` is the model of the room, or empty for the default. A name that the server does not list can be chosen:
        the typed one, and the room's own.
        """
        typed = q.casefold()
        unlisted = q or chosen
        return self._render(
            "rooms/_models.html",
            names=names,
            found=sorted(
                (name for name in names if typed in name.casefold()), key=lambda name: name.casefold() != typed
            ),
            unlisted="" if unlisted in names else unlisted,
            default_matches="default".startswith(typed),
            room_id=room_id,
            chosen=chosen,
            q=q,
            problem=problem,
        )

    def several(self, names: Sequence[str], *, chosen: Sequence[str], q: str, problem: str = "") -> str:
        """Render `#several`: the models whose names contain `q`, to choose some, or why there are none.

        Those that are `chosen` come first. A name that the server does not list can be chosen by typing it.
        """
        found = [name for name in names if q.casefold() in name.casefold()]
        unlisted = "" if q in names else q
        return self._render(
            "rooms/_several.html", names=names, found=found, chosen=chosen, unlisted=unlisted, q=q, problem=problem
        )

    def palette(self, rooms: RoomList, *, q: str, active: Room | None, groups: Sequence[HitsOfRoom] = ()) -> str:
        """Render `#palette-options`: the commands, rooms and texts that match `q`. `active` is the open room."""
        available = {"room", "temporary" if active.temporary else "kept"} if active else set()
        available |= {"answer"} if active and active.answering else set()
        available |= {"archive"} if rooms.archived else set()
        commands = matching_commands(q, available | ({"password"} if self._locked else set()))
        return self._render(
            "_palette.html", rooms=rooms, commands=commands, q=q, active=active and active.id, groups=groups
        )

    def notice(self, sentence: str) -> str:
        """Render `#messages` of a room whose messages cannot be shown, with the reason."""
        return self._render("rooms/_notice.html", sentence=sentence)

    def messages(self, room_id: str, page: Page) -> str:
        """Render `#messages`, a page of the message list."""
        return self._render("messages/_messages.html", room_id=room_id, page=page)

    def exchange(self, room_id: str, question: Message, answers: Sequence[Message]) -> str:
        """Render the messages that a question adds, and the new end of the list."""
        return self._render("messages/_exchange.html", room_id=room_id, question=question, answers=answers)

    def message(self, room_id: str, message: Message) -> Markup:
        """Render `#message-<n>`. Other greenlets may run meanwhile, because a page has many messages."""
        if time.monotonic() - self._paused_at > PAUSE_INTERVAL_SECONDS:
            time.sleep(0)
            self._paused_at = time.monotonic()
        return self.message_and_cursor(room_id, message)[0]

    def message_and_cursor(self, room_id: str, message: Message) -> tuple[Markup, Cursor | None]:
        """Render `#message-<n>`. Return it with a cursor for its growing part, if it has one."""
        if message.finished:
            # Dataclasses hash their fields only, so Text and Reasoning with the same text have the same hash.
            state = hash((message, *(part.kind for part in message.parts)))
            key = (room_id, message.number, state)
            return self._cached(key, "messages/_message.html", room_id=room_id, message=message, growth=None), None
        growth = cursor = None
        if message.parts and isinstance(last := message.parts[-1], Text | Reasoning):
            position = len(message.parts) - 1
            growth = self._streaming_answers.growth(room_id, message.number, position)
            if growth is not None:
                cursor = Cursor(message.number, position, growth.blocks)
            else:  # its events are not delivered yet, so tabs have to be sent the whole part again
                growth = self._streaming_answers.of_text(last.text)
        html = self._render("messages/_message.html", room_id=room_id, message=message, growth=growth)
        return Markup(html), cursor

    def part(self, room_id: str, number: int, position: int, part: Part) -> str:
        """Render `#part-<n>-<i>`, a finished part."""
        return self._render(
            "messages/_part.html",
            room_id=room_id,
            number=number,
            position=position,
            part=part,
            growth=None,
            plain=False,
        )

    def context(self, usage: Usage | None) -> str:
        """Render `#context`, how full the model's context was after the answer with this usage."""
        return self._render("rooms/_context.html", usage=usage)

    def context_line(self) -> str:
        """Render `#reading`, the line above the first message that the model sees."""
        return self._render("messages/_reading.html")

    def editing(self, room_id: str, question: Message, *, alone: bool) -> str:
        """Render `#editing`, a form to edit a question; `alone` in `#room`, or in the message list."""
        template = "rooms/_editing.html" if alone else "messages/_editing.html"
        return self._render(template, room_id=room_id, question=question, alone=alone)

    def error(self, sentence: str, *, log_in: str = "") -> str:
        """Render `#error`, with a link to the address `log_in` if it is not empty."""
        return self._render("_error.html", sentence=sentence, log_in=log_in)

    def url(self, endpoint: str, **values: object) -> str:
        """Return the path and query of a view, below the prefix."""
        # A WebSocket rule builds ws://localhost/…; a path is correct behind any proxy.
        url = urlsplit(self._urls.build(endpoint, values))
        return f"{url.path}?{url.query}" if url.query else url.path

    def _render(self, template: str, **values: object) -> str:
        return self._env.get_template(template).render(values, **self._globals())

    def _globals(self) -> dict[str, object]:
        """Return what every template may use."""
        return {
            "url_for": self.url,
            "static": self._static_url,
            "fragments": self,
            "locked": self._locked,
            "model": lambda name="": self._model(name),
            "grouped": bind(grouped, today=datetime.now(UTC).date()),
            "read_only": self._read_only,
            "share": self._share,
            "file_url": self._file_url,
        }

    def _cached(self, key: tuple[Hashable, ...], template: str, **values: object) -> Markup:
        """Return the cached HTML for a key, or render it.

        The key contains the id and the hash of all fields: the fields would take as much memory as the HTML. A wrong
        hit needs two states of the same message or room that have the same 64-bit hash.
        """
        key = (self._prefix, self._share, template, *key)
        html = self._cache.get(key)
        if html is None:
            html = Markup(self._render(template, **values))
            self._cache.put(key, html)
        return html

    def _static_url(self, name: str) -> str:
        return self.url("static", filename=name, v=self._static.version(name))


class BytecodeCache(FileSystemBytecodeCache):
    """Caches compiled templates in a directory, if it can be written."""

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            Path(self.directory).mkdir(exist_ok=True)
            super().dump_bytecode(bucket)


class FragmentCache:
    """Caches rendered HTML in at most `limit_bytes` of memory; the least recently used is dropped first."""

    def __init__(self, limit_bytes: int) -> None:
        self._lock = threading.Lock()
        self._entries: LRUCache[Hashable, Markup] = LRUCache(limit_bytes, getsizeof=_entry_bytes)

    def get(self, key: Hashable) -> Markup | None:
        with self._lock:
            return self._entries.get(key)

    def put(self, key: Hashable, html: Markup) -> None:
        with self._lock, suppress(ValueError):  # it is larger than the whole cache
            self._entries[key] = html


def _entry_bytes(html: Markup) -> int:
    """Return the memory of an entry. Strings take one, two or four bytes per character."""
    return sys.getsizeof(html) + ENTRY_BYTES


def _formatted(ms: int, *, form: str) -> str:
    """Format milliseconds since 1970, in UTC."""
    return utc(ms).strftime(form)


def dom_id(noun: str, *numbers: object) -> str:
    """Return the id of an element, like `message-12`, `part-12-0` or `room-3f9c21ab77d0`."""
    return "-".join([noun, *map(str, numbers)])


def partial(target: str, swap: str, html: str) -> str:
    """Return an htmx 4 partial, which swaps `html` into the element with the id `target`."""
    return f'<hx-partial hx-target="#{target}" hx-swap="{swap}">{html}</hx-partial>'


def prepare(app: Flask) -> None:
    """Configure Jinja, and add the filters that templates use."""
    app.jinja_env.bytecode_cache = BytecodeCache(str(Path(app.root_path) / "__pycache__"))
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals["dom_id"] = dom_id
    app.jinja_env.filters["markdown"] = lambda text: Markup(render(text))
    app.jinja_env.filters["typed"] = lambda text: Markup(render_typed(text))
    app.jinja_env.filters["number"] = lambda number: f"{number:,}"
    app.jinja_env.filters["level"] = lambda text: BIDI_CONTROLS.sub("", text)
    app.jinja_env.filters["short_model_name"] = model_label
    app.jinja_env.filters["rate"] = lambda rate: f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
    # Times are in UTC, so that a fragment is the same for all readers. times.js converts them.
    for name, form in {
        "date": "%A, %-d %B %Y, %H:%M UTC",
        "day": "%A, %-d %B %Y",
        "longdate": "%-d %B %Y",
        "isoday": "%Y-%m-%d",
        "clock": "%H:%M UTC",
        "iso": "%Y-%m-%dT%H:%M:%S+00:00",
    }.items():
        app.jinja_env.filters[name] = bind(_formatted, form=form)
