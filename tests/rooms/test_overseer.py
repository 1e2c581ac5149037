"""The parent of all rooms: its list, its limits, and what it puts right after a crash."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest

from overseer.domain.errors import (
    AnswerInProgress,
    InstanceError,
    KeyReused,
    NoSuchMessage,
    NoSuchRoom,
    StorageError,
    StorageFull,
)
from overseer.domain.events import (
    MessageAdded,
    MessageChanged,
    MessagesCleared,
    MessagesDropped,
    PartAdded,
    PartChanged,
    PartGrew,
    RoomConfigured,
    RoomCreated,
    RoomDeleted,
    RoomEvent,
    RoomRenamed,
    RoomSynced,
    TurnEnded,
)
from overseer.domain.messages import State
from overseer.domain.text import MAX_NAME_CHARS, MAX_TEXT_CHARS, NEW_ROOM, Invalid, TooLarge
from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.chat_room import INTERRUPTED
from overseer.rooms.overseer import Overseer
from overseer.storage.database import SUFFIXES, Storage
from overseer.storage.instance_lock import owner
from overseer.storage.registry import PAGE
from overseer.storage.room_store import RoomStore
from tests.support.model_server import ModelServer, Reply, answer, end, held, text, tool_call
from tests.support.server import ROOT
from tests.support.waiting import until

DEADLINE = 20.0
DESCRIPTORS = Path("/proc/self/fd")

Open = Callable[..., Overseer]


class Ear:
    """Hears everything an Overseer tells."""

    def __init__(self, overseer: Overseer) -> None:
        self.events: list[RoomEvent] = []
        self.listeners: list[Callable[[RoomEvent], None]] = []
        self.stop = overseer.subscribe(self._hear)
        self._heard = threading.Condition()

    def wait_for(self, wanted: Callable[[RoomEvent], bool], times: int = 1) -> RoomEvent:
        """Wait until so many such events have come, or find them among those that came; returns the last."""

        def found() -> list[RoomEvent]:
            return [event for event in self.events if wanted(event)]

        with self._heard:
            assert self._heard.wait_for(lambda: len(found()) >= times, DEADLINE), self.events
            return found()[times - 1]

    def ended(self, room_id: str, number: int, times: int = 1) -> State:
        """Wait until this answer has ended; returns its state."""
        event = self.wait_for(lambda e: isinstance(e, TurnEnded) and (e.room_id, e.number) == (room_id, number), times)
        assert isinstance(event, TurnEnded)
        return event.state

    def grown(self, room_id: str) -> None:
        """Wait until the room's answer has a first word."""
        self.wait_for(lambda e: isinstance(e, PartAdded | PartGrew) and e.room_id == room_id)

    def _hear(self, event: RoomEvent) -> None:
        for listener in self.listeners:
            listener(event)
        with self._heard:
            self.events.append(event)
            self._heard.notify_all()


@pytest.fixture
def ear(overseer: Overseer) -> Ear:
    """Hears what the Overseer of these tests tells."""
    return Ear(overseer)


@pytest.fixture
def opened(model_server: ModelServer) -> Iterator[Open]:
    """Opens another Overseer on a directory, as a restart would; all are closed."""
    overseers: list[Overseer] = []

    def open_it(directory: Path, *, open_facets: int = 50) -> Overseer:
        models = Models(ModelSettings(base_url=model_server.url, name="stand-in"))
        overseer = Overseer(directory, models=models, open_facets=open_facets)
        overseers.append(overseer)
        overseer.open()
        return overseer

    yield open_it
    for overseer in overseers:
        overseer.close()
    no_turns()


def no_turns() -> None:
    """Wait until no turn's thread is left."""
    for thread in threading.enumerate():
        if thread.name.startswith("turn-"):
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a turn's thread never ended"


class Ask(Protocol):
    def __call__(self, room_id: str, words: str, *replies: Reply) -> int: ...


@pytest.fixture
def answered(overseer: Overseer, ear: Ear, model_server: ModelServer) -> Ask:
    """Asks and waits for the end of the answer; returns its number."""

    def ask(room_id: str, words: str, *replies: Reply) -> int:
        if replies:
            model_server.will(*replies)
        number = overseer.ask(room_id, words).answer
        ear.ended(room_id, number)
        return number

    return ask


def room_file(instance: Path, room_id: str) -> Path:
    return instance / "facets" / f"room-{room_id}.sqlite"


def files(instance: Path) -> set[str]:
    return {str(path.relative_to(instance)) for path in instance.rglob("*")}


def names(overseer: Overseer, q: str = "") -> list[str]:
    """The rooms' names in the order of the list."""
    return [room.name for room in overseer.rooms(q=q).rooms]


def texts(overseer: Overseer, room_id: str) -> list[str]:
    return [message.text for message in overseer.messages(room_id).messages]


def ask_file(path: Path, sql: str) -> list[tuple[object, ...]]:
    """What another program reads in a file."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def tell_file(path: Path, *statements: str) -> None:
    """What another program does to a file, while no Overseer has it open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for sql in statements:
            db.execute(sql)


def open_rooms(instance: Path) -> set[str]:
    """The rooms' files this process has open, by the word of the kernel."""
    found = set()
    for entry in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        with suppress(OSError):
            path = Path(os.readlink(entry))
            if path.parent == instance / "facets":
                found.add(path.name)
    return found


# Rooms


def test_a_room_that_was_made_is_there(overseer: Overseer, ear: Ear, instance: Path) -> None:
    """In the list, on the disk and by its id; empty, and told of."""
    room = overseer.create("Kitchen")
    assert re.fullmatch("[0-9a-f]{12}", room.id)
    assert (room.name, room.messages, room.preview, room.answering, room.problem) == ("Kitchen", 0, "", False, "")
    assert overseer.room(room.id) == room
    assert overseer.rooms().rooms == (room,)
    assert overseer.messages(room.id).messages == ()
    assert room_file(instance, room.id).exists()
    assert ear.events == [RoomCreated(room.id)]


def test_every_room_has_an_id_of_its_own(overseer: Overseer) -> None:
    """Also rooms of the same name."""
    assert len({overseer.create("Kitchen").id for _ in range(20)}) == 20
    assert len(overseer.rooms().rooms) == 20


def test_rename_changes_the_name_everywhere(overseer: Overseer, ear: Ear, instance: Path) -> None:
    """In the answer, the list and the room's own file; the room keeps its place in the list."""
    room = overseer.create("Kitchen")
    overseer.create("Cellar")
    assert overseer.rename(room.id, "Bath").name == "Bath"
    assert names(overseer) == ["Cellar", "Bath"]
    assert ask_file(room_file(instance, room.id), "SELECT name, named_by FROM room") == [("Bath", "person")]
    assert ear.events[-2:] == [RoomSynced(room.id, raised=False), RoomRenamed(room.id)]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("K", "K"),
        ("  Kitchen\t\n  sink \u2028 ", "Kitchen sink"),
        ("x" * MAX_NAME_CHARS, "x" * MAX_NAME_CHARS),
        (" " + "x" * MAX_NAME_CHARS + " ", "x" * MAX_NAME_CHARS),
        ("\N{GRINNING FACE}" * MAX_NAME_CHARS, "\N{GRINNING FACE}" * MAX_NAME_CHARS),
        ("<b>&amp;'\"", "<b>&amp;'\""),
        ("a\0b", "a\ufffdb"),
        ("a\x1b[31mb\x7f", "a\ufffd[31mb\ufffd"),
        ("a\ud83d\x0bb", "a\ufffd b"),
        ("..", ".."),
        ("%_'; DROP TABLE rooms", "%_'; DROP TABLE rooms"),
    ],
)
def test_a_name_is_kept_in_one_line_and_without_what_no_page_can_show(
    overseer: Overseer, given: str, kept: str
) -> None:
    """Made or renamed, the rules are the same."""
    room = overseer.create(given)
    assert room.name == kept
    other = overseer.create("other")
    assert overseer.rename(other.id, given).name == kept
    assert names(overseer) == [kept, kept]


@pytest.mark.parametrize("name", ["", " \t\n", "x" * (MAX_NAME_CHARS + 1), "x" * 100_000])
def test_a_name_that_is_none_or_too_long_is_refused(overseer: Overseer, instance: Path, name: str) -> None:
    """With a sentence; nothing is made and nothing is changed."""
    room = overseer.create("Kitchen")
    before = files(instance)
    sentence = f"at most {MAX_NAME_CHARS} characters; this one has {len(name)}" if name.strip() else "needs a name"
    with pytest.raises(Invalid, match=sentence):
        overseer.create(name)
    with pytest.raises(Invalid, match=sentence):
        overseer.rename(room.id, name)
    assert overseer.rooms().rooms == (room,)
    assert files(instance) == before


def test_a_room_is_called_by_its_first_words_unless_a_person_named_it(
    overseer: Overseer, ear: Ear, answered: Ask
) -> None:
    """The list says so at once; a name given before or after stays."""
    unnamed, named, renamed = overseer.create(), overseer.create("Kitchen"), overseer.create()
    assert (unnamed.name, renamed.name) == (NEW_ROOM, NEW_ROOM)
    overseer.rename(renamed.id, "Cellar")
    for room in (unnamed, named, renamed):
        answered(room.id, "How  do I\n**bake** a cake?")
        answered(room.id, "And then?")
    assert [overseer.room(room.id).name for room in (unnamed, named, renamed)] == [
        "How do I bake a cake?",
        "Kitchen",
        "Cellar",
    ]
    assert [event.room_id for event in ear.events if isinstance(event, RoomRenamed)] == [renamed.id, unnamed.id]


def test_clear_empties_one_room_and_no_other(overseer: Overseer, ear: Ear, answered: Ask) -> None:
    """Its name and its place stay, and its numbers go on."""
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    for room in (kitchen, cellar):
        answered(room.id, "one")
    overseer.clear(kitchen.id)
    assert overseer.messages(kitchen.id).messages == ()
    cleared = overseer.room(kitchen.id)
    assert (cleared.name, cleared.messages, cleared.preview) == ("Kitchen", 0, "")
    assert texts(overseer, cellar.id) == ["one", "All right."]
    assert names(overseer) == ["Cellar", "Kitchen"]
    assert ear.events[-1] == MessagesCleared(kitchen.id)
    assert answered(kitchen.id, "two") == 4


def test_delete_takes_a_room_with_its_three_files_and_nothing_else(
    overseer: Overseer, ear: Ear, instance: Path, answered: Ask
) -> None:
    """Gone from the list and the disk, for good; another room and its files are as they were."""
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    for room in (kitchen, cellar):
        answered(room.id, "one")
    before = files(instance)
    gone = {f"facets/room-{kitchen.id}.sqlite{suffix}" for suffix in SUFFIXES}
    assert gone < before
    overseer.delete(kitchen.id)
    assert files(instance) == before - gone
    assert names(overseer) == ["Cellar"]
    assert ear.events[-1] == RoomDeleted(kitchen.id)
    for use in (overseer.room, overseer.messages, overseer.delete):
        with pytest.raises(NoSuchRoom):
            use(kitchen.id)
    assert files(instance) == before - gone
    assert texts(overseer, cellar.id) == ["one", "All right."]


def test_delete_in_mid_answer_closes_the_models_connection_and_is_the_last_that_is_heard(
    overseer: Overseer, ear: Ear, instance: Path, model_server: ModelServer
) -> None:
    """No file comes back, and no event of the room follows."""
    room = overseer.create("Kitchen")
    reply = model_server.will(held(text("Half")))
    overseer.ask(room.id, "one")
    ear.grown(room.id)
    overseer.delete(room.id)
    assert reply.closed.wait(DEADLINE)
    no_turns()
    assert ear.events[-1] == RoomDeleted(room.id)
    assert list((instance / "facets").iterdir()) == []


def test_a_room_that_cannot_be_made_leaves_nothing_behind(overseer: Overseer, ear: Ear, instance: Path) -> None:
    """No row, no file, no event; when the trouble is over, it can be made."""
    (instance / "facets").rmdir()
    with pytest.raises(StorageFull, match="cannot be opened for writing"):
        overseer.create("Kitchen")
    assert overseer.rooms().rooms == ()
    assert ear.events == []
    (instance / "facets").mkdir()
    assert files(instance) & {"facets"} and list((instance / "facets").iterdir()) == []
    overseer.create("Kitchen")
    assert names(overseer) == ["Kitchen"]


# The list


def test_the_list_is_ordered_by_what_was_last_said(overseer: Overseer, answered: Ask) -> None:
    """A question and an answer raise a room; looking, renaming, clearing and stopping do not."""
    a, b, c = (overseer.create(name) for name in "abc")
    assert names(overseer) == ["c", "b", "a"]
    answered(a.id, "one")
    assert names(overseer) == ["a", "c", "b"]
    answered(b.id, "one")
    overseer.messages(c.id)
    overseer.rename(c.id, "c")
    overseer.clear(c.id)
    overseer.stop(c.id)
    assert names(overseer) == ["b", "a", "c"]
    overseer.delete(a.id)
    assert names(overseer) == ["b", "c"]


def test_an_answer_raises_its_room_when_it_ends(overseer: Overseer, ear: Ear, model_server: ModelServer) -> None:
    """What one waited for is on top, although another room was asked meanwhile."""
    a, b = overseer.create("a"), overseer.create("b")
    reply = model_server.will(held(text("Half")))
    slow = overseer.ask(a.id, "one").answer
    ear.grown(a.id)
    ear.ended(b.id, overseer.ask(b.id, "two").answer)
    assert names(overseer) == ["b", "a"]
    reply.say(end())
    ear.ended(a.id, slow)
    assert names(overseer) == ["a", "b"]


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("", ["100% Ümläut", "straße", "Kitchen SINK", "kitchen"]),
        ("kitchen", ["Kitchen SINK", "kitchen"]),
        ("  KITCHEN ", ["Kitchen SINK", "kitchen"]),
        ("sink", ["Kitchen SINK"]),
        ("n s", ["Kitchen SINK"]),
        ("ÜML", ["100% Ümläut"]),
        ("STRASSE", ["straße"]),
        ("Straße", ["straße"]),
        ("%", ["100% Ümläut"]),
        ("_", []),
        ("' OR 1 --", []),
        ("cellar", []),
    ],
)
def test_the_list_is_filtered_by_a_part_of_the_name_in_any_case(overseer: Overseer, q: str, found: list[str]) -> None:
    """In any script, and without signs of special meaning."""
    for name in ("kitchen", "Kitchen SINK", "straße", "100% Ümläut"):
        overseer.create(name)
    assert names(overseer, q) == found


def test_the_list_comes_in_pages_without_gap_or_overlap(overseer: Overseer) -> None:
    """`after` continues it, also a filtered one, also when a room of an earlier page has moved meanwhile."""
    count = 2 * PAGE + 5
    rooms = [overseer.create(f"room {n}") for n in range(count)]
    first = overseer.rooms()
    assert len(first.rooms) == PAGE and first.after is not None
    second = overseer.rooms(after=first.after)
    assert len(second.rooms) == PAGE and second.after is not None
    overseer.sync_state(rooms[-1].id, active=True)
    overseer.delete(second.rooms[-1].id)
    third = overseer.rooms(after=second.after)
    assert len(third.rooms) == 5 and third.after is None
    assert [room.name for page in (first, second, third) for room in page.rooms] == [
        f"room {n}" for n in reversed(range(count))
    ]
    assert overseer.rooms(after=third.rooms[-1].rank).rooms == ()
    filtered = overseer.rooms(q="ROOM 1")
    assert all(room.name.startswith("room 1") for room in filtered.rooms)
    assert len(filtered.rooms) == 16 and filtered.after is None


def test_the_summaries_follow_the_rooms(overseer: Overseer, ear: Ear, model_server: ModelServer) -> None:
    """Count, newest words and state; each change is told after it can be read."""
    seen: list[tuple[int, str, bool]] = []
    room = overseer.create("Kitchen")

    def look(event: RoomEvent) -> None:
        if isinstance(event, RoomSynced):
            found = overseer.room(room.id)
            seen.append((found.messages, found.preview, found.answering))

    ear.listeners.append(look)
    reply = model_server.will(held(text("- Half an")))
    number = overseer.ask(room.id, "## One?").answer
    ear.grown(room.id)
    assert seen[-1] == (2, "One?", True)
    reply.say(text(" **answer**"), end())
    ear.ended(room.id, number)
    assert seen[-1] == (2, "Half an answer", False)
    overseer.clear(room.id)
    assert seen[-1] == (0, "", False)
    ear.events.clear()
    ear.ended(room.id, overseer.ask(room.id, "two").answer)
    synced = [event.raised for event in ear.events if isinstance(event, RoomSynced)]
    assert synced == [False, False]
    overseer.create("Cellar")
    ear.events.clear()
    ear.ended(room.id, overseer.ask(room.id, "three").answer)
    synced = [event.raised for event in ear.events if isinstance(event, RoomSynced) and event.room_id == room.id]
    assert synced == [True, False], "only a room that is not on top can rise"


def test_what_is_told_of_a_room_is_committed_in_the_list(overseer: Overseer, ear: Ear, instance: Path) -> None:
    """Whoever hears of it finds it in the registry's file, by a connection of their own."""
    seen: list[tuple[str, list[tuple[object, ...]], bool]] = []

    def look(event: RoomEvent) -> None:
        if isinstance(event, RoomCreated | RoomRenamed | MessageAdded | RoomDeleted):
            rows = ask_file(instance / "overseer.sqlite", "SELECT name, messages, answering FROM rooms")
            seen.append((type(event).__name__, rows, room_file(instance, event.room_id).exists()))

    ear.listeners.append(look)
    room = overseer.create("Kitchen")
    overseer.rename(room.id, "Cellar")
    ear.ended(room.id, overseer.ask(room.id, "one").answer)
    overseer.delete(room.id)
    assert seen == [
        ("RoomCreated", [("Kitchen", 0, 0)], True),
        ("RoomRenamed", [("Cellar", 0, 0)], True),
        ("MessageAdded", [("Cellar", 2, 1)], True),
        ("RoomDeleted", [], False),
    ]


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="there is no /proc here")
def test_the_list_is_read_without_opening_a_room(
    overseer: Overseer, ear: Ear, instance: Path, opened: Open, answered: Ask
) -> None:
    """After a restart in order, only a room that is used is opened."""
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    answered(kitchen.id, "one")
    overseer.close()
    again = opened(instance)
    assert [(room.name, room.messages, room.preview) for room in again.rooms().rooms] == [
        ("Kitchen", 2, "All right."),
        ("Cellar", 0, ""),
    ]
    assert again.room(cellar.id).name == "Cellar"
    assert open_rooms(instance) == set()
    again.messages(kitchen.id)
    assert open_rooms(instance) == {f"room-{kitchen.id}.sqlite{suffix}" for suffix in SUFFIXES}


def test_sync_state_reads_a_rooms_summary_anew(overseer: Overseer, ear: Ear, instance: Path, opened: Open) -> None:
    """What was changed in the file by other means appears, and an active room moves to the top."""
    kitchen, _ = overseer.create("Kitchen"), overseer.create("Cellar")
    overseer.close()
    tell_file(room_file(instance, kitchen.id), "UPDATE room SET name = 'Bath'")
    again = opened(instance)
    other_ear = Ear(again)
    again.sync_state(kitchen.id)
    assert names(again) == ["Cellar", "Bath"]
    again.sync_state(kitchen.id, active=True)
    assert names(again) == ["Bath", "Cellar"]
    # The first one when the file was opened, and found to be another than was closed.
    as_it_is = RoomSynced(kitchen.id, raised=False)
    assert other_ear.events == [as_it_is, as_it_is, RoomSynced(kitchen.id, raised=True)]


def test_many_rooms_are_used_with_few_open(instance: Path, opened: Open) -> None:
    """Each has its own conversation, however often it was dropped from memory."""
    overseer = opened(instance, open_facets=2)
    ear = Ear(overseer)
    rooms = [overseer.create(f"room {n}") for n in range(6)]
    for turn in range(2):
        for n, room in enumerate(rooms):
            ear.ended(room.id, overseer.ask(room.id, f"question {n}.{turn}").answer)
    no_turns()
    for n, room in enumerate(rooms):
        assert texts(overseer, room.id)[::2] == [f"question {n}.0", f"question {n}.1"]
        assert {message.state for message in overseer.messages(room.id).messages} == {"complete"}
    assert len(open_rooms(instance)) <= 2 * 3


def test_who_has_unsubscribed_hears_no_more(overseer: Overseer, ear: Ear) -> None:
    """And the others still do."""
    other = Ear(overseer)
    overseer.create("Kitchen")
    ear.stop()
    ear.stop()
    overseer.create("Cellar")
    assert (len(ear.events), len(other.events)) == (1, 2)


def test_listener_that_raises_affects_neither_the_room_nor_other_listeners(
    overseer: Overseer, answered: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """The question is acknowledged, its answer ends, and whoever subscribed later hears everything; the log tells."""

    def fail(event: RoomEvent) -> None:
        raise RuntimeError("a listener that is broken")

    overseer.subscribe(fail)
    room = overseer.create("Kitchen")
    overseer.subscribe(fail, room.id)
    later = Ear(overseer)
    number = overseer.ask(room.id, "Do you hear me?").answer
    assert later.ended(room.id, number) == "complete"
    overseer.rename(room.id, "Cellar")
    later.wait_for(lambda event: isinstance(event, RoomRenamed))
    assert texts(overseer, room.id) == ["Do you hear me?", "All right."]
    assert (overseer.room(room.id).name, overseer.room(room.id).messages) == ("Cellar", 2)
    assert "a listener failed on TurnEnded" in caplog.text and "a listener that is broken" in caplog.text


def test_listener_is_called_without_the_lock_of_the_room(overseer: Overseer, model_server: ModelServer) -> None:
    """Another thread can use the room while a listener runs, whatever happened, and finds it committed."""
    room, kinds = overseer.create("Kitchen"), set[type[RoomEvent]]()

    def read(event: RoomEvent) -> None:
        if not isinstance(event, RoomDeleted):
            pool.submit(overseer.settings, room.id).result(DEADLINE)
        kinds.add(type(event))

    with ThreadPoolExecutor(1) as pool:
        overseer.subscribe(read)
        ear = Ear(overseer)
        model_server.will(Reply(tool_call("roll_dice", '{"sides": 6}'), end("tool_calls")), answer("A ", "die."))
        ear.ended(room.id, overseer.ask(room.id, "Roll").answer)
        overseer.edit(room.id, 1, "Roll again")
        ear.ended(room.id, 2, times=2)
        ear.ended(room.id, overseer.retry(room.id), times=3)
        overseer.configure(room.id, {"temperature": 0.5})
        overseer.rename(room.id, "Cellar")
        overseer.clear(room.id)
        model_server.will(held(text("Half")))
        number = overseer.ask(room.id, "And now?").answer
        ear.wait_for(lambda event: isinstance(event, PartAdded) and event.number == number)
        overseer.stop(room.id)
        overseer.delete(room.id)
    assert kinds >= {MessageAdded, MessageChanged, MessagesDropped, MessagesCleared, PartAdded, PartGrew, PartChanged}
    assert kinds >= {TurnEnded, RoomConfigured, RoomRenamed, RoomSynced, RoomDeleted}


def test_events_of_a_room_come_in_the_order_of_its_commits(overseer: Overseer, ear: Ear) -> None:
    """However many threads ask at once; and the list has the room's last state when the last one has returned."""
    room = overseer.create("Kitchen")
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda n: overseer.ask(room.id, f"Question {n}"), range(24)))
        heard = [event.question for event in ear.events if isinstance(event, MessageAdded)]
        assert heard == sorted(one.question for one in asked)
        assert overseer.room(room.id).messages == 48
    for one in asked:
        ear.ended(room.id, one.answer)
    ended = [event.number for event in ear.events if isinstance(event, TurnEnded)]
    assert ended == sorted(ended) and not overseer.room(room.id).answering


def test_summary_that_was_not_delivered_before_a_crash_is_taken_by_the_next_start(
    overseer: Overseer, instance: Path, opened: Open, answered: Ask
) -> None:
    """The list's row is as old as the summary in it, and not as the moment at which it was written."""
    room = overseer.create("Kitchen")
    answered(room.id, "Do you hear me?")
    stuck, go_on = threading.Event(), threading.Event()

    def wait(event: RoomEvent) -> None:
        if isinstance(event, RoomRenamed):
            stuck.set()
            assert go_on.wait(DEADLINE)

    overseer.subscribe(wait)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(overseer.rename, room.id, "First")
        assert stuck.wait(DEADLINE)
        second = pool.submit(overseer.rename, room.id, "Second")
        until(lambda: ask_file(room_file(instance, room.id), "SELECT name FROM room") == [("Second",)])
        copy = instance.with_name("crashed")
        shutil.copytree(instance, copy)
        go_on.set()
        first.result(DEADLINE)
        second.result(DEADLINE)
    assert opened(copy).room(room.id).name == "Second"


# What is said


def test_a_rooms_file_holds_its_conversation_and_no_others(
    overseer: Overseer, instance: Path, answered: Ask, model_server: ModelServer
) -> None:
    """A plain SQLite file that any program can read; not a byte of another room is in it."""
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    answered(kitchen.id, "secret of the kitchen", Reply(tool_call("roll_dice", '{"sides": 2}'), end()), answer("soup"))
    answered(cellar.id, "secret of the cellar", answer("wine"))
    answered(kitchen.id, "more of the kitchen", answer("salt"))
    sql = (
        "SELECT number, role, state, kind, text FROM messages JOIN parts ON message = number ORDER BY number, position"
    )
    rows = ask_file(room_file(instance, kitchen.id), sql)
    die = rows[1][4]
    assert die in ("1", "2")
    assert rows == [
        (1, "user", "complete", "text", "secret of the kitchen"),
        (2, "assistant", "complete", "tool_call", die),
        (2, "assistant", "complete", "text", "soup"),
        (3, "user", "complete", "text", "more of the kitchen"),
        (4, "assistant", "complete", "text", "salt"),
    ]
    assert ask_file(room_file(instance, cellar.id), sql) == [
        (1, "user", "complete", "text", "secret of the cellar"),
        (2, "assistant", "complete", "text", "wine"),
    ]
    for room, others in ((kitchen, (b"cellar", b"wine")), (cellar, (b"kitchen", b"soup", b"salt"))):
        path = room_file(instance, room.id)
        held_bytes = b"".join(path.with_name(path.name + suffix).read_bytes() for suffix in SUFFIXES)
        assert not [words for words in others if words in held_bytes]
    assert [[m["content"] for m in request["messages"]] for request in model_server.requests][2] == [
        "secret of the cellar"
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("one\r\ntwo\rthree\nfour", "one\ntwo\nthree\nfour"),
        ("  indented\n\ttoo  ", "  indented\n\ttoo  "),
        ("nul\0 bell\a half\ud83d", "nul\ufffd bell\ufffd half\ufffd"),
        ("\N{GRINNING FACE} <script>", "\N{GRINNING FACE} <script>"),
        ("x" * MAX_TEXT_CHARS, "x" * MAX_TEXT_CHARS),
        ("x\r\n" * (MAX_TEXT_CHARS // 2), "x\n" * (MAX_TEXT_CHARS // 2)),
    ],
    ids=["line ends", "spaces", "controls", "markup", "longest", "longest with line ends"],
)
def test_a_text_is_stored_as_it_was_typed(overseer: Overseer, ear: Ear, given: str, kept: str) -> None:
    """Up to 200,000 characters, with plain line ends and without what no page can hold; an edit likewise."""
    room = overseer.create("Kitchen")
    ear.ended(room.id, overseer.ask(room.id, given).answer)
    assert texts(overseer, room.id) == [kept, "All right."]
    ear.ended(room.id, overseer.ask(room.id, "otherwise").answer)
    overseer.edit(room.id, 3, given)
    ear.ended(room.id, 4, times=2)
    assert texts(overseer, room.id)[2] == kept


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("", Invalid),
        (" \n\t\r\n ", Invalid),
        ("x" * 200_001, TooLarge),
        ("\N{GRINNING FACE}" * 200_001, TooLarge),
        (" " * 5_000_000, Invalid),
    ],
    ids=["nothing", "blank", "one too many", "emoji", "much of nothing"],
)
def test_a_text_that_is_none_or_too_large_is_refused(
    overseer: Overseer, ear: Ear, answered: Ask, words: str, error: type[Exception]
) -> None:
    """With a sentence; no row, no event, no change of what it would have replaced."""
    room = overseer.create("Kitchen")
    answered(room.id, "one")
    before, told = overseer.messages(room.id), list(ear.events)
    sentence = "nothing to send" if error is Invalid else "at most 200,000 characters; this one has 200,001"
    with pytest.raises(error, match=sentence):
        overseer.ask(room.id, words)
    with pytest.raises(error, match=sentence):
        overseer.edit(room.id, 1, words)
    assert overseer.messages(room.id) == before
    assert ear.events == told


def test_what_a_room_refuses_reaches_whoever_asked(
    overseer: Overseer, ear: Ear, model_server: ModelServer, answered: Ask
) -> None:
    """As what it is, and no room is called broken for it."""
    room = overseer.create("Kitchen")
    with pytest.raises(NoSuchMessage):
        overseer.retry(room.id)
    answered(room.id, "one")
    with pytest.raises(NoSuchMessage):
        overseer.edit(room.id, 2, "otherwise")
    with pytest.raises(NoSuchMessage):
        overseer.message(room.id, 3)
    reply = model_server.will(held(text("Half")))
    asked = overseer.ask(room.id, "two", key="k1")
    with pytest.raises(AnswerInProgress):
        overseer.retry(room.id)
    with pytest.raises(KeyReused):
        overseer.ask(room.id, "three", key="k1")
    assert overseer.ask(room.id, "two", key="k1").repeated
    reply.say(end())
    ear.ended(room.id, asked.answer)
    assert overseer.room(room.id).problem == ""


def test_an_empty_key_is_no_key(overseer: Overseer, ear: Ear) -> None:
    """A form without one sends it empty."""
    room = overseer.create("Kitchen")
    for n in (2, 4):
        assert overseer.ask(room.id, "one", key="").answer == n
        ear.ended(room.id, n)


def test_stop_retry_and_edit_reach_the_room(overseer: Overseer, ear: Ear, model_server: ModelServer) -> None:
    """Each with its state in room and list."""
    room = overseer.create("Kitchen")
    reply = model_server.will(held(text("Half")))
    number = overseer.ask(room.id, "one").answer
    ear.grown(room.id)
    overseer.stop(room.id)
    assert reply.closed.wait(DEADLINE)
    assert ear.ended(room.id, number) == "stopped"
    assert (overseer.message(room.id, number).state, overseer.message(room.id, number).text) == ("stopped", "Half")
    assert not overseer.room(room.id).answering
    model_server.will(answer("Whole"))
    assert overseer.retry(room.id) == number
    ear.ended(room.id, number, times=2)
    assert texts(overseer, room.id) == ["one", "Whole"]
    overseer.edit(room.id, 1, "two")
    ear.ended(room.id, number, times=3)
    question, found = overseer.exchange(room.id, 1)
    assert (question.text, found.text) == ("two", "All right.")


USES: list[Callable[[Overseer, str], object]] = [
    lambda overseer, room_id: overseer.room(room_id),
    lambda overseer, room_id: overseer.messages(room_id),
    lambda overseer, room_id: overseer.message(room_id, 1),
    lambda overseer, room_id: overseer.exchange(room_id, 1),
    lambda overseer, room_id: overseer.ask(room_id, "one"),
    lambda overseer, room_id: overseer.edit(room_id, 1, "one"),
    lambda overseer, room_id: overseer.stop(room_id),
    lambda overseer, room_id: overseer.retry(room_id),
    lambda overseer, room_id: overseer.clear(room_id),
    lambda overseer, room_id: overseer.rename(room_id, "Kitchen"),
    lambda overseer, room_id: overseer.delete(room_id),
    lambda overseer, room_id: overseer.sync_state(room_id),
]


@pytest.mark.parametrize(
    "room_id",
    [
        "0123456789ab",
        "",
        "0123456789AB",
        "0123456789abc",
        "0123456789a",
        "0123456789ab\n",
        "../overseer",
        "..",
        "room-0123456789ab",
        "x" * 10_000,
        "٠١٢٣٤٥٦٧٨٩٠١",
        "0123456789a\0",
        "' OR 1 --",
    ],
    ids=lambda room_id: ascii(room_id[:20]),
)
def test_a_room_that_does_not_exist_is_not_made_by_asking_for_it(
    overseer: Overseer, ear: Ear, instance: Path, room_id: str
) -> None:
    """Made-up and malformed ids are no such room, whatever is wanted of it; nothing touches the disk."""
    overseer.create("Kitchen")
    ear.events.clear()
    before = files(instance)
    for use in USES:
        with pytest.raises(NoSuchRoom, match="no such room"):
            use(overseer, room_id)
    assert files(instance) == before
    assert names(overseer) == ["Kitchen"]
    assert ear.events == []


# After a crash


def test_after_a_crash_what_was_acknowledged_is_there_and_nothing_waits_for_ever(
    overseer: Overseer,
    ear: Ear,
    instance: Path,
    tmp_path: Path,
    opened: Open,
    answered: Ask,
    model_server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The files as they are in mid-answer are what a kill leaves: answers become interrupted, the list agrees."""
    monkeypatch.setattr("overseer.rooms.chat_room.SAVE_INTERVAL_SECONDS", 0)
    done, busy = overseer.create("Done"), overseer.create("Busy")
    answered(done.id, "zero")
    reply = model_server.will(held(text("Half"), text(" an"), text(" answer"), text(" …")))
    overseer.ask(busy.id, "one")
    overseer.ask(busy.id, "two", key="k2")
    # What came before a word is saved when that is told; the word itself is about to be.
    ear.wait_for(lambda event: isinstance(event, PartGrew) and event.text == " …")
    shutil.copytree(instance, tmp_path / "crashed")
    crashed = opened(tmp_path / "crashed")
    found = crashed.messages(busy.id).messages
    assert [(message.text.removesuffix(" …"), message.state) for message in found] == [
        ("one", "complete"),
        ("Half an answer", "interrupted"),
        ("two", "complete"),
        ("", "interrupted"),
    ]
    assert [message.reason for message in found[1::2]] == [INTERRUPTED] * 2
    assert [(room.name, room.messages, room.answering) for room in crashed.rooms().rooms] == [
        ("Busy", 4, False),
        ("Done", 2, False),
    ]
    assert texts(crashed, done.id) == ["zero", "All right."]
    assert crashed.ask(busy.id, "two", key="k2").repeated
    crashed_ear = Ear(crashed)
    assert crashed.retry(busy.id) == 4
    assert crashed_ear.ended(busy.id, 4) == "complete"
    reply.say(end())
    ear.ended(busy.id, 4)


CRASHES = """
import os, signal, sys
from pathlib import Path
from overseer.rooms import chat_room
from overseer.domain.events import PartGrew
from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.overseer import Overseer

grown = []

def die(event):
    if isinstance(event, PartGrew):
        grown.append(event)
        if len(grown) > 2:  # what came before is saved: a token is told first, and then saved
            os.kill(os.getpid(), signal.SIGKILL)

chat_room.SAVE_INTERVAL_SECONDS = 0
overseer = Overseer(Path(sys.argv[1]), models=Models(ModelSettings(ollama_url="http://127.0.0.1:9/v1", offline_pace=0)))
overseer.open()
overseer.subscribe(die)
overseer.ask(overseer.create("Kitchen").id, "Do you hear me?")
signal.pause()
"""


def test_a_killed_process_leaves_no_lock_and_no_answer_that_waits(instance: Path, opened: Open) -> None:
    """kill -9 in the middle of an answer, for real; the next one opens the directory and finds what was said."""
    killed = subprocess.run([sys.executable, "-c", CRASHES, instance], cwd=ROOT, timeout=DEADLINE)
    assert killed.returncode == -signal.SIGKILL
    overseer = opened(instance)
    (room,) = overseer.rooms().rooms
    assert (room.name, room.messages, room.answering) == ("Kitchen", 2, False)
    question, found = overseer.messages(room.id).messages
    assert (question.text, found.state) == ("Do you hear me?", "interrupted")
    assert found.text.startswith("This is") and room.preview.startswith("This is")


@pytest.mark.parametrize("state", ["waiting", "streaming"])
def test_rows_that_say_they_are_unfinished_are_put_right_before_anybody_looks(
    overseer: Overseer, instance: Path, opened: Open, answered: Ask, state: State
) -> None:
    """The list does not say answering for ever, also for a room that nobody opens."""
    room = overseer.create("Kitchen")
    answered(room.id, "one")
    overseer.close()
    tell_file(room_file(instance, room.id), f"UPDATE messages SET state = '{state}' WHERE number = 2")
    tell_file(instance / "overseer.sqlite", "UPDATE rooms SET answering = 1", "UPDATE runs SET in_order = 0")
    again = opened(instance)
    assert not again.room(room.id).answering
    assert ask_file(room_file(instance, room.id), "SELECT state, reason FROM messages WHERE number = 2") == [
        ("interrupted", INTERRUPTED)
    ]


def test_after_a_crash_summaries_older_than_their_rooms_are_taken_again(
    overseer: Overseer, instance: Path, opened: Open, answered: Ask
) -> None:
    """A room is the truth, the list follows; its order is not disturbed."""
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    answered(kitchen.id, "one")
    answered(cellar.id, "two")
    overseer.close()
    tell_file(
        instance / "overseer.sqlite",
        f"UPDATE rooms SET name = 'old', messages = 0, preview = '', synced_at = 1 WHERE id = '{kitchen.id}'",
        "UPDATE runs SET in_order = 0",
    )
    again = opened(instance)
    assert [(room.name, room.messages, room.preview) for room in again.rooms().rooms] == [
        ("Cellar", 2, "All right."),
        ("Kitchen", 2, "All right."),
    ]


def test_a_summary_is_taken_again_though_the_kernel_notes_the_time_of_a_file_late(
    overseer: Overseer, instance: Path, opened: Open
) -> None:
    """It does so by its tick: a room renamed twice within one may be newer than the list, and its file look older."""
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    overseer.close()
    tell_file(room_file(instance, kitchen.id), "UPDATE room SET name = 'Bath'")
    tell_file(room_file(instance, cellar.id), "UPDATE room SET name = 'Attic'")
    tell_file(instance / "overseer.sqlite", "UPDATE runs SET in_order = 0")
    for room, late in ((kitchen, 10), (cellar, 1000)):
        [(synced_at,)] = ask_file(instance / "overseer.sqlite", f"SELECT synced_at FROM rooms WHERE id = '{room.id}'")
        os.utime(room_file(instance, room.id), ns=((synced_at - late) * 1_000_000,) * 2)
    again = opened(instance)
    assert names(again) == ["Cellar", "Bath"]


def test_a_rooms_file_that_is_not_in_the_list_is_taken_in(
    overseer: Overseer, instance: Path, tmp_path: Path, opened: Open, answered: Ask
) -> None:
    """From a crash while it was made, or put there by hand: it is on top, with all that was said in it."""
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    for room in (kitchen, cellar):
        answered(room.id, "one")
    overseer.close()
    tell_file(room_file(instance, kitchen.id), "UPDATE messages SET state = 'streaming' WHERE number = 2")
    other = tmp_path / "other"
    opened(other).create("Here before")
    opened_before = opened(tmp_path / "unused")  # nothing of one Overseer reaches another
    assert names(opened_before) == []
    other_overseer = tmp_path / "third"
    (other_overseer / "facets").mkdir(parents=True)
    shutil.copy(room_file(instance, kitchen.id), other_overseer / "facets")
    found = opened(other_overseer)
    assert [(room.id, room.name, room.messages) for room in found.rooms().rooms] == [(kitchen.id, "Kitchen", 2)]
    assert texts(found, kitchen.id) == ["one", "All right."]
    assert found.message(kitchen.id, 2).state == "interrupted"
    assert not found.room(kitchen.id).answering


def test_a_room_that_was_not_made_to_its_end_is_cleared_away(instance: Path, opened: Open) -> None:
    """A crash in the middle of making it leaves a file without a name, and nobody was told of it."""
    path = room_file(instance, "0123456789ab")
    path.parent.mkdir(parents=True)
    storage = Storage(path)
    RoomStore(storage, create=True)
    storage.close()
    assert opened(instance).rooms().rooms == ()
    assert list(path.parent.iterdir()) == []


def test_files_that_are_no_rooms_are_left_alone(instance: Path, opened: Open) -> None:
    """Notes, databases of others, and what is broken and unknown: not listed, not changed, not removed."""
    facets = instance / "facets"
    facets.mkdir(parents=True)
    contents = {
        "notes.txt": b"hello",
        "room-0123456789ab.sqlite": b"no database " * 100,
        "room-NOTHEXNOTHEX.sqlite": b"",
        "room-0123456789ab-copy.sqlite": b"",
        "0123456789ab.sqlite": b"",
    }
    for name, content in contents.items():
        (facets / name).write_bytes(content)
    tell_file(facets / "room-ba9876543210.sqlite", "CREATE TABLE bookmarks (url)")
    others = (facets / "room-ba9876543210.sqlite").read_bytes()
    overseer = opened(instance)
    assert overseer.rooms().rooms == ()
    assert {path.name: path.read_bytes() for path in facets.iterdir()} == {
        **contents,
        "room-ba9876543210.sqlite": others,
    }
    overseer.create("Kitchen")
    assert names(overseer) == ["Kitchen"]


@pytest.mark.parametrize("left", [SUFFIXES, SUFFIXES[1:], ()], ids=["all files", "some files", "no file"])
def test_a_delete_that_a_crash_cut_short_is_brought_to_its_end(
    overseer: Overseer, instance: Path, opened: Open, answered: Ask, left: tuple[str, ...]
) -> None:
    """The person was told or will see: the room does not come back."""
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    answered(kitchen.id, "one")
    overseer.close()
    tell_file(instance / "overseer.sqlite", f"UPDATE rooms SET deleting = 1 WHERE id = '{kitchen.id}'")
    path = room_file(instance, kitchen.id)
    for suffix in SUFFIXES:
        companion = path.with_name(path.name + suffix)
        if suffix in left:
            companion.touch()
        else:
            companion.unlink(missing_ok=True)
    again = opened(instance)
    assert names(again) == ["Cellar"]
    with pytest.raises(NoSuchRoom):
        again.messages(kitchen.id)
    assert {path.name for path in (instance / "facets").iterdir()} == {f"room-{cellar.id}.sqlite"}
    assert ask_file(instance / "overseer.sqlite", "SELECT name FROM rooms") == [("Cellar",)]


def test_a_delete_that_the_system_refuses_is_brought_to_its_end_by_the_next_start(
    overseer: Overseer, instance: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room is off the list at once all the same, and nothing can be done with it any more."""
    kitchen, _ = overseer.create("Kitchen"), overseer.create("Cellar")

    def refuse(path: Path) -> None:
        raise PermissionError(path)

    with monkeypatch.context() as patched:
        patched.setattr("overseer.storage.facets.remove", refuse)
        with pytest.raises(StorageError, match="the next start tries again"):
            overseer.delete(kitchen.id)
    assert names(overseer) == ["Cellar"]
    for use in USES:
        with pytest.raises(NoSuchRoom):
            use(overseer, kitchen.id)
    overseer.close()
    assert room_file(instance, kitchen.id).exists()
    assert names(opened(instance)) == ["Cellar"]
    assert not room_file(instance, kitchen.id).exists()


# One broken file


def scribble(path: Path) -> None:
    path.write_bytes(b"This is no database. " * 100)


def from_the_future(path: Path) -> None:
    tell_file(path, "PRAGMA user_version = 99")


def of_another(path: Path) -> None:
    path.unlink()
    tell_file(path, "CREATE TABLE bookmarks (url)")


def missing(path: Path) -> None:
    path.unlink()


BROKEN = [
    pytest.param(scribble, "damaged or not a SQLite file.*backup", id="no database"),
    pytest.param(from_the_future, "newer version of Overseer. Update", id="newer"),
    pytest.param(of_another, "database of another program. Move it", id="another program's"),
    pytest.param(missing, "is missing. Put back", id="missing"),
]


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN)
def test_one_broken_file_breaks_one_room(
    overseer: Overseer, instance: Path, opened: Open, answered: Ask, spoil: Callable[[Path], None], sentence: str
) -> None:
    """It says what is wrong and what to do, so does its row, the file stays as it is, and the others work."""
    broken, other = overseer.create("Broken"), overseer.create("Other")
    for room in (broken, other):
        answered(room.id, "one")
    overseer.close()
    path = room_file(instance, broken.id)
    spoil(path)
    before = path.read_bytes() if path.exists() else None
    again = opened(instance)
    ear = Ear(again)
    for use in USES[1:]:
        if use is not USES[10]:  # deleting it is the one thing that works
            with pytest.raises(StorageError, match=rf"^room-{broken.id}\.sqlite .*{sentence}"):
                use(again, broken.id)
    row = again.room(broken.id)
    assert re.search(sentence, row.problem)
    assert (row.name, row.messages, row.answering) == ("Broken", 2, False)
    assert ear.events == [RoomSynced(broken.id, raised=False)]
    assert (path.read_bytes() if path.exists() else None) == before
    assert names(again) == ["Other", "Broken"]
    assert again.room(other.id).problem == ""
    ear.ended(other.id, again.ask(other.id, "two").answer)
    assert texts(again, other.id) == ["one", "All right.", "two", "All right."]
    again.delete(broken.id)
    assert names(again) == ["Other"]
    assert not path.exists()


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN)
def test_a_room_that_broke_in_a_crash_does_not_keep_the_others_from_opening(
    overseer: Overseer, instance: Path, opened: Open, spoil: Callable[[Path], None], sentence: str
) -> None:
    """Its row says at once what is wrong, and that it is not answering."""
    broken, _ = overseer.create("Broken"), overseer.create("Other")
    overseer.close()
    spoil(room_file(instance, broken.id))
    tell_file(
        instance / "overseer.sqlite", "UPDATE rooms SET answering = name = 'Broken'", "UPDATE runs SET in_order = 0"
    )
    again = opened(instance)
    row = again.room(broken.id)
    assert re.search(sentence, row.problem)
    assert not row.answering
    assert names(again) == ["Other", "Broken"]


@pytest.mark.parametrize("restart", [False, True], ids=["at once", "after a restart"])
def test_a_room_whose_file_was_put_back_is_well_again(
    overseer: Overseer, instance: Path, tmp_path: Path, opened: Open, answered: Ask, restart: bool
) -> None:
    """Its conversation is there, and its row has no problem any more."""
    room = overseer.create("Kitchen")
    answered(room.id, "one")
    overseer.close()
    path = room_file(instance, room.id)
    path.rename(tmp_path / "backup")
    again = opened(instance)
    with pytest.raises(StorageError, match="missing"):
        again.messages(room.id)
    assert again.room(room.id).problem
    (tmp_path / "backup").rename(path)
    if restart:
        again.close()
        again = opened(instance)
    assert texts(again, room.id) == ["one", "All right."]
    assert again.room(room.id).problem == ""


def test_a_room_of_which_only_an_empty_file_is_left_is_not_silently_an_empty_room(
    overseer: Overseer, instance: Path, opened: Open, answered: Ask
) -> None:
    """A copy that failed leaves such files; the person is told to put back a better one."""
    room = overseer.create("Kitchen")
    answered(room.id, "one")
    overseer.close()
    room_file(instance, room.id).write_bytes(b"")
    again = opened(instance)
    with pytest.raises(StorageError):
        again.messages(room.id)
    assert again.room(room.id).problem


def test_a_full_disk_is_not_a_broken_room(overseer: Overseer, ear: Ear, instance: Path, answered: Ask) -> None:
    """It passes: the sender is told, the row has no problem, and afterwards the room goes on."""
    room = overseer.create("Kitchen")
    answered(room.id, "one")
    with overseer._facets.get(f"room-{room.id}", lambda storage: pytest.fail("it runs"))._storage.read() as db:
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        before, told = overseer.messages(room.id), list(ear.events)
        with pytest.raises(StorageFull, match="disk is full"):
            overseer.ask(room.id, "x" * 100_000)
        db.execute("PRAGMA max_page_count = 1000000")
    assert overseer.messages(room.id) == before
    assert ear.events == told
    assert overseer.room(room.id).problem == ""
    answered(room.id, "two")
    assert texts(overseer, room.id) == ["one", "All right.", "two", "All right."]


# The directory


def test_a_second_overseer_is_kept_out_and_told_by_whom(overseer: Overseer, instance: Path, opened: Open) -> None:
    """Two would write into the same files; the sentence names the process and what to do."""
    owner = re.escape(f"{os.getpid()} on {socket.gethostname()}")
    with pytest.raises(InstanceError, match=rf"is in use by process {owner}\. Stop that one, or"):
        opened(instance)
    code = "import sys; from pathlib import Path; from overseer.rooms.overseer import Overseer\n"
    code += "from overseer.storage.instance_lock import InstanceError\n"
    code += "try: Overseer(Path(sys.argv[1]), models=None).open()\n"
    code += "except InstanceError as error: print(error)"
    ran = subprocess.run([sys.executable, "-c", code, instance], cwd=ROOT, timeout=DEADLINE, stdout=subprocess.PIPE)
    assert re.search(owner, ran.stdout.decode())
    room = overseer.create("Kitchen")
    overseer.close()
    assert names(opened(instance)) == [room.name]


def test_who_removes_the_lock_file_lets_nobody_else_in(overseer: Overseer, instance: Path, opened: Open) -> None:
    """It may look like one that was left behind."""
    (instance / "overseer.lock").unlink()
    for _ in range(2):
        with pytest.raises(InstanceError, match=r"is in use by process another one\. Stop that one, or"):
            opened(instance)
        assert owner(instance) == "another one"
    overseer.close()
    assert owner(instance) is None
    assert names(opened(instance)) == []


@contextmanager
def limited(what: int, to: int) -> Iterator[None]:
    """The system gives this process no more of something than that."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (to, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def no_space() -> AbstractContextManager[None]:
    """Files can be made, and nothing written in them."""
    return limited(resource.RLIMIT_FSIZE, 0)


def no_descriptor_for_the_directory() -> AbstractContextManager[None]:
    """The lock file takes the last descriptor."""
    last = os.open(os.devnull, os.O_RDONLY)
    os.close(last)
    return limited(resource.RLIMIT_NOFILE, last + 1)


@pytest.mark.parametrize("fault", [no_space, no_descriptor_for_the_directory])
def test_open_succeeds_after_a_fault_that_came_when_the_lock_was_taken(
    overseer: Overseer, instance: Path, fault: Callable[[], AbstractContextManager[None]]
) -> None:
    """What failed holds neither the lock nor a descriptor, so neither this process nor another is kept out."""
    overseer.create("Kitchen")
    overseer.close()
    before = len(list(DESCRIPTORS.iterdir()))
    for _ in range(2):
        with fault(), pytest.raises(InstanceError, match="cannot be written"):
            overseer.open()
        assert owner(instance) is None
        assert len(list(DESCRIPTORS.iterdir())) == before
    overseer.open()
    assert names(overseer) == ["Kitchen"]


def test_a_start_that_fails_after_it_opened_rooms_closes_them(
    overseer: Overseer, instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is let go of, so another process may write in them."""
    overseer.create("Kitchen")
    overseer.close()
    (instance / "overseer.sqlite").unlink()
    before = len(list(DESCRIPTORS.iterdir()))
    with monkeypatch.context() as patched:
        patched.setattr("overseer.storage.registry.Registry.adopt", lambda *_: 1 / 0)  # the last thing a start does
        with pytest.raises(ZeroDivisionError):
            overseer.open()
    assert len(list(DESCRIPTORS.iterdir())) == before
    overseer.open()
    assert names(overseer) == ["Kitchen"]


def test_a_list_that_could_not_be_made_anew_under_the_server_is_made_by_the_next_request(
    overseer: Overseer, instance: Path
) -> None:
    """It was replaced, and then the disk was full: nobody has to start the server again for that."""
    overseer.create("Kitchen")
    (instance / "other").write_bytes(b"This is no database. " * 1000)
    os.replace(instance / "other", instance / "overseer.sqlite")
    for _ in range(2):
        with no_space(), pytest.raises((StorageError, InstanceError)):
            overseer.open()
    overseer.open()
    assert names(overseer) == ["Kitchen"]


def test_a_path_that_cannot_be_a_directory_is_refused_with_a_sentence(tmp_path: Path, opened: Open) -> None:
    """And nothing is left there."""
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InstanceError, match=f"^{re.escape(str(path))} cannot be written"):
            opened(path)
    assert files(tmp_path) == {"file"}


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN[1:3])
def test_a_list_that_cannot_be_read_is_refused_with_a_sentence(
    overseer: Overseer, instance: Path, opened: Open, spoil: Callable[[Path], None], sentence: str
) -> None:
    """The directory is not kept locked: with the file put right, it opens."""
    overseer.create("Kitchen")
    overseer.close()
    path = instance / "overseer.sqlite"
    backup = path.read_bytes()
    spoil(path)
    for _ in range(2):
        with pytest.raises(InstanceError, match=rf"^overseer\.sqlite .*{sentence}"):
            opened(instance)
    path.write_bytes(backup)
    assert names(opened(instance)) == ["Kitchen"]


def test_without_its_list_the_rooms_are_found_again(
    overseer: Overseer, instance: Path, opened: Open, answered: Ask
) -> None:
    """Everything of a room is in its own file."""
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    answered(kitchen.id, "one")
    overseer.close()
    (instance / "overseer.sqlite").unlink()
    again = opened(instance)
    assert {(room.id, room.name, room.messages) for room in again.rooms().rooms} == {
        (kitchen.id, "Kitchen", 2),
        (cellar.id, "Cellar", 0),
    }


def test_open_and_close_may_come_twice(overseer: Overseer) -> None:
    """Every request opens it, more than one thing may close it, and what was closed can be opened again."""
    room = overseer.create("Kitchen")
    overseer.open()
    assert names(overseer) == ["Kitchen"]
    overseer.close()
    overseer.close()
    overseer.open()
    assert overseer.rooms().rooms == (room,)
    assert overseer.messages(room.id).messages == ()


def test_close_ends_answers_as_interrupted_and_lets_go_of_everything(
    overseer: Overseer, ear: Ear, instance: Path, opened: Open, model_server: ModelServer
) -> None:
    """What had arrived is kept, those who wait are told, the model's connection is closed, and so are the files."""
    room = overseer.create("Kitchen")
    reply = model_server.will(held(text("Half")))
    overseer.ask(room.id, "one")
    overseer.ask(room.id, "two")
    ear.grown(room.id)
    overseer.close()
    assert reply.closed.wait(DEADLINE)
    assert [ear.ended(room.id, number) for number in (2, 4)] == ["interrupted"] * 2
    assert open_rooms(instance) == set()
    for use in USES:
        with pytest.raises(StorageFull, match="shutting down"):
            use(overseer, room.id)
    with pytest.raises(StorageFull, match="shutting down"):
        overseer.create("Cellar")
    no_turns()
    again = opened(instance)
    found = again.messages(room.id).messages
    assert [(message.text, message.state) for message in found[1::2]] == [("Half", "interrupted"), ("", "interrupted")]
    assert found[1].reason == INTERRUPTED
    assert not again.room(room.id).answering


def test_a_call_that_a_shutdown_overtakes_does_not_say_that_the_room_was_deleted(overseer: Overseer) -> None:
    """It was not: whoever comes back after the restart finds it."""
    room = overseer.create("Kitchen")

    def shut_down(event: RoomEvent) -> None:
        if isinstance(event, RoomRenamed):
            overseer.close()

    overseer.subscribe(shut_down)
    with pytest.raises(StorageFull, match="shutting down"):
        overseer.rename(room.id, "Cellar")
