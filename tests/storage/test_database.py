"""One SQLite file: its transactions, its migrations, what it refuses, and its removal."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from overseer.domain.errors import StorageClosed, StorageDamaged, StorageError, StorageFull, StorageReplaced
from overseer.storage.database import CHECKPOINT_BYTES, SUFFIXES, Migration, Storage, beside, remove

DEADLINE = 20.0
OURS = 0x54455354
OTHERS = 0x0BAD0BAD
NORMAL, FULL = 1, 2

Open = Callable[..., Storage]


def words_table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE words (word TEXT UNIQUE)")


def numbers_table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE numbers (number INTEGER)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is, or will be."""
    return tmp_path / "some.sqlite"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Opens the file; what a test left open is closed after it."""
    storages: list[Storage] = []

    def open_it(migrations: Sequence[Migration] = (words_table,), *, create: bool = True) -> Storage:
        storages.append(Storage(path))
        storages[-1].migrate(migrations, application_id=OURS, create=create)
        return storages[-1]

    yield open_it
    for storage in storages:
        storage.close()


def ask(path: Path, sql: str) -> list[object]:
    """What another program reads in the file: the first column of every row."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return [row[0] for row in db.execute(sql)]


def tell(path: Path, *statements: str) -> None:
    """What another program does to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for sql in statements:
            db.execute(sql)


def add(storage: Storage, word: str) -> None:
    with storage.write() as db:
        db.execute("INSERT INTO words VALUES (?)", (word,))


def synchronous(db: sqlite3.Connection) -> object:
    return db.execute("PRAGMA synchronous").fetchone()[0]


def files(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


# Transactions


def test_what_a_block_wrote_is_there_for_everybody_when_it_ends(opened: Open, path: Path) -> None:
    """The end of the block is the commit: not before, and nothing else is needed."""
    storage = opened()
    with storage.write() as db:
        db.execute("INSERT INTO words VALUES ('one')")
        assert ask(path, "SELECT word FROM words") == []
    assert ask(path, "SELECT word FROM words") == ["one"]
    with storage.read() as db:
        assert [row["word"] for row in db.execute("SELECT word FROM words")] == ["one"]


def test_a_block_that_raises_leaves_no_trace(opened: Open, path: Path) -> None:
    """All of a transaction or none of it, and the exception reaches whoever wrote."""
    storage = opened()
    with pytest.raises(KeyError, match="mine"), storage.write() as db:
        db.execute("INSERT INTO words VALUES ('one')")
        raise KeyError("mine")
    assert ask(path, "SELECT word FROM words") == []
    add(storage, "two")
    assert ask(path, "SELECT word FROM words") == ["two"]


def test_a_statement_that_fails_takes_its_block_with_it(opened: Open, path: Path) -> None:
    """An error of SQLite rolls back too, comes as a StorageError, and the file goes on working."""
    storage = opened()
    add(storage, "one")
    with pytest.raises(StorageError, match=r"some\.sqlite .*UNIQUE"), storage.write() as db:
        db.execute("INSERT INTO words VALUES ('two')")
        db.execute("INSERT INTO words VALUES ('one')")
    add(storage, "three")
    assert ask(path, "SELECT word FROM words") == ["one", "three"]


def test_a_query_that_fails_is_a_storage_error(opened: Open) -> None:
    """Reading tells of its errors the same way."""
    with pytest.raises(StorageError, match="no such table"), opened().read() as db:
        db.execute("SELECT * FROM nowhere")


def test_blocks_of_two_threads_do_not_mix(opened: Open) -> None:
    """What one thread reads in its transaction is still so when it writes."""
    storage = opened([numbers_table])
    with storage.write() as db:
        db.execute("INSERT INTO numbers VALUES (0)")
    together = threading.Barrier(4)

    def count() -> None:
        together.wait(DEADLINE)
        for _ in range(10):
            with storage.write() as db:
                number = db.execute("SELECT number FROM numbers").fetchone()[0]
                db.execute("UPDATE numbers SET number = ?", (number + 1,))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    with storage.read() as db:
        assert db.execute("SELECT number FROM numbers").fetchone()[0] == 40


def test_a_full_disk_is_told_as_such_and_nothing_of_the_block_is_kept(opened: Open, path: Path) -> None:
    """A person is told to free space, what was stored stays, and with space it goes on."""
    storage = opened()
    add(storage, "kept")
    with storage.read() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(StorageFull, match="disk is full"), storage.write() as db:
        db.execute("INSERT INTO words VALUES ('small')")
        db.execute("INSERT INTO words VALUES (?)", ("x" * 100_000,))
    assert ask(path, "SELECT word FROM words") == ["kept"]
    add(storage, "more")
    assert ask(path, "SELECT word FROM words") == ["kept", "more"]


def test_a_file_that_another_program_locks_can_be_tried_again(opened: Open, path: Path) -> None:
    """A lock held elsewhere is StorageFull, which passes, and not a broken file."""
    storage = opened()
    with storage.read() as db:
        db.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFull, match="locked by another program"):
            add(storage, "one")
        other.execute("ROLLBACK")
    add(storage, "two")
    assert ask(path, "SELECT word FROM words") == ["two"]


def test_an_error_that_ended_the_transaction_by_itself_is_told_as_what_it_was(opened: Open) -> None:
    """SQLite rolls some errors back on its own; the person hears of the error, not of the rollback."""
    storage = opened()
    add(storage, "kept")
    with pytest.raises(StorageError, match="interrupted"), storage.write() as db:

        def interrupt(x: int) -> int:
            db.interrupt()
            return x

        db.create_function("interrupt", 1, interrupt)
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT interrupt(x) + 1 FROM c)"
        db.execute(f"INSERT INTO words {endless} SELECT x FROM c")
    with storage.read() as db:
        assert [row["word"] for row in db.execute("SELECT word FROM words")] == ["kept"]
    add(storage, "more")


def test_a_write_that_need_not_be_durable_is_a_transaction_all_the_same(opened: Open, path: Path) -> None:
    """It is seen at once and outlives the process; the next one waits for the disk again, whatever happened."""
    storage = opened()
    with storage.write(durable=False) as db:
        assert synchronous(db) == NORMAL
        db.execute("INSERT INTO words VALUES ('one')")
    assert ask(path, "SELECT word FROM words") == ["one"]
    with pytest.raises(KeyError), storage.write(durable=False) as db:
        db.execute("INSERT INTO words VALUES ('two')")
        raise KeyError
    with pytest.raises(StorageError), storage.write(durable=False) as db:
        db.execute("INSERT INTO words VALUES ('one')")
    assert ask(path, "SELECT word FROM words") == ["one"]
    with storage.write() as db:
        assert synchronous(db) == FULL


# Migrations


def test_migrations_run_once_and_in_their_order(opened: Open, path: Path) -> None:
    """A file remembers how far it is; opening it again does nothing, and a longer list only what is new."""
    ran: list[int] = []

    def step(number: int) -> Migration:
        def migration(db: sqlite3.Connection) -> None:
            ran.append(number)
            db.execute(f"CREATE TABLE t{number} (a)")

        return migration

    opened([step(1), step(2)]).close()
    assert ran == [1, 2]
    opened([step(1), step(2)]).close()
    assert ran == [1, 2]
    opened([step(1), step(2), step(3)]).close()
    assert ran == [1, 2, 3]
    assert ask(path, "PRAGMA user_version") == [3]
    assert ask(path, "SELECT name FROM sqlite_schema ORDER BY name") == ["t1", "t2", "t3"]


@pytest.mark.parametrize("raises", [RuntimeError, sqlite3.OperationalError])
def test_a_migration_that_raises_is_rolled_back_with_its_number(
    opened: Open, path: Path, raises: type[Exception]
) -> None:
    """Neither half a schema nor a number that says it is whole; the next open picks up there."""

    def breaks(db: sqlite3.Connection) -> None:
        numbers_table(db)
        db.execute("INSERT INTO words VALUES ('from the second')")
        raise raises("no")

    with pytest.raises((RuntimeError, StorageError), match="no"):
        opened([words_table, breaks])
    assert ask(path, "PRAGMA user_version") == [1]
    assert ask(path, "SELECT name FROM sqlite_schema WHERE type = 'table'") == ["words"]
    assert ask(path, "SELECT word FROM words") == []
    opened([words_table, numbers_table])
    assert ask(path, "PRAGMA user_version") == [2]
    assert "numbers" in ask(path, "SELECT name FROM sqlite_schema")


def test_a_file_says_whose_it_is_and_is_written_with_care(opened: Open, path: Path) -> None:
    """The application id names the program; WAL and FULL mean a commit outlives a power cut."""
    storage = opened()
    assert ask(path, "PRAGMA application_id") == [OURS]
    assert ask(path, "PRAGMA journal_mode") == ["wal"]
    for again in (storage, opened()):
        with again.read() as db:
            assert synchronous(db) == FULL
            assert db.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_nothing_touches_the_disk_before_migrate(path: Path) -> None:
    """Having a Storage is free."""
    storage = Storage(path)
    assert files(path) == set()
    storage.close()
    assert files(path) == set()


# What is refused


def test_a_file_newer_than_the_code_is_refused_and_left_as_it_is(opened: Open, path: Path) -> None:
    """An older Overseer does not write into what it does not understand."""
    opened([words_table, numbers_table]).close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"^some\.sqlite was written by a newer version of Overseer"):
        opened([words_table])
    assert path.read_bytes() == before
    opened([words_table, numbers_table])


@pytest.mark.parametrize("size", [3, 100, 5000])
def test_what_is_no_database_is_refused_and_left_as_it_is(opened: Open, path: Path, size: int) -> None:
    """A text that was put there by mistake is not lost."""
    path.write_bytes((b"Dear diary, " * 1000)[:size])
    with pytest.raises(StorageError, match=r"some\.sqlite is damaged or not a SQLite file"):
        opened()
    assert path.read_bytes() == (b"Dear diary, " * 1000)[:size]


@pytest.mark.parametrize(
    "made", [("CREATE TABLE bookmarks (url)",), (f"PRAGMA application_id = {OTHERS}", "CREATE TABLE bookmarks (url)")]
)
def test_another_programs_database_is_refused_and_left_as_it_is(
    opened: Open, path: Path, made: tuple[str, ...]
) -> None:
    """Whether it says whose it is or only holds tables that are not ours."""
    tell(path, *made, "INSERT INTO bookmarks VALUES ('https://example.org')")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"^some\.sqlite is a database of another program"):
        opened()
    assert path.read_bytes() == before


def test_a_missing_file_is_refused_and_not_made(opened: Open, path: Path) -> None:
    """A room that lost its file is not silently an empty one."""
    with pytest.raises(StorageError, match=r"some\.sqlite is missing"):
        opened(create=False)
    assert files(path) == set()
    opened(create=True).close()
    opened(create=False)


def test_a_page_of_garbage_is_told_as_damage(opened: Open, path: Path) -> None:
    """A file that rotted on the disk is explained, with what to do."""
    storage = opened()
    for n in range(3):
        add(storage, f"{n}" * 5000)
    storage.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with pytest.raises(StorageError, match="damaged.*backup"), opened().read() as db:
        db.execute("SELECT * FROM words").fetchall()


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    """It may come back, so it is StorageFull and nobody calls the file damaged."""
    storage = Storage(tmp_path / "gone" / "some.sqlite")
    with pytest.raises(StorageFull, match="cannot be opened for writing"):
        storage.migrate([words_table], application_id=OURS, create=True)


@pytest.mark.parametrize("how", ["never opened", "closed", "refused"])
def test_a_closed_file_says_so(opened: Open, path: Path, how: str) -> None:
    """Every use raises StorageClosed; closing again is nothing."""
    storage = Storage(path)
    if how == "closed":
        storage = opened()
        storage.close()
    if how == "refused":
        with pytest.raises(StorageError):
            storage.migrate([words_table], application_id=OURS, create=False)
    with pytest.raises(StorageClosed, match=r"some\.sqlite is closed"), storage.write():
        raise AssertionError("it let somebody write")
    with pytest.raises(StorageClosed), storage.read():
        raise AssertionError("it let somebody read")
    storage.close()


def test_a_closed_file_can_be_opened_again(opened: Open) -> None:
    """The same Storage serves a facet that comes back."""
    storage = opened()
    add(storage, "one")
    storage.close()
    storage.migrate([words_table], application_id=OURS, create=False)
    with storage.read() as db:
        assert [row["word"] for row in db.execute("SELECT word FROM words")] == ["one"]


def test_remove_takes_all_three_files_and_no_other(opened: Open, path: Path) -> None:
    """Nothing of a deleted conversation stays behind in a log."""
    storage = opened()
    add(storage, "one")
    assert files(path) == {path.name + suffix for suffix in SUFFIXES}
    neighbour = path.with_name("some.sqlite.bak")
    neighbour.write_text("keep me")
    remove(path)
    assert files(path) == {"some.sqlite.bak"}
    storage.close()
    assert files(path) == {"some.sqlite.bak"}
    remove(path)


def test_a_file_that_was_removed_takes_its_companions_with_it(opened: Open, path: Path) -> None:
    """Its log would be played into the copy that is put in its place."""
    storage = opened()
    add(storage, "one")
    path.unlink()
    with pytest.raises(StorageError, match="removed or replaced"):
        add(storage, "two")
    storage.close()
    assert files(path) == set()


def test_a_log_that_was_removed_is_noticed_and_what_it_held_is_kept(opened: Open, path: Path) -> None:
    """What would be stored in it from then on would be lost by a kill; to close puts what it held into the file."""
    storage = opened()
    add(storage, "one")
    assert storage.in_place()
    path.with_name(f"{path.name}-wal").unlink()
    assert not storage.in_place()
    with pytest.raises(StorageError, match="-wal was removed"):
        add(storage, "two")
    storage.close()
    assert ask(path, "SELECT word FROM words") == ["one"]


def test_the_companions_of_a_file_that_took_its_place_are_left_alone(opened: Open, path: Path) -> None:
    """They are part of it."""
    storage = opened()
    add(storage, "one")
    for companion in path.parent.iterdir():
        companion.unlink()
    other = Storage(path)
    other.migrate([words_table], application_id=OURS, create=True)
    add(other, "another")
    storage.close()
    assert ask(path, "SELECT word FROM words") == ["another"]
    other.close()


def test_a_removal_that_is_cut_short_leaves_nothing_that_nobody_would_find(path: Path) -> None:
    """The file, by whose name the next start finds what is left, goes last."""
    path.mkdir()  # what cannot be unlinked stands for a crash just there
    for suffix in SUFFIXES[1:]:
        path.with_name(path.name + suffix).touch()
    with pytest.raises(OSError):
        remove(path)
    assert files(path) == {path.name}


def test_every_commit_is_made_aside(path: Path) -> None:
    """Other threads run while it waits for the disk, whether it is the first one, and durable, or not."""
    threads: list[int] = []

    def run_in_thread(work: Callable[[], object]) -> object:
        def run() -> None:
            threads.append(threading.get_ident())
            work()

        other = threading.Thread(target=run)
        other.start()
        other.join()
        return None

    storage = Storage(path, run_in_thread=run_in_thread)
    storage.migrate((words_table,), application_id=OURS, create=True)
    for word, durable in (("a", True), ("b", False), ("c", True)):
        with storage.write(durable=durable) as db:
            db.execute("INSERT INTO words VALUES (?)", (word,))
    storage.close()
    assert len(threads) == 3 and threading.get_ident() not in threads
    assert ask(path, "SELECT word FROM words ORDER BY word") == list("abc")


def test_commits_go_on_after_a_checkpoint_whose_result_is_still_held(path: Path) -> None:
    """A thread may hold what its last work returned for any time."""
    results: list[object] = []
    storage = Storage(path, run_in_thread=lambda work: results.append(work()))
    storage.migrate((words_table,), application_id=OURS, create=True)
    for word, durable in (("a", True), ("b", False), ("c", True)):
        with storage.write(durable=durable) as db:
            db.execute("INSERT INTO words VALUES (?)", (word * CHECKPOINT_BYTES,))
    storage.close()
    assert len(results) == 6  # each commit, each checkpoint


# Replaced during a transaction


def backup_of(path: Path) -> Path:
    """A whole copy of the file as it is now."""
    copy = beside(path, ".backup")
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source, closing(sqlite3.connect(copy)) as to:
        source.backup(to)
    return copy


def replace_file(path: Path) -> None:
    os.replace(beside(path, ".backup"), path)


def replace_by_link(path: Path) -> None:
    beside(path, ".link").symlink_to(beside(path, ".backup"))
    os.replace(beside(path, ".link"), path)


def move_and_link(path: Path) -> None:
    """The same file, but its log is looked for elsewhere from now on."""
    elsewhere = path.with_name("elsewhere")
    elsewhere.mkdir()
    path.rename(elsewhere / path.name)
    path.symlink_to(elsewhere / path.name)


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parents[1] / "away")


def unlink_file(path: Path) -> None:
    path.unlink()


def unlink_log(path: Path) -> None:
    beside(path, "-wal").unlink()


def replace_log(path: Path) -> None:
    shutil.copy(beside(path, "-wal"), beside(path, ".log"))
    os.replace(beside(path, ".log"), beside(path, "-wal"))


REPLACED = (replace_file, replace_by_link, move_and_link, rename_folder, unlink_file, unlink_log, replace_log)


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    """Where the file will be, in a folder of its own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "some.sqlite"


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("harm", REPLACED)
def test_write_raises_when_the_file_or_its_log_is_replaced_during_the_transaction(
    inner: Path, harm: Callable[[Path], None], *, durable: bool
) -> None:
    """A commit into a file that is not at its path any more would be acknowledged and lost."""
    storage = Storage(inner)
    storage.migrate((words_table,), application_id=OURS, create=True)
    add(storage, "before")
    backup_of(inner)
    with pytest.raises(StorageReplaced, match="while it was open"), storage.write(durable=durable) as db:
        db.execute("INSERT INTO words VALUES ('during')")
        harm(inner)
    assert not storage.in_place() and not storage.is_sound()
    with pytest.raises(StorageReplaced):
        add(storage, "after")
    storage.close()
    if harm is rename_folder:
        (inner.parents[1] / "away").rename(inner.parent)
    storage.migrate((words_table,), application_id=OURS, create=True)
    add(storage, "again")
    storage.close()
    assert "again" in ask(inner, "SELECT word FROM words")
    assert ("before" in ask(inner, "SELECT word FROM words")) == (harm is not unlink_file)


@pytest.mark.parametrize("harm", REPLACED)
def test_write_raises_when_the_file_or_its_log_is_replaced_between_commit_and_return(
    inner: Path, harm: Callable[[Path], None]
) -> None:
    """Whoever was told nothing yet can ask again; what was told is stored."""
    armed = False

    def run_in_thread(work: Callable[[], object]) -> object:
        result = work()
        if armed:
            harm(inner)
        return result

    storage = Storage(inner, run_in_thread=run_in_thread)
    storage.migrate((words_table,), application_id=OURS, create=True)
    add(storage, "before")
    backup_of(inner)
    armed = True
    with pytest.raises(StorageReplaced):
        add(storage, "during")
    storage.close()


def test_write_raises_when_the_file_is_written_over_during_the_transaction(opened: Open, path: Path) -> None:
    """It is the same file still, and there is no room for what was stored in it."""
    opened().close()  # nothing is in the log
    storage = opened()
    with pytest.raises(StorageDamaged, match="written over"), storage.write() as db:
        db.execute("INSERT INTO words VALUES ('during')")
        path.write_bytes(b"This is no database. " * 1000)


def test_write_goes_on_when_another_program_writes_in_the_file(opened: Open, path: Path) -> None:
    """Its checkpoint changes the file and harms nothing."""
    storage = opened()
    add(storage, "ours")
    with storage.write() as db:
        db.execute("INSERT INTO words VALUES ('during')")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")
    add(storage, "after")
    assert ask(path, "SELECT word FROM words") == ["ours", "during", "after"]


@pytest.mark.parametrize("durable", [True, False])
def test_a_long_log_is_moved_into_the_file(opened: Open, path: Path, *, durable: bool) -> None:
    """It does not grow without end, and the file is known as our own afterwards."""
    storage = opened()
    for n in range(3):
        with storage.write(durable=durable) as db:
            db.execute("INSERT INTO words VALUES (?)", (f"{n}" * CHECKPOINT_BYTES,))
        assert beside(path, "-wal").stat().st_size < CHECKPOINT_BYTES
        assert path.stat().st_size > (n + 1) * CHECKPOINT_BYTES
        assert storage.in_place() and storage.is_sound()
    assert ask(path, "SELECT length(word) FROM words") == [CHECKPOINT_BYTES] * 3


def test_a_log_is_watched_from_the_opening_on_in_a_file_that_had_none(opened: Open, path: Path) -> None:
    """A copy from a backup has no log of its own until it is opened."""
    opened().close()
    tell(path, "PRAGMA journal_mode = DELETE")
    storage = opened(create=False)
    beside(path, "-wal").unlink()
    assert not storage.in_place()


def test_a_file_that_is_replaced_while_it_is_opened_is_not_used(opened: Open, path: Path) -> None:
    """What is written would go into the one that is not there any more; the next try opens the other."""
    opened().close()
    backup_of(path)

    def numbers_and_replace(db: sqlite3.Connection) -> None:
        numbers_table(db)
        replace_file(path)

    with pytest.raises(StorageFull, match="replaced while it was opened"):
        opened((words_table, numbers_and_replace))
    assert files(path) == {path.name}, "a log of the old file would be played into the new one"
    add(opened((words_table, numbers_table)), "one")


def test_a_link_to_a_file_is_opened_with_the_log_beside_the_file(opened: Open, path: Path) -> None:
    """SQLite keeps it there, so that is where it is watched."""
    elsewhere = path.with_name("elsewhere.sqlite")
    path.symlink_to(elsewhere)
    elsewhere.touch()
    storage = opened()
    add(storage, "one")
    assert storage.in_place()
    beside(elsewhere, "-wal").unlink()
    assert not storage.in_place()


def test_opening_again_closes_the_connection_before(opened: Open, path: Path) -> None:
    """A retry after an error leaves no descriptor behind."""
    storage = opened()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        storage.migrate((words_table,), application_id=OURS, create=False)
    assert len(os.listdir("/proc/self/fd")) == before
