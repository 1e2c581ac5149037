"""Exports of rooms and what is made of them again: nothing is lost, and no export can do harm."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from io import SEEK_END
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer.domain.errors import StorageUnavailable
from overseer.domain.messages import File, Part, Reasoning, Source, Text, ToolCall, Usage
from overseer.domain.settings import Settings
from overseer.render.export import as_markdown
from overseer.storage import message_tree, room_rows, schema
from overseer.storage.database import Storage
from overseer.storage.own_formats import (
    INTERRUPTED,
    ImportedRoom,
    UnreadableExport,
    write_room_from_json,
    write_room_from_sqlite,
)
from overseer.storage.room_copy import RoomCopy, export
from overseer.storage.room_store import RoomStore
from tests.storage.test_schemas import ROOMS, load
from tests.support.pictures import GIF, png
from tests.support.seed_data import insert_messages

ROOM = "0123456789ab"
PICTURES = (GIF, png(4, 3), b"no picture at all")
DEFAULTS = Settings()
USAGE = ("tokens_in", "tokens_out", "seconds", "speaking", "estimated", "context_used", "context_limit")

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
seconds = st.none() | st.floats(0, 1e6)
files = st.integers(0, len(PICTURES) - 1).map(lambda at: picture(at))
parts = st.one_of(
    st.builds(Text, texts),
    st.builds(Reasoning, texts, seconds),
    st.builds(ToolCall, texts, texts, texts, texts, st.sampled_from(("done", "failed", "abandoned")), texts),
    files,
)
usages = st.none() | st.builds(
    Usage, *[st.integers(0, 10**6)] * 2, *[st.floats(0, 1e6)] * 2, st.booleans(), *[st.integers(0, 10**6)] * 2
)
answers = st.fixed_dictionaries(
    {
        "parts": st.lists(parts, max_size=4),
        "state": st.sampled_from(("complete", "stopped", "failed", "interrupted")),
        "reason": texts,
        "model": texts,
        "usage": usages,
        "left_out": st.sets(st.sampled_from(("tools", "temperature", "system"))),
        "continuable": st.booleans(),
        "sources": st.lists(st.builds(Source, st.just("https://example.com/a"), texts), max_size=2),
    }
)
steps = st.tuples(st.sampled_from(("ask", "ask several", "edit", "retry", "show")), st.integers(0, 50), texts, answers)
configurations = st.builds(Settings, texts, texts, st.none() | st.floats(0, 2), st.booleans())


def picture(at: int) -> File:
    sha256 = hashlib.sha256(PICTURES[at]).hexdigest()
    return File(sha256, ("image/gif", "image/png", "text/plain")[at], "A picture", at, 2 * at, f"{at}.x")


def make_room(path: Path, done: list[Any], configuration: Settings = DEFAULTS) -> None:
    """Make a room by the commands that a chat room uses."""
    storage = Storage(path)
    store = RoomStore(storage, create=True)
    store.initialize("Kitchen", by_person=False)
    store.configure(configuration, name=None)
    for what, at, words, answer in done:
        count = len(everything(storage)["messages"])
        if what == "edit" and count:
            store.edit_question(1, words)
        elif what == "retry" and count:
            store.retry_last_answer()
        elif what == "show" and count:
            store.show(1 + at % count)
        else:
            store.add_question(
                words, f"key {count}", name="Named", models=["a", "b", "c"] if what == "ask several" else ()
            )
        with storage.write() as db:
            for number in room_rows.unfinished_numbers(db):
                for part in answer["parts"]:
                    if isinstance(part, File):
                        content = next(one for one in PICTURES if hashlib.sha256(one).hexdigest() == part.sha256)
                        room_rows.insert_file(db, part, content)
                room_rows.upsert_parts(db, number, answer["parts"])
                rest = {name: value for name, value in answer.items() if name != "parts"}
                room_rows.mark_finished(db, number, rest.pop("state"), rest.pop("reason"), **rest)
    store.set_context_start(3)
    storage.close()


def everything(storage: Storage) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of a room's file, except for what an export leaves out."""
    with storage.read() as db:
        found = {}
        for table, order in (
            ("room", "one"),
            ("messages", "number"),
            ("parts", "message, position"),
            ("files", "sha256"),
        ):
            found[table] = [dict(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY {order}")]
        found["sqlite_sequence"] = [dict(db.execute("SELECT max(seq) AS n FROM sqlite_sequence").fetchone())]
    for row in (*found["room"], *found["messages"]):
        row["source"] = row["key"] = None
        if "tokens_out" in row and row["tokens_out"] is None:
            row |= dict.fromkeys(USAGE)
    return found


def read(path: Path) -> dict[str, list[dict[str, Any]]]:
    storage = Storage(path)
    with closing(storage):
        storage.migrate(schema.MIGRATIONS, application_id=schema.APPLICATION_ID, create=False)
        with storage.read() as db:
            assert message_tree.faults(db) == []
        return everything(storage)


def as_json(path: Path) -> dict[str, Any]:
    with export(path, ROOM, RoomCopy.json) as file:
        found: dict[str, Any] = json.loads(file.read())
        return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=8), configurations)
def test_export_and_import_of_a_room_give_the_same_room(done: list[Any], configuration: Settings) -> None:
    """As JSON and as SQLite: every column of every row, apart from keys and sources."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_room(folder / "room.sqlite", done, configuration)
        expected = read(folder / "room.sqlite")
        item = as_json(folder / "room.sqlite")
        imported = write_room_from_json(item, folder / "of-json.sqlite", source=f"overseer:{ROOM}")
        assert read(folder / "of-json.sqlite") == expected
        with export(folder / "room.sqlite", ROOM, RoomCopy.sqlite) as file:
            (folder / "given.sqlite").write_bytes(file.read())
        same = write_room_from_sqlite(folder / "given.sqlite", folder / "of-sqlite.sqlite", source="x")
        assert read(folder / "of-sqlite.sqlite") == expected
        assert imported == ImportedRoom(item["name"], len(expected["messages"]), item["created_at"], ROOM)
        assert (same.name, same.messages, same.created_at) == (imported.name, imported.messages, imported.created_at)
        assert {path.name for path in folder.iterdir()} == {
            "room.sqlite",
            "of-json.sqlite",
            "given.sqlite",
            "of-sqlite.sqlite",
        }


def answer(*given: Part, **values: Any) -> dict[str, Any]:
    return {"parts": list(given), "state": "complete", "reason": "", **values}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A room with two versions of its question, three answers side by side, a tool call, reasoning and a picture."""
    parts = (Reasoning("Hm.", 1.5), ToolCall("c1", "roll_dice", "{}", "4", "done", "{}"), picture(0), Text("It is 4."))
    made = tmp_path / "room.sqlite"
    make_room(
        made,
        [
            ("ask", 0, "Roll", answer(*parts, sources=[Source("https://example.com", "E")])),
            ("edit", 0, "Roll again", answer(Text("No."))),
            ("ask several", 0, "Why?", answer(Text("So."), usage=Usage(1, 2, 3.0, 2.0))),
        ],
    )
    return made


@pytest.fixture
def item(path: Path) -> dict[str, Any]:
    return as_json(path)


def test_import_sets_sources_and_keeps_those_of_messages(item: dict[str, Any], tmp_path: Path) -> None:
    item["messages"][2]["source"] = "chatgpt:1"
    item["messages"][4]["source"] = "overseer:1"
    write_room_from_json(item, tmp_path / "new.sqlite", source="overseer:abc")
    with closing(sqlite3.connect(tmp_path / "new.sqlite")) as db:
        assert db.execute("SELECT source FROM room").fetchall() == [("overseer:abc",)]
        found = [source for (source,) in db.execute("SELECT source FROM messages ORDER BY number")]
    assert found == [None, "overseer:2", "chatgpt:1", "overseer:4", "overseer:1", *(f"overseer:{n}" for n in (6, 7, 8))]


def test_import_ends_an_answer_that_was_being_generated(item: dict[str, Any], tmp_path: Path) -> None:
    message = item["messages"][1]
    message["state"], message["parts"][1]["state"] = "streaming", "running"
    write_room_from_json(item, tmp_path / "new.sqlite", source="")
    storage = Storage(tmp_path / "new.sqlite")
    found = RoomStore(storage, create=False).message(2)
    storage.close()
    assert (found.state, found.reason) == ("interrupted", INTERRUPTED)
    assert isinstance(found.parts[1], ToolCall) and found.parts[1].state == "abandoned"


def test_import_cleans_texts(item: dict[str, Any], tmp_path: Path) -> None:
    item["messages"][0]["parts"][0]["text"] = "a\0b\ud83dc\vd"
    item["settings"]["system_prompt"] = "\x1b[1m"
    write_room_from_json(item, tmp_path / "new.sqlite", source="")
    found = read(tmp_path / "new.sqlite")
    assert found["parts"][0]["text"] == "a\ufffdb\ufffdc\nd"
    assert found["room"][0]["system_prompt"] == "\ufffd[1m"


def test_import_keeps_used_numbers_and_no_file_that_nothing_shows(item: dict[str, Any], tmp_path: Path) -> None:
    item["last_number"] = 20
    del item["messages"][1]["parts"][2]
    assert len(item["files"]) == 1
    write_room_from_json(item, tmp_path / "new.sqlite", source="")
    found = read(tmp_path / "new.sqlite")
    assert found["sqlite_sequence"] == [{"n": 20}] and found["files"] == []


def test_import_does_not_touch_a_file_that_is_there(item: dict[str, Any], path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write_room_from_json(item, path, source="")
    assert path.read_bytes() == before


BAD: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("format must", lambda item: item.update(format="x")),
    ("format is missing", lambda item: item.pop("format")),
    ("version is newer", lambda item: item.update(version=2)),
    ("version must", lambda item: item.update(version=True)),
    ("name is no name", lambda item: item.update(name=" \n")),
    ("name must be a text", lambda item: item.update(name=["x"])),
    ("named_by must", lambda item: item.update(named_by={})),
    ("created_at must", lambda item: item.update(created_at=1.5)),
    ("settings.temperature must", lambda item: item["settings"].update(temperature=float("nan"))),
    ("settings.model must have", lambda item: item["settings"].update(model="x" * 201)),
    ("archived must", lambda item: item.update(archived=1)),
    ("forked_from is not", lambda item: item.update(forked_from="../../etc")),
    ("head must be the number of a message", lambda item: item.update(head=99)),
    ("head is missing", lambda item: item.update(head=None)),
    ("messages must be an array", lambda item: item.update(messages={})),
    ("messages[0] must be an object", lambda item: item["messages"].insert(0, 7)),
    ("messages[1].number must be higher", lambda item: item["messages"][1].update(number=1)),
    ("messages[0].number must be a whole", lambda item: item["messages"][0].update(number=0)),
    ("messages[0].number must be a whole", lambda item: item["messages"][0].update(number=10**400)),
    ("messages[3].parent must be the number of an older", lambda item: item["messages"][3].update(parent=4)),
    ("messages[0].parent must be the number of an older", lambda item: item["messages"][0].update(parent=2)),
    ("messages[0].role must be one of", lambda item: item["messages"][0].update(role="system")),
    ("messages[0].state must be complete", lambda item: item["messages"][0].update(state="waiting")),
    ("messages[1].state must be one of", lambda item: item["messages"][1].update(state="x")),
    ("messages[1].source is that of another", lambda item: [one.update(source="s") for one in item["messages"][:2]]),
    ("messages[6].lane is that of another", lambda item: item["messages"][6].update(lane=1)),
    ("messages[0].lane must be of an answer", lambda item: item["messages"][0].update(lane=1)),
    ("messages[1].left_out must", lambda item: item["messages"][1].update(left_out=["a,b"])),
    (
        "messages[1].sources[0].url must",
        lambda item: item["messages"][1]["sources"][0].update(url="javascript:alert(1)"),
    ),
    ("messages[5].usage.tokens_in must", lambda item: item["messages"][5]["usage"].update(tokens_in=-1)),
    ("messages[0].parts[0].kind must", lambda item: item["messages"][0]["parts"][0].update(kind="html")),
    ("messages[0].parts[0].text is missing", lambda item: item["messages"][0]["parts"][0].pop("text")),
    ("messages[1].parts[1].state must", lambda item: item["messages"][1]["parts"][1].update(state="x")),
    ("messages[1].parts[2].sha256 must be that of one", lambda item: item["files"].clear()),
    ("files[0].sha256 is not that of", lambda item: item["files"][0].update(content="AAAA")),
    ("files[0].content must be base64", lambda item: item["files"][0].update(content="!")),
    ("files[1].sha256 is there twice", lambda item: item["files"].append(item["files"][0])),
    ("files[0].media_type is not", lambda item: item["files"][0].update(media_type="image/png\r\nX-Evil: 1")),
    ("files[0].width must", lambda item: item["files"][0].update(width="1")),
]


@pytest.mark.parametrize(("sentence", "change"), BAD, ids=[sentence for sentence, _ in BAD])
def test_import_of_json_that_is_wrong_is_refused_with_its_place(
    item: dict[str, Any], tmp_path: Path, sentence: str, change: Callable[[dict[str, Any]], object]
) -> None:
    change(item)
    with pytest.raises(UnreadableExport) as caught:
        write_room_from_json(item, tmp_path / "new.sqlite", source="")
    assert str(caught.value).startswith(sentence) and str(caught.value).endswith(".")
    assert [path.name for path in tmp_path.iterdir()] == ["room.sqlite"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_import_of_altered_json_is_whole_or_refused(item: dict[str, Any], tmp_path: Path, data: st.DataObject) -> None:
    """Whatever stands in one place of it."""
    altered = copy.deepcopy(item)
    here: Any = altered
    while True:
        key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if isinstance(here[key], dict | list) and here[key] and data.draw(st.booleans()):
            here = here[key]
        else:
            here[key] = data.draw(values)
            break
    target = tmp_path / "new.sqlite"
    try:
        write_room_from_json(altered, target, source="")
    except UnreadableExport:
        assert not target.exists()
    else:
        read(target)
        target.unlink()


# SQLite


@pytest.mark.parametrize("version", ROOMS)
def test_import_of_sqlite_reads_every_schema_version(tmp_path: Path, version: int) -> None:
    given_file = tmp_path / "given.sqlite"
    load("room", version, given_file)
    with closing(sqlite3.connect(given_file)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("UPDATE messages SET state = 'complete' WHERE state IN ('waiting', 'streaming')")
        db.execute("UPDATE parts SET call = replace(call, 'running', 'done')")
        db.commit()
    before = given_file.read_bytes()
    imported = write_room_from_sqlite(given_file, tmp_path / "new.sqlite", source="s")
    assert given_file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.sqlite", "new.sqlite"]
    found = read(tmp_path / "new.sqlite")
    assert len(found["messages"]) == imported.messages > 0
    storage = Storage(given_file)
    with closing(storage):
        storage.migrate(schema.MIGRATIONS, application_id=schema.APPLICATION_ID, create=False)
        assert found == everything(storage)


HOSTILE = {
    "a view in place of a table": "DROP TABLE parts; CREATE VIEW parts AS SELECT 1 AS message, 0 AS position,"
    " 'text' AS kind, 'x' AS text, NULL AS call, NULL AS file, NULL AS seconds, '' AS name;",
    "a virtual table": "DROP TABLE parts; CREATE VIRTUAL TABLE parts USING fts5(message, position, kind, text, call);",
    "a generated column": "ALTER TABLE messages DROP COLUMN reason;"
    " ALTER TABLE messages ADD COLUMN reason TEXT AS (hex(zeroblob(100000000)));",
    "a generated column that is short": "ALTER TABLE messages DROP COLUMN reason;"
    " ALTER TABLE messages ADD COLUMN reason TEXT AS (upper(role));",
    "a view of SQLite's own": "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET type = 'view', rootpage = 0,"
    " sql = 'CREATE VIEW sqlite_sequence AS SELECT ''messages'' AS name, abs(77) AS seq'"
    " WHERE name = 'sqlite_sequence';",
    "no table": "DROP TABLE files;",
    "no column": "ALTER TABLE messages DROP COLUMN ended_at;",
    "no room": "DELETE FROM room;",
    "two rooms' worth of nothing": "DROP TABLE room; CREATE TABLE room (a);",
    "a value of another kind": "UPDATE messages SET left_out = x'00';",
    "a call that is not JSON": "UPDATE parts SET call = '[' WHERE kind = 'tool_call';",
    "a call that is nested deeply": "UPDATE parts SET call = replace(hex(zeroblob(100000)), '00', '[')"
    " WHERE kind = 'tool_call';",
    "an address that runs": """UPDATE messages SET sources = '[["javascript:alert(1)", ""]]';""",
    "a file that was changed": "UPDATE files SET content = x'00';",
    "a state of its own": "PRAGMA ignore_check_constraints = 1; UPDATE messages SET state = 'hacked' WHERE number = 2;",
    "a newer version": "PRAGMA user_version = 99;",
    "no version": "PRAGMA user_version = 0;",
    "another program": "PRAGMA application_id = 1;",
    "a parent that is newer": "UPDATE messages SET parent = 8 WHERE number = 2;",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_import_of_sqlite_that_is_hostile_is_refused(path: Path, tmp_path: Path, what: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("DROP VIEW transcript")
        db.executescript(HOSTILE[what])
    with pytest.raises(UnreadableExport):
        write_room_from_sqlite(path, tmp_path / "new.sqlite", source="")
    assert [path.name for path in tmp_path.iterdir()] == ["room.sqlite"]


def test_import_of_sqlite_ignores_triggers_views_and_other_tables(path: Path, tmp_path: Path) -> None:
    expected = read(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.executescript(
            """CREATE TABLE evil (a); INSERT INTO evil VALUES ('x');
            CREATE TRIGGER more AFTER INSERT ON messages BEGIN DELETE FROM room; END;
            INSERT INTO shares (secret, created_at) VALUES ('s3cret', 1);"""
        )
    write_room_from_sqlite(path, tmp_path / "new.sqlite", source="")
    assert read(tmp_path / "new.sqlite") == expected
    with closing(sqlite3.connect(tmp_path / "new.sqlite")) as db:
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
        assert not names & {"evil", "more"} and "transcript" in names
        assert db.execute("SELECT count(*) FROM shares").fetchone() == (0,)


def test_import_of_sqlite_replaces_bytes_that_are_no_text(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("UPDATE parts SET text = CAST(x'61ff62' AS TEXT) WHERE message = 1")
        db.commit()
    write_room_from_sqlite(path, tmp_path / "new.sqlite", source="")
    assert read(tmp_path / "new.sqlite")["parts"][0]["text"] == "a\ufffdb"


def test_import_of_sqlite_that_takes_too_long_is_refused(path: Path, tmp_path: Path) -> None:
    """Without its index, each message reads all parts."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.executescript(
            """DROP VIEW transcript; DROP TABLE parts;
            CREATE TABLE parts (message, position, kind, text, call, file, seconds, name);
            WITH RECURSIVE n (n) AS (SELECT 9 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
            INSERT INTO messages (number, role, state, created_at) SELECT n, 'user', 'complete', 0 FROM n;
            INSERT INTO parts SELECT number, 0, 'text', 'x', NULL, NULL, NULL, '' FROM messages;"""
        )
    with pytest.raises(UnreadableExport, match="too long"):
        write_room_from_sqlite(path, tmp_path / "new.sqlite", source="")
    assert not (tmp_path / "new.sqlite").exists()


@pytest.mark.parametrize("seed", range(40))
def test_import_of_sqlite_that_is_damaged_is_whole_or_refused(path: Path, tmp_path: Path, seed: int) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    content = bytearray(path.read_bytes())
    at = int.from_bytes(hashlib.sha256(bytes([seed])).digest()[:4]) % len(content)
    content[at : at + 40] = hashlib.sha512(bytes([seed])).digest()[: len(content[at : at + 40])]
    path.write_bytes(content)
    target = tmp_path / "new.sqlite"
    try:
        write_room_from_sqlite(path, target, source="")
    except UnreadableExport:
        assert not target.exists()
    else:
        read(target)


def test_import_of_what_is_no_sqlite_is_refused(tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(b"hello" * 1000)
    for given_file in (tmp_path / "given", tmp_path / "missing"):
        with pytest.raises(UnreadableExport):
            write_room_from_sqlite(given_file, tmp_path / "new.sqlite", source="")


# Copies


def test_export_of_a_large_room_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "room.sqlite"
    make_room(path, [])
    insert_messages(path, range(1, 5001), lambda number: "word " * 400)
    for form in (RoomCopy.json, RoomCopy.jsonl, lambda room: room.file(as_markdown(room.name, room.transcript()))):
        tracemalloc.start()
        try:
            with export(path, ROOM, form) as file:
                assert file.seek(0, SEEK_END) > 10_000_000
            assert tracemalloc.get_traced_memory()[1] < 2_500_000
        finally:
            tracemalloc.stop()


def test_export_on_a_full_disk_is_refused_and_leaves_nothing(path: Path) -> None:
    def form(room: RoomCopy) -> BinaryIO:
        def pieces() -> Iterator[str]:
            yield "x"
            raise OSError(errno.ENOSPC, "No space left on device")

        return room.file(pieces())

    with pytest.raises(StorageUnavailable, match="The disk is full"):
        export(path, ROOM, form)
    assert [one.name for one in path.parent.iterdir()] == ["room.sqlite"]


def test_export_is_of_one_state_while_the_room_goes_on(path: Path) -> None:
    storage = Storage(path)
    with closing(storage):
        store = RoomStore(storage, create=False)

        def form(room: RoomCopy) -> BinaryIO:
            store.add_question("Later", None, name="")
            return room.json()

        with export(path, ROOM, form) as file:
            assert b"Later" not in file.read()
        with export(path, ROOM, RoomCopy.json) as file:
            assert b"Later" in file.read()
