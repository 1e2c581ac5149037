"""Facets: one file and one running object per name, calls one at a time, and an end that is final."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from overseer.storage.database import SUFFIXES, Storage, remove
from overseer.storage.facets import MAX_NAME_BYTES, Facet, FacetAborted, Facets, Start

DEADLINE = 20.0
MOMENT = 0.1  # seconds to wait for what must not happen
OURS = 0x4E4F5445
DESCRIPTORS = Path("/proc/self/fd")


def words_table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE words (word TEXT)")


class Notebook:
    """The child of these tests: it keeps words, and can be asked to wait in the middle of a call."""

    def __init__(self, storage: Storage, shelf: Shelf, name: str) -> None:
        self.shelf, self.name = shelf, name
        self.storage = storage
        storage.migrate([words_table], application_id=OURS, create=True)
        shelf.begun.append(name)

    def write(self, word: str) -> None:
        with self.storage.write() as db:
            db.execute("INSERT INTO words VALUES (?)", (word,))

    def words(self) -> list[str]:
        with self.storage.read() as db:
            return [row["word"] for row in db.execute("SELECT word FROM words ORDER BY rowid")]

    def wait(self, entered: threading.Event, gate: threading.Event, word: str = "waited") -> str:
        """A call that lasts as long as the test wants it to."""
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
        self.shelf.ended.append(self.name)


class Shelf:
    """A folder of notebooks, and a diary of which began and ended."""

    def __init__(self, directory: Path, limit: int) -> None:
        self.directory = directory
        self.facets: Facets[Notebook] = Facets(directory, limit=limit)
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.busy: set[str] = set()

    def get(self, name: str) -> Facet[Notebook]:
        return self.facets.get(name, self.start(name))

    def start(self, name: str) -> Start[Notebook]:
        return lambda storage: Notebook(storage, self, name)

    def running(self, name: str) -> int:
        """How many objects of this name are there now."""
        return self.begun.count(name) - self.ended.count(name)

    def files(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()}


MakeShelf = Callable[..., Shelf]


@pytest.fixture
def make_shelf(tmp_path: Path) -> Iterator[MakeShelf]:
    """Makes a shelf with room for so many open notebooks."""
    shelves: list[Shelf] = []

    def make(limit: int = 50) -> Shelf:
        directory = tmp_path / f"shelf{len(shelves)}"
        directory.mkdir()
        shelves.append(Shelf(directory, limit))
        return shelves[-1]

    yield make
    for shelf in shelves:
        shelf.facets.close("the test is over")


@pytest.fixture
def shelf(make_shelf: MakeShelf) -> Shelf:
    """A shelf with room for many."""
    return make_shelf()


def in_time(happened: Callable[[], bool]) -> bool:
    """Whether it happens within a moment; for what cannot be waited for, and may never come."""
    until = time.monotonic() + MOMENT
    while time.monotonic() < until:
        if happened():
            return True
        time.sleep(0)
    return False


class Thread:
    """A call in a thread of its own, with what it returned or raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self.error: Exception | None = None
        self.result: object = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> Thread:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        return self

    def _run(self) -> None:
        try:
            self.result = self._function()
        except Exception as error:
            self.error = error


def open_files(directory: Path) -> set[str]:
    """What this process has open in the directory, by the word of the kernel; what was removed ends in `(deleted)`."""
    found = set()
    for entry in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        with suppress(OSError):
            path = Path(os.readlink(entry))
            if path.parent == directory:
                found.add(path.name)
    return found


needs_proc = pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="there is no /proc here")


# Opening


def test_get_starts_nothing_and_makes_no_file(shelf: Shelf) -> None:
    """A handle is free: a thousand rooms in a list open no file."""
    for n in range(1000):
        shelf.get(f"name{n}")
    assert shelf.begun == []
    assert shelf.files() == set()
    assert not shelf.facets.exists("name1")
    assert shelf.facets.names() == set()


def test_the_first_call_opens_the_file_and_starts_the_child_once(shelf: Shelf) -> None:
    """Later calls find it running, and the file is a plain SQLite file of that name."""
    handle = shelf.get("a")
    handle.call(Notebook.write, "one")
    handle.call(Notebook.write, "two")
    assert handle.call(Notebook.words) == ["one", "two"]
    assert shelf.begun == ["a"]
    assert shelf.facets.exists("a")
    assert shelf.facets.names() == {"a"}
    with closing(sqlite3.connect(shelf.facets.path("a"))) as db:
        assert db.execute("SELECT word FROM words").fetchall() == [("one",), ("two",)]


def test_one_that_runs_takes_no_notice_of_a_new_start(shelf: Shelf) -> None:
    """`start` is for the next time it is opened, and then it is used."""
    handle = shelf.get("a")
    first = handle.call(Notebook.me)
    again = shelf.facets.get("a", lambda storage: Notebook(storage, shelf, "a, otherwise"))
    assert again.call(Notebook.me) is first
    assert shelf.begun == ["a"]
    assert handle.evict()
    assert handle.call(Notebook.me) is not first
    assert shelf.begun == ["a", "a, otherwise"]


def test_there_is_one_running_object_however_many_handles(shelf: Shelf) -> None:
    """Handles got in many threads at once reach the same child, started once."""
    together = threading.Barrier(8)

    def reach() -> Notebook:
        together.wait(DEADLINE)
        return shelf.get("a").call(Notebook.me)

    threads = [Thread(reach) for _ in range(8)]
    found = {id(thread.join().result) for thread in threads}
    assert not [thread.error for thread in threads if thread.error]
    assert len(found) == 1
    assert shelf.begun == ["a"]


def test_a_start_that_raises_leaves_the_name_usable(shelf: Shelf) -> None:
    """The exception reaches the caller, no file stays open, and the next call tries anew on the same handle."""

    def broken(storage: Storage) -> Notebook:
        Notebook(storage, shelf, "half").write("before it broke")
        raise RuntimeError("not today")

    handle = shelf.facets.get("a", broken)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not today"):
            handle.call(Notebook.words)
        assert open_files(shelf.directory) == set()
    shelf.get("a")
    assert handle.call(Notebook.words) == ["before it broke"] * 2


def test_a_call_that_raises_raises_the_same_and_the_child_goes_on(shelf: Shelf) -> None:
    """An error in one call is nobody else's."""
    handle = shelf.get("a")
    with pytest.raises(ZeroDivisionError):
        handle.call(Notebook.run, lambda: 1 // 0)
    handle.call(Notebook.write, "one")
    assert shelf.begun == ["a"]
    assert shelf.ended == []


# Calls


def test_calls_of_one_name_run_one_at_a_time(shelf: Shelf) -> None:
    """Also through different handles: the second begins when the first has ended."""
    first, second = shelf.get("a"), shelf.get("a")
    in_first, in_second, gate, open_gate = (threading.Event() for _ in range(4))
    open_gate.set()
    one = Thread(lambda: first.call(Notebook.wait, in_first, gate, "first"))
    assert in_first.wait(DEADLINE)
    two = Thread(lambda: second.call(Notebook.wait, in_second, open_gate, "second"))
    assert not in_second.wait(MOMENT)
    gate.set()
    assert [one.join().result, two.join().result] == ["first", "second"]
    assert first.call(Notebook.words) == ["first", "second"]


def test_calls_of_different_names_do_not_wait_for_each_other(shelf: Shelf) -> None:
    """One slow room delays no other, nor its being opened or deleted."""
    entered, gate = threading.Event(), threading.Event()
    slow = Thread(lambda: shelf.get("slow").call(Notebook.wait, entered, gate))
    assert entered.wait(DEADLINE)
    shelf.get("other").call(Notebook.write, "one")
    assert shelf.get("other").call(Notebook.words) == ["one"]
    shelf.facets.delete("other")
    gate.set()
    assert slow.join().result == "waited"


def test_two_names_share_nothing(shelf: Shelf) -> None:
    """What one writes is in its own file and in no other."""
    for name in ("a", "b"):
        shelf.get(name).call(Notebook.write, f"of {name}")
    assert shelf.get("a").call(Notebook.words) == ["of a"]
    assert shelf.get("b").call(Notebook.words) == ["of b"]
    shelf.facets.delete("a")
    assert shelf.get("b").call(Notebook.words) == ["of b"]


# Abort


def test_abort_keeps_the_file_and_ends_the_handles(shelf: Shelf) -> None:
    """Old handles raise the reason from now on; a new one finds the data."""
    old, other = shelf.get("a"), shelf.get("a")
    old.call(Notebook.write, "one")
    shelf.facets.abort("a", "the cat sat on it")
    for handle in (old, other, old):
        with pytest.raises(FacetAborted, match="^the cat sat on it$"):
            handle.call(Notebook.words)
    assert shelf.ended == ["a"]
    assert open_files(shelf.directory) == set()
    assert shelf.facets.exists("a")
    assert shelf.get("a").call(Notebook.words) == ["one"]
    with pytest.raises(FacetAborted):
        old.call(Notebook.words)


def test_abort_ends_a_handle_that_was_never_used(shelf: Shelf) -> None:
    """Nothing was open, and still the handle is one given out before."""
    old = shelf.get("a")
    shelf.facets.abort("a", "enough")
    with pytest.raises(FacetAborted, match="enough"):
        old.call(Notebook.words)
    assert shelf.files() == set()
    assert shelf.begun == []
    shelf.get("a").call(Notebook.write, "one")


def test_abort_makes_the_call_in_flight_raise(shelf: Shelf) -> None:
    """What it returned or raised by itself counts no more: its caller hears the reason."""
    handle = shelf.get("a")
    handle.call(Notebook.write, "one")

    def be_aborted() -> str:
        shelf.facets.abort("a", "too slow")
        return "a result"

    def be_aborted_and_raise() -> None:
        shelf.facets.abort("a", "too slow")
        raise ZeroDivisionError

    for method in (be_aborted, be_aborted_and_raise):
        with pytest.raises(FacetAborted, match="^too slow$"):
            shelf.get("a").call(Notebook.run, method)
    assert shelf.get("a").call(Notebook.words) == ["one"]


def test_abort_reaches_the_calls_of_other_threads(shelf: Shelf) -> None:
    """One that calls and calls is stopped, and nothing is open when `abort` returns."""
    handle, called = shelf.get("a"), threading.Event()

    def call_on() -> None:
        while True:
            handle.call(Notebook.run, called.set)

    caller = Thread(call_on)
    assert called.wait(DEADLINE)
    shelf.facets.abort("a", "enough")
    assert shelf.running("a") == 0
    assert open_files(shelf.directory) == set()
    assert isinstance(caller.join().error, FacetAborted)
    assert str(caller.error) == "enough"


def test_a_call_that_waited_while_the_facet_was_aborted_never_runs(shelf: Shelf) -> None:
    """It was asked of what is no more."""
    handle, entered, gate, ran = shelf.get("a"), threading.Event(), threading.Event(), threading.Event()

    def wait_and_be_aborted() -> None:
        entered.set()
        assert gate.wait(DEADLINE)
        shelf.facets.abort("a", "over")

    in_flight = Thread(lambda: handle.call(Notebook.run, wait_and_be_aborted))
    assert entered.wait(DEADLINE)
    waiting = Thread(lambda: handle.call(Notebook.run, ran.set))
    gate.set()
    assert isinstance(in_flight.join().error, FacetAborted)
    assert isinstance(waiting.join().error, FacetAborted)
    assert not ran.is_set()


def test_abort_of_an_unknown_name_is_no_error(shelf: Shelf) -> None:
    """There is nothing to stop."""
    shelf.facets.abort("nobody", "why not")
    assert shelf.files() == set()


def test_a_name_has_one_running_object_even_while_it_is_aborted(shelf: Shelf) -> None:
    """Who comes while an aborted call still runs waits or is told; two objects never share the file."""
    handle = shelf.get("a")
    in_first, in_second, gate = threading.Event(), threading.Event(), threading.Event()
    first = Thread(lambda: handle.call(Notebook.wait, in_first, gate))
    assert in_first.wait(DEADLINE)
    abort = Thread(lambda: shelf.facets.abort("a", "enough"))
    in_time(lambda: shelf.get("a") is not handle)

    def come() -> None:
        while True:
            with suppress(FacetAborted):
                shelf.get("a").call(Notebook.run, in_second.set)
                return

    second = Thread(come)
    overlapped = in_second.wait(MOMENT)
    gate.set()
    for thread in (first, abort, second):
        thread.join()
    assert not overlapped


# Delete


def test_delete_removes_the_three_files_and_ends_the_handles(shelf: Shelf) -> None:
    """Gone for good, for those who held it too; a new one of the name begins empty."""
    old = shelf.get("a")
    old.call(Notebook.write, "secret")
    shelf.get("b").call(Notebook.write, "other")
    assert {f"a.sqlite{suffix}" for suffix in SUFFIXES} <= shelf.files()
    shelf.facets.delete("a")
    assert shelf.files() == {f"b.sqlite{suffix}" for suffix in SUFFIXES}
    assert not shelf.facets.exists("a")
    with pytest.raises(FacetAborted, match="^facet was deleted$"):
        old.call(Notebook.words)
    assert shelf.files() == {f"b.sqlite{suffix}" for suffix in SUFFIXES}
    assert shelf.get("a").call(Notebook.words) == []


def test_delete_reaches_the_call_in_flight(shelf: Shelf) -> None:
    """It raises, and leaves no file behind."""
    handle = shelf.get("a")
    handle.call(Notebook.write, "one")
    with pytest.raises(FacetAborted, match="^facet was deleted$"):
        handle.call(Notebook.run, lambda: shelf.facets.delete("a"))
    assert shelf.files() == set()


@needs_proc
def test_nobody_opens_a_file_while_it_is_being_deleted(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes in between waits, is told, or begins an empty one afterwards; never does one lose its file."""
    shelf.get("a").call(Notebook.write, "old")
    came: list[Thread] = []

    def come() -> None:
        with suppress(FacetAborted):
            shelf.get("a").call(Notebook.write, "new")

    def remove_late(path: Path) -> None:
        came.append(Thread(come))
        in_time(lambda: not came[0].alive)
        remove(path)

    monkeypatch.setattr("overseer.storage.facets.remove", remove_late)
    shelf.facets.delete("a")
    came[0].join()
    assert "a.sqlite (deleted)" not in open_files(shelf.directory)


@needs_proc
def test_who_comes_just_before_a_delete_takes_hold_is_deleted_too(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call between the two halves of a delete does not go on in a file that is gone."""
    shelf.get("a").call(Notebook.write, "old")
    abort = Facet.abort
    came: list[Facet[Notebook]] = []

    def come() -> None:
        came.append(shelf.get("a"))
        with suppress(FacetAborted):
            came[0].call(Notebook.write, "new")

    def abort_late(facet: Facet[Notebook], *args: Any, **kwargs: Any) -> None:
        if not came:
            Thread(come).join()
        abort(facet, *args, **kwargs)

    monkeypatch.setattr(Facet, "abort", abort_late)
    shelf.facets.delete("a")
    assert len(came) == 1
    assert "a.sqlite (deleted)" not in open_files(shelf.directory)
    assert shelf.running("a") == 0


def test_delete_removes_what_was_never_opened(shelf: Shelf) -> None:
    """A file that only lies there is deleted all the same."""
    shelf.get("a").call(Notebook.write, "one")
    shelf.facets.close("for now")
    assert shelf.facets.exists("a")
    shelf.facets.delete("a")
    assert shelf.files() == set()


def test_delete_of_an_unknown_name_is_no_error(shelf: Shelf) -> None:
    """Twice is as good as once."""
    shelf.facets.delete("nobody")
    shelf.get("a").call(Notebook.write, "one")
    shelf.facets.delete("a")
    shelf.facets.delete("a")
    assert shelf.files() == set()


def test_close_stops_every_open_one(shelf: Shelf) -> None:
    """Their handles raise the reason, their files are closed and stay."""
    handles = [shelf.get(name) for name in "abc"]
    for handle in handles:
        handle.call(Notebook.write, "one")
    shelf.facets.close("good night")
    assert sorted(shelf.ended) == ["a", "b", "c"]
    assert open_files(shelf.directory) == set()
    for handle in handles:
        with pytest.raises(FacetAborted, match="good night"):
            handle.call(Notebook.words)
    assert shelf.get("b").call(Notebook.words) == ["one"]


# Eviction


@needs_proc
def test_beyond_the_limit_the_least_recently_used_is_closed(make_shelf: MakeShelf) -> None:
    """Not the oldest but the one that was not called for longest, and its descriptors go back to the system."""
    shelf = make_shelf(limit=2)
    for name in ("a", "b", "a", "c"):
        shelf.get(name).call(Notebook.write, "x")
    assert shelf.ended == ["b"]
    assert open_files(shelf.directory) == {f"{name}.sqlite{suffix}" for name in "ac" for suffix in ("", "-wal", "-shm")}
    shelf.get("d").call(Notebook.write, "x")
    assert shelf.ended == ["b", "a"]


@needs_proc
def test_many_names_cost_no_more_descriptors_than_the_limit(make_shelf: MakeShelf) -> None:
    """Ten times the limit are used in turn, and all keep their data."""
    shelf = make_shelf(limit=3)
    for turn in ("first", "second"):
        for n in range(30):
            shelf.get(f"name{n}").call(Notebook.write, turn)
            assert len(open_files(shelf.directory)) <= 3 * 3
    assert all(shelf.get(f"name{n}").call(Notebook.words) == ["first", "second"] for n in range(30))
    assert len(shelf.begun) - len(shelf.ended) == 3


def test_an_evicted_one_comes_back_on_its_old_handle_and_nobody_notices(make_shelf: MakeShelf) -> None:
    """The same handle, the same data, no exception; and still one object for all handles."""
    shelf = make_shelf(limit=1)
    old = shelf.get("a")
    old.call(Notebook.write, "one")
    shelf.get("b").call(Notebook.write, "x")
    assert shelf.ended == ["a"]
    old.call(Notebook.write, "two")
    assert old.call(Notebook.words) == ["one", "two"]
    assert shelf.get("a").call(Notebook.me) is old.call(Notebook.me)
    assert shelf.running("a") == 1
    assert shelf.ended == ["a", "b"]


def test_an_evicted_one_comes_back_on_a_new_handle_when_nobody_held_it(make_shelf: MakeShelf) -> None:
    """Nothing in memory remembers it; the file does."""
    shelf = make_shelf(limit=1)
    shelf.get("a").call(Notebook.write, "one")
    shelf.get("b").call(Notebook.write, "x")
    gc.collect()
    assert shelf.get("a").call(Notebook.words) == ["one"]


def test_a_busy_child_is_never_evicted(make_shelf: MakeShelf) -> None:
    """However many others are used; once idle it goes with the next call, and busy ones push out no idle one."""
    shelf = make_shelf(limit=2)
    shelf.busy.add("busy")
    child = shelf.get("busy").call(Notebook.me)
    for name in "abcd":
        shelf.get(name).call(Notebook.write, "x")
    assert shelf.get("busy").call(Notebook.me) is child
    assert "busy" not in shelf.ended
    for name in "efgh":
        shelf.get(name).call(Notebook.write, "x")
    assert "busy" not in shelf.ended
    shelf.busy.clear()
    shelf.get("i").call(Notebook.write, "x")
    assert "busy" in shelf.ended
    assert len(shelf.begun) - len(shelf.ended) == 2


def test_one_in_the_middle_of_a_call_is_never_evicted(make_shelf: MakeShelf) -> None:
    """Its call ends as if it were alone."""
    shelf = make_shelf(limit=1)
    handle, entered, gate = shelf.get("a"), threading.Event(), threading.Event()
    handle.call(Notebook.write, "one")
    in_flight = Thread(lambda: handle.call(Notebook.wait, entered, gate, "two"))
    assert entered.wait(DEADLINE)
    for name in "bcd":
        shelf.get(name).call(Notebook.write, "x")
    assert "a" not in shelf.ended
    gate.set()
    assert in_flight.join().result == "two"
    assert handle.call(Notebook.words) == ["one", "two"]
    assert shelf.begun.count("a") == 1


def test_one_that_calls_another_is_not_evicted_for_it(make_shelf: MakeShelf) -> None:
    """It is in the middle of a call too, although it is its own thread that opens the other."""
    shelf = make_shelf(limit=1)
    handle = shelf.get("a")
    child = handle.call(Notebook.me)

    def call_another() -> None:
        shelf.get("b").call(Notebook.write, "x")
        child.write("after it")

    handle.call(Notebook.run, call_another)
    assert handle.call(Notebook.words) == ["after it"]
    assert shelf.begun.count("a") == 1


def test_one_that_is_called_while_it_is_evicted_is_not_forgotten(
    make_shelf: MakeShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back in use and maybe busy, it must be found again, or a second object would open its file."""
    shelf = make_shelf(limit=1)
    shelf.get("a").call(Notebook.write, "one")
    evict = Facet.evict
    returned: list[Thread] = []

    def come_back() -> None:
        shelf.get("a").call(Notebook.write, "two")
        shelf.busy.add("a")

    def evict_and_come_back(facet: Facet[Notebook]) -> bool:
        done = evict(facet)
        if facet.name == "a" and not returned:
            returned.append(Thread(come_back).join())
        return done

    monkeypatch.setattr(Facet, "evict", evict_and_come_back)
    shelf.get("b").call(Notebook.write, "x")
    assert len(returned) == 1
    gc.collect()
    assert shelf.get("a").call(Notebook.words) == ["one", "two"]
    assert shelf.running("a") == 1


def test_an_aborted_one_is_not_kept_open_by_its_last_call(make_shelf: MakeShelf) -> None:
    """After the end, nothing of it is open and nothing counts against the limit."""
    shelf = make_shelf(limit=1)
    with pytest.raises(FacetAborted):
        shelf.get("a").call(Notebook.run, lambda: shelf.facets.abort("a", "over"))
    assert open_files(shelf.directory) == set()
    for name in "bbb":
        shelf.get(name).call(Notebook.write, "x")
    assert shelf.ended == ["a"]


# Names


@pytest.mark.parametrize(
    "name",
    ["", "x" * 257, "é" * 129, "a/b", "/etc/passwd", "a\\b", "..", ".", "../a", ".hidden", "a\0b", "\ud800"],
    ids=repr,
)
def test_what_is_no_name_is_refused(shelf: Shelf, name: str) -> None:
    """Empty, longer than 256 bytes, or leading elsewhere; by every method, and nothing is made or removed."""
    shelf.get("a").call(Notebook.write, "one")
    before = shelf.files()
    for method in (shelf.get, shelf.facets.path, shelf.facets.exists, shelf.facets.delete):
        with pytest.raises(ValueError):
            method(name)
    assert shelf.files() == before


@pytest.mark.parametrize("name", ["a", "room-0123456789ab", "a.b", "a.sqlite", "ein Café", "x" * 200], ids=repr)
def test_any_other_name_will_do(shelf: Shelf, name: str) -> None:
    """Names come back from the folder as they were given."""
    shelf.get(name).call(Notebook.write, "one")
    assert shelf.facets.names() == {name}
    assert shelf.facets.exists(name)
    assert shelf.get(name).call(Notebook.words) == ["one"]
    shelf.facets.delete(name)
    assert shelf.files() == set()


@pytest.mark.parametrize("letter", ["x", "é"])
def test_the_longest_name_that_is_allowed_can_be_used(shelf: Shelf, letter: str) -> None:
    """The limit leaves room for the suffixes of the three files."""
    name = letter * (MAX_NAME_BYTES // len(letter.encode()))
    shelf.get(name).call(Notebook.write, "one")
    assert shelf.facets.exists(name)
    shelf.facets.delete(name)
    assert shelf.files() == set()
