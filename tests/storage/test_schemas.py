"""Files of every earlier version open, with everything in them; and what was published is not changed any more."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from overseer.domain.messages import Message, Reasoning, Text, ToolCall, Usage
from overseer.domain.settings import Settings
from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.chat_room import INTERRUPTED
from overseer.rooms.overseer import Overseer
from overseer.storage import registry, schema
from overseer.storage.database import Migration
from tests.support.model_server import NOBODY

DUMPS = Path(__file__).parent / "schemas"
MADE = 1790000000000
PUBLISHED = {  # append only
    "room": ["m001_messages", "m002_settings", "m003_pinned", "m004_left_out"],
    "registry": ["m001_rooms"],
}
MIGRATIONS: dict[str, tuple[Migration, ...]] = {"room": schema.MIGRATIONS, "registry": registry.MIGRATIONS}
EVERY = [(kind, version) for kind, names in PUBLISHED.items() for version in range(1, len(names) + 1)]
ROOMS = range(1, len(PUBLISHED["room"]) + 1)

Open = Callable[[Path], Overseer]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens an Overseer on a directory; all are closed."""
    overseers: list[Overseer] = []

    def open_it(directory: Path) -> Overseer:
        overseers.append(Overseer(directory, models=Models(ModelSettings(base_url=NOBODY, name="stand-in"))))
        overseers[-1].open()
        return overseers[-1]

    yield open_it
    for overseer in overseers:
        overseer.close()


def load(kind: str, version: int, path: Path) -> None:
    """Make a file as that version left it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript((DUMPS / f"{kind}-{version}.sql").read_text())


def room_file(directory: Path, version: int) -> Path:
    return directory / "facets" / f"room-{version:012}.sqlite"


def tables(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """What the schema is made of, however it is laid out."""
    found = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    return {(name, re.sub(r'[\s"]+', "", sql)) for name, sql in found}


def messages(version: int) -> list[Message]:
    """What each of the dumped rooms holds; the later versions know more of it."""
    counted = Usage(120, 30, 2.5, 1.5), Usage(9, 3, 0.5, 0.25, estimated=True)
    usage = counted if version >= 2 else (None, None)
    cut = "Abandoned: the answer ended before the tool did."
    roll = ToolCall("call-3", "roll_dice", '{"sides": 6}', cut, "abandoned")
    time = ToolCall("call-1", "get_current_time", "{}", "2026-09-21T14:13:20+00:00", "done")
    none = ToolCall("call-2", "roll_dice", '{"sides": 1}', "A die has at least two sides.", "failed")
    spoken = Text("It is **14:13**.\n\n```python\nprint('😀')\n```")

    def question(number: int, words: str, at: int) -> Message:
        return Message(number, "user", "complete", (Text(words),), created_at=MADE + at)

    return [
        question(1, "What time is it?\n\nAnd 'what' \"day\"?", 1),
        Message(
            number=2,
            role="assistant",
            state="complete",
            parts=(Reasoning("I had better look."), time, none, spoken),
            model="stand-in",
            created_at=MADE + 1,
            ended_at=MADE + 2,
            usage=usage[0],
            left_out=frozenset(("temperature", "tools") if version >= 4 else ()),
        ),
        question(3, "A long answer", 3),
        Message(
            number=4,
            role="assistant",
            state="stopped",
            parts=(Text("Once upon a"),),
            reason="Stopped.",
            model="stand-in",
            created_at=MADE + 3,
            ended_at=MADE + 4,
            usage=usage[1],
        ),
        question(7, "Are you there?", 6),
        Message(
            number=8,
            role="assistant",
            state="failed",
            parts=(),
            reason="The model server cannot be reached.",
            model="stand-in",
            created_at=MADE + 6,
            ended_at=MADE + 7,
        ),
        question(9, "Still?", 8),
        Message(
            number=10,
            role="assistant",
            state="interrupted",
            parts=(Text("Half an ans"),),
            reason="The server went down.",
            model="stand-in",
            created_at=MADE + 8,
            ended_at=MADE + 9,
        ),
        question(11, "Roll", 10),
        Message(
            number=12,
            role="assistant",
            state="interrupted",
            parts=(Text("I roll."), roll),
            reason=INTERRUPTED,
            model="stand-in",
            created_at=MADE + 10,
        ),
        question(13, "And then?", 11),
        Message(14, "assistant", "interrupted", (), reason=INTERRUPTED, created_at=MADE + 11),
    ]


def shown(overseer: Overseer, version: int) -> list[Message]:
    """The messages of a dumped room, but for when the start ended those that were cut off."""
    found = overseer.messages(f"{version:012}").messages
    return [replace(one, ended_at=None) if one.reason == INTERRUPTED else one for one in found]


def assert_all_there(overseer: Overseer) -> None:
    for version in ROOMS:
        room_id = f"{version:012}"
        assert shown(overseer, version) == messages(version)
        page = overseer.messages(room_id)
        assert (page.more, page.last, page.reads_from) == (False, 14, 3 if version >= 2 else 0)
        settings = Settings("other-model", "Answer in one sentence.", 0.5) if version >= 2 else Settings()
        assert overseer.settings(room_id) == Settings(
            settings.model, settings.system_prompt, settings.temperature, pinned=version >= 3
        )
        room = overseer.room(room_id)
        assert (room.name, room.messages, room.preview) == (f"Küche 🍳 {version}", 12, "And then?")
        assert (room.answering, room.problem, room.pinned) == (False, "", version >= 3)
        assert overseer.ask(room_id, "And then?", key="last").repeated


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_migrations_stay(kind: str) -> None:
    """Their names, in their order; a new one is added at the end, here and in PUBLISHED, with a dump."""
    assert [getattr(one, "__name__", "") for one in MIGRATIONS[kind]] == PUBLISHED[kind]


@pytest.mark.parametrize("kind", PUBLISHED)
def test_every_version_has_a_dump(kind: str) -> None:
    """So that the next one can be shown to open it: see `tests/schemas/__main__.py`."""
    assert {path.name for path in DUMPS.glob(f"{kind}-*.sql")} == {
        f"{kind}-{version}.sql" for version in range(1, len(MIGRATIONS[kind]) + 1)
    }


@pytest.mark.parametrize(("kind", "version"), EVERY)
def test_a_migration_makes_the_schema_that_was_published(kind: str, version: int, tmp_path: Path) -> None:
    """One that is changed afterwards would make new files other than those that people have."""
    load(kind, version, tmp_path / "dumped")
    with closing(sqlite3.connect(tmp_path / "dumped")) as dumped, closing(sqlite3.connect(tmp_path / "made")) as made:
        for migration in MIGRATIONS[kind][:version]:
            migration(made)
        assert tables(made) == tables(dumped)
        assert dumped.execute("PRAGMA user_version").fetchone() == (version,)


@pytest.mark.parametrize("version", range(1, len(PUBLISHED["registry"]) + 1))
def test_an_instance_of_an_earlier_version_opens_with_everything(version: int, tmp_path: Path, opened: Open) -> None:
    """The list in its order, every message with its parts, states and settings, and twice the same."""
    load("registry", version, tmp_path / "overseer.sqlite")
    for number in (*ROOMS, 11):  # the last one was being deleted
        load("room", min(number, len(ROOMS)), room_file(tmp_path, number))
    room_file(tmp_path, 11).rename(tmp_path / "facets" / "room-00000000000b.sqlite")
    for _ in range(2):
        overseer = opened(tmp_path)
        listed = [(room.id, room.name, room.problem[:37]) for room in overseer.rooms().rooms]
        assert listed == [
            ("000000000004", "Küche 🍳 4", ""),  # not in that list: it is taken in from its file
            ("000000000003", "Küche 🍳 3", ""),
            ("000000000002", "Küche 🍳 2", ""),
            ("00000000000a", "Broken", "room-00000000000a.sqlite is missing. "),
            ("000000000001", "Küche 🍳 1", ""),
        ]
        assert_all_there(overseer)
        assert [room.active_at for room in overseer.rooms().rooms[1:]] == [MADE + at for at in (22, 21, 23, 20)]
        overseer.close()
    assert not list((tmp_path / "facets").glob("room-00000000000b*"))
    for number in ROOMS:
        with closing(sqlite3.connect(room_file(tmp_path, number))) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)


def test_rooms_of_earlier_versions_are_found_without_their_list(tmp_path: Path, opened: Open) -> None:
    """Each is brought forward as it is taken in."""
    for version in ROOMS:
        load("room", version, room_file(tmp_path, version))
    overseer = opened(tmp_path)
    assert {room.id for room in overseer.rooms().rooms} == {f"{version:012}" for version in ROOMS}
    assert_all_there(overseer)


def test_a_list_is_copied_before_it_is_brought_forward(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was, also what was only in its log; not for a new list, nor when there is nothing to change."""

    def m002_test(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE rooms ADD COLUMN colour TEXT NOT NULL DEFAULT ''")

    opened(tmp_path / "new").close()
    load("registry", 1, tmp_path / "overseer.sqlite")
    opened(tmp_path).close()
    opened(tmp_path).close()
    assert {path.name for path in tmp_path.glob("overseer.sqlite*")} == {"overseer.sqlite"}
    monkeypatch.setattr("overseer.storage.registry.MIGRATIONS", (*registry.MIGRATIONS, m002_test))
    with closing(sqlite3.connect(tmp_path / "overseer.sqlite", isolation_level=None)) as held:
        held.execute("UPDATE rooms SET name = 'In the log' WHERE id = '00000000000a'")
        opened(tmp_path).close()
    opened(tmp_path).close()
    opened(tmp_path / "newer").close()
    kept = tmp_path / "overseer.sqlite.before-v2"
    assert [path.name for path in tmp_path.glob("**/*before*")] == [kept.name]
    assert kept.stat().st_mode & 0o777 == 0o600
    for path, version in ((kept, 1), (tmp_path / "overseer.sqlite", 2)):
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (version,)
            assert ("In the log",) in db.execute("SELECT name FROM rooms").fetchall()
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_list_that_cannot_be_brought_forward_is_as_it_was(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that breaks in its middle leaves the older version, which goes on with it."""

    def m002_breaks(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM rooms")
        raise KeyError("in the middle")

    load("registry", 1, tmp_path / "overseer.sqlite")
    load("room", 1, room_file(tmp_path, 1))
    with monkeypatch.context() as patched:
        patched.setattr("overseer.storage.registry.MIGRATIONS", (*registry.MIGRATIONS, m002_breaks))
        with pytest.raises(KeyError):
            opened(tmp_path)
    assert shown(opened(tmp_path), 1) == messages(1)
