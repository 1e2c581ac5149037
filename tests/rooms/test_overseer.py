"""Overseer: the list of rooms, the events of all rooms, recovery after a crash, broken files, open and close."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from overseer.domain.errors import (
    InstanceError,
    NoSuchRoom,
    StorageError,
    StorageUnavailable,
)
from overseer.domain.events import (
    MessageAdded,
    MessagesDeleted,
    PartAdded,
    PartChanged,
    PartGrew,
    PathChanged,
    RoomConfigured,
    RoomCreated,
    RoomDeleted,
    RoomEvent,
    RoomSynced,
    TurnEnded,
)
from overseer.domain.text import NEW_ROOM
from overseer.llm.event_stream import PAUSE_INTERVAL_SECONDS
from overseer.rooms.chat_room import INTERRUPTED
from overseer.rooms.overseer import Overseer
from overseer.storage.database import SUFFIXES, Storage
from overseer.storage.instance_lock import owner, room_file
from overseer.storage.room_store import RoomStore
from tests.support.answers import Open
from tests.support.event_log import EventLog
from tests.support.files import DESCRIPTORS, execute, open_files, query, replace_by_junk, write_junk
from tests.support.model_server import ModelServer, Reply, answer, end, held, text, tool_call
from tests.support.server import ROOT
from tests.support.waiting import DEADLINE, join_turn_threads, until


@pytest.fixture
def log(overseer: Overseer) -> EventLog:
    return subscribed(overseer)


def subscribed(overseer: Overseer) -> EventLog:
    log = EventLog()
    overseer.subscribe(log.record)
    return log


def ask(overseer: Overseer, room_id: str, question: str) -> int:
    """Ask, and wait until every turn has ended. Return the number of the answer."""
    number = overseer.room(room_id).ask(question).answer
    join_turn_threads()
    return number


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def names(overseer: Overseer, q: str = "") -> list[str]:
    """Return the names of the rooms in the order of the list."""
    return [room.name for room in overseer.rooms(q=q).rooms]


def texts(overseer: Overseer, room_id: str) -> list[str]:
    return [message.text for message in overseer.room(room_id).messages().messages]


# Rooms


def test_create_adds_a_room_to_the_list_and_the_disk(overseer: Overseer, log: EventLog, instance: Path) -> None:
    room = overseer.create("Kitchen")
    assert re.fullmatch("[0-9a-f]{12}", room.id)
    assert (room.name, room.messages, room.preview, room.answering, room.problem) == ("Kitchen", 0, "", False, "")
    assert overseer.record(room.id) == room
    assert overseer.rooms().rooms == (room,)
    assert overseer.room(room.id).messages().messages == ()
    assert room_file(instance, room.id).exists()
    assert log.events == [RoomCreated(room.id)]
    assert overseer.create("Kitchen").id != room.id


def test_rename_changes_the_name_in_the_list_and_the_file(overseer: Overseer, log: EventLog, instance: Path) -> None:
    room = overseer.create("Kitchen")
    overseer.create("Cellar")
    assert overseer.room(room.id).configure({}, name=" Bath\n").name == "Bath"
    assert names(overseer) == ["Cellar", "Bath"]
    assert query(room_file(instance, room.id), "SELECT name, named_by FROM room") == [("Bath", "person")]
    assert log.events[-2:] == [RoomSynced(room.id, moved_to_top=False), RoomConfigured(room.id)]


def test_configure_moves_no_room_in_the_list(overseer: Overseer, log: EventLog) -> None:
    room, _ = overseer.create("Kitchen"), overseer.create("Cellar")
    assert overseer.room(room.id).configure({"model": "large"}, name=" Bath\n").name == "Bath"
    assert names(overseer) == ["Cellar", "Bath"]
    assert RoomSynced(room.id, moved_to_top=False) in log.events and RoomConfigured(room.id) in log.events


def test_room_is_named_after_its_first_question_unless_a_person_named_it(overseer: Overseer, log: EventLog) -> None:
    unnamed, named, renamed = overseer.create(), overseer.create("Kitchen"), overseer.create()
    assert (unnamed.name, renamed.name) == (NEW_ROOM, NEW_ROOM)
    overseer.room(renamed.id).configure({}, name="Cellar")
    rooms = (unnamed, named, renamed)
    for room in rooms:
        ask(overseer, room.id, "How  do I\n**bake** a cake?")
        ask(overseer, room.id, "And then?")
    assert [overseer.record(room.id).name for room in rooms] == ["How do I bake a cake?", "Kitchen", "Cellar"]
    assert [event.room_id for event in log.events if isinstance(event, RoomConfigured)] == [renamed.id, unnamed.id]


def test_delete_removes_the_room_and_its_three_files(overseer: Overseer, log: EventLog, instance: Path) -> None:
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    for room in (kitchen, cellar):
        ask(overseer, room.id, "one")
    before = files(instance)
    deleted = {f"facets/room-{kitchen.id}.sqlite{suffix}" for suffix in SUFFIXES}
    assert deleted < before
    overseer.delete(kitchen.id)
    assert log.events[-1] == RoomDeleted(kitchen.id)
    for use in (
        overseer.room(kitchen.id).record,
        overseer.room(kitchen.id).messages,
        lambda: overseer.delete(kitchen.id),
    ):
        with pytest.raises(NoSuchRoom):
            use()
    assert files(instance) == before - deleted
    assert names(overseer) == ["Cellar"]
    assert texts(overseer, cellar.id) == ["one", "All right."]


def test_delete_during_a_turn_closes_the_connection_and_is_the_last_event(
    overseer: Overseer, log: EventLog, instance: Path, model_server: ModelServer
) -> None:
    room = overseer.create("Kitchen")
    reply = model_server.will(held(text("Half")))
    overseer.room(room.id).ask("one")
    log.wait_for(PartAdded, room_id=room.id)
    overseer.delete(room.id)
    assert reply.closed.wait(DEADLINE)
    join_turn_threads()
    assert log.events[-1] == RoomDeleted(room.id)
    assert list((instance / "facets").iterdir()) == []


def test_create_that_fails_leaves_nothing_behind(overseer: Overseer, log: EventLog, instance: Path) -> None:
    (instance / "facets").rmdir()
    with pytest.raises(StorageUnavailable, match="cannot be opened for writing"):
        overseer.create("Kitchen")
    assert (overseer.rooms().rooms, log.events) == ((), [])
    (instance / "facets").mkdir()
    overseer.create("Kitchen")
    assert names(overseer) == ["Kitchen"]


# The list


def test_list_is_ordered_by_the_last_question_or_answer(
    overseer: Overseer, log: EventLog, model_server: ModelServer
) -> None:
    """Reading, renaming, clearing and stopping move no room."""
    a, b, c = (overseer.create(name) for name in "abc")
    assert names(overseer) == ["c", "b", "a"]
    ask(overseer, a.id, "one")
    ask(overseer, b.id, "one")
    overseer.room(c.id).messages()
    overseer.room(c.id).configure({}, name="c")
    overseer.room(c.id).clear()
    overseer.room(c.id).stop()
    assert names(overseer) == ["b", "a", "c"]
    reply = model_server.will(held(text("Half")))
    slow = overseer.room(a.id).ask("two").answer
    log.wait_for(PartAdded, number=slow)
    log.wait_for_end(overseer.room(b.id).ask("two").answer, room_id=b.id)
    assert names(overseer) == ["b", "a", "c"]
    reply.say(end())
    log.wait_for_end(slow, room_id=a.id)
    assert names(overseer) == ["a", "b", "c"]


def test_list_is_filtered_by_name_without_regard_to_case(overseer: Overseer) -> None:
    for name in ("kitchen", "Kitchen SINK", "straße", "100% Ümläut"):
        overseer.create(name)
    kitchens = ["Kitchen SINK", "kitchen"]
    for q, found in {
        "": ["100% Ümläut", "straße", *kitchens],
        "  KITCHEN ": kitchens,
        "n s": ["Kitchen SINK"],
        "ÜML": ["100% Ümläut"],
        "STRASSE": ["straße"],
        "%": ["100% Ümläut"],
        "_": [],
        "' OR 1 --": [],
    }.items():
        assert names(overseer, q) == found, q


def test_list_pages_have_no_gap_or_overlap(overseer: Overseer) -> None:
    """Also when a room of an earlier page has moved or was deleted meanwhile."""
    rooms = [overseer.create(f"room {n}") for n in range(11)]
    first = overseer.rooms(limit=4)
    second = overseer.rooms(after=first.after, limit=4)
    overseer.sync_state(rooms[-1].id, active=True)
    overseer.delete(second.rooms[-1].id)
    third = overseer.rooms(after=second.after, limit=4)
    pages = [[room.name for room in page.rooms] for page in (first, second, third)]
    expected = [f"room {n}" for n in reversed(range(11))]
    assert pages == [expected[:4], expected[4:8], expected[8:]]
    assert third.after is None
    assert overseer.rooms(after=third.rooms[-1].rank).rooms == ()
    filtered = overseer.rooms(q="ROOM 1", limit=4)
    assert [room.name for room in filtered.rooms] == ["room 10", "room 1"] and filtered.after is None


def test_room_synced_event_comes_after_its_summary_is_in_the_list(
    overseer: Overseer, log: EventLog, model_server: ModelServer
) -> None:
    seen: list[tuple[int, str, bool]] = []
    moved_to_top: list[bool] = []
    room = overseer.create("Kitchen")

    def read(event: RoomEvent) -> None:
        if isinstance(event, RoomSynced):
            found = overseer.record(room.id)
            seen.append((found.messages, found.preview, found.answering))
            moved_to_top.append(event.moved_to_top)

    log.listeners.append(read)
    reply = model_server.will(held(text("- Half an")))
    overseer.room(room.id).ask("## One?")
    log.wait_for(PartAdded, room_id=room.id)
    assert seen[-1] == (2, "One?", True)
    reply.say(text(" **answer**"), end())
    log.wait_for_end(2, room_id=room.id)
    assert seen[-1] == (2, "Half an answer", False)
    overseer.room(room.id).clear()
    assert seen[-1] == (0, "", False)
    assert moved_to_top == [False, False, False], "the room is at the top already"
    overseer.create("Cellar")
    model_server.will(answer("word " * 1000))
    ask(overseer, room.id, "two")
    assert moved_to_top[3:] == [True, False]
    assert len(seen[-1][1]) <= 120


def test_events_that_arrive_at_once_are_read_without_a_pause_for_each(
    overseer: Overseer, log: EventLog, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy server, other threads run for longer than the interval of the pauses in each pause."""
    skipped, pauses = 0.0, 0
    monotonic, sleep = time.monotonic, time.sleep

    def pause(seconds: float) -> None:
        nonlocal skipped, pauses
        if not seconds and threading.current_thread().name.startswith("turn-"):
            skipped, pauses = skipped + 0.1, pauses + 1
        sleep(seconds)

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + skipped)
    monkeypatch.setattr(time, "sleep", pause)
    room = overseer.create("Kitchen")
    began = monotonic()
    model_server.will(Reply(b"".join(text(f"{n} ") for n in range(400)) + end()))
    overseer.room(room.id).ask("Count.")
    log.wait_for_end(2, room_id=room.id)
    intervals = (monotonic() - began) / PAUSE_INTERVAL_SECONDS
    assert len(log.events_of(PartGrew)) == 399
    assert pauses <= 10 + intervals


def test_events_of_the_list_come_after_the_commit(overseer: Overseer, log: EventLog, instance: Path) -> None:
    seen: list[tuple[str, list[tuple[object, ...]], bool]] = []

    def read(event: RoomEvent) -> None:
        if isinstance(event, RoomCreated | RoomConfigured | MessageAdded | RoomDeleted):
            rows = query(instance / "overseer.sqlite", "SELECT name, messages, answering FROM rooms")
            seen.append((type(event).__name__, rows, room_file(instance, event.room_id).exists()))

    log.listeners.append(read)
    room = overseer.create("Kitchen")
    overseer.room(room.id).configure({}, name="Cellar")
    ask(overseer, room.id, "one")
    overseer.delete(room.id)
    assert seen == [
        ("RoomCreated", [("Kitchen", 0, 0)], True),
        ("RoomConfigured", [("Cellar", 0, 0)], True),
        ("MessageAdded", [("Cellar", 2, 1)], True),
        ("RoomDeleted", [], False),
    ]


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="there is no /proc")
def test_list_is_read_without_opening_a_room(overseer: Overseer, instance: Path, opened: Open) -> None:
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    ask(overseer, kitchen.id, "one")
    overseer.close()
    again = opened(instance)
    listed = [(room.name, room.messages, room.preview) for room in again.rooms().rooms]
    assert listed == [("Kitchen", 2, "All right."), ("Cellar", 0, "")]
    assert again.record(cellar.id).name == "Cellar"
    assert open_files(instance / "facets") == set()
    again.room(kitchen.id).messages()
    assert open_files(instance / "facets") == {f"room-{kitchen.id}.sqlite{suffix}" for suffix in SUFFIXES}


def test_sync_state_updates_the_summary_from_the_file(overseer: Overseer, instance: Path, opened: Open) -> None:
    kitchen, _ = overseer.create("Kitchen"), overseer.create("Cellar")
    overseer.close()
    execute(room_file(instance, kitchen.id), "UPDATE room SET name = 'Bath'")
    again = opened(instance)
    log = subscribed(again)
    again.sync_state(kitchen.id)
    assert names(again) == ["Cellar", "Bath"]
    again.sync_state(kitchen.id, active=True)
    assert names(again) == ["Bath", "Cellar"]
    # The first event is from opening the file, whose name differs from the one in the list.
    synced = RoomSynced(kitchen.id, moved_to_top=False)
    assert log.events == [synced, synced, RoomSynced(kitchen.id, moved_to_top=True)]


def test_rooms_over_the_limit_are_closed_and_reopened(instance: Path, opened: Open) -> None:
    overseer = opened(instance, open_facets=2)
    rooms = [overseer.create(f"room {n}") for n in range(5)]
    for turn in range(2):
        for n, room in enumerate(rooms):
            ask(overseer, room.id, f"question {n}.{turn}")
    for n, room in enumerate(rooms):
        assert texts(overseer, room.id)[::2] == [f"question {n}.0", f"question {n}.1"]
        assert {message.state for message in overseer.room(room.id).messages().messages} == {"complete"}
    assert not DESCRIPTORS.is_dir() or len(open_files(instance / "facets")) <= 2 * len(SUFFIXES)


# Listeners


def test_unsubscribe_ends_the_events_of_one_listener(overseer: Overseer, log: EventLog) -> None:
    events: list[RoomEvent] = []
    unsubscribe = overseer.subscribe(events.append)
    overseer.create("Kitchen")
    unsubscribe()
    unsubscribe()
    overseer.create("Cellar")
    assert (len(events), len(log.events)) == (1, 2)


def test_listener_that_raises_affects_neither_the_room_nor_other_listeners(
    overseer: Overseer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: RoomEvent) -> None:
        raise RuntimeError("a listener that is broken")

    overseer.subscribe(fail)
    room = overseer.create("Kitchen")
    overseer.subscribe(fail, room.id)
    later = subscribed(overseer)
    assert later.wait_for_end(overseer.room(room.id).ask("one").answer, room_id=room.id) == "complete"
    overseer.room(room.id).configure({}, name="Cellar")
    assert later.events[-1] == RoomConfigured(room.id)
    assert (overseer.record(room.id).name, overseer.record(room.id).messages) == ("Cellar", 2)
    assert "a listener failed on TurnEnded" in caplog.text and "a listener that is broken" in caplog.text


def test_listener_is_called_without_the_lock_of_the_room(overseer: Overseer, model_server: ModelServer) -> None:
    """Another thread can use the room while a listener runs, whatever the event."""
    room, kinds = overseer.create("Kitchen"), set[type[RoomEvent]]()

    def read(event: RoomEvent) -> None:
        if not isinstance(event, RoomDeleted):
            pool.submit(overseer.room(room.id).settings).result(DEADLINE)
        kinds.add(type(event))

    with ThreadPoolExecutor(1) as pool:
        overseer.subscribe(read)
        log = subscribed(overseer)
        model_server.will(Reply(tool_call("roll_dice", '{"sides": 6}'), end("tool_calls")), answer("A ", "die."))
        ask(overseer, room.id, "Roll")
        log.wait_for_end(overseer.room(room.id).edit(1, "Roll again").answer, room_id=room.id)
        log.wait_for_end(overseer.room(room.id).retry(), room_id=room.id)
        overseer.room(room.id).configure({"temperature": 0.5}, name="Cellar")
        overseer.room(room.id).clear()
        model_server.will(held(text("Half")))
        number = overseer.room(room.id).ask("And now?").answer
        log.wait_for(PartAdded, number=number)
        overseer.room(room.id).stop()
        overseer.delete(room.id)
    assert kinds >= {MessageAdded, PathChanged, MessagesDeleted, PartAdded, PartGrew, PartChanged}
    assert kinds >= {TurnEnded, RoomConfigured, RoomSynced, RoomDeleted}


def test_events_of_a_room_come_in_the_order_of_its_commits(
    overseer: Overseer, log: EventLog, model_server: ModelServer
) -> None:
    """When the last call has returned, the list has the last state."""
    room = overseer.create("Kitchen")
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda n: overseer.room(room.id).ask(f"Question {n}"), range(16)))
        added = [event.question for event in log.events_of(MessageAdded)]
        assert added == sorted(one.question for one in asked)
        assert overseer.record(room.id).messages == 32
    for one in asked:
        log.wait_for_end(one.answer, room_id=room.id)
    ended = [event.number for event in log.events_of(TurnEnded)]
    assert ended == sorted(ended) and not overseer.record(room.id).answering
    assert len(model_server.requests[-1]["messages"]) == 31, "each turn reads the answers before it"


def test_summary_that_was_not_delivered_before_a_crash_is_read_at_the_next_start(
    overseer: Overseer, instance: Path, opened: Open
) -> None:
    """The row in the list is as old as its summary, and not as the time at which it was written."""
    room = overseer.create("Kitchen")
    blocked, go_on = threading.Event(), threading.Event()

    def block(event: RoomEvent) -> None:
        if isinstance(event, RoomConfigured):
            blocked.set()
            assert go_on.wait(DEADLINE)

    overseer.subscribe(block)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(overseer.room(room.id).configure, {}, name="First")
        assert blocked.wait(DEADLINE)
        second = pool.submit(overseer.room(room.id).configure, {}, name="Second")
        until(lambda: query(room_file(instance, room.id), "SELECT name FROM room") == [("Second",)])
        crashed = instance.with_name("crashed")
        shutil.copytree(instance, crashed)
        go_on.set()
        first.result(DEADLINE)
        second.result(DEADLINE)
    assert opened(crashed).record(room.id).name == "Second"


# Calls


def test_file_of_a_room_holds_its_conversation_and_nothing_of_others(
    overseer: Overseer, instance: Path, model_server: ModelServer
) -> None:
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    model_server.will(Reply(tool_call("roll_dice", '{"sides": 1}'), end()), answer("soup"), answer("wine"))
    ask(overseer, kitchen.id, "secret of the kitchen")
    ask(overseer, cellar.id, "secret of the cellar")
    sql = "SELECT number, role, kind, text FROM messages JOIN parts ON message = number ORDER BY number, position"
    rows = query(room_file(instance, kitchen.id), sql)
    assert [row[:3] for row in rows] == [
        (1, "user", "text"),
        (2, "assistant", "tool_call"),
        (2, "assistant", "text"),
    ]
    assert [row[3] for row in rows][::2] == ["secret of the kitchen", "soup"]
    for room, others in ((kitchen, (b"cellar", b"wine")), (cellar, (b"kitchen", b"soup"))):
        path = room_file(instance, room.id)
        content = b"".join(path.with_name(path.name + suffix).read_bytes() for suffix in SUFFIXES)
        assert not [words for words in others if words in content]
    assert [m["content"] for m in model_server.requests[-1]["messages"]] == ["secret of the cellar"]


USES: dict[str, Callable[[Overseer, str], object]] = {
    "room": lambda overseer, room_id: overseer.record(room_id),
    "messages": lambda overseer, room_id: overseer.room(room_id).messages(),
    "message": lambda overseer, room_id: overseer.room(room_id).message(1),
    "settings": lambda overseer, room_id: overseer.room(room_id).settings(),
    "ask": lambda overseer, room_id: overseer.room(room_id).ask("one"),
    "edit": lambda overseer, room_id: overseer.room(room_id).edit(1, "one"),
    "stop": lambda overseer, room_id: overseer.room(room_id).stop(),
    "retry": lambda overseer, room_id: overseer.room(room_id).retry(),
    "clear": lambda overseer, room_id: overseer.room(room_id).clear(),
    "configure": lambda overseer, room_id: overseer.room(room_id).configure({}),
    "delete": lambda overseer, room_id: overseer.delete(room_id),
    "sync_state": lambda overseer, room_id: overseer.sync_state(room_id),
}


def test_unknown_or_malformed_room_id_is_rejected_and_creates_nothing(
    overseer: Overseer, log: EventLog, instance: Path
) -> None:
    overseer.create("Kitchen")
    log.events.clear()
    before = files(instance)
    malformed = ["", "0123456789AB", "0123456789ab\n", "../overseer", "x" * 10_000, "٠١٢٣٤٥٦٧٨٩٠١", "0123456789a\0"]
    for room_id in ("0123456789ab", *malformed):
        for use in USES.values():
            with pytest.raises(NoSuchRoom, match="^This room doesn’t exist or was deleted.$"):
                use(overseer, room_id)
    assert (files(instance), names(overseer), log.events) == (before, ["Kitchen"], [])


# After a crash


def test_unclean_start_updates_old_summaries_and_keeps_their_order(
    overseer: Overseer, instance: Path, opened: Open
) -> None:
    """Also that of a room whose file and row say that it is answering."""
    kitchen, cellar, attic = (overseer.create(name) for name in ("Kitchen", "Cellar", "Attic"))
    for room in (attic, kitchen, cellar):
        ask(overseer, room.id, "one")
    overseer.close()
    execute(room_file(instance, attic.id), "UPDATE messages SET state = 'streaming' WHERE number = 2")
    execute(
        instance / "overseer.sqlite",
        f"UPDATE rooms SET name = 'old', messages = 0, preview = '', synced_at = 1 WHERE id = '{kitchen.id}'",
        f"UPDATE rooms SET answering = 1 WHERE id = '{attic.id}'",
        "UPDATE runs SET in_order = 0",
    )
    again = opened(instance)
    found = [(room.name, room.messages, room.preview, room.answering) for room in again.rooms().rooms]
    assert found == [(name, 2, "All right.", False) for name in ("Cellar", "Kitchen", "Attic")]
    assert query(room_file(instance, attic.id), "SELECT state, reason FROM messages WHERE number = 2") == [
        ("interrupted", INTERRUPTED)
    ]


def test_unclean_start_allows_for_the_timer_tick_in_the_time_of_a_file(
    overseer: Overseer, instance: Path, opened: Open
) -> None:
    """A room that was renamed twice within a tick may be newer than the list, although its file looks older."""
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    overseer.close()
    execute(room_file(instance, kitchen.id), "UPDATE room SET name = 'Bath'")
    execute(room_file(instance, cellar.id), "UPDATE room SET name = 'Attic'")
    execute(instance / "overseer.sqlite", "UPDATE runs SET in_order = 0")
    for room, milliseconds in ((kitchen, 10), (cellar, 1000)):
        [(synced_at,)] = query(instance / "overseer.sqlite", f"SELECT synced_at FROM rooms WHERE id = '{room.id}'")
        assert isinstance(synced_at, int)
        os.utime(room_file(instance, room.id), ns=((synced_at - milliseconds) * 1_000_000,) * 2)
    assert names(opened(instance)) == ["Cellar", "Bath"]


def test_room_file_that_is_not_in_the_list_is_added_at_the_start(
    overseer: Overseer, instance: Path, tmp_path: Path, opened: Open
) -> None:
    kitchen = overseer.create("Kitchen")
    ask(overseer, kitchen.id, "one")
    overseer.close()
    execute(room_file(instance, kitchen.id), "UPDATE messages SET state = 'streaming' WHERE number = 2")
    (tmp_path / "other" / "facets").mkdir(parents=True)
    shutil.copy(room_file(instance, kitchen.id), tmp_path / "other" / "facets")
    (instance / "overseer.sqlite").unlink()
    for found in (opened(tmp_path / "other"), opened(instance)):
        assert [(room.id, room.name, room.messages) for room in found.rooms().rooms] == [(kitchen.id, "Kitchen", 2)]
        assert texts(found, kitchen.id) == ["one", "All right."]
        assert found.room(kitchen.id).message(2).state == "interrupted" and not found.record(kitchen.id).answering


def test_room_file_that_was_not_completely_created_is_deleted(instance: Path, opened: Open) -> None:
    path = room_file(instance, "0123456789ab")
    path.parent.mkdir(parents=True)
    storage = Storage(path)
    RoomStore(storage, create=True)
    storage.close()
    assert opened(instance).rooms().rooms == ()
    assert list(path.parent.iterdir()) == []


def test_files_that_are_not_rooms_are_left_alone(instance: Path, opened: Open) -> None:
    facets = instance / "facets"
    facets.mkdir(parents=True)
    for name, content in {
        "notes.txt": b"hello",
        "room-0123456789ab.sqlite": b"no database " * 100,
        "room-NOTHEXNOTHEX.sqlite": b"",
        "room-0123456789ab-copy.sqlite": b"",
    }.items():
        (facets / name).write_bytes(content)
    execute(facets / "room-ba9876543210.sqlite", "CREATE TABLE bookmarks (url)")
    before = {path.name: path.read_bytes() for path in facets.iterdir()}
    overseer = opened(instance)
    assert overseer.rooms().rooms == ()
    assert {path.name: path.read_bytes() for path in facets.iterdir()} == before


@pytest.mark.parametrize("left", [SUFFIXES, SUFFIXES[1:], ()], ids=["all files", "some files", "no file"])
def test_delete_that_a_crash_cut_short_is_finished_by_the_next_start(
    overseer: Overseer, instance: Path, opened: Open, left: tuple[str, ...]
) -> None:
    kitchen, cellar = overseer.create("Kitchen"), overseer.create("Cellar")
    overseer.close()
    execute(instance / "overseer.sqlite", f"UPDATE rooms SET deleting = 1 WHERE id = '{kitchen.id}'")
    path = room_file(instance, kitchen.id)
    for suffix in SUFFIXES:
        companion = path.with_name(path.name + suffix)
        if suffix in left:
            companion.touch()
        else:
            companion.unlink(missing_ok=True)
    opened(instance)
    assert {path.name for path in (instance / "facets").iterdir()} == {f"room-{cellar.id}.sqlite"}
    assert query(instance / "overseer.sqlite", "SELECT name FROM rooms") == [("Cellar",)]


def test_delete_that_the_system_refuses_is_finished_by_the_next_start(
    overseer: Overseer, instance: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen, _ = overseer.create("Kitchen"), overseer.create("Cellar")

    def refuse(path: Path) -> None:
        raise PermissionError(path)

    with monkeypatch.context() as patch:
        patch.setattr("overseer.storage.facets.remove", refuse)
        with pytest.raises(StorageError, match="the next start tries again"):
            overseer.delete(kitchen.id)
    assert names(overseer) == ["Cellar"]
    for use in USES.values():
        with pytest.raises(NoSuchRoom):
            use(overseer, kitchen.id)
    overseer.close()
    assert room_file(instance, kitchen.id).exists()
    assert names(opened(instance)) == ["Cellar"]
    assert not room_file(instance, kitchen.id).exists()


# Broken files


def raise_version(path: Path) -> None:
    execute(path, "PRAGMA user_version = 99")


def replace_by_another_programs(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE bookmarks (url)")


BROKEN = [
    pytest.param(write_junk, "damaged or not a SQLite file.*backup", id="not a database"),
    pytest.param(raise_version, "newer version of Overseer. Update", id="newer"),
    pytest.param(replace_by_another_programs, "database of another program. Move it", id="another program's"),
    pytest.param(Path.unlink, "is missing. Put back", id="missing"),
    pytest.param(lambda path: path.write_bytes(b""), "", id="empty"),
]


@pytest.mark.parametrize("crashed", [False, True], ids=["clean", "crashed"])
@pytest.mark.parametrize(("break_file", "sentence"), BROKEN)
def test_broken_file_breaks_one_room(
    overseer: Overseer,
    instance: Path,
    opened: Open,
    break_file: Callable[[Path], None],
    sentence: str,
    crashed: bool,
) -> None:
    """The errors and the list say what is wrong and what to do. The file is not changed; the room can be deleted."""
    broken, other = overseer.create("Broken"), overseer.create("Other")
    overseer.close()
    path = room_file(instance, broken.id)
    break_file(path)
    before = path.read_bytes() if path.exists() else None
    if crashed:
        execute(instance / "overseer.sqlite", "UPDATE rooms SET answering = name = 'Broken'")
        execute(instance / "overseer.sqlite", "UPDATE runs SET in_order = 0")
    again = opened(instance)
    assert bool(again.record(broken.id).problem) == crashed
    log = subscribed(again)
    for name in USES.keys() - {"room", "delete"}:
        with pytest.raises(StorageError, match=rf"^room-{broken.id}\.sqlite .*{sentence}"):
            USES[name](again, broken.id)
    row = again.record(broken.id)
    assert row.problem and re.search(sentence, row.problem)
    assert (row.name, row.answering) == ("Broken", False)
    assert log.events == ([] if crashed else [RoomSynced(broken.id, moved_to_top=False)])
    assert (path.read_bytes() if path.exists() else None) == before
    assert names(again) == ["Other", "Broken"]
    assert again.record(other.id).problem == ""
    ask(again, other.id, "one")
    assert texts(again, other.id) == ["one", "All right."]
    again.delete(broken.id)
    assert names(again) == ["Other"] and not path.exists()


def test_room_whose_file_was_put_back_has_no_problem(
    overseer: Overseer, instance: Path, tmp_path: Path, opened: Open
) -> None:
    room = overseer.create("Kitchen")
    ask(overseer, room.id, "one")
    overseer.close()
    path = room_file(instance, room.id)
    path.rename(tmp_path / "backup")
    again = opened(instance)
    with pytest.raises(StorageError, match="missing"):
        again.room(room.id).messages()
    assert again.record(room.id).problem
    (tmp_path / "backup").rename(path)
    assert texts(again, room.id) == ["one", "All right."]
    assert again.record(room.id).problem == ""


# The directory


def test_second_overseer_on_a_directory_is_rejected_with_the_process_that_uses_it(
    overseer: Overseer, instance: Path, opened: Open
) -> None:
    process = re.escape(f"{os.getpid()} on {socket.gethostname()}")
    with pytest.raises(InstanceError, match=rf"is in use by process {process}\. Stop that one, or"):
        opened(instance)
    code = "import pathlib, sys; from overseer.storage.instance_lock import InstanceLock as Lock\n"
    code += "Lock(pathlib.Path(sys.argv[1])).acquire()"
    command = [sys.executable, "-c", code, str(instance)]
    result = subprocess.run(command, cwd=ROOT, timeout=60, stderr=subprocess.PIPE)
    assert result.returncode == 1 and re.search(process, result.stderr.decode())
    overseer.close()
    assert opened(instance).rooms().rooms == ()


def test_directory_stays_locked_when_the_lock_file_is_removed(overseer: Overseer, instance: Path, opened: Open) -> None:
    (instance / "overseer.lock").unlink()
    for _ in range(2):
        with pytest.raises(InstanceError, match=r"is in use by another process\. Stop that one, or"):
            opened(instance)
        assert owner(instance) == "another process"
    overseer.close()
    assert owner(instance) is None
    assert names(opened(instance)) == []


@contextmanager
def limited(what: int, to: int) -> Iterator[None]:
    """Set a resource limit of this process."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (to, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def no_space() -> AbstractContextManager[None]:
    return limited(resource.RLIMIT_FSIZE, 0)


def one_descriptor() -> AbstractContextManager[None]:
    """Leave one descriptor, which the lock file takes."""
    last = os.open(os.devnull, os.O_RDONLY)
    os.close(last)
    return limited(resource.RLIMIT_NOFILE, last + 1)


@pytest.mark.parametrize("fault", [no_space, one_descriptor])
def test_open_that_fails_at_the_lock_keeps_neither_the_lock_nor_a_descriptor(
    overseer: Overseer, instance: Path, fault: Callable[[], AbstractContextManager[None]]
) -> None:
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


def test_open_that_fails_after_it_opened_rooms_closes_them(
    overseer: Overseer, instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overseer.create("Kitchen")
    overseer.close()
    (instance / "overseer.sqlite").unlink()
    before = len(list(DESCRIPTORS.iterdir()))

    def fail(*args: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("overseer.storage.registry.Registry.adopt", fail)  # the last step
        with pytest.raises(ZeroDivisionError):
            overseer.open()
    assert len(list(DESCRIPTORS.iterdir())) == before
    overseer.open()
    assert names(overseer) == ["Kitchen"]


def test_registry_that_was_replaced_while_the_disk_is_full_is_rebuilt_by_a_later_request(
    overseer: Overseer, instance: Path
) -> None:
    overseer.create("Kitchen")
    replace_by_junk(instance / "overseer.sqlite")
    for _ in range(2):
        with no_space(), pytest.raises((StorageError, InstanceError)):
            overseer.open()
    overseer.open()
    assert names(overseer) == ["Kitchen"]


def test_path_that_cannot_be_a_directory_is_rejected(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InstanceError, match=f"^{re.escape(str(path))} cannot be written"):
            opened(path)
    assert files(tmp_path) == {"file"}


@pytest.mark.parametrize(("break_file", "sentence"), BROKEN[1:3])
def test_registry_that_cannot_be_read_is_rejected_and_the_directory_unlocked(
    overseer: Overseer, instance: Path, opened: Open, break_file: Callable[[Path], None], sentence: str
) -> None:
    overseer.create("Kitchen")
    overseer.close()
    path = instance / "overseer.sqlite"
    backup = path.read_bytes()
    break_file(path)
    for _ in range(2):
        with pytest.raises(InstanceError, match=rf"^overseer\.sqlite .*{sentence}"):
            opened(instance)
    path.write_bytes(backup)
    assert names(opened(instance)) == ["Kitchen"]


def test_open_and_close_may_be_repeated(overseer: Overseer) -> None:
    room = overseer.create("Kitchen")
    overseer.open()
    overseer.close()
    overseer.close()
    overseer.open(reopen=False)
    with pytest.raises(StorageUnavailable, match="shutting down"):
        overseer.rooms()
    overseer.open()
    assert overseer.rooms().rooms == (room,)
    assert overseer.room(room.id).messages().messages == ()


def test_close_interrupts_answers_and_closes_connections_and_files(
    overseer: Overseer, log: EventLog, instance: Path, opened: Open, model_server: ModelServer
) -> None:
    room = overseer.create("Kitchen")
    reply = model_server.will(held(text("Half")))
    overseer.room(room.id).ask("one")
    overseer.room(room.id).ask("two")
    log.wait_for(PartAdded, room_id=room.id)
    overseer.close()
    assert reply.closed.wait(DEADLINE)
    assert [log.wait_for_end(number, room_id=room.id) for number in (2, 4)] == ["interrupted"] * 2
    assert not DESCRIPTORS.is_dir() or open_files(instance / "facets") == set()
    with pytest.raises(StorageUnavailable, match="shutting down"):
        overseer.create("Cellar")
    for use in USES.values():
        with pytest.raises(StorageUnavailable, match="shutting down"):
            use(overseer, room.id)
    again = opened(instance)
    found = [(message.text, message.state, message.reason) for message in again.room(room.id).messages().messages[1::2]]
    assert found == [("Half", "interrupted", INTERRUPTED), ("", "interrupted", INTERRUPTED)]
    assert not again.record(room.id).answering


def test_call_during_a_close_says_that_the_server_is_shutting_down(overseer: Overseer) -> None:
    """And not that the room was deleted."""
    room = overseer.create("Kitchen")

    def close(event: RoomEvent) -> None:
        if isinstance(event, RoomConfigured):
            overseer.close()

    overseer.subscribe(close)
    with pytest.raises(StorageUnavailable, match="shutting down"):
        overseer.room(room.id).configure({}, name="Cellar")
