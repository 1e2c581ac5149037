"""The settings of a room: storage, older file versions, and their effect on answers."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from overseer.domain.errors import StorageError, StorageFull
from overseer.domain.events import RoomConfigured, RoomEvent, RoomRenamed, RoomSynced
from overseer.domain.messages import Message, Reasoning, Text, ToolCall
from overseer.domain.records import Asked
from overseer.domain.settings import Changes, Settings
from overseer.domain.text import Invalid
from overseer.llm import ModelCut, TextDelta, TokenCount, ToolRequest
from overseer.rooms.chat_room import INTERRUPTED, ChatRoom, Limits
from overseer.rooms.overseer import Overseer
from overseer.storage.database import Storage
from overseer.storage.schema import APPLICATION_ID, MIGRATIONS, m001_messages
from tests.rooms.conftest import MakeHarness
from tests.support.model_server import ModelServer
from tests.support.room_harness import RoomHarness, ScriptedReply, join_turn_threads
from tests.support.waiting import DEADLINE

PROMPT = "Be brief.\n\N{GRINNING FACE}"
ALL = Changes(model="large", system_prompt=PROMPT, temperature=0.7)
SET = Settings("large", PROMPT, 0.7)
ROOM_ID = "0123456789ab"


def make_version_1(path: Path, *statements: str) -> None:
    """Write a room's file of the first version: a question with its answer, and one that was being answered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = Storage(path)
    storage.migrate([m001_messages], application_id=APPLICATION_ID, create=True)
    with storage.write() as db:
        db.execute("INSERT INTO room (one, name, named_by, created_at) VALUES (1, 'Old', 'first words', 1000)")
        db.executemany(
            "INSERT INTO messages (number, role, state, reason, model, key, created_at, ended_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (3, "user", "complete", "", "", "k1", 2000, None),
                (4, "assistant", "failed", "It broke.", "old", None, 2001, 3000),
                (5, "user", "complete", "", "", None, 4000, None),
                (6, "assistant", "streaming", "", "old", None, 4001, None),
            ],
        )
        db.executemany(
            "INSERT INTO parts (message, position, kind, text, call) VALUES (?, ?, ?, ?, ?)",
            [
                (3, 0, "text", "one", None),
                (4, 0, "reasoning", "Hm", None),
                (4, 1, "tool_call", "5", '{"id": "c1", "name": "roll", "arguments": "{}", "state": "done"}'),
                (4, 2, "text", "Five.", None),
                (5, 0, "text", "two", None),
                (6, 0, "text", "Half", None),
            ],
        )
        for sql in statements:
            db.execute(sql)
    storage.close()


# Storage


def test_settings_are_stored_in_the_file_of_the_room(
    harness: RoomHarness, make_harness: MakeHarness, tmp_path: Path
) -> None:
    """They survive a kill and a clear, and a copy of the file has them."""
    assert harness.settings() == Settings() == Settings("", "", None)
    harness.configure(**ALL)
    assert harness.query("SELECT model, system_prompt, temperature FROM room") == [("large", PROMPT, 0.7)]
    harness.restart()
    harness.clear()
    assert harness.settings() == SET
    shutil.copytree(harness.directory, tmp_path / "copy")
    copy = make_harness("copy")
    copy.configure(model="small")
    assert (harness.settings().model, copy.settings()) == ("large", Settings("small", PROMPT, 0.7))


def test_configure_changes_only_the_given_settings(harness: RoomHarness) -> None:
    harness.configure(**ALL)
    harness.configure(temperature=0.0)
    harness.configure(model="")
    harness.configure()
    assert harness.settings() == Settings("", PROMPT, 0.0)
    harness.answer("one")
    assert harness.model.prompts == [(PROMPT, 0.0)]
    harness.configure(system_prompt="", temperature=None)
    assert harness.settings() == Settings()


def test_configure_from_several_threads_keeps_every_change(harness: RoomHarness) -> None:
    barrier = threading.Barrier(3)

    def configure(**changes: object) -> None:
        for _ in range(5):
            barrier.wait(DEADLINE)
            harness.configure(**changes)

    threads = [threading.Thread(target=configure, kwargs={field: value}) for field, value in ALL.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert harness.settings() == SET
    assert len(harness.events_of(RoomConfigured)) == 15


def test_configure_that_cannot_be_written_changes_nothing(harness: RoomHarness) -> None:
    """Name and settings are one transaction."""
    harness.fill_disk()
    with pytest.raises(StorageFull, match="disk is full"):
        harness.configure("Cellar", system_prompt="x" * 30_000)
    harness.free_disk()
    with closing(sqlite3.connect(harness.file, isolation_level=None)) as db:
        db.execute("CREATE TRIGGER broken BEFORE UPDATE OF name ON room BEGIN SELECT raise(ABORT, 'no name'); END")
        with pytest.raises(StorageError, match="no name"):
            harness.configure("Cellar", **ALL)
        db.execute("DROP TRIGGER broken")
    assert (harness.name(), harness.settings(), harness.events) == ("Kitchen", Settings(), [])
    harness.configure(system_prompt="x" * 30_000)


def test_configure_with_a_name_renames_the_room(make_harness: MakeHarness) -> None:
    """The name is then a person's, which the first question does not replace. Events come after the commit."""
    harness = make_harness(by_person=False)
    seen: list[list[tuple[object, ...]]] = []

    def read(event: RoomEvent) -> None:
        if isinstance(event, RoomConfigured):
            seen.append(harness.query("SELECT name, model, temperature FROM room"))

    harness.listeners.append(read)
    harness.configure(**ALL)
    harness.configure("Cellar", temperature=None)
    assert seen == [[("Kitchen", "large", 0.7)], [("Cellar", "large", None)]]
    assert harness.events == [RoomConfigured("room"), RoomRenamed("room"), RoomConfigured("room")]
    harness.answer("one")
    assert harness.name() == "Cellar"
    unnamed = make_harness("unnamed", by_person=False)
    unnamed.configure(**ALL)
    unnamed.answer("one")
    assert unnamed.name() == "one"


# Files of other versions


def test_file_of_version_1_is_migrated_and_keeps_everything(make_harness: MakeHarness, tmp_path: Path) -> None:
    make_version_1(tmp_path / "old" / "room.sqlite")
    harness = make_harness("old")
    call = ToolCall("c1", "roll", "{}", "5", "done")
    parts = (Reasoning("Hm"), call, Text("Five."))
    failed, interrupted = harness.messages()[1::2]
    assert failed == Message(4, "assistant", "failed", parts, "It broke.", "old", 2001, 3000)
    assert (interrupted.number, interrupted.state, interrupted.reason) == (6, "interrupted", INTERRUPTED)
    assert harness.texts() == ["one", "Five.", "two", "Half"]
    summary = harness.call(ChatRoom.summary)
    assert (summary.name, summary.created_at, summary.messages, summary.answering) == ("Old", 1000, 4, False)
    page = harness.call(ChatRoom.messages)
    assert (page.last, page.reads_from, page.more) == (6, 0, False)
    assert harness.settings() == Settings()
    assert harness.query("PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert harness.ask("one", key="k1") == Asked(3, 4, repeated=True)
    harness.configure(**ALL)
    harness.script(ScriptedReply(TextDelta(" and half"), TokenCount(9, 2)))
    message = harness.finished(harness.resume())
    assert (message.text, message.created_at) == ("Half and half", 4001)
    assert message.usage is not None and message.usage.tokens_out == 2
    assert harness.model.prompts == [(PROMPT, 0.7)]
    assert (harness.ask("three"), harness.name()) == (Asked(7, 8), "Old")


def test_file_of_version_1_in_the_directory_is_listed_after_a_start(overseer: Overseer, instance: Path) -> None:
    overseer.close()
    make_version_1(instance / "facets" / f"room-{ROOM_ID}.sqlite")
    overseer.open()
    assert [(room.name, room.messages, room.problem) for room in overseer.rooms().rooms] == [("Old", 4, "")]
    overseer.configure(ROOM_ID, ALL)
    assert overseer.settings(ROOM_ID) == SET


def test_file_of_a_newer_version_is_rejected_and_not_changed(make_harness: MakeHarness, tmp_path: Path) -> None:
    path = tmp_path / "new" / "room.sqlite"
    make_version_1(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()
    harness = make_harness("new")
    for use in (harness.settings, harness.settings, lambda: harness.ask("one")):
        with pytest.raises(StorageError, match="newer version of Overseer"):
            use()
    assert path.read_bytes() == before


def test_migration_that_fails_leaves_the_file_unchanged(make_harness: MakeHarness, tmp_path: Path) -> None:
    path = tmp_path / "odd" / "room.sqlite"
    make_version_1(path, "ALTER TABLE messages ADD COLUMN estimated INTEGER")

    def schema() -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path)) as db:
            return [*db.execute("SELECT sql FROM sqlite_schema ORDER BY name"), *db.execute("PRAGMA user_version")]

    before = schema()
    harness = make_harness("odd")
    with pytest.raises(StorageError, match="estimated"):
        harness.messages()
    assert schema() == before
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE messages DROP COLUMN estimated")
    assert harness.texts() == ["one", "Five.", "two", "Half"]


# Answers


def test_turn_uses_the_settings_from_its_start_in_every_step(harness: RoomHarness) -> None:
    """A queued turn uses those that were set meanwhile."""
    harness.configure(**ALL)
    reply = harness.ask_held("A", TextDelta("Half"))
    harness.ask("B")
    harness.configure(model="small", system_prompt="Sing.", temperature=None)
    reply.send(ToolRequest("c1", "roll_dice", "{}"))
    reply.end()
    assert harness.wait_for_end(4) == "complete"
    assert harness.model.prompts == [(PROMPT, 0.7), (PROMPT, 0.7), ("Sing.", None)]
    assert harness.picked_models == ["large", "small"]


def test_retry_resume_and_edit_use_the_current_settings(harness: RoomHarness) -> None:
    harness.answer("one", ScriptedReply(TextDelta("Half"), ModelCut("It broke off.")))
    harness.script(ScriptedReply(TextDelta(" more"), ModelCut("It broke off.")))
    commands = [harness.resume, harness.retry, lambda: harness.edit(1, "changed")]
    for n, command in enumerate(commands, 2):
        harness.configure(temperature=n / 10)
        command()
        harness.wait_for_end(2, times=n)
    assert [temperature for _, temperature in harness.model.prompts] == [None, 0.2, 0.3, 0.4]


def test_system_prompt_counts_against_the_context(harness: RoomHarness) -> None:
    """A prompt that fills the whole context still leaves the question."""
    harness.restart(limits=Limits(context_tokens=300))
    harness.answer("one")
    for length in (4 * 290, 32_000):
        harness.configure(system_prompt="x" * length)
        assert harness.answer("two").state == "complete"
        assert harness.model.request_texts() == ["two"]


# Through Overseer


def test_overseer_sends_the_settings_to_the_model_server(overseer: Overseer, model_server: ModelServer) -> None:
    plain, configured = overseer.create("Plain").id, overseer.create("Configured").id
    events: list[RoomEvent] = []
    overseer.subscribe(events.append)
    assert overseer.configure(configured, ALL, name="  Cellar\n ").name == "Cellar"
    assert [room.name for room in overseer.rooms().rooms] == ["Cellar", "Plain"], "no room moves"
    assert RoomSynced(configured, raised=False) in events and RoomConfigured(configured) in events
    assert (overseer.settings(configured), overseer.settings(plain)) == (SET, Settings())
    for room_id in (plain, configured):
        overseer.ask(room_id, "one")
        join_turn_threads()
    first, second = model_server.requests
    assert first["model"] == "stand-in" and "temperature" not in first
    assert first["messages"] == [{"role": "user", "content": "one"}]
    assert (second["model"], second["temperature"]) == ("large", 0.7)
    assert second["messages"] == [{"role": "system", "content": PROMPT}, {"role": "user", "content": "one"}]
    assert overseer.message(configured, 2).model == "large"


def test_overseer_rejects_settings_with_an_invalid_name_as_a_whole(overseer: Overseer) -> None:
    room_id = overseer.create("Kitchen").id
    for name in ("", "\u200b", "x" * 121):
        with pytest.raises(Invalid):
            overseer.configure(room_id, ALL, name=name)
    assert (overseer.settings(room_id), overseer.room(room_id).name) == (Settings(), "Kitchen")


def test_overseer_lists_the_models_of_the_server(overseer: Overseer, model_server: ModelServer) -> None:
    model_server.models = ["large", "small"]
    assert overseer.models() == ("large", "small")
    model_server.models = ["huge"]
    assert overseer.models() == ("large", "small")
    assert overseer.models(refresh=True) == ("huge",)
