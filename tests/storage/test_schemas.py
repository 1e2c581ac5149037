"""Schema versions: files of every earlier version open with their whole content, and published migrations stay."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from overseer.domain.messages import File, Message, Part, Reasoning, Source, State, Text, ToolCall, Usage, Versions
from overseer.domain.settings import Settings
from overseer.rooms.chat_room import INTERRUPTED
from overseer.rooms.overseer import Overseer
from overseer.storage import registry, schema
from overseer.storage.check import check
from overseer.storage.database import Migration
from tests.support.answers import Open
from tests.support.files import column
from tests.support.pictures import GIF

DUMPS = Path(__file__).parent / "schemas"
CREATED = 1790000000000
PUBLISHED = {  # append only
    "room": [
        "m001_messages",
        "m002_settings",
        "m003_pinned",
        "m004_left_out",
        "m005_context_and_sources",
        "m006_files",
        "m007_reasoning_seconds",
        "m008_versions",
        "m009_side_by_side",
        "m010_import_and_share",
    ],
    "registry": ["m001_rooms", "m002_failed", "m003_versions_and_forks", "m004_open", "m005_archive_and_imports"],
}
MIGRATIONS: dict[str, tuple[Migration, ...]] = {"room": schema.MIGRATIONS, "registry": registry.MIGRATIONS}
EVERY = [(kind, version) for kind, names in PUBLISHED.items() for version in range(1, len(names) + 1)]
ROOMS = range(1, len(PUBLISHED["room"]) + 1)  # a room of each schema version


def load(kind: str, version: int, path: Path) -> None:
    """Create a file from the dump of a version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript((DUMPS / f"{kind}-{version}.sql").read_text())


def room_file(directory: Path, version: int) -> Path:
    return directory / "facets" / f"room-{version:012}.sqlite"


def tables(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return the schema without its white space."""
    found = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    return {(name, re.sub(r'[\s"]+', "", sql)) for name, sql in found}


def question(number: int, words: str, at: int) -> Message:
    return Message(number, "user", "complete", (Text(words),), created_at=CREATED + at)


def reply(
    number: int, state: State, *parts: Part, at: int, ends: int | None = None, model: str = "stand-in", **more: Any
) -> Message:
    ended_at = CREATED + ends if ends else None
    return Message(number, "assistant", state, parts, created_at=CREATED + at, ended_at=ended_at, model=model, **more)


def expected_messages(version: int) -> list[Message]:
    """Return the content of the room that was dumped; later versions store more."""
    context = (150, 4096) if version >= 5 else (0, 0)
    usages = (Usage(120, 30, 2.5, 1.5, False, *context), Usage(9, 3, 0.5, 0.25, True)) if version >= 2 else (None, None)
    sources = (Source("https://example.com/a", "A page"),) if version >= 5 else ()
    left_out = frozenset(("temperature", "tools") if version >= 4 else ())
    time = ToolCall("call-1", "get_current_time", "{}", "2026-09-21T14:13:20+00:00", "done")
    failed = ToolCall("call-2", "roll_dice", '{"sides": 1}', "A die has at least two sides.", "failed")
    cut = "Abandoned: the answer ended before the tool did."
    abandoned = ToolCall("call-3", "roll_dice", '{"sides": 6}', cut, "abandoned")
    code = Text("It is **14:13**.\n\n```python\nprint('😀')\n```")
    name = "dot.gif" if version >= 10 else ""
    files = (File(sha256(GIF).hexdigest(), "image/gif", "A 'dot'", 2, 1, name),) if version >= 6 else ()
    first = (Reasoning("I had better look."), time, failed, code, *files)
    messages = [
        question(1, "What time is it?\n\nAnd 'what' \"day\"?", 1),
        reply(2, "complete", *first, at=1, ends=2, usage=usages[0], left_out=left_out, sources=sources),
        question(3, "A long answer", 3),
        reply(4, "stopped", Text("Once upon a"), at=3, ends=4, reason="Stopped.", usage=usages[1]),
        question(7, "Are you there?", 6),
        reply(8, "failed", at=6, ends=7, reason="The model server cannot be reached."),
        question(9, "Still?", 8),
        reply(
            10,
            "interrupted",
            Text("Half an ans"),
            at=8,
            ends=9,
            reason="The server went down.",
            continuable=version < 5,
        ),
        question(11, "Roll", 10),
        reply(12, "interrupted", Text("I roll."), abandoned, at=10, reason=INTERRUPTED),
        question(13, "And then?", 11),
        reply(14, "interrupted", at=11, reason=INTERRUPTED, model=""),
    ]
    if version >= 8:
        messages[3] = replace(messages[3], versions=Versions(1, 2, later=6))
    if version >= 9:
        messages[3] = replace(messages[3], asked_model="other-model", lane=2)
    parents = [None, *(message.number for message in messages)]
    return [replace(message, parent=parent) for message, parent in zip(messages, parents, strict=False)]


def stored_messages(overseer: Overseer, version: int) -> list[Message]:
    """Return the messages of a room, without the time at which the start ended the unfinished ones."""
    found = overseer.room(f"{version:012}").messages().messages
    return [replace(one, ended_at=None) if one.reason == INTERRUPTED else one for one in found]


def check_rooms(overseer: Overseer) -> None:
    for version in ROOMS:
        room_id = f"{version:012}"
        assert stored_messages(overseer, version) == expected_messages(version)
        page = overseer.room(room_id).messages()
        assert [one.number for one in page.lanes(page.messages[3])] == ([6, 4] if version >= 9 else [4])
        assert (page.more, page.end, page.context_start) == (False, 14, 3 if version >= 2 else 0)
        settings = Settings("other-model", "Answer in one sentence.", 0.5) if version >= 2 else Settings()
        assert overseer.room(room_id).settings() == replace(settings, pinned=version >= 3)
        room = overseer.record(room_id)
        assert (room.name, room.messages, room.preview) == (f"Küche 🍳 {version}", 12, "And then?")
        assert (room.answering, room.problem, room.pinned) == (False, "", version >= 3)
        assert overseer.room(room_id).ask("And then?", key="last").repeated
        forked = ("000000000001", 12, "Küche 🍳 1") if version >= 8 else ("", None, None)
        assert (room.forked_from, room.forked_at, room.origin) == forked
        thought = next(part for part in overseer.room(room_id).message(2).parts if isinstance(part, Reasoning))
        assert thought.seconds == (12.5 if version >= 7 else None)
        if version >= 6:
            assert overseer.room(room_id).file(sha256(GIF).hexdigest()) == ("image/gif", GIF)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_migrations_that_were_published_keep_their_names_and_order_and_have_dumps(kind: str) -> None:
    """A new migration is appended to PUBLISHED too, and its dump is made by `python -m tests.storage.schemas`."""
    assert [getattr(one, "__name__", "") for one in MIGRATIONS[kind]] == PUBLISHED[kind]
    dumps = {f"{kind}-{version}.sql" for version in range(1, len(MIGRATIONS[kind]) + 1)}
    assert {path.name for path in DUMPS.glob(f"{kind}-*.sql")} == dumps


@pytest.mark.parametrize(("kind", "version"), EVERY)
def test_migration_creates_the_schema_that_was_published(kind: str, version: int, tmp_path: Path) -> None:
    load(kind, version, tmp_path / "dumped")
    with closing(sqlite3.connect(tmp_path / "dumped")) as dumped, closing(sqlite3.connect(":memory:")) as created:
        for migration in MIGRATIONS[kind][:version]:
            migration(created)
        assert tables(created) == tables(dumped)
        assert dumped.execute("PRAGMA user_version").fetchone() == (version,)


@pytest.mark.parametrize("version", range(1, len(PUBLISHED["registry"]) + 1))
def test_instance_of_an_earlier_version_opens_with_everything(version: int, tmp_path: Path, opened: Open) -> None:
    """Twice the same: the first time migrates, and removes a room that was being deleted."""
    load("registry", version, tmp_path / "overseer.sqlite")
    for number in (*ROOMS, 11):  # the last one was being deleted
        load("room", min(number, len(ROOMS)), room_file(tmp_path, number))
    room_file(tmp_path, 11).rename(tmp_path / "facets" / "room-00000000000b.sqlite")
    for _ in range(2):
        overseer = opened(tmp_path)
        assert [(room.id, room.name, room.problem[:37]) for room in overseer.rooms().rooms] == [
            ("000000000010", "Küche 🍳 10", ""),  # not in that list: adopted from its file, and so are the next six
            ("000000000009", "Küche 🍳 9", ""),
            ("000000000008", "Küche 🍳 8", ""),
            ("000000000007", "Küche 🍳 7", ""),
            ("000000000006", "Küche 🍳 6", ""),
            ("000000000005", "Küche 🍳 5", ""),
            ("000000000004", "Küche 🍳 4", ""),
            ("000000000003", "Küche 🍳 3", ""),
            ("000000000002", "Küche 🍳 2", ""),
            ("00000000000a", "Broken", "room-00000000000a.sqlite is missing. "),
            ("000000000001", "Küche 🍳 1", ""),
        ]
        check_rooms(overseer)
        assert [room.active_at for room in overseer.rooms().rooms[7:]] == [CREATED + at for at in (22, 21, 23, 20)]
        overseer.close()
    assert not list((tmp_path / "facets").glob("room-00000000000b*"))
    for number in ROOMS:
        assert column(room_file(tmp_path, number), "PRAGMA user_version") == [len(schema.MIGRATIONS)]


@pytest.mark.parametrize("version", range(1, len(PUBLISHED["registry"]) + 1))
def test_instance_of_an_earlier_version_can_be_checked(version: int, tmp_path: Path) -> None:
    """Without a start, which would migrate it."""
    load("registry", version, tmp_path / "overseer.sqlite")
    for number in (1, 2, 3):
        load("room", number, room_file(tmp_path, number))
    found = [finding.sentence for finding in check(tmp_path, progress=lambda *_: None).findings if finding.fault]
    assert len(found) == 1 and "00000000000a" in found[0] and "is missing" in found[0]
    assert column(tmp_path / "overseer.sqlite", "PRAGMA user_version") == [version]


def test_rooms_of_earlier_versions_are_adopted_without_their_list(tmp_path: Path, opened: Open) -> None:
    for version in ROOMS:
        load("room", version, room_file(tmp_path, version))
    check_rooms(opened(tmp_path))


def test_list_is_copied_before_its_schema_is_migrated(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy includes what was only in the WAL file. A registry that is new or needs no migration is not copied."""

    newest = len(registry.MIGRATIONS)

    def m999_test(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE rooms ADD COLUMN colour TEXT NOT NULL DEFAULT ''")

    load("registry", newest, tmp_path / "overseer.sqlite")
    for _ in range(2):
        opened(tmp_path).close()
    assert {path.name for path in tmp_path.glob("overseer.sqlite*")} == {"overseer.sqlite"}
    monkeypatch.setattr("overseer.storage.registry.MIGRATIONS", (*registry.MIGRATIONS, m999_test))
    with closing(sqlite3.connect(tmp_path / "overseer.sqlite", isolation_level=None)) as writer:
        writer.execute("UPDATE rooms SET name = 'In the log' WHERE id = '00000000000a'")
        opened(tmp_path).close()
    opened(tmp_path).close()
    opened(tmp_path / "new").close()
    kept = tmp_path / f"overseer.sqlite.before-v{newest + 1}"
    assert list(tmp_path.glob("**/*before*")) == [kept]
    assert kept.stat().st_mode & 0o777 == 0o600
    for path, version in ((kept, newest), (tmp_path / "overseer.sqlite", newest + 1)):
        assert column(path, "PRAGMA user_version") == [version]
        assert "In the log" in column(path, "SELECT name FROM rooms")
        assert column(path, "PRAGMA integrity_check") == ["ok"]


def test_list_whose_migration_fails_can_be_opened_by_the_earlier_version(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def m999_broken(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM rooms")
        raise KeyError("in the middle")

    load("registry", len(registry.MIGRATIONS), tmp_path / "overseer.sqlite")
    load("room", 1, room_file(tmp_path, 1))
    with monkeypatch.context() as patched:
        patched.setattr("overseer.storage.registry.MIGRATIONS", (*registry.MIGRATIONS, m999_broken))
        with pytest.raises(KeyError):
            opened(tmp_path)
    assert stored_messages(opened(tmp_path), 1) == expected_messages(1)
