"""One ChatRoom in a directory, with a model that replies as a test scripted it."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, Unpack

import pytest

from overseer.domain.context import ModelContext
from overseer.domain.messages import Message, State
from overseer.domain.records import Asked
from overseer.domain.settings import Changes, Settings
from overseer.domain.tools import ToolDescription
from overseer.llm import Delta, TextDelta
from overseer.rooms.chat_room import ChatRoom, Limits
from overseer.storage.database import Storage
from overseer.storage.facets import Facet, Facets
from overseer.tools.toolbox import TOOLS, Tool, Toolbox
from tests.support.event_log import EventLog
from tests.support.files import query
from tests.support.waiting import DEADLINE, join_turn_threads

P = ParamSpec("P")
R = TypeVar("R")


class ScriptedReply:
    """A model's reply: deltas, or an exception to raise. A held reply waits for `send` until `end`.

    An `uncloseable` one goes on after `close`, like a server that does not notice it.
    """

    def __init__(self, *items: Delta | Exception, held: bool = False, uncloseable: bool = False) -> None:
        self.closed = threading.Event()
        self.ahead = 0  # the answers that the server gives first
        self._items = deque(items)
        self._held = held
        self._uncloseable = uncloseable
        self._changed = threading.Condition()
        self._consumed = False

    def send(self, *deltas: Delta) -> None:
        """Add deltas. Return when the turn has processed them."""
        self.send_nowait(*deltas)
        self.wait_consumed()

    def send_nowait(self, *deltas: Delta) -> None:
        with self._changed:
            self._items.extend(deltas)
            self._consumed = self._consumed and not deltas
            self._changed.notify_all()

    def wait_consumed(self) -> None:
        """Return when the turn has processed every delta."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._consumed, DEADLINE)

    def end(self, error: Exception | None = None) -> None:
        """End a held reply, with an error if given."""
        with self._changed:
            self._items.extend([error] if error else [])
            self._held = False
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Delta]:
        try:
            while (item := self._next()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            with self._changed:
                self._consumed = True
                self._changed.notify_all()

    def answers_ahead(self) -> int:
        return self.ahead

    def close(self) -> None:
        self.closed.set()
        with self._changed:
            self._changed.notify_all()

    def _next(self) -> Delta | Exception | None:
        with self._changed:
            if not self._items:
                self._consumed = True
                self._changed.notify_all()
            assert self._changed.wait_for(lambda: bool(self._items) or not self._held or self._stopped, DEADLINE)
            return self._items.popleft() if self._items and not self._stopped else None

    @property
    def _stopped(self) -> bool:
        return self.closed.is_set() and not self._uncloseable


def held_reply(*deltas: Delta, uncloseable: bool = False) -> ScriptedReply:
    return ScriptedReply(*deltas, held=True, uncloseable=uncloseable)


def text_reply(*texts: str) -> ScriptedReply:
    return ScriptedReply(*map(TextDelta, texts))


class ScriptedModel:
    """A Model that gives the scripted replies in order, and "All right." after the last.

    `requests` are the histories it was sent, `prompts` the system prompts and temperatures.
    """

    name = "scripted"
    offline = False
    context = ModelContext()

    def note_prompt(self, *, estimated: int, counted: int) -> None:
        self.prompt_counts.append((estimated, counted))

    def __init__(self) -> None:
        self.prompt_counts: list[tuple[int, int]] = []
        self.replies: deque[ScriptedReply] = deque()
        self.requests: list[tuple[Message, ...]] = []
        self.prompts: list[tuple[str, float | None]] = []
        self.on_request: Callable[[], None] = lambda: None

    def answer(
        self,
        history: Sequence[Message],
        tools: Iterable[ToolDescription],
        *,
        system: str = "",
        temperature: float | None = None,
    ) -> ScriptedReply:
        self.requests.append(tuple(history))
        self.prompts.append((system, temperature))
        self.on_request()
        return self.replies.popleft() if self.replies else text_reply("All", " right.")

    def request_numbers(self, index: int = -1) -> list[int]:
        return [message.number for message in self.requests[index]]

    def request_texts(self, index: int = -1) -> list[str]:
        return [message.text for message in self.requests[index]]


class RoomHarness(EventLog):
    """A facet "room" with a ChatRoom named "Kitchen", its scripted model, and the events that it emitted."""

    def __init__(self, directory: Path, *, by_person: bool = True) -> None:
        super().__init__()
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.facets: Facets[ChatRoom] = Facets(directory)
        self.model = ScriptedModel()
        self.picked_models: list[str] = []
        self.models: dict[str, ScriptedModel] = {}  # by name; `model` has any other name
        self.storage: Storage
        self._tools = Toolbox(TOOLS)
        self._limits = Limits()
        if not self.facets.path("room").exists():
            self._facet(create=True).call(ChatRoom.begin, "Kitchen", by_person=by_person)

    @property
    def room(self) -> Facet[ChatRoom]:
        return self._facet(create=False)

    @property
    def file(self) -> Path:
        return self.facets.path("room")

    def call(self, method: Callable[Concatenate[ChatRoom, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        return self.room.call(method, *args, **kwargs)

    def script(self, *replies: ScriptedReply) -> ScriptedReply:
        """Add replies of the model. Return the last."""
        self.model.replies.extend(replies)
        return replies[-1]

    def ask(self, text: str, key: str | None = None) -> Asked:
        return self.call(ChatRoom.ask, text, key=key)

    def ask_held(self, text: str, *deltas: Delta, uncloseable: bool = False) -> ScriptedReply:
        """Ask, and return the held reply when the turn has processed its first deltas."""
        reply = self.script(held_reply(*deltas, uncloseable=uncloseable))
        self.ask(text)
        reply.wait_consumed()
        return reply

    def ask_several(self, text: str, **replies: ScriptedReply) -> Asked:
        """Ask the models of these names, which give these replies."""
        for name, reply in replies.items():
            self.models.setdefault(name, ScriptedModel()).replies.append(reply)
        return self.call(ChatRoom.ask, text, models=tuple(replies))

    def answer(self, text: str, *replies: ScriptedReply) -> Message:
        """Ask, and return the finished answer."""
        self.model.replies.extend(replies)
        return self.finished(self.ask(text).answer)

    def edit(self, number: int, text: str) -> Asked:
        return self.call(ChatRoom.edit, number, text)

    def retry(self, number: int | None = None) -> int:
        return self.call(ChatRoom.retry, number)

    def resume(self, number: int | None = None) -> int:
        return self.call(ChatRoom.resume, number)

    def show(self, number: int) -> None:
        self.call(ChatRoom.show, number)

    def stop(self, number: int | None = None) -> None:
        self.call(ChatRoom.stop, number)

    def stop_all(self) -> None:
        self.call(ChatRoom.stop_all)

    def clear(self) -> None:
        self.call(ChatRoom.clear)

    def configure(self, name: str | None = None, **changes: Unpack[Changes]) -> None:
        self.call(ChatRoom.configure, changes, name=name)

    def restart(self, *tools: Tool, limits: Limits | None = None) -> None:
        """Kill the room, as a crash would, and use these tools and limits from now on."""
        self._tools = Toolbox(tools or TOOLS)
        self._limits = limits or Limits()
        self.facets.abort("room", "the server was killed")
        join_turn_threads()
        self.events.clear()

    def finished(self, number: int, times: int = 1) -> Message:
        """Return an answer when it has ended so often."""
        self.wait_for_end(number, times)
        return self.message(number)

    def messages(self) -> tuple[Message, ...]:
        return self.call(ChatRoom.messages, limit=1000).messages

    def message(self, number: int) -> Message:
        return self.call(ChatRoom.message, number)

    def states(self) -> list[State]:
        """Return the states of the answers, in order."""
        return [message.state for message in self.messages() if message.role == "assistant"]

    def texts(self) -> list[str]:
        return [message.text for message in self.messages()]

    def settings(self) -> Settings:
        return self.call(ChatRoom.settings)

    def name(self) -> str:
        return self.call(ChatRoom.summary).name

    def is_answering(self) -> bool:
        return self.call(ChatRoom.summary).answering

    def query(self, sql: str) -> list[tuple[object, ...]]:
        return query(self.file, sql)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file, as another program would. Writes then fail at once."""
        connection = sqlite3.connect(self.file, isolation_level=None)
        with closing(connection) as db, pytest.MonkeyPatch.context() as patch:
            patch.setattr("overseer.storage.database.BUSY_SECONDS", 0)
            db.execute("BEGIN IMMEDIATE")
            yield
            db.execute("ROLLBACK")

    def fill_disk(self) -> None:
        """Allow the file not a single further page."""
        with self.storage.read() as db:
            db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")

    def free_disk(self) -> None:
        with self.storage.read() as db:
            db.execute("PRAGMA max_page_count = 1000000")

    def _facet(self, *, create: bool) -> Facet[ChatRoom]:
        def start(storage: Storage) -> ChatRoom:
            self.storage = storage
            return ChatRoom(
                storage,
                "room",
                emit=self.record,
                pick_model=self.pick_model,
                tools=self._tools,
                limits=self._limits,
                create=create,
            )

        return self.facets.get("room", start)

    def pick_model(self, name: str) -> ScriptedModel:
        self.picked_models.append(name)
        return self.models.get(name, self.model)
