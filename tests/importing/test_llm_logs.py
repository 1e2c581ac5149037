"""The log of the command llm, as a database and as JSON."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer.domain.messages import Reasoning, Text, ToolCall
from overseer.importing.conversations import Attachment, Conversation, ToolResult, Unreadable
from overseer.importing.formats import llm_logs
from tests.importing.mutations import check, damaged

RESPONSES = """
CREATE TABLE "conversations" ("id" TEXT PRIMARY KEY, "name" TEXT, "model" TEXT);
CREATE TABLE "responses" ("id" TEXT PRIMARY KEY, "model" TEXT, "prompt" TEXT, "system" TEXT, "prompt_json" TEXT,
  "options_json" TEXT, "response" TEXT, "response_json" TEXT, "conversation_id" TEXT, "duration_ms" INTEGER,
  "datetime_utc" TEXT);
"""
EXTRAS = """
ALTER TABLE responses ADD COLUMN "reasoning" TEXT;
CREATE TABLE "attachments" ("id" TEXT PRIMARY KEY, "type" TEXT, "path" TEXT, "url" TEXT, "content" BLOB);
CREATE TABLE "prompt_attachments" ("response_id" TEXT, "attachment_id" TEXT, "order" INTEGER);
CREATE TABLE "fragments" ("id" INTEGER PRIMARY KEY, "hash" TEXT, "content" TEXT, "source" TEXT);
CREATE TABLE "prompt_fragments" ("response_id" TEXT, "fragment_id" INTEGER, "order" INTEGER);
CREATE TABLE "system_fragments" ("response_id" TEXT, "fragment_id" INTEGER, "order" INTEGER);
CREATE TABLE "tool_calls" ("id" INTEGER PRIMARY KEY, "response_id" TEXT, "name" TEXT, "arguments" TEXT,
  "tool_call_id" TEXT);
CREATE TABLE "tool_results" ("id" INTEGER PRIMARY KEY, "response_id" TEXT, "name" TEXT, "output" TEXT,
  "tool_call_id" TEXT, "exception" TEXT);
"""
THREADS = """
CREATE TABLE "messages" ("hash" TEXT PRIMARY KEY, "parent_hash" TEXT, "role" TEXT, "provider_metadata" TEXT);
CREATE TABLE "parts" ("id" INTEGER PRIMARY KEY, "message_hash" TEXT, "position" INTEGER, "type" TEXT,
  "tool_name" TEXT, "text" TEXT, "payload" TEXT);
CREATE TABLE "threads" ("id" TEXT PRIMARY KEY, "name" TEXT, "tip_message_hash" TEXT, "forked_from" TEXT,
  "datetime_utc" TEXT);
CREATE TABLE "turns" ("id" TEXT PRIMARY KEY, "thread_id" TEXT, "parent_message_hash" TEXT, "tip_message_hash" TEXT,
  "model" TEXT, "options_json" TEXT, "duration_ms" INTEGER, "datetime_utc" TEXT, "response_json" TEXT);
"""
NOON = 1777636800000  # 2026-05-01T12:00:00Z
Rows = dict[str, list[Sequence[Any]]]
OLD: Rows = {
    "conversations": [("c1", "Bread", "m-1"), ("c2", "Rolls", "m-1")],
    "responses": [
        ("r2", "m-2", "And?", None, None, "{}", "Bake.", None, "c1", 1500, "2026-05-01T12:01:00"),
        (
            "r1",
            "m-1",
            "How?",
            "Be a baker.",
            None,
            '{"temperature": 0.4}',
            "So.",
            None,
            "c1",
            500,
            "2026-05-01T12:00:00",
        ),
        ("r3", "m-1", "Rolls?", None, None, None, "Yes.", None, "c2", None, "2026-05-01T12:02:00+00:00"),
    ],
}
EXTRA: Rows = {
    "conversations": [("c1", "Bread", "m-1")],
    "responses": [
        ("r1", "m-1", "How?", "sys", None, "{}", "", None, "c1", 5, "2026-05-01T12:00:00", "flour"),
        ("r2", "m-1", "", "sys", None, "{}", "Bake.", None, "c1", 5, "2026-05-01T12:00:01", None),
    ],
    "attachments": [("a1", "image/png", None, None, b"\x89PNG"), ("a2", "image/png", "/home/x/loaf.png", None, None)],
    "prompt_attachments": [("r1", "a2", 1), ("r1", "a1", 0)],
    "fragments": [(1, "h1", "recipe\n", "/r.txt"), (2, "h2", "rules", None)],
    "prompt_fragments": [("r1", 1, 0)],
    "system_fragments": [("r1", 2, 0), ("r2", 2, 0)],
    "tool_calls": [(1, "r1", "oven", '{"heat": 230}', "t1")],
    "tool_results": [(1, "r2", "oven", "", "t1", "ValueError: cold")],
}
NEW: Rows = {
    "messages": [
        ("s", None, "system", None),
        ("q", "s", "user", None),
        ("a", "q", "assistant", None),
        ("t", "a", "tool", None),
        ("b", "t", "assistant", None),
        ("q2", "b", "user", None),
        ("b2", "q2", "assistant", None),
        ("f", "b", "user", None),
        ("g", "f", "assistant", None),
    ],
    "parts": [
        (1, "s", 0, "text", None, "Be a baker.", None),
        (2, "q", 0, "text", None, None, '{"text_ref": [{"fragment": 1}, {"literal": "How?"}]}'),
        (3, "q", 1, "attachment", None, None, '{"attachment": {"id": "a1"}}'),
        (5, "a", 1, "tool_call", "oven", None, '{"name": "oven", "arguments": {"heat": 230}, "tool_call_id": "t1"}'),
        (4, "a", 0, "reasoning", None, "flour", None),
        (6, "t", 0, "tool_result", "oven", None, '{"name": "oven", "output": "hot", "tool_call_id": "t1"}'),
        (7, "b", 0, "text", None, "Bake.", None),
        (8, "q2", 0, "text", None, "And?", None),
        (9, "b2", 0, "text", None, "Eat.", None),
        (10, "f", 0, "text", None, "Or?", None),
        (11, "g", 0, "hologram", None, "round", None),
    ],
    "threads": [
        ("th1", "Bread", "b2", None, "2026-05-01 12:00:09+00:00"),
        ("th2", "Fork", "g", "th1", "2026-05-01 12:09:00+00:00"),
    ],
    "turns": [
        ("u1", "th1", "q", "a", "m-1", '{"temperature": 0.4}', 100, "2026-05-01T12:00:00+00:00", None),
        ("u2", "th1", "t", "b", "m-1", None, 100, "2026-05-01T12:00:01+00:00", None),
        ("u3", "th1", "q2", "b2", "m-2", None, 2000, "2026-05-01T12:00:05+00:00", None),
        ("u4", "th2", "f", "g", "m-3", None, 100, "2026-05-01T12:09:00+00:00", None),
    ],
    "attachments": [("a1", "image/png", None, None, b"\x89PNG")],
    "fragments": [(1, "h1", "recipe\n", "/r.txt")],
}


def database(path: Path, schema: str, rows: Rows) -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(schema)
        for table, values in rows.items():
            for row in values:
                db.execute(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(row))})', row)
        db.commit()
    return path


def read(path: Path) -> list[Conversation]:
    assert llm_logs.recognizes(path)
    return list(llm_logs.read(path))


def test_llm_logs_responses_of_a_conversation_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    bread, rolls = read(database(tmp_path / "logs.db", RESPONSES, OLD))
    assert (bread.source, bread.title, bread.model, bread.temperature) == ("llm:c1", "Bread", "m-1", 0.4)
    assert (bread.created_at, bread.head, rolls.source) == (NOON, "r2", "llm:c2")
    assert [(node.role, node.parts) for node in bread.nodes] == [
        ("system", [Text("Be a baker.")]),
        ("user", [Text("How?")]),
        ("assistant", [Text("So.")]),
        ("user", [Text("And?")]),
        ("assistant", [Text("Bake.")]),
    ]
    assert [node.parent for node in bread.nodes] == [None, *(node.id for node in bread.nodes[:-1])]
    last = bread.nodes[-1]
    assert (last.model, last.created_at, last.ended_at) == ("m-2", NOON + 60_000, NOON + 61_500)


def test_llm_logs_tools_files_and_fragments_of_responses_are_read(tmp_path: Path) -> None:
    (found,) = read(database(tmp_path / "logs.db", RESPONSES + EXTRAS, EXTRA))
    system, question, call, result, answer = found.nodes
    assert system.parts == [Text("rules\nsys")] and question.parts[0] == Text("recipe\nHow?")
    stored, by_path = question.parts[1:]
    assert isinstance(stored, Attachment) and stored.read is not None and stored.read() == b"\x89PNG"
    assert by_path == Attachment("loaf.png", "image/png")
    assert call.parts == [Reasoning("flour"), ToolCall("t1", "oven", '{"heat": 230}')]
    assert result.role == "tool" and result.parts == [ToolResult("t1", "oven", "ValueError: cold", failed=True)]
    assert answer.parts == [Text("Bake.")]


def test_llm_logs_threads_share_messages_and_have_their_times_and_models(tmp_path: Path) -> None:
    bread, fork = read(database(tmp_path / "logs.db", THREADS + EXTRAS.partition(";")[2], NEW))
    assert (bread.source, bread.title, bread.head, bread.temperature) == ("llm:th1", "Bread", "b2", 0.4)
    assert (bread.created_at, bread.updated_at, bread.model) == (NOON, NOON + 5000, "m-2")
    assert [node.id for node in bread.nodes] == ["s", "q", "a", "t", "b", "q2", "b2"]
    assert [node.id for node in fork.nodes] == ["s", "q", "a", "t", "b", "f", "g"]
    _, question, call, result, answer, *_ = bread.nodes
    assert question.parts[0] == Text("recipe\nHow?") and question.created_at == NOON
    picture = question.parts[1]
    assert isinstance(picture, Attachment) and picture.read is not None and picture.read() == b"\x89PNG"
    assert call.parts == [Reasoning("flour"), ToolCall("t1", "oven", '{"heat": 230}')]
    assert result.parts == [ToolResult("t1", "oven", "hot")] and result.created_at == NOON + 1000
    assert (answer.model, answer.created_at, answer.ended_at) == ("m-1", NOON + 1000, NOON + 1100)
    assert fork.nodes[-1].parts == [Text("[unknown content of type “hologram”]\n\nround")]
    assert (fork.nodes[-1].model, fork.nodes[1].created_at) == ("m-3", NOON)


def test_llm_logs_turns_that_the_thread_does_not_end_with_are_branches(tmp_path: Path) -> None:
    turn = ("u5", "th1", "f", "g", "m-3", None, 100, "2026-05-01T12:08:00+00:00", None)
    rows: Rows = {**NEW, "turns": [*NEW["turns"][:3], turn], "threads": NEW["threads"][:1]}
    (found,) = read(database(tmp_path / "logs.db", THREADS + EXTRAS.partition(";")[2], rows))
    assert {node.id: node.parent for node in found.nodes}["f"] == "b" and found.head == "b2"


def test_llm_logs_same_question_in_two_threads_has_the_time_of_each(tmp_path: Path) -> None:
    rows: Rows = {
        "messages": [("q", None, "user", None), ("a", "q", "assistant", None)],
        "parts": [(1, "q", 0, "text", None, "How?", None), (2, "a", 0, "text", None, "So.", None)],
        "threads": [("th1", "A", "a", None, "2026-05-01T12:00:00"), ("th2", "B", "a", None, "2026-05-01T12:01:00")],
        "turns": [
            ("u1", "th1", "q", "a", "m-1", None, 1, "2026-05-01T12:00:00", None),
            ("u2", "th2", "q", "a", "m-2", None, 1, "2026-05-01T12:01:00", None),
        ],
    }
    found = read(database(tmp_path / "logs.db", THREADS, rows))
    assert [[node.created_at for node in one.nodes] for one in found] == [[NOON] * 2, [NOON + 60_000] * 2]
    assert [one.nodes[1].model for one in found] == ["m-1", "m-2"]


def test_llm_logs_conversation_that_a_newer_llm_went_on_with_is_read_once(tmp_path: Path) -> None:
    rows: Rows = {**NEW, **OLD, "threads": [("c1", "Bread", "b2", None, "2026-05-01T12:00:00")], "turns": []}
    found = read(database(tmp_path / "logs.db", THREADS + RESPONSES + EXTRAS.partition(";")[2], rows))
    assert [one.source for one in found] == ["llm:c1", "llm:c2"] and found[0].head == "b2"


def test_llm_logs_chain_in_a_circle_ends(tmp_path: Path) -> None:
    rows: Rows = {**NEW, "messages": [("s", "q", "system", None), *NEW["messages"][1:]]}
    found = read(database(tmp_path / "logs.db", THREADS + EXTRAS.partition(";")[2], rows))
    assert len(found[0].nodes) == 7


JSON: list[dict[str, Any]] = [
    {
        "id": "r1",
        "model": "m-1",
        "conversation_id": "c1",
        "conversation_name": "Bread",
        "conversation_model": "m-1",
        "prompt": "How?",
        "system": "sys",
        "response": "",
        "reasoning": "flour",
        "options_json": {"temperature": 0.4},
        "datetime_utc": "2026-05-01T12:00:00",
        "duration_ms": 5,
        "prompt_fragments": [{"hash": "h", "content": "recipe", "aliases": []}],
        "tool_calls": [{"id": 15, "name": "oven", "arguments": {"heat": 230}, "tool_call_id": "t1"}],
        "tool_results": [],
        "attachments": [{"id": "a1b2", "type": "image/png", "path": None, "url": None, "content": True}],
    },
    {"id": "r3", "model": "m-1", "conversation_id": None, "prompt": "x", "response": "y"},
    {
        "id": "r2",
        "model": "m-1",
        "conversation_id": "c1",
        "prompt": "",
        "response": "Bake.",
        "datetime_utc": "2026-05-01T12:00:01",
        "tool_results": [{"name": "oven", "output": "hot", "tool_call_id": "t1", "exception": None, "attachments": []}],
    },
]


def test_llm_logs_as_json_are_grouped_by_conversation() -> None:
    assert all(map(llm_logs.recognizes_json, JSON))
    bread, other = llm_logs.read_json(JSON)
    assert (bread.source, bread.title, other.source, bread.temperature) == ("llm:c1", "Bread", "llm:r3", 0.4)
    assert [(node.role, node.parts) for node in bread.nodes] == [
        ("system", [Text("sys")]),
        ("user", [Text("recipe\nHow?"), Attachment("a1b2.png", "image/png")]),
        ("assistant", [Reasoning("flour"), ToolCall("t1", "oven", '{"heat": 230}')]),
        ("tool", [ToolResult("t1", "oven", "hot")]),
        ("assistant", [Text("Bake.")]),
    ]


@pytest.mark.parametrize("item", [{}, {"conversation_id": 1}, {"mapping": {}, "conversation_id": 1}])
def test_llm_logs_other_objects_are_not_recognized(item: dict[str, Any]) -> None:
    assert not llm_logs.recognizes_json(item)


@settings(max_examples=300, deadline=None)
@given(damaged(JSON))
def test_llm_logs_damaged_json_is_read_or_unreadable(items: Any) -> None:
    with suppress(Unreadable):
        for conversation in llm_logs.read_json(items):
            check(conversation)


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE VIEW responses AS SELECT 1 AS id, 2 AS conversation_id; CREATE TABLE conversations (id)",
        "CREATE VIRTUAL TABLE responses USING fts5(id, conversation_id, prompt); CREATE TABLE conversations (id)",
        "CREATE TABLE other (id)",
    ],
    ids=["a view", "a virtual table", "another table"],
)
def test_llm_logs_database_without_ordinary_tables_is_not_recognized(tmp_path: Path, schema: str) -> None:
    assert not llm_logs.recognizes(database(tmp_path / "logs.db", schema, {}))


def test_llm_logs_file_that_is_no_database_is_not_recognized(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    path.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    assert not llm_logs.recognizes(path)
    with pytest.raises(Unreadable):
        list(llm_logs.read(path))


def test_llm_logs_generated_columns_are_not_computed(tmp_path: Path) -> None:
    schema = RESPONSES.replace('"prompt" TEXT, ', "")
    path = database(tmp_path / "logs.db", schema, {"conversations": [("c1", "A", "m")]})
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO responses (id, response, conversation_id) VALUES ('r', 'So.', 'c1')")
        db.execute("ALTER TABLE responses ADD COLUMN prompt TEXT AS (hex(zeroblob(900000000)))")
        db.commit()
    (found,) = read(path)
    assert found.nodes[-1].parts == [Text("So.")]


def test_llm_logs_only_ordinary_tables_can_be_read() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript("CREATE TABLE responses (id); CREATE TABLE secrets (id);")
        db.executescript("CREATE VIEW threads AS SELECT id FROM responses;")
        db.set_authorizer(llm_logs._authorize)
        assert db.execute("SELECT id, length(id) FROM responses").fetchall() == []
        for statement in (
            "SELECT id FROM secrets",
            "SELECT id FROM threads",
            "SELECT name FROM sqlite_master",
            "SELECT upper(id) FROM responses",
            "INSERT INTO responses VALUES (1)",
            "ATTACH ':memory:' AS x",
            "PRAGMA user_version",
        ):
            with pytest.raises(sqlite3.DatabaseError):
                db.execute(statement)


def test_llm_logs_tables_without_rowids_are_unreadable(tmp_path: Path) -> None:
    schema = 'CREATE TABLE "conversations" (id); CREATE TABLE responses (id PRIMARY KEY, conversation_id) WITHOUT ROWID'
    path = database(tmp_path / "logs.db", schema, {"responses": [("r", "c")]})
    with pytest.raises(Unreadable, match="cannot be read"):
        list(llm_logs.read(path))


def test_llm_logs_database_with_too_many_rows_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = database(tmp_path / "logs.db", RESPONSES, OLD)
    monkeypatch.setattr(llm_logs, "MAX_ROWS", 2)
    with pytest.raises(Unreadable, match="more than 2 rows"):
        list(llm_logs.read(path))


def test_llm_logs_query_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many: list[Sequence[Any]] = [
        (f"r{n}", "m", "x", None, None, None, "y", None, "c1", 1, "2026-05-01") for n in range(20_000)
    ]
    path = database(tmp_path / "logs.db", RESPONSES, {"responses": many})
    monkeypatch.setattr(llm_logs, "MAX_QUERY_SECONDS", 0.000_001)
    with pytest.raises(Unreadable, match="too long"):
        list(llm_logs.read(path))


def test_llm_logs_file_is_not_changed_and_nothing_is_put_beside_it(tmp_path: Path) -> None:
    path = database(tmp_path / "logs.db", RESPONSES + "PRAGMA journal_mode=WAL;", OLD)
    before = path.read_bytes()
    path.chmod(0o400)
    assert len(read(path)) == 2
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["logs.db"]


VALUES = st.sampled_from(
    [None, 0, -1, 2**62, 1.5, "", "x", "c1", "q", "9" * 400, b"\xff\x00", '{"attachment": []}', "[" * 3000]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_llm_logs_damaged_rows_are_read_or_unreadable(tmp_path: Path, data: st.DataObject) -> None:
    rows: Rows = {**NEW, **EXTRA, "attachments": EXTRA["attachments"], "fragments": EXTRA["fragments"]}
    rows = json.loads(json.dumps(rows, default=lambda content: content.decode("latin-1")))
    for _ in range(data.draw(st.integers(1, 6))):
        row = data.draw(st.sampled_from(rows[data.draw(st.sampled_from(sorted(rows)))]))
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(VALUES)  # type: ignore[index]
    schema = (THREADS + RESPONSES + EXTRAS).replace(" PRIMARY KEY", "")
    path = tmp_path / "logs.db"
    path.unlink(missing_ok=True)
    with suppress(Unreadable):
        for conversation in read(database(path, schema, rows)):
            check(conversation)


@pytest.mark.parametrize("seed", range(40))
def test_llm_logs_file_with_damaged_bytes_is_read_or_unreadable(tmp_path: Path, seed: int) -> None:
    path = database(tmp_path / "logs.db", THREADS + RESPONSES + EXTRAS, {**NEW, **EXTRA})
    content, chance = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(chance.choice([1, 10, 200])):
        content[chance.randrange(100, len(content))] = chance.randrange(256)
    path.write_bytes(content[: chance.choice([len(content), len(content) - 5000])])
    with suppress(Unreadable):
        llm_logs.recognizes(path)
        for conversation in llm_logs.read(path):
            check(conversation)
