"""One room: what was said is stored as it was shown, turns run one at a time, and every ending is a state."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from overseer.domain.errors import AnswerInProgress, KeyReused, NoSuchMessage, StorageError, StorageFull
from overseer.domain.events import (
    MessageAdded,
    MessageChanged,
    MessagesCleared,
    MessagesDropped,
    PartAdded,
    PartChanged,
    PartGrew,
    RoomEvent,
    RoomRenamed,
    TurnEnded,
)
from overseer.domain.messages import Message, Reasoning, State, Text, ToolCall
from overseer.domain.records import Asked
from overseer.domain.text import NEW_ROOM
from overseer.llm import Delta, ModelCut, ModelError, ReasoningDelta, TextDelta, ToolRequest
from overseer.rooms.chat_room import INTERRUPTED, ChatRoom, Limits
from overseer.rooms.turn import MAX_TOOL_ROUNDS
from overseer.storage.database import Storage
from overseer.storage.facets import Facet, FacetAborted, Facets
from overseer.tools.registry import TOOLS, Tool, Toolbox, tool

DEADLINE = 20.0
MOMENT = 0.1  # seconds to wait for what must not happen


class Said:
    """A Reply: what it was made with, and if it is held, what the test says later, until `end`."""

    def __init__(self, *said: Delta | Exception, held: bool = False, stubborn: bool = False) -> None:
        self.closed = threading.Event()
        self._said = deque(said)
        self._held = held
        self._stubborn = stubborn  # goes on although it was closed
        self._changed = threading.Condition()
        self._taken_in = False

    def say(self, *more: Delta) -> None:
        """Say more; returns when the turn has taken all of it in."""
        self.send(*more)
        self.taken_in()

    def send(self, *more: Delta) -> None:
        """Say more, without waiting."""
        with self._changed:
            self._said.extend(more)
            self._taken_in = False
            self._changed.notify_all()

    def taken_in(self) -> None:
        """Return when the turn has done with all that was said so far."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._taken_in, DEADLINE)

    def end(self, error: Exception | None = None) -> None:
        """Say no more, or break."""
        with self._changed:
            self._said.extend([error] if error else [])
            self._held = False
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Delta]:
        try:
            while (one := self._next()) is not None:
                if isinstance(one, Exception):
                    raise one
                yield one
        finally:
            with self._changed:
                self._taken_in = True
                self._changed.notify_all()

    def close(self) -> None:
        self.closed.set()
        with self._changed:
            self._changed.notify_all()

    def _next(self) -> Delta | Exception | None:
        with self._changed:
            if not self._said:
                self._taken_in = True
                self._changed.notify_all()
            assert self._changed.wait_for(lambda: bool(self._said) or not self._held or self._cut, DEADLINE)
            return self._said.popleft() if self._said and not self._cut else None

    @property
    def _cut(self) -> bool:
        return self.closed.is_set() and not self._stubborn


def held(*said: Delta) -> Said:
    return Said(*said, held=True)


def words(*texts: str) -> Said:
    return Said(*map(TextDelta, texts))


class Script:
    """A Model: says the replies it was given, one a step; `asked` is what it was given to read."""

    name = "scripted"
    offline = False

    def __init__(self) -> None:
        self.replies: deque[Said] = deque()
        self.asked: list[tuple[Message, ...]] = []
        self.meanwhile: Callable[[], None] = lambda: None  # what happens while it is being asked

    def answer(
        self, history: Sequence[Message], tools: Toolbox, *, system: str = "", temperature: float | None = None
    ) -> Said:
        self.asked.append(tuple(history))
        self.meanwhile()
        return self.replies.popleft() if self.replies else words("All", " right.")


class Harness:
    """A folder with one room in it, its model, and what was heard of it."""

    def __init__(self, directory: Path, *, by_person: bool = True) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.facets: Facets[ChatRoom] = Facets(directory)
        self.model = Script()
        self.picked: list[str] = []
        self.events: list[RoomEvent] = []
        self.listeners: list[Callable[[RoomEvent], None]] = []
        self.storage: Storage
        self._tools = Toolbox(TOOLS)
        self._limits = Limits()
        self._heard = threading.Condition()
        if not self.facets.exists("room"):
            self._room(create=True).call(ChatRoom.begin, "Kitchen", by_person=by_person)

    @property
    def room(self) -> Facet[ChatRoom]:
        return self._room(create=False)

    @property
    def file(self) -> Path:
        return self.facets.path("room")

    # What is done

    def will(self, *replies: Said) -> Said:
        """The model will say these next; returns the last."""
        self.model.replies.extend(replies)
        return replies[-1]

    def ask(self, text: str, key: str | None = None) -> Asked:
        return self.room.call(ChatRoom.ask, text, key=key)

    def answered(self, text: str, *replies: Said) -> Asked:
        """Ask, and wait for the end of the answer."""
        self.model.replies.extend(replies)
        asked = self.ask(text)
        self.ended(asked.answer)
        return asked

    def stop(self) -> None:
        self.room.call(ChatRoom.stop)

    def restarted(self, *tools: Tool, limits: Limits | None = None) -> None:
        """As if the server had been killed and started again, with these tools and limits if any."""
        self._tools = Toolbox(tools or TOOLS)
        self._limits = limits or Limits()
        self.facets.abort("room", "the server went down")
        no_turns()
        self.events.clear()

    # What is seen

    def ended(self, number: int, times: int = 1) -> State:
        """Wait until this answer has ended so often; returns its state."""

        def endings() -> list[TurnEnded]:
            return [event for event in self.events if isinstance(event, TurnEnded) and event.number == number]

        with self._heard:
            assert self._heard.wait_for(lambda: len(endings()) >= times, DEADLINE), self.events
            return endings()[-1].state

    def told(self, kind: type[RoomEvent], times: int = 1) -> RoomEvent:
        """Wait until so many of these events have come; returns the last of them."""
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.heard(kind)) >= times, DEADLINE), self.events
            return self.heard(kind)[times - 1]

    def heard(self, kind: type[RoomEvent]) -> list[RoomEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    def messages(self) -> tuple[Message, ...]:
        return self.room.call(ChatRoom.messages, limit=1000).messages

    def message(self, number: int) -> Message:
        return self.room.call(ChatRoom.message, number)

    def states(self) -> list[State]:
        """Of the answers, in order."""
        return [message.state for message in self.messages() if message.role == "assistant"]

    def texts(self) -> list[str]:
        return [message.text for message in self.messages()]

    def on_disk(self, sql: str) -> list[tuple[object, ...]]:
        """What another program reads in the file just now."""
        with closing(sqlite3.connect(f"{self.file.as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(sql).fetchall()

    def _room(self, *, create: bool) -> Facet[ChatRoom]:
        def start(storage: Storage) -> ChatRoom:
            self.storage = storage
            return ChatRoom(
                storage,
                "room",
                emit=self._emit,
                pick_model=self._pick,
                tools=self._tools,
                limits=self._limits,
                create=create,
            )

        return self.facets.get("room", start)

    def _pick(self, name: str) -> Script:
        self.picked.append(name)
        return self.model

    def _emit(self, event: RoomEvent) -> None:
        for listener in self.listeners:
            listener(event)
        with self._heard:
            self.events.append(event)
            self._heard.notify_all()


def no_turns() -> None:
    """Wait until no turn's thread is left."""
    for thread in threading.enumerate():
        if thread.name.startswith("turn-"):
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a turn's thread never ended"


class MakeHarness(Protocol):
    def __call__(self, name: str = "harness", *, by_person: bool = True) -> Harness: ...


@pytest.fixture
def make_harness(tmp_path: Path) -> Iterator[MakeHarness]:
    """Makes a harness in a folder of this name; all are shut, and every turn's thread ends."""
    harnesses: list[Harness] = []

    def make(name: str = "harness", *, by_person: bool = True) -> Harness:
        harnesses.append(Harness(tmp_path / name, by_person=by_person))
        return harnesses[-1]

    yield make
    for harness in harnesses:
        harness.facets.close("the test is over")
    no_turns()


@pytest.fixture
def harness(make_harness: MakeHarness) -> Harness:
    """A harness whose room was named by a person."""
    return make_harness()


# Asking


def test_messages_are_numbered_by_the_file_and_no_number_is_used_twice(harness: Harness) -> None:
    """Question, answer, question, answer; not even clearing or a restart gives a number back."""
    assert harness.answered("one") == Asked(1, 2)
    assert harness.answered("two") == Asked(3, 4)
    harness.room.call(ChatRoom.clear)
    assert harness.messages() == ()
    assert harness.answered("three") == Asked(5, 6)
    harness.room.call(ChatRoom.clear)
    harness.restarted()
    assert harness.answered("four") == Asked(7, 8)
    assert [message.number for message in harness.messages()] == [7, 8]


def test_a_question_and_the_row_of_its_answer_are_stored_together_or_not_at_all(harness: Harness) -> None:
    """No crash in between leaves a question that nobody answers."""
    with closing(sqlite3.connect(harness.file, isolation_level=None)) as db:
        db.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON messages WHEN new.role = 'assistant'"
            " BEGIN SELECT raise(ABORT, 'no answer'); END"
        )
        with pytest.raises(StorageError, match="no answer"):
            harness.ask("one")
        db.execute("DROP TRIGGER broken")
    assert harness.on_disk("SELECT * FROM messages") == []
    assert harness.on_disk("SELECT * FROM parts") == []
    assert harness.events == []
    harness.answered("two")
    assert harness.texts() == ["two", "All right."]


def test_parts_are_read_back_as_they_were_shown(harness: Harness) -> None:
    """Text, reasoning and tool calls with their results, in their order, also after a restart."""
    said = Said(ReasoningDelta("Hm, "), ReasoningDelta("dice."), TextDelta("I roll."), ToolRequest("c1", "roll", "{}"))

    @tool
    def roll() -> str:
        """Roll."""
        return "5\nexactly"

    harness.restarted(roll)
    harness.answered("Roll\n\n*please* \N{GRINNING FACE}", said, words("You rolled", " 5."))
    shown = harness.messages()
    assert shown[0].parts == (Text("Roll\n\n*please* \N{GRINNING FACE}"),)
    assert shown[1].parts == (
        Reasoning("Hm, dice."),
        Text("I roll."),
        ToolCall("c1", "roll", "{}", "5\nexactly", "done"),
        Text("You rolled 5."),
    )
    assert shown[1].text == "I roll.\n\nYou rolled 5."
    assert (shown[0].role, shown[1].role, shown[1].state, shown[1].model) == (
        "user",
        "assistant",
        "complete",
        "scripted",
    )
    assert shown[1].ended_at is not None and shown[1].ended_at >= shown[1].created_at > 0
    harness.restarted()
    assert harness.messages() == shown


def test_what_the_model_reads_is_the_conversation_so_far(harness: Harness) -> None:
    """Its own answers included, in order, and in a later step what its tools answered."""
    harness.answered("one", words("first"))
    harness.answered("two", Said(ToolRequest("c1", "roll_dice", '{"sides": 2}')), words("second"))
    assert [[m.text for m in asked] for asked in harness.model.asked[:2]] == [["one"], ["one", "first", "two"]]
    last = harness.model.asked[2]
    assert [m.text for m in last[:3]] == ["one", "first", "two"]
    call = last[3].parts[0]
    assert isinstance(call, ToolCall)
    assert (call.call_id, call.state) == ("c1", "done")
    assert call.result in ("1", "2")


def test_turns_run_one_at_a_time_in_the_order_they_were_asked(harness: Harness) -> None:
    """A, its answer, B, its answer: B waits, is answered after A, and its model reads A's answer."""
    reply = harness.will(held(TextDelta("Half")))
    a = harness.ask("A")
    b = harness.ask("B")
    c = harness.ask("C")
    reply.taken_in()
    assert harness.states() == ["streaming", "waiting", "waiting"]
    assert len(harness.model.asked) == 1
    harness.will(words("to B"), words("to C"))
    reply.say(TextDelta(" to A"))
    reply.end()
    assert [harness.ended(asked.answer) for asked in (a, b, c)] == ["complete"] * 3
    assert harness.texts() == ["A", "Half to A", "B", "to B", "C", "to C"]
    assert [[m.text for m in asked] for asked in harness.model.asked] == [
        ["A"],
        ["A", "Half to A", "B"],
        ["A", "Half to A", "B", "to B", "C"],
    ]
    order = [event.number for event in harness.events if isinstance(event, PartAdded | TurnEnded)]
    assert order == [2, 2, 4, 4, 6, 6]


def test_questions_of_many_at_once_each_have_their_answer_after_them(harness: Harness) -> None:
    """Whoever is first, each pair of numbers belongs together, and the turns follow the numbers."""
    together = threading.Barrier(8)
    asked: list[tuple[str, Asked]] = []

    def ask(text: str) -> None:
        together.wait(DEADLINE)
        asked.append((text, harness.ask(text)))

    threads = [threading.Thread(target=ask, args=(f"question {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    for _, pair in asked:
        harness.ended(pair.answer)
    assert sorted(pair.question for _, pair in asked) == [1, 3, 5, 7, 9, 11, 13, 15]
    in_order = [text for text, _ in sorted(asked, key=lambda one: one[1].question)]
    assert harness.texts()[::2] == in_order
    assert [history[-1].text for history in harness.model.asked] == in_order


def test_a_key_that_comes_again_finds_what_was_stored_the_first_time(harness: Harness) -> None:
    """A resend makes no second question, not while the answer grows, not after it, not after a restart."""
    reply = harness.will(held(TextDelta("Half")))
    first = harness.ask("one", key="k1")
    assert harness.ask("one", key="k1") == Asked(first.question, first.answer, repeated=True)
    reply.end()
    harness.ended(first.answer)
    harness.restarted()
    assert harness.ask("one", key="k1") == Asked(1, 2, repeated=True)
    assert harness.texts() == ["one", "Half"]
    assert harness.events == []
    assert len(harness.model.asked) == 1


def test_a_key_with_another_text_is_refused(harness: Harness) -> None:
    """Neither the old answer nor a new question is what the sender meant."""
    harness.ask("one", key="k1")
    with pytest.raises(KeyReused, match="new key"):
        harness.ask("two", key="k1")
    other = harness.ask("two", key="k2")
    harness.ended(other.answer)
    assert harness.texts() == ["one", "All right.", "two", "All right."]


def test_without_a_key_the_same_words_are_two_questions(harness: Harness) -> None:
    """A person may say a thing twice."""
    harness.answered("one")
    harness.answered("one")
    assert harness.texts() == ["one", "All right."] * 2


def test_a_room_that_nobody_named_is_called_by_the_first_words_said_in_it(make_harness: MakeHarness) -> None:
    """Once, without marks of Markdown and cut at a word; later words change nothing."""
    harness = make_harness(by_person=False)
    harness.answered("# How do I\n  **bake** a `cake` that is larger than the oven it is baked in?")
    harness.answered("And another thing")
    assert harness.room.call(ChatRoom.summary).name == "How do I bake a cake that is larger than the…"
    assert len(harness.heard(RoomRenamed)) == 1


@pytest.mark.parametrize(("text", "name"), [("***", NEW_ROOM), ("x" * 100, "x" * 48 + "…"), ("x" * 48, "x" * 48)])
def test_any_first_words_make_a_name(make_harness: MakeHarness, text: str, name: str) -> None:
    """Also those that are only marks, or one endless word."""
    harness = make_harness(by_person=False)
    harness.answered(text)
    assert harness.room.call(ChatRoom.summary).name == name


def test_a_name_that_a_person_gave_stays(make_harness: MakeHarness) -> None:
    """Given at the beginning or later, words do not replace it."""
    for harness in (make_harness("begun", by_person=True), make_harness("renamed", by_person=False)):
        if harness.directory.name == "renamed":
            harness.room.call(ChatRoom.rename, "Kitchen")
        harness.events.clear()
        harness.answered("one")
        assert harness.room.call(ChatRoom.summary).name == "Kitchen"
        assert harness.heard(RoomRenamed) == []


# Telling


def test_every_event_comes_after_its_commit(harness: Harness) -> None:
    """Whoever hears of a thing finds it in the file, by a connection of their own."""
    seen: list[tuple[str, list[tuple[object, ...]]]] = []

    def look(event: RoomEvent) -> None:
        match event:
            case MessageAdded(_, question, answer):
                sql = f"SELECT number, role, state FROM messages WHERE number IN ({question}, {answer}) ORDER BY 1"
            case PartAdded(_, number, position, "tool_call") | PartChanged(_, number, position):
                sql = f"SELECT call ->> 'state', text FROM parts WHERE message = {number} AND position = {position}"
            case TurnEnded(_, number):
                sql = (
                    "SELECT state, group_concat(text, '|') FROM messages LEFT JOIN parts ON number = message"
                    f" WHERE number = {number}"
                )
            case MessageChanged(_, number):
                sql = f"SELECT state, (SELECT count(*) FROM parts WHERE message = {number}) FROM messages LIMIT 1, 1"
            case MessagesDropped():
                sql = "SELECT number, state, text FROM messages LEFT JOIN parts ON number = message ORDER BY 1"
            case MessagesCleared():
                sql = "SELECT count(*) FROM messages"
            case RoomRenamed():
                sql = "SELECT name FROM room"
            case _:
                return
        seen.append((type(event).__name__, harness.on_disk(sql)))

    @tool
    def ring() -> str:
        """Ring."""
        return "dong"

    harness.restarted(ring)
    harness.listeners.append(look)
    harness.answered("one", Said(ToolRequest("c1", "ring", "{}")), words("rang"))
    harness.answered("two", Said(TextDelta("half"), ModelError("broke")))
    harness.room.call(ChatRoom.edit, 1, "one, otherwise")
    harness.ended(2, times=2)
    harness.will(held())
    harness.room.call(ChatRoom.retry)
    harness.stop()
    harness.room.call(ChatRoom.rename, "Cellar")
    harness.room.call(ChatRoom.clear)
    assert seen == [
        ("MessageAdded", [(1, "user", "complete"), (2, "assistant", "waiting")]),
        ("PartAdded", [("running", "")]),
        ("PartChanged", [("done", "dong")]),
        ("TurnEnded", [("complete", "dong|rang")]),
        ("MessageAdded", [(3, "user", "complete"), (4, "assistant", "waiting")]),
        ("TurnEnded", [("failed", "half")]),
        ("MessagesDropped", [(1, "complete", "one, otherwise"), (2, "waiting", None)]),
        ("TurnEnded", [("complete", "All right.")]),
        ("MessageChanged", [("waiting", 0)]),
        ("TurnEnded", [("stopped", None)]),
        ("RoomRenamed", [("Cellar",)]),
        ("MessagesCleared", [(0,)]),
    ]


def test_the_events_of_an_answer_add_up_to_the_answer(harness: Harness) -> None:
    """Who heard every event from the first has exactly what is stored: no token is lost, doubled or misplaced."""
    first = Said(ReasoningDelta("a"), ReasoningDelta("b"), TextDelta("c"), TextDelta("d"), ToolRequest("1", "x", ""))
    harness.answered("one", first, words("e", "f", "g"))
    parts: list[str] = []
    for event in harness.events:
        if isinstance(event, PartAdded):
            assert (event.number, event.position) == (2, len(parts))
            parts.append(f"{event.kind}:{event.text}")
        if isinstance(event, PartGrew):
            assert (event.number, event.position) == (2, len(parts) - 1)
            parts[-1] += event.text
    assert parts == ["reasoning:ab", "text:cd", "tool_call:", "text:efg"]
    assert harness.heard(PartChanged) == [PartChanged("room", 2, 2)]
    assert isinstance(harness.events[-1], TurnEnded)
    assert [part.kind for part in harness.message(2).parts] == [part.split(":")[0] for part in parts]


def test_a_growing_answer_is_shown_as_it_is_now(harness: Harness) -> None:
    """Every token at once, from memory, whatever has been written of it."""
    reply = harness.will(held())
    harness.ask("one")
    reply.taken_in()
    assert harness.message(2).state == "waiting"
    for n, word in enumerate(["One", " two", " three"], 1):
        reply.say(TextDelta(word))
        assert harness.message(2).text == "One two three"[: (3, 7, 13)[n - 1]]
        assert (harness.message(2).state, harness.message(2).model) == ("streaming", "scripted")
        assert harness.messages()[1] == harness.message(2)
        assert harness.room.call(ChatRoom.exchange, 1) == (harness.message(1), harness.message(2))
    assert harness.room.call(ChatRoom.summary).answering
    reply.end()
    assert harness.ended(2) == "complete"
    assert not harness.room.call(ChatRoom.summary).answering


def test_reading_a_growing_answer_takes_nothing_from_it(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that comes at the very instant a tab reads is neither lost nor doubled."""
    reply = harness.will(held(TextDelta("One")))
    harness.ask("one")
    reply.say(TextDelta(" two"))
    reader, come, blocked = threading.current_thread(), [TextDelta(" three")], threading.Event()

    def replace_in_the_middle(part: Text, **changes: str) -> Text:
        if come and threading.current_thread() is reader:
            reply.send(come.pop())
            blocked.wait(MOMENT)  # nothing tells when the turn has come as far as it can
        return replace(part, **changes)

    monkeypatch.setattr("overseer.rooms.turn.replace", replace_in_the_middle)
    assert harness.message(2).text.startswith("One two")
    assert not come
    reply.taken_in()
    assert harness.message(2).parts == (Text("One two three"),)
    reply.end()
    harness.ended(2)
    assert harness.message(2).parts == (Text("One two three"),)


# What is on the disk meanwhile


def test_growing_text_is_on_the_disk_after_a_second(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash takes no more than that, and finds the row streaming."""
    monkeypatch.setattr("overseer.rooms.chat_room.SAVE_INTERVAL_SECONDS", 0)
    reply = harness.will(held(TextDelta("One")))
    harness.ask("one")
    reply.say(TextDelta(" two"))
    assert harness.on_disk("SELECT text, state FROM parts JOIN messages ON number = message WHERE number = 2") == [
        ("One two", "streaming")
    ]
    reply.say(TextDelta(" three"))
    assert harness.on_disk("SELECT text, model FROM parts JOIN messages ON number = message WHERE number = 2") == [
        ("One two three", "scripted")
    ]
    reply.end()
    harness.ended(2)


def test_no_token_waits_for_the_disk(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two saves text is only in memory; a part that ends is written when it does."""
    monkeypatch.setattr("overseer.rooms.chat_room.SAVE_INTERVAL_SECONDS", 3600)
    reply = harness.will(held(ReasoningDelta("Hm")))
    harness.ask("one")
    reply.say(ReasoningDelta(", so"))
    assert harness.on_disk("SELECT text FROM parts WHERE message = 2") == []
    reply.say(TextDelta("Yes"))
    assert harness.on_disk("SELECT kind, text FROM parts WHERE message = 2") == [("reasoning", "Hm, so")]
    reply.end()
    harness.ended(2)
    assert harness.on_disk("SELECT text FROM parts WHERE message = 2") == [("Hm, so",), ("Yes",)]


def test_after_a_crash_an_answer_is_interrupted_and_what_was_written_is_kept(
    harness: Harness, make_harness: MakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the files in mid-answer is what a kill leaves; opened, it asks for nobody's patience."""
    monkeypatch.setattr("overseer.rooms.chat_room.SAVE_INTERVAL_SECONDS", 0)
    harness.answered("zero")
    reply = harness.will(held(TextDelta("One")))
    harness.ask("one")
    harness.ask("two")
    reply.say(TextDelta(" two"))
    shutil.copytree(harness.directory, tmp_path / "crashed")
    found = make_harness("crashed")
    assert found.states() == ["complete", "interrupted", "interrupted"]
    assert found.texts() == ["zero", "All right.", "one", "One two", "two", ""]
    assert {found.message(number).reason for number in (4, 6)} == {INTERRUPTED}
    assert found.message(4).ended_at is not None
    assert found.model.asked == [], "it asked by itself"
    assert found.room.call(ChatRoom.retry) == 6
    assert found.ended(6) == "complete"
    assert found.answered("three") == Asked(7, 8)
    reply.end()
    harness.ended(6)
    assert harness.states() == ["complete"] * 3


@pytest.mark.parametrize("state", ["waiting", "streaming"])
def test_a_file_whose_rows_say_they_are_unfinished_is_put_right_when_opened(harness: Harness, state: State) -> None:
    """Whatever left them so: in a file that was just opened nothing runs."""
    harness.answered("one")
    harness.restarted()
    with closing(sqlite3.connect(harness.file)) as db, db:
        db.execute("UPDATE messages SET state = ?, ended_at = NULL WHERE number = 2", (state,))
    assert harness.message(2).state == "interrupted"
    assert harness.on_disk("SELECT state FROM messages WHERE number = 2") == [("interrupted",)]
    assert harness.texts() == ["one", "All right."]
    assert harness.room.call(ChatRoom.idle)


# Endings


def test_stop_keeps_what_was_said_and_ends_those_who_wait(harness: Harness) -> None:
    """At once, each with its state and its event; the model's connection is closed."""
    reply = harness.will(held(ReasoningDelta("Hm"), TextDelta("Half an")))
    harness.ask("A")
    harness.ask("B")
    reply.say(TextDelta(" answer"))
    harness.stop()
    assert reply.closed.is_set()
    assert harness.states() == ["stopped", "stopped"]
    assert harness.message(2).parts == (Reasoning("Hm"), Text("Half an answer"))
    assert harness.message(4).parts == ()
    assert harness.message(2).model == "scripted"
    assert all(harness.message(n).reason == "Stopped." and harness.message(n).ended_at for n in (2, 4))
    assert harness.events[-2:] == [TurnEnded("room", 2, "stopped"), TurnEnded("room", 4, "stopped")]
    no_turns()
    assert len(harness.model.asked) == 1
    harness.restarted()
    assert harness.texts() == ["A", "Half an answer", "B", ""]


def test_asking_right_after_stop_is_answered(harness: Harness) -> None:
    """Nothing has to be waited for in between."""
    reply = harness.will(held(TextDelta("Half")))
    harness.ask("A")
    reply.taken_in()
    harness.stop()
    again = harness.ask("B")
    assert harness.ended(again.answer) == "complete"
    assert harness.texts() == ["A", "Half", "B", "All right."]
    assert [m.text for m in harness.model.asked[-1]] == ["A", "Half", "B"]


def test_stop_reaches_a_model_that_is_only_being_asked(harness: Harness) -> None:
    """Between the question and the connection there is a moment; no answer slips through it."""
    reply = harness.will(held())
    harness.model.meanwhile = harness.stop
    asked = harness.ask("one")
    assert harness.ended(asked.answer) == "stopped"
    assert reply.closed.wait(DEADLINE / 2), "it is only closed when it ends by itself"
    no_turns()
    assert harness.texts() == ["one", ""]


def test_stop_where_nothing_runs_is_nothing(harness: Harness) -> None:
    """No event, and no answer changes its state."""
    harness.stop()
    harness.answered("one")
    before, events = harness.messages(), list(harness.events)
    harness.stop()
    assert harness.messages() == before
    assert harness.events == events


@pytest.mark.parametrize("end", [ChatRoom.stop, ChatRoom.clear])
def test_what_a_model_still_says_after_its_end_goes_nowhere(harness: Harness, end: Callable[[ChatRoom], None]) -> None:
    """Even one that takes no notice of being closed, while the next answer is already being made."""
    stubborn = harness.will(Said(TextDelta("Before"), held=True, stubborn=True))
    harness.ask("A")
    stubborn.taken_in()
    harness.room.call(end)
    told = len(harness.events)
    next_one = harness.will(held(TextDelta("Next")))
    harness.ask("B")
    next_one.taken_in()
    stubborn.say(TextDelta(" after"), ToolRequest("c1", "roll_dice", "{}"))
    stubborn.end()
    next_one.end()
    harness.ended(4)
    no_turns()
    assert "after" not in " ".join(harness.texts())
    assert harness.message(4).parts == (Text("Next"),)
    late = [event for event in harness.events[told:] if getattr(event, "number", None) == 2]
    assert late == []


@pytest.mark.parametrize(
    ("error", "state"),
    [(ModelError("Load a model, then Retry."), "failed"), (ModelCut("It broke off. Retry."), "interrupted")],
)
@pytest.mark.parametrize("partial", ["", "Half"])
def test_a_model_that_fails_leaves_a_state_a_sentence_and_what_it_had_said(
    harness: Harness, error: Exception, state: State, partial: str
) -> None:
    """A failure is part of the conversation; the next question is answered."""
    asked = harness.answered("one", Said(*[TextDelta(partial)] if partial else [], error))
    found = harness.message(asked.answer)
    assert (found.state, found.reason, found.text) == (state, str(error), partial)
    assert found.ended_at is not None
    harness.answered("two")
    assert harness.states() == [state, "complete"]


def test_a_model_that_says_nothing_has_failed(harness: Harness) -> None:
    """An empty bubble would be no answer."""
    harness.answered("one", Said())
    assert harness.states() == ["failed"]
    assert "said nothing" in harness.message(2).reason


def test_a_fault_of_ours_ends_one_answer_and_not_the_room(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, the person gets a sentence, and those who wait are answered."""
    broken = held(TextDelta("Half"))
    harness.will(broken)
    a, b = harness.ask("A"), harness.ask("B")
    broken.end(ZeroDivisionError("a secret detail"))
    assert harness.ended(a.answer) == "failed"
    assert harness.ended(b.answer) == "complete"
    assert harness.texts() == ["A", "Half", "B", "All right."]
    assert "secret" not in harness.message(2).reason and "Retry" in harness.message(2).reason
    assert "a secret detail" in caplog.text and "turn room/2 broke" in caplog.text


@pytest.mark.parametrize(
    "said",
    [
        [TextDelta("a\ud83d"), TextDelta("\ude00b")],
        [ReasoningDelta("a\ud83d"), ReasoningDelta("b")],
        [ToolRequest("c1", "echo", '{"word": "\\ud83d"}')],
        [ToolRequest("c1", "echo", '{"\\ud83d": 1}')],
        [ToolRequest("c\ud83d", "ec\ud83do", "\ud83d")],
    ],
    ids=["text", "reasoning", "result", "error", "call"],
)
def test_half_a_character_from_a_model_breaks_nothing(harness: Harness, said: list[Delta]) -> None:
    """Servers cut emoji in two between tokens; no file can hold a half, so something else is stored."""

    @tool
    def echo(word: str) -> str:
        """Say it again."""
        return word

    harness.restarted(echo)
    harness.model.replies.append(Said(*said))
    harness.ask("one")
    no_turns()
    assert set(harness.states()) <= {"complete", "failed"}, "only thinking is no answer"
    assert harness.room.call(ChatRoom.idle)
    str(harness.message(2).parts).encode()
    harness.answered("two")


def fill_disk(harness: Harness, *, free: bool = False) -> None:
    """As if there were no space for another page, or again as much as wanted."""
    with harness.storage.read() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {1_000_000 if free else pages}")


def test_an_answer_that_cannot_be_stored_does_not_block_its_room(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the disk full in mid-answer nothing can be written; with space again, the room goes on by itself."""
    monkeypatch.setattr("overseer.rooms.chat_room.SAVE_INTERVAL_SECONDS", 0)
    reply = harness.will(held(TextDelta("x")))
    harness.ask("one")
    reply.taken_in()
    fill_disk(harness)
    reply.say(TextDelta("x" * 100_000))
    reply.end()
    assert harness.ended(2) == "failed"
    no_turns()
    assert "could not be stored" in caplog.text
    assert (harness.message(2).state, harness.message(2).text) == ("failed", "x" * 100_001)
    assert "disk is full" in harness.message(2).reason
    assert not harness.room.call(ChatRoom.summary).answering, "nobody is making it any more"
    with pytest.raises(StorageFull):
        harness.ask("x" * 100_000)
    fill_disk(harness, free=True)
    harness.answered("two")
    assert harness.states() == ["failed", "complete"]
    harness.restarted()
    assert harness.texts() == ["one", "x" * 100_001, "two", "All right."]
    assert harness.states() == ["failed", "complete"]


def test_stop_closes_the_models_connection_also_when_nothing_can_be_written(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is no reason to pay for words that nobody can keep; with space again, all have ended."""
    monkeypatch.setattr("overseer.rooms.chat_room.SAVE_INTERVAL_SECONDS", 0)
    first, second = held(TextDelta("x")), held(TextDelta("y"))
    harness.will(first, second)
    harness.ask("one")
    harness.ask("two")
    first.taken_in()
    fill_disk(harness)
    first.say(TextDelta("x" * 100_000))
    first.end()
    harness.ended(2)
    second.taken_in()
    with suppress(StorageFull):
        harness.stop()
    assert second.closed.is_set()
    assert not harness.room.call(ChatRoom.summary).answering
    no_turns()
    fill_disk(harness, free=True)
    harness.stop()
    assert harness.states() == ["failed", "stopped"]
    assert harness.texts() == ["one", "x" * 100_001, "two", "y"]
    harness.answered("three")


# Tools


def test_a_tool_that_raises_is_told_to_the_model_which_goes_on(harness: Harness) -> None:
    """The call has failed, with the reason as its result; the answer has not."""

    @tool
    def explode(word: str) -> str:
        """Explode."""
        raise RuntimeError(f"boom {word}")

    harness.restarted(explode)
    harness.answered("one", Said(ToolRequest("c1", "explode", '{"word": "now"}')), words("It broke."))
    call = ToolCall("c1", "explode", '{"word": "now"}', "RuntimeError: boom now", "failed")
    assert harness.message(2).parts == (call, Text("It broke."))
    assert harness.states() == ["complete"]
    assert harness.model.asked[1][-1].parts == (call,)


def test_several_tools_of_one_step_are_used_in_order(harness: Harness) -> None:
    """And an unknown one, or arguments that are no JSON, spoil only their own call."""
    requests = [
        ToolRequest("c1", "roll_dice", '{"sides": 2}'),
        ToolRequest("c2", "fly", "{}"),
        ToolRequest("c3", "roll_dice", "{sides"),
        ToolRequest("c4", "get_current_time", ""),
    ]
    harness.answered("one", Said(*requests), words("Done."))
    calls = [part for part in harness.message(2).parts if isinstance(part, ToolCall)]
    assert [(call.call_id, call.state) for call in calls] == [
        ("c1", "done"),
        ("c2", "failed"),
        ("c3", "failed"),
        ("c4", "done"),
    ]
    assert "no tool named 'fly'" in calls[1].result
    assert len(harness.model.asked) == 2


def test_a_model_that_never_comes_to_an_answer_is_stopped_after_five_steps(harness: Harness) -> None:
    """Its tools cannot keep a room busy for ever, and all it did is shown."""
    replies = [Said(ToolRequest(f"c{n}", "roll_dice", "{}")) for n in range(10)]
    harness.answered("one", *replies)
    assert MAX_TOOL_ROUNDS == 5
    assert len(harness.model.asked) == 5
    assert [part.kind for part in harness.message(2).parts] == ["tool_call"] * 5
    assert harness.states() == ["failed"]
    assert "5 times" in harness.message(2).reason


def test_a_room_can_be_read_and_asked_while_a_tool_works(harness: Harness) -> None:
    """The call is shown as running, in the file too; nobody waits for a slow tool but its answer."""
    begun, gate = threading.Event(), threading.Event()

    @tool
    def wait() -> str:
        """Wait."""
        begun.set()
        assert gate.wait(DEADLINE)
        return "waited"

    harness.restarted(wait)
    harness.model.replies.append(Said(ToolRequest("c1", "wait", "{}")))
    harness.ask("one")
    assert begun.wait(DEADLINE)
    assert harness.message(2).parts == (ToolCall("c1", "wait", "{}", "", "running"),)
    assert harness.on_disk("SELECT call ->> 'state' FROM parts WHERE message = 2") == [("running",)]
    two = harness.ask("two")
    gate.set()
    harness.ended(two.answer)
    assert harness.message(2).parts[0] == ToolCall("c1", "wait", "{}", "waited", "done")


@pytest.mark.parametrize("how", ["stop", "crash", "full disk"])
def test_a_tool_that_works_when_its_answer_ends_is_shown_as_abandoned(
    harness: Harness, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ended it, the turn ends at once, and what the tool returns later goes nowhere."""
    begun, gate = threading.Event(), threading.Event()

    @tool
    def wait() -> str:
        """Wait."""
        begun.set()
        assert gate.wait(DEADLINE)
        return "waited"

    harness.restarted(wait)
    harness.model.replies.append(Said(ToolRequest("c1", "wait", "{}")))
    harness.ask("one")
    assert begun.wait(DEADLINE)
    if how == "crash":
        harness.facets.abort("room", "killed")
    elif how == "stop":
        harness.stop()
    else:
        with monkeypatch.context() as full:
            full.setattr("overseer.storage.room_store.RoomStore.end", lambda *args, **kwargs: no_space())
            with pytest.raises(StorageFull):
                harness.stop()
            assert abandoned(harness.message(2))
    no_turns()
    assert abandoned(harness.message(2))
    gate.set()
    harness.answered("two")
    harness.restarted(wait)
    assert abandoned(harness.message(2)) and harness.message(2).finished


def no_space() -> None:
    raise StorageFull("The disk is full.")


def abandoned(message: Message) -> bool:
    """Whether the message is one call that has no result and says why."""
    return message.parts == (
        ToolCall("c1", "wait", "{}", "Abandoned: the answer ended before the tool did.", "abandoned"),
    )


# Changing what was said


def test_retry_answers_the_last_question_again_in_the_same_row(harness: Harness) -> None:
    """What was there is gone from memory and file, shorter answers leave nothing of longer ones."""
    harness.answered("one", words("first"))
    harness.answered("two", Said(ReasoningDelta("Hm"), TextDelta("Half"), ModelError("broke")))
    reply = harness.will(held())
    assert harness.room.call(ChatRoom.retry) == 4
    reply.taken_in()
    waiting = harness.message(4)
    assert (waiting.state, waiting.parts, waiting.reason, waiting.ended_at) == ("waiting", (), "", None)
    reply.say(TextDelta("Whole"))
    reply.end()
    assert harness.ended(4, times=2) == "complete"
    assert harness.message(4).parts == (Text("Whole"),)
    assert harness.texts() == ["one", "first", "two", "Whole"]
    assert [m.text for m in harness.model.asked[-1]] == ["one", "first", "two"]
    assert harness.heard(MessageChanged) == [MessageChanged("room", 4)]
    harness.restarted()
    assert harness.texts() == ["one", "first", "two", "Whole"]


def test_a_complete_answer_can_be_asked_for_again_too(harness: Harness) -> None:
    """A person may want another one."""
    harness.answered("one", words("first"))
    harness.will(words("second"))
    harness.room.call(ChatRoom.retry)
    harness.ended(2, times=2)
    assert harness.texts() == ["one", "second"]


def test_there_is_nothing_to_retry_in_an_empty_room(harness: Harness) -> None:
    """New or cleared."""
    with pytest.raises(NoSuchMessage, match="no question"):
        harness.room.call(ChatRoom.retry)
    harness.answered("one")
    harness.room.call(ChatRoom.clear)
    with pytest.raises(NoSuchMessage):
        harness.room.call(ChatRoom.retry)
    assert harness.model.asked == harness.model.asked[:1]


def test_edit_changes_a_question_drops_what_follows_and_answers_it_anew(harness: Harness) -> None:
    """The conversation goes on from there, and the dropped numbers are not used again."""
    for text in ("one", "two", "three"):
        harness.answered(text, words(f"to {text}"))
    harness.will(words("anew"))
    harness.room.call(ChatRoom.edit, 3, "two, otherwise")
    assert harness.heard(MessagesDropped) == [MessagesDropped("room", 3)]
    assert harness.ended(4, times=2) == "complete"
    assert harness.texts() == ["one", "to one", "two, otherwise", "anew"]
    assert [m.text for m in harness.model.asked[-1]] == ["one", "to one", "two, otherwise"]
    assert harness.answered("four") == Asked(7, 8)
    assert harness.room.call(ChatRoom.summary).messages == 6
    assert harness.on_disk("SELECT count(*) FROM parts") == [(6,)]


@pytest.mark.parametrize("number", [0, -1, 2, 3, 4, 99, 2**63 - 1])
def test_only_a_question_of_the_room_can_be_edited(harness: Harness, number: int) -> None:
    """Not an answer, not what is not there; nothing is dropped."""
    harness.answered("one")
    before = harness.messages()
    with pytest.raises(NoSuchMessage, match=f"no question {number}"):
        harness.room.call(ChatRoom.edit, number, "otherwise")
    assert harness.messages() == before
    assert harness.heard(MessagesDropped) == []


def test_neither_retry_nor_edit_while_an_answer_is_being_made(harness: Harness) -> None:
    """Not now, with a sentence; the answer goes on undisturbed, and afterwards it works."""
    reply = harness.will(held(TextDelta("Half")))
    harness.ask("one")
    for _ in ("before its first word", "after it"):
        with pytest.raises(AnswerInProgress, match="Stop it, or wait"):
            harness.room.call(ChatRoom.retry)
        with pytest.raises(AnswerInProgress):
            harness.room.call(ChatRoom.edit, 1, "otherwise")
        reply.say(TextDelta(" more"))
    reply.end()
    harness.ended(2)
    assert harness.texts() == ["one", "Half more more"]
    harness.room.call(ChatRoom.retry)
    harness.ended(2, times=2)


def test_clear_while_an_answer_grows_leaves_an_empty_room_that_works(harness: Harness) -> None:
    """The model's connection is closed, those who wait are gone too, and the next question is answered."""
    reply = harness.will(held(TextDelta("Half")))
    harness.ask("one")
    harness.ask("two")
    reply.taken_in()
    harness.room.call(ChatRoom.clear)
    assert reply.closed.is_set()
    assert harness.messages() == ()
    assert harness.on_disk("SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM parts)") == [(0,)]
    assert harness.events[-1] == MessagesCleared("room")
    assert not harness.room.call(ChatRoom.summary).answering
    no_turns()
    assert harness.events[-1] == MessagesCleared("room")
    assert harness.answered("three") == Asked(5, 6)
    assert [m.text for m in harness.model.asked[-1]] == ["three"]


def test_delete_while_an_answer_grows_ends_it(harness: Harness) -> None:
    """The connection is closed, the files are gone for good, and nothing is told any more."""
    reply = harness.will(Said(TextDelta("Half"), held=True, stubborn=True))
    room = harness.room
    harness.ask("one")
    reply.taken_in()
    harness.facets.delete("room")
    assert reply.closed.is_set()
    told = list(harness.events)
    reply.say(TextDelta(" more"))
    reply.end()
    no_turns()
    assert harness.events == told
    assert list(harness.directory.iterdir()) == []
    with pytest.raises(FacetAborted, match="facet was deleted"):
        room.call(ChatRoom.messages)


# Reading


def test_pages_go_back_from_the_newest_without_gap_or_overlap(harness: Harness) -> None:
    """Each in reading order, with whether there is more above; numbers may have gaps."""
    harness.answered("dropped")
    harness.room.call(ChatRoom.clear)
    for n in range(5):
        harness.answered(f"question {n}", words(f"answer {n}"))
    newest = harness.room.call(ChatRoom.messages, limit=4)
    assert [m.number for m in newest.messages] == [9, 10, 11, 12]
    assert (newest.more, newest.last) == (True, 12)
    older = harness.room.call(ChatRoom.messages, before=9, limit=4)
    assert [m.number for m in older.messages] == [5, 6, 7, 8]
    assert (older.more, older.last) == (True, 12)
    oldest = harness.room.call(ChatRoom.messages, before=5, limit=4)
    assert [m.text for m in oldest.messages] == ["question 0", "answer 0"]
    assert (oldest.more, oldest.last) == (False, 12)
    exact = harness.room.call(ChatRoom.messages, limit=10)
    assert (len(exact.messages), exact.more) == (10, False)
    for before in (3, 1, 0, -5):
        assert harness.room.call(ChatRoom.messages, before=before, limit=4).messages == ()
    assert harness.room.call(ChatRoom.messages, before=2**63 - 1, limit=4) == newest


def test_an_empty_room_has_an_empty_page(harness: Harness) -> None:
    """Nothing, nothing more, and no number yet."""
    page = harness.room.call(ChatRoom.messages)
    assert (page.messages, page.more, page.last) == ((), False, 0)


def test_what_is_not_there_is_no_such_message(harness: Harness) -> None:
    """A number that was never used, and one that is not used any more."""
    harness.answered("one")
    harness.room.call(ChatRoom.clear)
    for number in (1, 2, 3, 0, -1):
        with pytest.raises(NoSuchMessage):
            harness.message(number)
        with pytest.raises(NoSuchMessage):
            harness.room.call(ChatRoom.exchange, number)


@pytest.mark.parametrize(
    ("budget", "read"),
    [
        (1000, ["question 1", "answer two", "question 3", "answer four", "question 5"]),
        (35, ["question 1", "answer two", "question 3", "answer four", "question 5"]),
        (34, ["question 3", "answer four", "question 5"]),
        (21, ["question 3", "answer four", "question 5"]),
        (20, ["question 5"]),
        (10, ["question 5"]),
        (1, ["question 5"]),
    ],
)
def test_the_oldest_exchanges_are_left_out_when_the_history_is_too_long(
    harness: Harness, budget: int, read: list[str]
) -> None:
    """Whole ones, so that no answer stands without its question; the last question is always read."""
    harness.restarted(limits=Limits(context_tokens=budget))
    harness.answered("question 1", words("answer two"))
    harness.answered("question 3", words("answer four"))
    harness.answered("question 5")
    assert [m.text for m in harness.model.asked[-1]] == read
    assert len(harness.messages()) == 6


def test_tools_count_against_the_history(harness: Harness) -> None:
    """A tool that answered with a book fills the model's memory too."""

    @tool
    def read() -> str:
        """Read a book."""
        return "x" * 5000

    harness.restarted(read, limits=Limits(context_tokens=1250))
    harness.answered("one", Said(ToolRequest("c1", "read", "{}")), words("Done."))
    harness.answered("two")
    assert [m.text for m in harness.model.asked[-1]] == ["two"]


def test_the_summary_follows_the_room(make_harness: MakeHarness) -> None:
    """Number of messages, newest words without marks, name, and whether an answer is being made."""
    harness = make_harness(by_person=False)

    def summary() -> tuple[str, int, str, bool]:
        found = harness.room.call(ChatRoom.summary)
        return found.name, found.messages, found.preview, found.answering

    assert summary() == ("Kitchen", 0, "", False)
    reply = harness.will(held())
    harness.ask("# What is *this*?")
    assert summary() == ("What is this?", 2, "What is this?", True)
    reply.say(ReasoningDelta("Hm"), TextDelta("- A **room**,\n- I `think`"))
    reply.end()
    harness.ended(2)
    assert summary() == ("What is this?", 2, "A room, I think", False)
    harness.answered("long", words("word " * 1000))
    assert summary()[1] == 4
    assert len(summary()[2]) <= 120
    harness.room.call(ChatRoom.clear)
    assert summary() == ("What is this?", 0, "", False)


def test_a_room_with_a_running_turn_is_busy_and_afterwards_idle(harness: Harness) -> None:
    """So that it is never dropped from memory in the middle of an answer, and may be dropped after it."""
    reply = harness.will(held(TextDelta("Half")))
    room = harness.room
    assert room.call(ChatRoom.idle)
    harness.ask("one")
    reply.taken_in()
    assert not room.call(ChatRoom.idle)
    assert not room.evict()
    reply.end()
    harness.ended(2)
    no_turns()
    assert room.evict()
    assert harness.texts() == ["one", "Half"]


def test_a_room_that_is_dropped_from_memory_comes_back_unnoticed(harness: Harness) -> None:
    """The same handle goes on, with everything said, and no answer is called interrupted for it."""
    room = harness.room
    harness.answered("one")
    no_turns()
    before = harness.messages()
    assert room.evict()
    assert room.call(ChatRoom.messages).messages == before
    assert room.evict()
    asked = room.call(ChatRoom.ask, "two")
    assert harness.ended(asked.answer) == "complete"
    assert harness.states() == ["complete", "complete"]


def test_a_clear_that_cannot_be_written_changes_nothing(harness: Harness) -> None:
    """The answer goes on, and is there at its end."""
    reply = harness.will(held(TextDelta("Half")))
    harness.ask("one")
    reply.taken_in()
    with closing(sqlite3.connect(harness.storage.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFull, match="locked by another program"):
            harness.room.call(ChatRoom.clear)
        other.execute("ROLLBACK")
    reply.say(TextDelta(" and half"))
    reply.end()
    assert harness.ended(2) == "complete"
    assert harness.texts() == ["one", "Half and half"]


# Turns that cannot be begun


class Unreadable:
    """What begins a turn cannot read the room's settings: SQLite itself refuses that column, `times` times.

    No file can be made to fail for one read and be whole for the next one, so SQLite's authorizer stands in. All else
    works, above all the commit before.
    """

    def __init__(self, harness: Harness, times: int = 1_000_000) -> None:
        self.times = times
        self.refused = threading.Event()
        harness.room.call(ChatRoom.settings)
        with harness.storage.read() as db:
            db.set_authorizer(self._check)

    def _check(self, action: int, table: str | None, column: str | None, *_: str | None) -> int:
        if (action, table, column) != (sqlite3.SQLITE_READ, "room", "system_prompt") or not self.times:
            return sqlite3.SQLITE_OK
        self.times -= 1
        self.refused.set()
        return sqlite3.SQLITE_DENY


NEVER = (3600.0, 3600.0)


def test_ask_whose_answer_cannot_be_begun_at_once_is_answered_by_itself(harness: Harness) -> None:
    """The question is committed, so who asked is told that it is, and one failed read is not the end of it."""
    broken = Unreadable(harness, times=1)
    asked = harness.ask("one", key="k")
    assert broken.refused.is_set()
    assert harness.ended(asked.answer) == "complete"
    assert harness.texts() == ["one", "All right."]


@pytest.mark.parametrize("how", ["the same key", "another question", "a read", "a retry", "a resume"])
def test_an_answer_that_could_not_be_begun_is_begun_by_whatever_comes_next(
    harness: Harness, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a timer if somebody comes before."""
    monkeypatch.setattr("overseer.rooms.chat_room.START_RETRY_DELAYS_SECONDS", NEVER)
    broken = Unreadable(harness, times=1)
    first = harness.ask("one", key="k")
    assert broken.refused.is_set() and harness.room.call(ChatRoom.summary).answering
    if how == "the same key":
        assert harness.ask("one", key="k") == replace(first, repeated=True)
    elif how == "another question":
        assert harness.ended(harness.ask("two").answer) == "complete"
    elif how == "a read":
        harness.messages()
    else:
        with pytest.raises(AnswerInProgress):
            harness.room.call(ChatRoom.retry if how == "a retry" else ChatRoom.resume)
    assert harness.ended(first.answer) == "complete"
    assert set(harness.states()) == {"complete"}


@pytest.mark.parametrize("again", ["retry", "edit", "resume"])
def test_an_answer_that_is_made_again_is_begun_by_itself_too(harness: Harness, again: str) -> None:
    """Every way to have an answer made is committed before it is begun."""
    harness.will(Said(TextDelta("Half"), ModelCut("It broke off.")))
    harness.ask("one")
    assert harness.ended(2) == "interrupted"
    no_turns()
    Unreadable(harness, times=2)
    if again == "edit":
        harness.room.call(ChatRoom.edit, 1, "other")
    else:
        harness.room.call(ChatRoom.retry if again == "retry" else ChatRoom.resume)
    assert harness.ended(2, times=2) == "complete"
    assert harness.message(2).text == ("HalfAll right." if again == "resume" else "All right.")


def test_the_next_in_the_queue_that_cannot_be_begun_is_begun_by_itself(harness: Harness) -> None:
    """Nobody comes to ask for it when the answer before it ends."""
    reply = harness.will(held(TextDelta("First")))
    harness.ask("one")
    second = harness.ask("two")
    reply.taken_in()
    broken = Unreadable(harness, times=2)
    reply.end()
    assert harness.ended(second.answer) == "complete"
    assert broken.refused.is_set() and harness.states() == ["complete", "complete"]


def test_an_answer_that_can_never_be_begun_fails_with_a_sentence(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried a few times; then it has an end, so do those behind it, and Retry works when reading does."""
    monkeypatch.setattr("overseer.rooms.chat_room.START_RETRY_DELAYS_SECONDS", (0.001, 0.001))
    broken = Unreadable(harness)
    harness.ask("one")
    harness.ask("two")
    assert harness.ended(2) == harness.ended(4) == "failed"
    broken.times = 0
    assert harness.room.call(ChatRoom.idle) and not harness.room.call(ChatRoom.summary).answering
    assert harness.message(4).reason.startswith("The answer could not be started. room.sqlite could not be used")
    assert harness.message(4).reason.endswith("Retry asks again.")
    assert "turn room/2 could not be started" in caplog.text
    assert harness.on_disk("SELECT state FROM messages WHERE role = 'assistant'") == [("failed",), ("failed",)]
    harness.room.call(ChatRoom.retry)
    assert harness.ended(4, times=2) == "complete"


def test_stop_ends_an_answer_that_could_not_be_begun(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown as waiting, so Stop is shown beside it; nothing begins it afterwards, and Retry does."""
    monkeypatch.setattr("overseer.rooms.chat_room.START_RETRY_DELAYS_SECONDS", NEVER)
    broken = Unreadable(harness)
    asked = harness.ask("one")
    (timer,) = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    harness.stop()
    timer.join(DEADLINE)
    assert not timer.is_alive(), "the timer is cancelled"
    assert harness.ended(asked.answer) == "stopped" and harness.room.call(ChatRoom.idle)
    broken.times = 0
    harness.room.call(ChatRoom.retry)
    assert harness.ended(asked.answer, times=2) == "complete"


@pytest.mark.parametrize("how", ["clear", "close"])
def test_no_timer_outlives_what_it_would_begin(harness: Harness, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that is cleared or closed begins nothing any more."""
    monkeypatch.setattr("overseer.rooms.chat_room.START_RETRY_DELAYS_SECONDS", NEVER)
    Unreadable(harness)
    harness.ask("one")
    assert not harness.room.evict(), "a room in which an answer waits is not dropped from memory"
    (timer,) = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    if how == "clear":
        harness.room.call(ChatRoom.clear)
        assert harness.room.call(ChatRoom.idle)
    else:
        harness.restarted()
        assert harness.states() == ["interrupted"]
    timer.join(DEADLINE)
    assert not timer.is_alive()


def test_an_answer_fails_with_a_sentence_when_there_are_no_threads(harness: Harness) -> None:
    """Neither its own nor one that would try again can be started; with threads again, Retry works."""
    before = threading.stack_size(2**46)  # more than there is: the system refuses
    try:
        harness.ask("one")
    finally:
        threading.stack_size(before)
    assert harness.ended(2) == "failed" and "Retry asks again" in harness.message(2).reason
    harness.room.call(ChatRoom.retry)
    assert harness.ended(2, times=2) == "complete"


def test_tool_that_ends_its_thread_fails_and_the_answer_goes_on(harness: Harness) -> None:
    """`sys.exit` in a tool is a fault of that tool, and no reason to wait for ever."""

    @tool
    def leave() -> str:
        """End the thread."""
        raise SystemExit(1)

    harness.restarted(leave)
    harness.will(Said(ToolRequest("1", "leave", "{}")))
    harness.ask("one")
    assert harness.ended(2) == "complete" and harness.room.call(ChatRoom.idle)
    call = harness.message(2).parts[0]
    assert isinstance(call, ToolCall) and call.state == "failed"


def test_stop_ends_those_who_wait_also_when_nothing_can_be_written(harness: Harness) -> None:
    """They are shown as stopped, nothing begins them, and they are written when that is possible again."""
    reply = harness.will(held(TextDelta("Half")))
    harness.ask("one")
    harness.ask("two")
    reply.taken_in()
    with closing(sqlite3.connect(harness.storage.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFull):
            harness.stop()
        assert harness.ended(2) == harness.ended(4) == "stopped"
        assert harness.states() == ["stopped", "stopped"]
        other.execute("ROLLBACK")
    harness.room.call(ChatRoom.retry)
    assert harness.ended(4, times=2) == "complete"
    assert harness.on_disk("SELECT state FROM messages WHERE role = 'assistant'") == [("stopped",), ("complete",)]
