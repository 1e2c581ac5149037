"""The tree of messages: paths, versions and counts, also in files that another program has damaged."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer.domain.errors import NoSuchMessage, Outdated, StorageDamaged
from overseer.domain.messages import Text, Versions
from overseer.domain.records import MAX_NUMBER, Page
from overseer.rooms.overseer import Overseer
from overseer.storage import message_tree, schema
from overseer.storage.database import Storage
from overseer.storage.instance_lock import room_file
from overseer.storage.room_store import MESSAGES_AFTER, RoomStore
from tests.support.files import column, execute
from tests.support.seed_data import insert_messages
from tests.support.server import ROOT

LIMIT = 4  # messages of a page


@dataclass
class Tree:
    """The same as a RoomStore keeps, in the simplest way."""

    parents: dict[int, int | None] = field(default_factory=dict)
    head: int | None = None
    used: int = 0
    lanes: dict[int, int] = field(default_factory=dict)

    def add_answers(self, count: int) -> None:
        """Add answers side by side to a question that was just added. The first is the head."""
        question = self.used
        for lane in range(1, count + 1):
            self.add(question, 1)
            self.lanes[self.used] = lane
        self.head = question + 1

    def group(self, number: int) -> list[int]:
        """Return the answers that are shown side by side with this one, in their order."""
        same = [one for one in self.lanes if self.parents[one] == self.parents[number]]
        return sorted(same, key=self.lanes.__getitem__) if number in self.lanes else []

    def add(self, parent: int | None, count: int) -> None:
        for _ in range(count):
            self.used += 1
            self.parents[self.used] = parent
            parent = self.used
        self.head = self.used

    def path(self, number: int | None) -> list[int]:
        found: list[int] = []
        while number is not None:
            found.insert(0, number)
            number = self.parents[number]
        return found

    def newest_through(self, number: int) -> int:
        end = max(one for one in self.parents if number in self.path(one))
        return (self.group(end) or [end])[0]

    def versions(self, number: int) -> Versions:
        same = [one for one, parent in self.parents.items() if parent == self.parents[number]]
        at = same.index(number)
        return Versions(at + 1, len(same), *(same[i] if 0 <= i < len(same) else None for i in (at - 1, at + 1)))


class Room:
    """A RoomStore, and the tree that it should have."""

    def __init__(self, path: Path) -> None:
        self.storage = Storage(path)
        self.store = RoomStore(self.storage, create=True)
        self.store.initialize("Room", by_person=True)
        self.tree = Tree()

    def ask(self, at: int) -> None:
        parent = self.tree.head
        asked, _, summary = self.store.add_question("Why?", None, name="")
        self.tree.add(parent, 2)
        assert (asked.question, asked.answer) == (self.tree.used - 1, self.tree.used)
        assert list(asked.messages) == [self.store.message(asked.question), self.store.message(asked.answer)]
        assert summary == self.store.summary()
        self._finish()

    def ask_several(self, at: int) -> None:
        parent, models = self.tree.head, "abcd"[: 2 + at % 3]
        asked, _, summary = self.store.add_question("Who?", None, name="", models=models)
        self.tree.add(parent, 1)
        self.tree.add_answers(len(models))
        assert asked.answers == tuple(range(asked.question + 1, self.tree.used + 1))
        assert asked.messages == tuple(map(self.store.message, (asked.question, *asked.answers)))
        assert [message.asked_model for message in asked.messages[1:]] == list(models)
        assert summary == self.store.summary()
        for answer in asked.answers:
            self._finish(answer)

    def edit(self, at: int) -> None:
        questions = [one for one in self.tree.parents if self.store.message(one).role == "user"]
        if questions:
            number = questions[at % len(questions)]
            self.store.edit_question(number, "What?")
            self.tree.add(self.tree.parents[number], 2)
            self._finish()

    def retry(self, at: int) -> None:
        tree, head = self.tree, self.tree.head
        if head is None:
            with pytest.raises(NoSuchMessage):
                self.store.retry_last_answer()
            return
        group = tree.group(head)
        number = group[at % len(group)] if group else head
        answer = self.store.retry_last_answer(number if at % 2 else None if number == head else number).answer
        tree.add(tree.parents[number], 1)
        assert answer == tree.used
        self._finish()
        if number in tree.lanes:
            tree.lanes[answer] = tree.lanes.pop(number)
        if number != head:
            tree.head = head
        for other in set(tree.parents) - {*group, head, answer}:
            with pytest.raises(Outdated):
                self.store.retry_last_answer(other)

    def show(self, at: int) -> None:
        if self.tree.parents:
            number = list(self.tree.parents)[at % len(self.tree.parents)]
            shown = number in self.tree.path(self.tree.head)
            assert self.store.show(number) is (not shown or number in self.tree.lanes)
            for one in self.tree.group(number):
                del self.tree.lanes[one]
            if not shown:
                self.tree.head = self.tree.newest_through(number)

    def withdraw(self, at: int) -> None:
        """Remove the answer of a question at the end of the path, as if it were queued, and an only one's question."""
        path, tree = self.tree.path(self.tree.head), self.tree
        shown = {*path, *(one for number in path for one in tree.group(number))}
        tail = [one for one in path[::2] if shown.issuperset(self._below(one))]
        if not tail:
            return
        question = tail[at % len(tail)]
        answers = tree.group(path[path.index(question) + 1]) or [path[path.index(question) + 1]]
        self.store.withdraw(question, answers)
        last = tree.parents[question]
        for answer in answers:
            tree.parents.pop(answer)
            tree.lanes.pop(answer, None)
        kept = [one for one, parent in tree.parents.items() if parent == question]
        if not kept:
            tree.parents.pop(question)
            kept = [one for one, parent in tree.parents.items() if parent == last]
        apart = {one: None if parent in answers else parent for one, parent in tree.parents.items()}
        last = Tree(apart).newest_through(max(kept)) if kept else last
        tree.parents = {one: last if parent in answers else parent for one, parent in tree.parents.items()}
        tree.head = last if tree.head in answers else tree.head

    def clear(self, _: int) -> None:
        self.store.clear(name="Room")
        self.tree.parents.clear()
        self.tree.lanes.clear()
        self.tree.head = None

    def check(self) -> None:
        tree, path = self.tree, self.tree.path(self.tree.head)
        page = self.store.page(None, LIMIT)
        assert numbers(page) == path[-LIMIT:]
        assert (page.more, page.newest, page.hidden, page.missing) == (len(path) > LIMIT, True, False, None)
        assert (page.first, page.end, page.last_used) == (path[0] if path else 0, tree.head or 0, tree.used)
        for message in page.messages:
            group = tree.group(message.number) or [message.number]
            assert [one.number for one in page.lanes(message)] == group
        summary = self.store.summary()
        assert (summary.messages, summary.hidden) == (len(path), len(tree.parents) - len(path))
        for after in (0, 1, LIMIT):
            part = self.store.path(self.store.end_of_path(), after, LIMIT)
            assert [message.number for message in part] == path[after : after + LIMIT]
        for number, parent in tree.parents.items():
            message = self.store.message(number)
            assert (message.parent, message.versions) == (parent, tree.versions(number))
            assert numbers(self.store.page(number, LIMIT)) == tree.path(parent)[-LIMIT:]
            found = self.store.page_with(number, 100)
            on_path = next((one for one in (number, *tree.group(number)) if one in path), None)
            end = tree.newest_through((tree.group(number) or [number])[0]) if on_path is None else tree.head
            through = tree.path(end)
            at = on_path or (tree.group(number) or [number])[0]
            assert numbers(found) == through[: through.index(at) + 1 + MESSAGES_AFTER]
            assert (found.hidden, found.end) == (on_path is None, end)
            with self.storage.read() as db:
                for depth, above in enumerate(tree.path(number), 1):
                    assert message_tree.ancestor(db, number, depth) == above
                    assert message_tree.at_or_below(db, number, above) == above
        with self.storage.read() as db:
            assert message_tree.faults(db) == []

    def _finish(self, number: int | None = None) -> None:
        assert self.tree.head is not None
        self.store.finish_answer(
            number or self.tree.head, [Text("So.")], state="complete", reason="", model="", usage=None
        )

    def _below(self, number: int) -> Iterator[int]:
        return (one for one in self.tree.parents if number in self.tree.path(one))


def numbers(page: Page) -> list[int]:
    return [message.number for message in page.messages]


ACTIONS = st.tuples(
    st.sampled_from([*(Room.ask, Room.ask_several, Room.edit, Room.retry, Room.show) * 4, Room.withdraw, Room.clear]),
    st.integers(0, 50),
)


@given(actions=st.lists(ACTIONS, max_size=25))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_paths_versions_and_counts_are_those_of_a_simple_tree(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[object, int]]
) -> None:
    room = Room(tmp_path_factory.mktemp("room") / "room.sqlite")
    with closing(room.storage):
        for action, at in actions:
            action(room, at)  # type: ignore[operator]
        room.check()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """Two versions of a question, of which the second was asked in three exchanges: 1-2, 3-4 and 5 to 8."""
    room = Room(tmp_path / "room.sqlite")
    with closing(room.storage):
        room.ask(0)
        room.edit(0)
        room.ask(0)
        room.ask(0)
        yield room


DAMAGE = {
    "a head that is missing": ("UPDATE room SET head = 99", [3, 4, 5, 6, 7, 8], None),
    "no head": ("UPDATE room SET head = NULL", [3, 4, 5, 6, 7, 8], None),
    "a parent that is missing": ("UPDATE messages SET parent = 99 WHERE number = 5", [5, 6, 7, 8], 99),
    "a cycle": ("UPDATE messages SET parent = 8 WHERE number = 5", [5, 6, 7, 8], 8),
    "a message that follows itself": ("UPDATE messages SET parent = 6 WHERE number = 6", [6, 7, 8], 6),
    "jumps that lead down": ("UPDATE messages SET jump = 8", [3, 4, 5, 6, 7, 8], None),
    "no jumps": ("UPDATE messages SET jump = NULL", [3, 4, 5, 6, 7, 8], None),
    "depths that are wrong": ("UPDATE messages SET depth = 1000 - number", [3, 4, 5, 6, 7, 8], None),
}


@pytest.mark.parametrize(("statement", "shown", "missing"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_tree_is_read_as_far_as_possible_and_takes_questions(
    room: Room, statement: str, shown: list[int], missing: int | None
) -> None:
    execute(room.storage.path, statement)
    page = room.store.page(None, 50)
    assert (numbers(page), page.missing) == (shown, missing)
    for number in range(1, 9):
        assert room.store.message(number).number == number
        assert number in numbers(room.store.page_with(number, 50))
        room.store.page(number, 50)
    room.store.path(room.store.end_of_path(), 0, 50)
    room.store.show(1)
    asked, _, _ = room.store.add_question("Still?", None, name="")
    assert (asked.question, asked.answer) == (9, 10)
    assert numbers(room.store.page(None, 50))[-2:] == [9, 10]
    assert column(room.storage.path, "SELECT count(*) FROM messages") == [10]


@pytest.mark.parametrize("statement", ["DELETE FROM room", f"UPDATE sqlite_sequence SET seq = {MAX_NUMBER}"])
def test_room_that_can_store_no_question_says_so(room: Room, statement: str) -> None:
    execute(room.storage.path, statement)
    with pytest.raises(StorageDamaged, match="Put back a copy"):
        room.store.add_question("Still?", None, name="")


def test_counts_are_right_again_after_a_switch_from_a_head_that_is_missing(room: Room) -> None:
    execute(room.storage.path, "UPDATE room SET head = 99, hidden = -7")
    room.store.show(1)
    summary = room.store.summary()
    assert (summary.messages, summary.hidden) == (2, 6)


def test_transcript_of_a_path_with_a_hole_has_each_message_once(overseer: Overseer) -> None:
    room = overseer.create("Kitchen").id
    overseer.close()
    path = room_file(overseer.directory, room)
    insert_messages(path, range(1, 201), str)
    execute(path, "UPDATE messages SET parent = 999 WHERE number = 121")
    overseer.open()
    written = [message.number for message in overseer.room(room).transcript()]
    assert written == sorted(set(written)) and set(range(121, 201)) <= set(written)
    overseer.close()


def test_earlier_messages_of_another_version_are_said_to_be(room: Room) -> None:
    page = room.store.page(2, 50)
    assert (numbers(page), page.hidden, page.newest, page.end) == ([1], True, False, 2)
    assert not room.store.page(5, 50).hidden


def test_thousand_versions_of_a_question(room: Room) -> None:
    with room.storage.write() as db:
        db.executemany("INSERT INTO messages (role, state, created_at) VALUES ('user', 'complete', ?)", [(1,)] * 1000)
    assert room.store.message(3).versions == Versions(2, 1002, 1, 9)
    assert room.store.message(1008).versions == Versions(1002, 1002, 1007, None)
    assert numbers(room.store.page_with(1008, 50)) == [1008]
    assert room.store.show(1008) and room.store.summary().messages == 1


MANY = 100_000


@pytest.fixture(scope="module")
def old_room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room with many messages and the schema before versions."""
    path = tmp_path_factory.mktemp("old") / "room.sqlite"
    storage = Storage(path)
    with closing(storage):
        RoomStore(storage, create=True).initialize("Room", by_person=True)
    insert_messages(path, range(1, MANY + 1), "Message {}".format)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP VIEW transcript")
        db.execute("DROP TABLE shares")
        for index in ("children", "sources"):
            db.execute(f"DROP INDEX {index}")
        for dropped in ("parent", "depth", "jump", "asked_model", "lane", "source"):
            db.execute(f"ALTER TABLE messages DROP COLUMN {dropped}")
        db.execute("ALTER TABLE parts DROP COLUMN name")
        for dropped in ("head", "hidden", "forked_from", "forked_at", "source", "archived", "temporary"):
            db.execute(f"ALTER TABLE room DROP COLUMN {dropped}")
        db.execute(f"ALTER TABLE room ADD COLUMN messages INTEGER NOT NULL DEFAULT {MANY}")
        for name in ("counted", "uncounted"):
            db.execute(f"CREATE TRIGGER {name} AFTER INSERT ON messages BEGIN SELECT 1; END")
        db.execute("PRAGMA user_version = 7")
    return path


MIGRATE = """
import sys
from overseer.storage import schema
from overseer.storage.database import Storage
from overseer.storage.instance_lock import room_file
from overseer.storage.room_store import RoomStore
migrate = schema.MIGRATIONS[7]
def announced(db):
    print("begun", flush=True)
    migrate(db)
schema.MIGRATIONS = (*schema.MIGRATIONS[:7], announced)
import overseer.storage.room_store as room_store
room_store.MIGRATIONS = schema.MIGRATIONS
RoomStore(Storage(__import__("pathlib").Path(sys.argv[1])), create=False)
print("done", flush=True)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2, 0.4])
def test_migration_of_a_large_room_is_done_completely_or_not_at_all(
    old_room: Path, tmp_path: Path, seconds: float
) -> None:
    """Although the process is killed at any time."""
    path = tmp_path / "room.sqlite"
    path.write_bytes(old_room.read_bytes())
    process = subprocess.Popen([sys.executable, "-c", MIGRATE, path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "begun\n"
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.poll() is None:
            continue
        process.kill()
    version = column(path, "PRAGMA user_version")
    assert version[0] in range(7, len(schema.MIGRATIONS) + 1)  # each migration is a transaction
    assert ("parent" in str(column(path, "SELECT sql FROM sqlite_schema WHERE name = 'messages'"))) == (version != [7])
    storage = Storage(path)
    with closing(storage):
        store = RoomStore(storage, create=False)
        assert (store.summary().messages, store.page(None, 50).first) == (MANY, 1)
        with storage.read() as db:
            assert message_tree.faults(db) == []
            assert [message_tree.ancestor(db, MANY, depth) for depth in (1, 777, MANY)] == [1, 777, MANY]
