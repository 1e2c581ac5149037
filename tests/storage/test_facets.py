"""Facets: one file and one running child per name, serialized calls, abort, delete and eviction."""

from __future__ import annotations

import gc
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest

from overseer.storage.database import SUFFIXES, Storage, remove
from overseer.storage.facets import Facet, FacetAborted, Facets, Start
from tests.support.files import column, open_files
from tests.support.waiting import DEADLINE

UNEXPECTED_SECONDS = 0.05  # how long to watch for an event that must not happen
APPLICATION_ID = 0x4E4F5445


def words_table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE words (word TEXT)")


class Notebook:
    """A child that stores words."""

    def __init__(self, storage: Storage, shelf: Shelf, name: str) -> None:
        self.shelf, self.name = shelf, name
        self.storage = storage
        storage.migrate([words_table], application_id=APPLICATION_ID, create=True)
        shelf.started.append(name)

    def write(self, word: str) -> None:
        with self.storage.write() as db:
            db.execute("INSERT INTO words VALUES (?)", (word,))

    def words(self) -> list[str]:
        with self.storage.read() as db:
            return [row["word"] for row in db.execute("SELECT word FROM words ORDER BY rowid")]

    def wait(self, entered: threading.Event, gate: threading.Event, word: str = "waited") -> str:
        """Write a word after the gate was opened."""
        entered.set()
        assert gate.wait(DEADLINE)
        self.write(word)
        return word

    def run(self, function: Callable[[], object]) -> object:
        return function()

    def me(self) -> Notebook:
        return self

    def idle(self) -> bool:
        return self.name not in self.shelf.busy

    def close(self) -> None:
        self.shelf.closed.append(self.name)


class Shelf:
    """A folder of notebooks that records which were started and closed."""

    def __init__(self, directory: Path, limit: int) -> None:
        self.directory = directory
        self.facets: Facets[Notebook] = Facets(directory, limit=limit)
        self.started: list[str] = []
        self.closed: list[str] = []
        self.busy: set[str] = set()

    def get(self, name: str) -> Facet[Notebook]:
        return self.facets.get(name, self.start(name))

    def start(self, name: str) -> Start[Notebook]:
        return lambda storage: Notebook(storage, self, name)

    def running(self, name: str) -> int:
        return self.started.count(name) - self.closed.count(name)

    def files(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()}


MakeShelf = Callable[[int], Shelf]


@pytest.fixture
def make_shelf(tmp_path: Path) -> Iterator[MakeShelf]:
    """Makes a shelf with a limit of open notebooks."""
    shelves: list[Shelf] = []

    def make(limit: int) -> Shelf:
        shelves.append(Shelf(tmp_path, limit))
        return shelves[-1]

    yield make
    for shelf in shelves:
        shelf.facets.close("end of the test")


@pytest.fixture
def shelf(make_shelf: MakeShelf) -> Shelf:
    return make_shelf(50)


def in_thread(function: Callable[[], object]) -> Future[object]:
    """Start a thread; the result of the future is what the function returns or raises."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


# Opening


def test_facet_opens_its_file_at_the_first_call_and_starts_one_child(shelf: Shelf) -> None:
    for n in range(1000):
        shelf.get(f"name{n}")
    assert (shelf.started, shelf.files()) == ([], set())
    barrier = threading.Barrier(8)

    def reach() -> object:
        barrier.wait(DEADLINE)
        return shelf.get("a").call(Notebook.me)

    calls = [in_thread(reach) for _ in range(8)]
    assert len({id(call.result(DEADLINE)) for call in calls}) == 1
    shelf.get("a").call(Notebook.write, "one")
    shelf.get("b").call(Notebook.write, "other")
    assert shelf.started == ["a", "b"]
    assert column(shelf.facets.path("a"), "SELECT word FROM words") == ["one"]


def test_facet_uses_a_new_start_only_when_it_is_opened_again(shelf: Shelf) -> None:
    handle = shelf.get("a")
    first = handle.call(Notebook.me)
    again = shelf.facets.get("a", lambda storage: Notebook(storage, shelf, "a, otherwise"))
    assert again.call(Notebook.me) is first
    assert handle.evict()
    assert handle.call(Notebook.me) is not first
    assert shelf.started == ["a", "a, otherwise"]


def test_facet_whose_start_raises_closes_the_file_and_can_be_called_again(shelf: Shelf) -> None:
    def broken(storage: Storage) -> Notebook:
        Notebook(storage, shelf, "half").write("before the error")
        raise RuntimeError("not today")

    handle = shelf.facets.get("a", broken)
    with pytest.raises(RuntimeError, match="not today"):
        handle.call(Notebook.words)
    assert open_files(shelf.directory) == set()
    shelf.get("a")
    assert handle.call(Notebook.words) == ["before the error"]


def test_call_that_raises_leaves_the_child_running(shelf: Shelf) -> None:
    handle = shelf.get("a")
    with pytest.raises(ZeroDivisionError):
        handle.call(Notebook.run, lambda: 1 // 0)
    handle.call(Notebook.write, "one")
    assert (shelf.started, shelf.closed) == (["a"], [])


def test_calls_on_one_facet_are_serialized_and_do_not_delay_another(shelf: Shelf) -> None:
    entered, second_entered, gate, open_gate = (threading.Event() for _ in range(4))
    open_gate.set()
    one = in_thread(lambda: shelf.get("a").call(Notebook.wait, entered, gate, "first"))
    assert entered.wait(DEADLINE)
    two = in_thread(lambda: shelf.get("a").call(Notebook.wait, second_entered, open_gate, "second"))
    shelf.get("other").call(Notebook.write, "one")
    shelf.facets.delete("other")
    assert not second_entered.wait(UNEXPECTED_SECONDS)
    gate.set()
    assert [one.result(DEADLINE), two.result(DEADLINE)] == ["first", "second"]
    assert shelf.get("a").call(Notebook.words) == ["first", "second"]


# Abort


def test_abort_ends_existing_handles_and_keeps_the_file(shelf: Shelf) -> None:
    shelf.facets.abort("unknown", "no effect")
    used, unused = shelf.get("a"), shelf.get("b")
    used.call(Notebook.write, "one")
    for name in "ab":
        shelf.facets.abort(name, "too slow")
    for handle in (used, unused, used):
        with pytest.raises(FacetAborted, match="^too slow$"):
            handle.call(Notebook.words)
    assert (shelf.closed, open_files(shelf.directory)) == (["a"], set())
    assert shelf.get("a").call(Notebook.words) == ["one"]
    with pytest.raises(FacetAborted):
        used.call(Notebook.words)


def test_abort_makes_a_running_call_raise_whatever_it_returns_or_raises(make_shelf: MakeShelf) -> None:
    shelf = make_shelf(1)

    def abort_and_return() -> str:
        shelf.facets.abort("a", "too slow")
        return "a result"

    def abort_and_raise() -> None:
        shelf.facets.abort("a", "too slow")
        raise ZeroDivisionError

    for method in (abort_and_return, abort_and_raise):
        with pytest.raises(FacetAborted, match="^too slow$"):
            shelf.get("a").call(Notebook.run, method)
    assert open_files(shelf.directory) == set()
    for _ in range(2):
        shelf.get("b").call(Notebook.write, "x")  # the aborted facet does not count against the limit
    assert shelf.closed == ["a", "a"]


def test_abort_stops_a_thread_that_keeps_calling(shelf: Shelf) -> None:
    handle, called = shelf.get("a"), threading.Event()

    def call_repeatedly() -> None:
        while True:
            handle.call(Notebook.run, called.set)

    caller = in_thread(call_repeatedly)
    assert called.wait(DEADLINE)
    shelf.facets.abort("a", "enough")
    assert shelf.running("a") == 0 and open_files(shelf.directory) == set()
    with pytest.raises(FacetAborted, match="enough"):
        caller.result(DEADLINE)


def test_abort_rejects_a_call_that_waits(shelf: Shelf) -> None:
    handle, entered, gate, ran = shelf.get("a"), threading.Event(), threading.Event(), threading.Event()

    def wait_and_abort() -> None:
        entered.set()
        assert gate.wait(DEADLINE)
        shelf.facets.abort("a", "over")

    running = in_thread(lambda: handle.call(Notebook.run, wait_and_abort))
    assert entered.wait(DEADLINE)
    waiting = in_thread(lambda: handle.call(Notebook.run, ran.set))
    gate.set()
    for call in (running, waiting):
        assert isinstance(call.exception(DEADLINE), FacetAborted)
    assert not ran.is_set()


def test_abort_during_a_call_never_lets_two_children_share_a_file(shelf: Shelf) -> None:
    handle = shelf.get("a")
    entered, second_entered, gate = threading.Event(), threading.Event(), threading.Event()
    first = in_thread(lambda: handle.call(Notebook.wait, entered, gate))
    assert entered.wait(DEADLINE)
    abort = in_thread(lambda: shelf.facets.abort("a", "enough"))
    while shelf.get("a") is handle:
        assert not abort.done()
    second = in_thread(lambda: shelf.get("a").call(Notebook.run, second_entered.set))
    assert not second_entered.wait(UNEXPECTED_SECONDS)
    gate.set()
    assert isinstance(first.exception(DEADLINE), FacetAborted)
    abort.result(DEADLINE)
    second.exception(DEADLINE)
    assert second_entered.is_set() and shelf.running("a") == 1


# Delete


def test_delete_removes_the_three_files_and_ends_handles_and_running_calls(shelf: Shelf) -> None:
    old = shelf.get("a")
    old.call(Notebook.write, "secret")
    shelf.get("b").call(Notebook.write, "other")
    assert {f"a.sqlite{suffix}" for suffix in SUFFIXES} <= shelf.files()
    with pytest.raises(FacetAborted, match="^facet was deleted$"):
        old.call(Notebook.run, lambda: shelf.facets.delete("a"))
    with pytest.raises(FacetAborted, match="^facet was deleted$"):
        old.call(Notebook.words)
    assert shelf.files() == {f"b.sqlite{suffix}" for suffix in SUFFIXES}
    assert shelf.get("a").call(Notebook.words) == []
    shelf.facets.close("for now")
    for name in ("a", "b", "b", "unknown"):  # closed files, a deleted one, one that never existed
        shelf.facets.delete(name)
    assert shelf.files() == set()


def test_delete_keeps_others_from_opening_the_file_meanwhile(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call during the deletion waits, is rejected, or begins with an empty file; it never loses its file."""
    shelf.get("a").call(Notebook.write, "old")
    calls: list[Future[object]] = []

    def remove_slowly(path: Path) -> None:
        calls.append(in_thread(lambda: shelf.get("a").call(Notebook.write, "new")))
        with suppress(TimeoutError):
            calls[0].exception(UNEXPECTED_SECONDS)
        remove(path)

    monkeypatch.setattr("overseer.storage.facets.remove", remove_slowly)
    shelf.facets.delete("a")
    calls[0].exception(DEADLINE)
    assert "a.sqlite (deleted)" not in open_files(shelf.directory)


def test_delete_ends_a_handle_that_is_created_just_before_it_takes_the_lock(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.get("a").call(Notebook.write, "old")
    abort = Facet.abort
    created: list[Facet[Notebook]] = []

    def create() -> None:
        created.append(shelf.get("a"))
        created[0].call(Notebook.write, "new")

    def abort_late(facet: Facet[Notebook], reason: str) -> None:
        if not created:
            in_thread(create).exception(DEADLINE)
        abort(facet, reason)

    monkeypatch.setattr(Facet, "abort", abort_late)
    shelf.facets.delete("a")
    assert len(created) == 1
    assert "a.sqlite (deleted)" not in open_files(shelf.directory)
    assert shelf.running("a") == 0


def test_clone_is_one_state_of_a_facet_that_goes_on(shelf: Shelf) -> None:
    """It replaces what was there, and ends the handles on it."""
    source, old = shelf.get("source"), shelf.get("target")
    old.call(Notebook.write, "old")
    over = threading.Event()

    def write() -> None:
        count = 0
        while not over.is_set():
            source.call(Notebook.write, str(count))
            count += 1

    source.call(Notebook.write, "first")
    writer = in_thread(write)
    for _ in range(3):
        shelf.facets.clone("source", "target")
        copied = shelf.get("target").call(Notebook.words)
        assert copied == ["first", *map(str, range(len(copied) - 1))]
    over.set()
    writer.result(DEADLINE)
    with pytest.raises(FacetAborted, match="facet was deleted"):
        old.call(Notebook.words)
    shelf.get("target").call(Notebook.write, "of the copy")
    assert "of the copy" not in source.call(Notebook.words)


def test_clone_has_the_change_or_does_not_appear(shelf: Shelf) -> None:
    shelf.get("source").call(Notebook.write, "one")

    def change(db: sqlite3.Connection) -> None:
        db.execute("UPDATE words SET word = 'two'")

    shelf.facets.clone("source", "target", change)
    assert shelf.get("target").call(Notebook.words) == ["two"]

    def fail(db: sqlite3.Connection) -> None:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        shelf.facets.clone("source", "other", fail)
    with pytest.raises(FileNotFoundError):
        shelf.facets.clone("nothing", "other")
    assert not [path for path in shelf.directory.iterdir() if "other" in path.name]


def test_name_of_a_facet_has_at_most_256_bytes(shelf: Shelf) -> None:
    for name in ("x" * 257, "ü" * 129):
        with pytest.raises(ValueError, match="256"):
            shelf.facets.path(name)
    assert shelf.facets.path("ü" * 128)


def test_close_aborts_every_open_facet(shelf: Shelf) -> None:
    handles = [shelf.get(name) for name in "abc"]
    for handle in handles:
        handle.call(Notebook.write, "one")
    shelf.facets.close("shutdown")
    assert sorted(shelf.closed) == ["a", "b", "c"]
    assert open_files(shelf.directory) == set()
    for handle in handles:
        with pytest.raises(FacetAborted, match="shutdown"):
            handle.call(Notebook.words)
    assert shelf.get("b").call(Notebook.words) == ["one"]


# Eviction


def test_eviction_closes_the_least_recently_used_facet_beyond_the_limit(make_shelf: MakeShelf) -> None:
    shelf = make_shelf(2)
    for name in ("a", "b", "a", "c"):
        shelf.get(name).call(Notebook.write, "x")
    assert shelf.closed == ["b"]
    assert open_files(shelf.directory) == {f"{name}.sqlite{suffix}" for name in "ac" for suffix in SUFFIXES}
    for name in ("d", "e", "f", "a"):
        shelf.get(name).call(Notebook.write, "y")
    assert shelf.closed == ["b", "a", "c", "d", "e"]
    assert shelf.get("a").call(Notebook.words) == ["x", "x", "y"]


def test_evicted_facet_is_opened_again_by_its_old_handle(make_shelf: MakeShelf) -> None:
    shelf = make_shelf(1)
    old = shelf.get("a")
    old.call(Notebook.write, "one")
    shelf.get("b").call(Notebook.write, "x")
    assert shelf.closed == ["a"]
    old.call(Notebook.write, "two")
    assert old.call(Notebook.words) == ["one", "two"]
    assert shelf.get("a").call(Notebook.me) is old.call(Notebook.me)
    assert shelf.running("a") == 1


def test_eviction_spares_a_busy_child_until_it_is_idle(make_shelf: MakeShelf) -> None:
    shelf = make_shelf(2)
    shelf.busy.add("busy")
    child = shelf.get("busy").call(Notebook.me)
    for name in "abcdefgh":
        shelf.get(name).call(Notebook.write, "x")
    assert "busy" not in shelf.closed
    assert shelf.get("busy").call(Notebook.me) is child
    shelf.busy.clear()
    for name in "ij":
        shelf.get(name).call(Notebook.write, "x")
    assert "busy" in shelf.closed
    assert len(shelf.started) - len(shelf.closed) == 2


def test_busy_children_do_not_count_towards_the_limit(make_shelf: MakeShelf) -> None:
    """A facet is read right after its work has ended, so it is not closed for others that are at work."""
    shelf = make_shelf(2)
    shelf.busy.update("abcd")
    for name in "abcd":
        shelf.get(name).call(Notebook.write, "x")
    for name in "ab":
        shelf.busy.remove(name)
        shelf.get("d").call(Notebook.words)
    assert shelf.closed == []
    shelf.busy.remove("c")
    shelf.get("d").call(Notebook.words)
    assert shelf.closed == ["a"]


def test_eviction_spares_a_facet_during_a_call_also_from_its_own_thread(make_shelf: MakeShelf) -> None:
    shelf = make_shelf(1)
    handle, entered, gate = shelf.get("a"), threading.Event(), threading.Event()
    child = handle.call(Notebook.me)

    def call_another() -> None:
        shelf.get("b").call(Notebook.write, "x")
        child.write("one")

    handle.call(Notebook.run, call_another)
    running = in_thread(lambda: handle.call(Notebook.wait, entered, gate, "two"))
    assert entered.wait(DEADLINE)
    for name in "bcd":
        shelf.get(name).call(Notebook.write, "x")
    gate.set()
    assert running.result(DEADLINE) == "two"
    assert handle.call(Notebook.words) == ["one", "two"]
    assert shelf.started.count("a") == 1


def test_facet_that_is_called_during_its_eviction_is_not_opened_twice(
    make_shelf: MakeShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = make_shelf(1)
    shelf.get("a").call(Notebook.write, "one")
    evict = Facet.evict
    calls: list[Future[object]] = []

    def call() -> None:
        shelf.get("a").call(Notebook.write, "two")
        shelf.busy.add("a")

    def evict_and_call(facet: Facet[Notebook]) -> bool:
        evicted = evict(facet)
        if facet.name == "a" and not calls:
            calls.append(in_thread(call))
            calls[0].result(DEADLINE)
        return evicted

    monkeypatch.setattr(Facet, "evict", evict_and_call)
    shelf.get("b").call(Notebook.write, "x")
    assert len(calls) == 1
    gc.collect()
    assert shelf.get("a").call(Notebook.words) == ["one", "two"]
    assert shelf.running("a") == 1
