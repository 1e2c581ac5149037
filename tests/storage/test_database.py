"""One SQLite file: transactions, migrations, rejected files, replaced files and removal."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from overseer.domain.errors import StorageClosed, StorageDamaged, StorageError, StorageReplaced, StorageUnavailable
from overseer.storage.database import CHECKPOINT_BYTES, SUFFIXES, Migration, Storage, beside, remove
from tests.support.files import JUNK, column, copy_database, execute, remove_wal, write_junk
from tests.support.files import remove as unlink
from tests.support.waiting import DEADLINE

APPLICATION_ID = 0x54455354
NORMAL, FULL = 1, 2
WORDS = "SELECT word FROM words ORDER BY rowid"

Open = Callable[..., Storage]


def words_table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE words (word TEXT UNIQUE)")


def numbers_table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE numbers (number INTEGER)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the file, in a folder of its own."""
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "some.sqlite"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Opens the file; closes what a test left open."""
    storages: list[Storage] = []

    def open_it(
        migrations: Sequence[Migration] = (words_table,),
        *,
        create: bool = True,
        run_in_thread: Callable[[Callable[[], object]], object] = lambda work: work(),
    ) -> Storage:
        storages.append(Storage(path, run_in_thread=run_in_thread))
        storages[-1].migrate(migrations, application_id=APPLICATION_ID, create=create)
        return storages[-1]

    yield open_it
    for storage in storages:
        storage.close()


def add(storage: Storage, word: str, *, durable: bool = True) -> None:
    with storage.write(durable=durable) as db:
        db.execute("INSERT INTO words VALUES (?)", (word,))


def synchronous(db: sqlite3.Connection) -> object:
    return db.execute("PRAGMA synchronous").fetchone()[0]


def files(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


# Transactions


def test_write_commits_when_the_block_ends_and_not_before(opened: Open, path: Path) -> None:
    storage = opened()
    with storage.write() as db:
        db.execute("INSERT INTO words VALUES ('one')")
        assert column(path, WORDS) == []
    assert column(path, WORDS) == ["one"]


def test_write_rolls_back_on_any_error_and_the_file_stays_usable(opened: Open, path: Path) -> None:
    """SQLite rolls back by itself when a statement is interrupted; the first error is reported all the same."""
    storage = opened()
    add(storage, "one")
    with pytest.raises(RuntimeError, match="mine"), storage.write() as db:
        db.execute("INSERT INTO words VALUES ('two')")
        raise RuntimeError("mine")
    with pytest.raises(StorageError, match=r"some\.sqlite .*UNIQUE"), storage.write() as db:
        db.execute("INSERT INTO words VALUES ('two')")
        db.execute("INSERT INTO words VALUES ('one')")
    with pytest.raises(StorageError, match="interrupted"), storage.write() as db:

        def interrupt(x: int) -> int:
            db.interrupt()
            return x

        db.create_function("interrupt", 1, interrupt)
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT interrupt(x) + 1 FROM c)"
        db.execute(f"INSERT INTO words {endless} SELECT x FROM c")
    with pytest.raises(StorageError, match="no such table"), storage.read() as db:
        db.execute("SELECT * FROM nowhere")
    add(storage, "three")
    assert column(path, WORDS) == ["one", "three"]


def test_write_by_several_threads_is_serialized(opened: Open, path: Path) -> None:
    storage = opened([numbers_table])
    with storage.write() as db:
        db.execute("INSERT INTO numbers VALUES (0)")
    barrier = threading.Barrier(4)

    def increment() -> None:
        barrier.wait(DEADLINE)
        for _ in range(10):
            with storage.write() as db:
                number = db.execute("SELECT number FROM numbers").fetchone()[0]
                db.execute("UPDATE numbers SET number = ?", (number + 1,))

    threads = [threading.Thread(target=increment) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert column(path, "SELECT number FROM numbers") == [40]


def test_write_that_is_not_durable_restores_synchronous_full_even_after_an_error(opened: Open, path: Path) -> None:
    storage = opened()
    with storage.write(durable=False) as db:
        assert synchronous(db) == NORMAL
        db.execute("INSERT INTO words VALUES ('one')")
    with pytest.raises(RuntimeError), storage.write(durable=False) as db:
        db.execute("INSERT INTO words VALUES ('two')")
        raise RuntimeError
    assert column(path, WORDS) == ["one"]
    with storage.write() as db:
        assert synchronous(db) == FULL


def test_commits_that_wait_for_the_disk_and_closing_run_in_the_given_thread(opened: Open, path: Path) -> None:
    threads: list[int] = []

    def run_in_thread(work: Callable[[], object]) -> None:
        def run() -> None:
            threads.append(threading.get_ident())
            work()

        other = threading.Thread(target=run)
        other.start()
        other.join()

    storage = opened(run_in_thread=run_in_thread)
    add(storage, "a")
    assert len(threads) == 1
    add(storage, "b", durable=False)
    assert len(threads) == 1
    assert column(path, WORDS) == ["a", "b"]
    storage.close()
    assert len(threads) == 2 and threading.get_ident() not in threads


# Migrations


def test_migrate_runs_each_migration_once_and_in_order(opened: Open, path: Path) -> None:
    ran: list[int] = []

    def migration(number: int) -> Migration:
        return lambda db: ran.append(number)

    one, two, three = map(migration, (1, 2, 3))
    for migrations in ([one, two], [one, two], [one, two, three]):
        opened(migrations).close()
    assert ran == [1, 2, 3]
    assert column(path, "PRAGMA user_version") == [3]


@pytest.mark.parametrize("raises", [RuntimeError, sqlite3.OperationalError])
def test_migrate_rolls_back_a_migration_that_raises_together_with_its_number(
    opened: Open, path: Path, raises: type[Exception]
) -> None:
    def broken(db: sqlite3.Connection) -> None:
        numbers_table(db)
        db.execute("INSERT INTO words VALUES ('from the second')")
        raise raises("no")

    with pytest.raises((RuntimeError, StorageError), match="no"):
        opened([words_table, broken])
    assert column(path, "PRAGMA user_version") == [1]
    assert column(path, WORDS) == []
    opened([words_table, numbers_table])
    assert column(path, "PRAGMA user_version") == [2]


def test_migrate_sets_application_id_wal_and_synchronous_full(opened: Open, path: Path) -> None:
    storage = opened()
    assert column(path, "PRAGMA application_id") == [APPLICATION_ID]
    assert column(path, "PRAGMA journal_mode") == ["wal"]
    for again in (storage, opened()):
        with again.read() as db:
            assert synchronous(db) == FULL
            assert db.execute("PRAGMA foreign_keys").fetchone()[0] == 1


# Rejected files


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_bytes(JUNK[:3]), "is damaged or not a SQLite file"),
        (lambda path: path.write_bytes(JUNK[:5000]), "is damaged or not a SQLite file"),
        (lambda path: execute(path, "CREATE TABLE bookmarks (url)"), "is a database of another program"),
        (lambda path: execute(path, "PRAGMA application_id = 7"), "is a database of another program"),
        (
            lambda path: execute(path, f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 2"),
            "was written by a newer version of Overseer",
        ),
    ],
    ids=["short text", "long text", "other tables", "other application", "newer"],
)
def test_migrate_rejects_a_foreign_file_and_leaves_it_unchanged(
    opened: Open, path: Path, make: Callable[[Path], object], sentence: str
) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match=rf"^some\.sqlite {sentence}"):
        opened()
    assert path.read_bytes() == before


def test_migrate_rejects_a_missing_file_or_folder_and_creates_nothing(opened: Open, path: Path) -> None:
    """A missing folder may come back, so it is StorageUnavailable: the file is not called damaged."""
    with pytest.raises(StorageError, match=r"some\.sqlite is missing"):
        opened(create=False)
    assert files(path) == set()
    path.parent.rmdir()
    with pytest.raises(StorageUnavailable, match="cannot be opened for writing"):
        opened()


def test_read_of_a_damaged_page_says_what_to_do(opened: Open, path: Path) -> None:
    storage = opened()
    for n in range(3):
        add(storage, f"{n}" * 5000)
    storage.close()
    intact = path.read_bytes()
    path.write_bytes(intact[:4096] + b"\xa5" * (len(intact) - 4096))
    with pytest.raises(StorageError, match="damaged.*backup"), opened().read() as db:
        db.execute("SELECT * FROM words").fetchall()


# Closing and removing


def test_closed_storage_raises_until_it_is_opened_again(opened: Open, path: Path) -> None:
    never_opened, closed = Storage(path), opened()
    closed.close()
    for storage in (never_opened, closed):
        with pytest.raises(StorageClosed, match=r"some\.sqlite is closed"), storage.write():
            raise AssertionError
        with pytest.raises(StorageClosed), storage.read():
            raise AssertionError
        storage.close()
    before = len(os.listdir("/proc/self/fd"))
    for word in "abc":
        closed.migrate([words_table], application_id=APPLICATION_ID, create=False)
        add(closed, word)
    closed.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_remove_deletes_the_three_files_and_no_other(opened: Open, path: Path) -> None:
    storage = opened()
    add(storage, "one")
    assert files(path) == {path.name + suffix for suffix in SUFFIXES}
    beside(path, ".bak").touch()
    remove(path)
    storage.close()
    remove(path)
    assert files(path) == {"some.sqlite.bak"}


def test_remove_deletes_the_main_file_last(path: Path) -> None:
    """The next start finds a half-removed room by its main file."""
    path.mkdir()  # cannot be unlinked: stands for a crash at this point
    for suffix in SUFFIXES[1:]:
        beside(path, suffix).touch()
    with pytest.raises(OSError):
        remove(path)
    assert files(path) == {path.name}


# Files that another program replaces


def replace_file(path: Path) -> None:
    os.replace(path.parents[1] / "copy", path)


def replace_by_link(path: Path) -> None:
    beside(path, ".link").symlink_to(path.parents[1] / "copy")
    os.replace(beside(path, ".link"), path)


def move_and_link(path: Path) -> None:
    """Keep the file but change where SQLite looks for its WAL file."""
    elsewhere = path.with_name("elsewhere")
    elsewhere.mkdir()
    path.rename(elsewhere / path.name)
    path.symlink_to(elsewhere / path.name)


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parents[1] / "away")


def replace_wal(path: Path) -> None:
    shutil.copy(beside(path, "-wal"), beside(path, ".log"))
    os.replace(beside(path, ".log"), beside(path, "-wal"))


REPLACED = (replace_file, replace_by_link, move_and_link, rename_folder, unlink, remove_wal, replace_wal)


@pytest.mark.parametrize("harm", REPLACED)
def test_write_raises_when_the_file_or_its_log_is_replaced_during_the_transaction(
    opened: Open, path: Path, harm: Callable[[Path], None]
) -> None:
    """A commit to a file that is no longer at its path would be lost."""
    storage = opened()
    add(storage, "before")
    copy_database(path, path.parents[1] / "copy")
    durable = harm is not replace_wal
    with pytest.raises(StorageReplaced, match="while it was open"), storage.write(durable=durable) as db:
        db.execute("INSERT INTO words VALUES ('during')")
        harm(path)
    assert not storage.in_place() and not storage.is_sound()
    with pytest.raises(StorageReplaced):
        add(storage, "after")
    storage.close()
    if harm is rename_folder:
        (path.parents[1] / "away").rename(path.parent)
    storage.migrate((words_table,), application_id=APPLICATION_ID, create=True)
    add(storage, "again")
    storage.close()
    words = column(path, WORDS)
    assert "again" in words and ("before" in words) == (harm is not unlink)


def test_write_raises_when_the_file_is_overwritten_during_the_transaction(opened: Open, path: Path) -> None:
    opened().close()  # the WAL file is empty
    storage = opened()
    with pytest.raises(StorageDamaged, match="overwritten"), storage.write() as db:
        db.execute("INSERT INTO words VALUES ('during')")
        write_junk(path)


def test_write_accepts_a_checkpoint_by_another_program(opened: Open, path: Path) -> None:
    storage = opened()
    add(storage, "ours")
    with storage.write() as db:
        db.execute("INSERT INTO words VALUES ('during')")
        execute(path, "PRAGMA wal_checkpoint(PASSIVE)")
    add(storage, "after")
    assert column(path, WORDS) == ["ours", "during", "after"]


def test_write_checkpoints_a_long_log(opened: Open, path: Path) -> None:
    """Commits go on while another thread still holds the result of the checkpoint."""
    results: list[object] = []
    storage = opened(run_in_thread=lambda work: results.append(work()))
    for n, durable in enumerate((True, False, True)):
        add(storage, f"{n}" * CHECKPOINT_BYTES, durable=durable)
        assert beside(path, "-wal").stat().st_size < CHECKPOINT_BYTES
        assert path.stat().st_size > (n + 1) * CHECKPOINT_BYTES
        assert storage.in_place() and storage.is_sound()
    assert len(results) == 5  # two durable commits and three checkpoints
    assert column(path, "SELECT length(word) FROM words") == [CHECKPOINT_BYTES] * 3


def test_close_removes_the_log_of_a_removed_file(opened: Open, path: Path) -> None:
    """SQLite would apply the WAL file to a copy that is put in its place."""
    storage = opened()
    add(storage, "one")
    path.unlink()
    storage.close()
    assert files(path) == set()


def test_close_saves_the_content_of_a_removed_log(opened: Open, path: Path) -> None:
    storage = opened()
    add(storage, "one")
    remove_wal(path)
    storage.close()
    assert column(path, WORDS) == ["one"]


def test_close_leaves_the_log_of_a_new_file_alone(opened: Open, path: Path) -> None:
    storage = opened()
    add(storage, "one")
    for companion in path.parent.iterdir():
        companion.unlink()
    add(opened(), "another")
    storage.close()
    assert column(path, WORDS) == ["another"]


def test_migrate_raises_when_the_file_is_replaced_while_it_is_opened(opened: Open, path: Path) -> None:
    opened().close()
    copy_database(path, path.parents[1] / "copy")

    def numbers_and_replace(db: sqlite3.Connection) -> None:
        numbers_table(db)
        replace_file(path)

    with pytest.raises(StorageUnavailable, match="replaced while it was opened"):
        opened((words_table, numbers_and_replace))
    assert files(path) == {path.name}, "the WAL file of the old file would be applied to the new one"
    add(opened((words_table, numbers_table)), "one")


def test_in_place_notices_a_removed_log_of_a_restored_file_and_of_a_linked_file(opened: Open, path: Path) -> None:
    """A restored copy has no WAL file before it is opened; SQLite keeps that of a linked file beside its target."""
    opened().close()
    execute(path, "PRAGMA journal_mode = DELETE")
    storage = opened(create=False)
    remove_wal(path)
    assert not storage.in_place()
    storage.close()
    target = path.with_name("target.sqlite")
    path.rename(target)
    path.symlink_to(target)
    storage = opened()
    add(storage, "one")
    assert storage.in_place()
    remove_wal(target)
    assert not storage.in_place()
