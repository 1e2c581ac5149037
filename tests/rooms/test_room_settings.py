"""A room's settings live in its own file, and its next answer goes by them."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from overseer.domain.errors import NoSuchRoom, StorageError, StorageFull
from overseer.domain.events import PartAdded, RoomConfigured, RoomEvent, RoomRenamed, RoomSynced, TurnEnded
from overseer.domain.messages import Message, Reasoning, Text, ToolCall
from overseer.domain.records import Asked
from overseer.domain.settings import Changes, Settings
from overseer.domain.text import Invalid
from overseer.llm import ModelCut, TextDelta, TokenCount, ToolRequest
from overseer.rooms.chat_room import INTERRUPTED, ChatRoom, Limits
from overseer.rooms.overseer import Overseer
from overseer.storage.database import Storage
from overseer.storage.schema import APPLICATION_ID, MIGRATIONS, m001_messages
from overseer.tools.registry import Toolbox
from tests.rooms.test_chat_room import DEADLINE, Harness, Said, Script, fill_disk, held, no_turns
from tests.support.model_server import ModelServer, answer

ALL = Changes(model="large", system_prompt="Be brief.\n\N{GRINNING FACE}", temperature=0.7)
SET = Settings("large", "Be brief.\n\N{GRINNING FACE}", 0.7)
ROOM_ID = "0123456789ab"


class Heeding(Script):
    """A Script that also remembers how it was told to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[tuple[str, float | None]] = []

    def answer(
        self, history: Sequence[Message], tools: Toolbox, *, system: str = "", temperature: float | None = None
    ) -> Said:
        self.orders.append((system, temperature))
        return super().answer(history, tools, system=system, temperature=temperature)


class SeededRooms(Harness):
    """A Harness with a Heeding model."""

    def __init__(self, directory: Path, *, by_person: bool = True) -> None:
        super().__init__(directory, by_person=by_person)
        self.model: Heeding = Heeding()

    def configure(self, name: str | None = None, **changes: object) -> None:
        self.room.call(ChatRoom.configure, Changes(**changes), name=name)  # type: ignore[typeddict-item]

    def settings(self) -> Settings:
        return self.room.call(ChatRoom.settings)

    def name(self) -> str:
        return self.room.call(ChatRoom.summary).name


Open = Callable[..., SeededRooms]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens a harness in a folder of this name, with the room that is there or a new one; all are shut."""
    harnesses: list[SeededRooms] = []

    def open_it(name: str = "harness", *, by_person: bool = True) -> SeededRooms:
        harnesses.append(SeededRooms(tmp_path / name, by_person=by_person))
        return harnesses[-1]

    yield open_it
    for harness in harnesses:
        harness.facets.close("the test is over")
    no_turns()


@pytest.fixture
def harness(opened: Open) -> SeededRooms:
    """A harness whose room was named by a person."""
    return opened()


def version_1(path: Path, *statements: str) -> None:
    """A room's file as the first version left it: a question with its answer, and one that was being answered."""
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


def look(path: Path, sql: str) -> list[tuple[object, ...]]:
    """What another program reads in a file that nobody has open."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


# In the file


def test_a_new_room_goes_by_the_usual(harness: SeededRooms) -> None:
    """The server's own model, no prompt, the model's own temperature."""
    assert harness.settings() == Settings() == Settings("", "", None)
    harness.answered("one")
    assert harness.picked == [""]
    assert harness.model.orders == [("", None)]


def test_settings_are_in_the_rooms_own_file(harness: SeededRooms) -> None:
    """When `configure` has returned, another program reads them there."""
    harness.configure(**ALL)
    assert harness.settings() == SET
    assert harness.on_disk("SELECT model, system_prompt, temperature FROM room") == [
        (SET.model, SET.system_prompt, SET.temperature)
    ]


def test_settings_survive_a_kill(harness: SeededRooms) -> None:
    """And the next answer goes by them without anything being set again."""
    harness.configure(**ALL)
    harness.restarted()
    assert harness.settings() == SET
    harness.answered("one")
    assert (harness.picked, harness.model.orders) == (["large"], [("Be brief.\n\N{GRINNING FACE}", 0.7)])


def test_a_copy_of_the_file_carries_the_settings(harness: SeededRooms, opened: Open, tmp_path: Path) -> None:
    """Backup and move are a copy; afterwards each goes its own way."""
    harness.configure(**ALL)
    shutil.copytree(harness.directory, tmp_path / "copy")
    copy = opened("copy")
    assert copy.settings() == SET
    copy.configure(model="small")
    assert (harness.settings().model, copy.settings().model) == ("large", "small")


def test_only_what_changes_changes(harness: SeededRooms) -> None:
    """One field after the other, back to nothing too; 0 is a temperature, and not none."""
    harness.configure(**ALL)
    harness.configure(temperature=0.0)
    assert harness.settings() == Settings(SET.model, SET.system_prompt, 0.0)
    harness.configure(model="")
    harness.configure()
    assert harness.settings() == Settings("", SET.system_prompt, 0.0)
    harness.answered("one")
    assert harness.model.orders == [(SET.system_prompt, 0.0)]
    harness.configure(system_prompt="", temperature=None)
    assert harness.settings() == Settings()


def test_changes_of_many_at_once_are_all_kept(harness: SeededRooms) -> None:
    """Nobody's field is overwritten by somebody who changed another."""
    together = threading.Barrier(3)

    def configure(**changes: object) -> None:
        for _ in range(10):
            together.wait(DEADLINE)
            harness.configure(**changes)

    threads = [threading.Thread(target=configure, kwargs={field: value}) for field, value in ALL.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert harness.settings() == SET
    assert len(harness.heard(RoomConfigured)) == 30


def test_clear_leaves_the_settings(harness: SeededRooms) -> None:
    """They are the room's, not the conversation's."""
    harness.configure(**ALL)
    harness.answered("one")
    harness.room.call(ChatRoom.clear)
    assert harness.settings() == SET


def test_settings_that_cannot_be_written_are_not_set(harness: SeededRooms) -> None:
    """With the disk full nothing changes and nothing is told; with space again it works."""
    harness.configure(**ALL)
    harness.events.clear()
    fill_disk(harness)
    with pytest.raises(StorageFull, match="disk is full"):
        harness.configure("Cellar", system_prompt="x" * 30_000)
    assert (harness.settings(), harness.name(), harness.events) == (SET, "Kitchen", [])
    fill_disk(harness, free=True)
    harness.configure(system_prompt="x" * 30_000)
    assert len(harness.settings().system_prompt) == 30_000


# Files of other versions


def test_a_file_of_the_first_version_is_brought_up_and_keeps_everything(opened: Open, tmp_path: Path) -> None:
    """Name, numbers, parts, keys, states and times; what was cut off by the update is interrupted."""
    version_1(tmp_path / "old" / "room.sqlite")
    harness = opened("old")
    call = ToolCall("c1", "roll", "{}", "5", "done")
    failed, interrupted = harness.messages()[1::2]
    assert failed == Message(
        4, "assistant", "failed", (Reasoning("Hm"), call, Text("Five.")), "It broke.", "old", 2001, 3000
    )
    assert (interrupted.number, interrupted.state, interrupted.reason) == (6, "interrupted", INTERRUPTED)
    assert harness.texts() == ["one", "Five.", "two", "Half"]
    summary = harness.room.call(ChatRoom.summary)
    assert (summary.name, summary.created_at, summary.messages, summary.answering) == ("Old", 1000, 4, False)
    page = harness.room.call(ChatRoom.messages)
    assert (page.last, page.reads_from, page.more) == (6, 0, False)
    assert harness.settings() == Settings()
    assert harness.on_disk("PRAGMA user_version") == [(len(MIGRATIONS),)]
    harness.restarted()
    assert harness.messages()[1::2] == (failed, interrupted)


def test_a_file_of_the_first_version_can_do_all_that_a_new_one_can(opened: Open, tmp_path: Path) -> None:
    """Settings, Continue, usage, keys that were used before, and the next number."""
    version_1(tmp_path / "old" / "room.sqlite")
    harness = opened("old")
    assert harness.ask("one", key="k1") == Asked(3, 4, repeated=True)
    harness.configure(**ALL)
    harness.will(Said(TextDelta(" and half"), TokenCount(9, 2)))
    assert harness.room.call(ChatRoom.resume) == 6
    assert harness.ended(6) == "complete"
    message = harness.message(6)
    assert (message.text, message.created_at) == ("Half and half", 4001)
    assert message.usage is not None and message.usage.tokens_out == 2
    assert harness.model.orders == [(SET.system_prompt, SET.temperature)]
    assert harness.answered("three") == Asked(7, 8)
    assert harness.name() == "Old"


def test_an_overseer_takes_in_a_file_of_the_first_version(overseer: Overseer, instance: Path) -> None:
    """Put into the directory of a newer version, it is in the list after the next start."""
    overseer.close()
    version_1(instance / "facets" / f"room-{ROOM_ID}.sqlite")
    overseer.open()
    assert [(room.name, room.messages, room.problem) for room in overseer.rooms().rooms] == [("Old", 4, "")]
    overseer.configure(ROOM_ID, ALL)
    assert overseer.settings(ROOM_ID) == SET


def test_a_file_of_a_newer_version_is_refused_and_left_alone(opened: Open, tmp_path: Path) -> None:
    """Who does not know what it means writes nothing into it."""
    path = tmp_path / "new" / "room.sqlite"
    version_1(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()
    harness = opened("new")
    for _ in range(2):
        with pytest.raises(StorageError, match="newer version of Overseer"):
            harness.settings()
    with pytest.raises(StorageError, match="newer version"):
        harness.ask("one")
    assert path.read_bytes() == before


def test_an_update_that_fails_half_way_leaves_the_file_as_it_was(opened: Open, tmp_path: Path) -> None:
    """It is done whole or not at all, and works when the trouble is gone."""
    path = tmp_path / "odd" / "room.sqlite"
    version_1(path, "ALTER TABLE messages ADD COLUMN estimated INTEGER")
    tables = "SELECT sql FROM sqlite_schema ORDER BY name"
    before = look(path, tables)
    harness = opened("odd")
    with pytest.raises(StorageError, match="estimated"):
        harness.messages()
    assert look(path, tables) == before
    assert look(path, "PRAGMA user_version") == [(1,)]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE messages DROP COLUMN estimated")
    assert harness.texts() == ["one", "Five.", "two", "Half"]


# In the answer


def test_an_answer_is_made_to_its_end_by_the_settings_it_was_begun_with(harness: SeededRooms) -> None:
    """Its later steps too; the one that waited meanwhile goes by the new ones."""
    harness.configure(**ALL)
    reply = harness.will(held(TextDelta("Half")))
    harness.ask("A")
    b = harness.ask("B")
    reply.taken_in()
    harness.configure(model="small", system_prompt="Sing.", temperature=None)
    assert harness.settings() == Settings("small", "Sing.", None), "what is shown is what was set"
    assert harness.message(2).text == "Half"
    reply.say(ToolRequest("c1", "roll_dice", "{}"))
    reply.end()
    assert harness.ended(b.answer) == "complete"
    old, new = (SET.system_prompt, SET.temperature), ("Sing.", None)
    assert harness.model.orders == [old, old, new]
    assert harness.picked == ["large", "small"]
    assert harness.states() == ["complete"] * 2


def test_retry_continue_and_edit_go_by_the_settings_of_now(harness: SeededRooms) -> None:
    """A person changes them to get another answer."""
    harness.answered("one", Said(TextDelta("Half"), ModelCut("It broke off.")))
    harness.configure(temperature=0.1)
    harness.will(Said(TextDelta(" more"), ModelCut("It broke off.")))
    harness.room.call(ChatRoom.resume)
    harness.ended(2, times=2)
    harness.configure(temperature=0.2)
    harness.room.call(ChatRoom.retry)
    harness.ended(2, times=3)
    harness.configure(temperature=0.3)
    harness.room.call(ChatRoom.edit, 1, "otherwise")
    harness.ended(2, times=4)
    assert [temperature for _, temperature in harness.model.orders] == [None, 0.1, 0.2, 0.3]


def test_the_system_prompt_takes_its_share_of_what_the_model_reads(harness: SeededRooms) -> None:
    """What is sent fits together; a prompt that fills everything still leaves the question."""
    harness.restarted(limits=Limits(context_tokens=300))
    harness.answered("one")
    harness.answered("two")
    assert [m.text for m in harness.model.asked[-1]] == ["one", "All right.", "two"]
    harness.configure(system_prompt="x" * 4 * 290)
    harness.answered("three")
    assert [m.text for m in harness.model.asked[-1]] == ["three"]
    harness.configure(system_prompt="x" * 32_000)
    harness.answered("four")
    assert [m.text for m in harness.model.asked[-1]] == ["four"]
    assert harness.states() == ["complete"] * 4


def test_what_a_server_is_sent_is_what_was_set(overseer: Overseer, model_server: ModelServer) -> None:
    """Model, prompt and temperature, on the wire; a room without settings sends none of them."""
    done = threading.Semaphore(0)
    overseer.subscribe(lambda event: done.release() if isinstance(event, TurnEnded) else None)
    plain, set_up = overseer.create("Plain").id, overseer.create("Set up").id
    overseer.configure(set_up, ALL)
    for room_id in (plain, set_up):
        model_server.will(answer("Yes"))
        overseer.ask(room_id, "one")
        assert done.acquire(timeout=DEADLINE)
    first, second = model_server.requests
    assert first["model"] == "stand-in" and "temperature" not in first
    assert first["messages"] == [{"role": "user", "content": "one"}]
    assert (second["model"], second["temperature"]) == ("large", 0.7)
    assert second["messages"] == [
        {"role": "system", "content": SET.system_prompt},
        {"role": "user", "content": "one"},
    ]
    assert overseer.message(set_up, 2).model == "large"


# With the name


def test_configure_with_a_name_renames_too(opened: Open) -> None:
    """A person named it: the first words said in it do not."""
    harness = opened(by_person=False)
    harness.configure("Cellar", **ALL)
    assert (harness.name(), harness.settings()) == ("Cellar", SET)
    harness.answered("one")
    assert harness.name() == "Cellar"


def test_configure_without_a_name_leaves_it_to_the_first_words(opened: Open) -> None:
    """Setting a model is no naming."""
    harness = opened(by_person=False)
    harness.configure(**ALL)
    assert harness.name() == "Kitchen", "as it was begun, by nobody"
    harness.answered("one")
    assert harness.name() == "one"


def test_name_and_settings_change_together_or_not_at_all(harness: SeededRooms) -> None:
    """If the one cannot be written, the other is not either, and nothing is told."""
    with closing(sqlite3.connect(harness.file, isolation_level=None)) as db:
        db.execute("CREATE TRIGGER broken BEFORE UPDATE OF name ON room BEGIN SELECT raise(ABORT, 'no name'); END")
        with pytest.raises(StorageError, match="no name"):
            harness.configure("Cellar", **ALL)
        db.execute("DROP TRIGGER broken")
    assert (harness.name(), harness.settings(), harness.events) == ("Kitchen", Settings(), [])


def test_a_change_of_settings_is_told_once_and_after_its_commit(harness: SeededRooms) -> None:
    """Whoever hears of it finds it in the file, the name included."""
    seen: list[list[tuple[object, ...]]] = []

    def on_event(event: RoomEvent) -> None:
        if isinstance(event, RoomConfigured):
            seen.append(harness.on_disk("SELECT name, model, temperature FROM room"))

    harness.listeners.append(on_event)
    harness.configure(**ALL)
    harness.configure("Cellar", temperature=None)
    assert seen == [[("Kitchen", "large", 0.7)], [("Cellar", "large", None)]]
    assert harness.heard(RoomConfigured) == [RoomConfigured("room")] * 2


def test_another_name_is_told_as_any_other(harness: SeededRooms) -> None:
    """Whoever shows the name listens for that, however it came about."""
    harness.configure("Cellar", **ALL)
    assert harness.heard(RoomRenamed) == [RoomRenamed("room")]
    harness.configure(temperature=None)
    assert harness.heard(RoomRenamed) == [RoomRenamed("room")]


def test_the_list_has_the_new_name_at_once_and_no_room_moves(overseer: Overseer) -> None:
    """Setting is no activity; the settings are asked of the room itself."""
    first, second = overseer.create("First").id, overseer.create("Second").id
    events: list[RoomEvent] = []
    overseer.subscribe(events.append)
    assert overseer.configure(first, ALL, name="  Cellar\n ").name == "Cellar"
    assert [room.name for room in overseer.rooms().rooms] == ["Cellar", "Second"][::-1]
    assert RoomSynced(first, raised=False) in events and RoomConfigured(first) in events
    assert (overseer.settings(first), overseer.settings(second)) == (SET, Settings())
    assert not any(isinstance(event, PartAdded) for event in events)


@pytest.mark.parametrize("name", ["", " ", "\u200b", "x" * 121])
def test_settings_with_a_name_that_is_none_are_refused_whole(overseer: Overseer, name: str) -> None:
    """Nothing is half changed."""
    room_id = overseer.create("Kitchen").id
    with pytest.raises(Invalid):
        overseer.configure(room_id, ALL, name=name)
    assert (overseer.settings(room_id), overseer.room(room_id).name) == (Settings(), "Kitchen")


def test_a_room_that_is_not_there_has_no_settings(overseer: Overseer) -> None:
    """Neither to read nor to change, nor does any appear by that."""
    room_id = overseer.create("Kitchen").id
    overseer.delete(room_id)
    for unknown in (room_id, ROOM_ID, "../x", ""):
        with pytest.raises(NoSuchRoom):
            overseer.settings(unknown)
        with pytest.raises(NoSuchRoom):
            overseer.configure(unknown, ALL)
    assert overseer.rooms().rooms == ()


def test_the_models_to_choose_from_are_the_servers(overseer: Overseer, model_server: ModelServer) -> None:
    """Those it lists; asked again only if that is wanted."""
    model_server.models = ["large", "small"]
    assert overseer.models() == ("large", "small")
    model_server.models = ["huge"]
    assert overseer.models() == ("large", "small")
    assert overseer.models(refresh=True) == ("huge",)
