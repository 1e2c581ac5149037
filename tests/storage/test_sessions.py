"""Stored log-ins: found by their token, ended, expired, and lost with their file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from overseer.storage.database import Storage
from overseer.storage.sessions import (
    APPLICATION_ID,
    MAX_SESSIONS,
    MIGRATIONS,
    TOUCH_SECONDS,
    SessionStorage,
)
from tests.support.clock import Clock


@pytest.fixture(autouse=True)
def _fast_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overseer.storage.sessions.SCRYPT_COST", 2)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@contextmanager
def opened(directory: Path, clock: Clock | None = None, password: str = "password") -> Iterator[SessionStorage]:
    sessions = SessionStorage(directory, password, lifetime_seconds=600, clock=clock or Clock())
    yield sessions
    sessions.close()


def stored(directory: Path) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(directory / "sessions.sqlite")) as db:
        return db.execute("SELECT * FROM sessions ORDER BY created_at").fetchall()


def test_session_is_found_by_its_token_until_it_expires(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path, clock) as sessions:
        token, session = sessions.create("192.0.2.1", "Browser " * 100)
        assert sessions.find(token) == session and len(session.user_agent) == 120
        assert sessions.create("", "")[0] != token
        for other in ("", token[:-1], token + "x", token.swapcase(), session.id, "\udcff"):
            assert sessions.find(other) is None
        clock.now = session.expires_at - 0.1
        assert sessions.find(token) is not None
        clock.now = session.expires_at
        assert sessions.find(token) is None and sessions.live() == [] and not sessions.delete(session.id)


def test_session_file_holds_no_token_and_is_private(tmp_path: Path) -> None:
    with opened(tmp_path) as sessions:
        token, _ = sessions.create("", "")
        for path in tmp_path.glob("sessions.sqlite*"):
            assert path.stat().st_mode & 0o777 == 0o600
            assert token.encode() not in path.read_bytes()


def test_session_that_is_deleted_stays_deleted_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path, clock) as sessions:
        (one, session), (other, _) = sessions.create("", ""), sessions.create("", "")
        assert sessions.delete(session.id) and not sessions.delete(session.id)
        assert sessions.find(one) is None and sessions.find(other) is not None
    with opened(tmp_path, clock) as sessions:
        assert sessions.find(one) is None and sessions.find(other) is not None
        clock.now += 700
        sessions.create("", "")
    assert len(stored(tmp_path)) == 1, "expired sessions are removed"


def test_session_last_seen_is_updated_once_a_minute(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path, clock) as sessions:
        token, created = sessions.create("", "")
        clock.now += TOUCH_SECONDS - 1
        sessions.find(token)
        assert sessions.live() == [created]
        clock.now += 1
        sessions.find(token)
        assert sessions.live()[0].last_seen_at == clock.now
    with opened(tmp_path, clock) as sessions:
        assert sessions.live()[0].last_seen_at == clock.now


def test_sessions_are_bounded_in_number(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently seen one is dropped."""
    assert MAX_SESSIONS == 1000
    monkeypatch.setattr("overseer.storage.sessions.MAX_SESSIONS", 2)
    with opened(tmp_path, clock) as sessions:
        first, second = sessions.create("", "")[0], sessions.create("", "")[0]
        clock.now += TOUCH_SECONDS
        sessions.find(first)
        third = sessions.create("", "")[0]
        assert [sessions.find(token) is not None for token in (first, second, third)] == [True, False, True]


def test_another_password_ends_all_sessions(tmp_path: Path) -> None:
    with opened(tmp_path) as sessions:
        token, name = sessions.create("", "")[0], sessions.cookie_name
    with opened(tmp_path, password="another") as sessions:
        assert sessions.find(token) is None and sessions.cookie_name == name
    with opened(tmp_path) as sessions:
        assert sessions.find(token) is None


def test_cookie_name_differs_between_instances(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as one, opened(tmp_path / "other") as other:
        assert one.cookie_name != other.cookie_name and one.cookie_name.isidentifier()


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("content", [None, b"", b"junk" * 2000])
def test_session_file_that_is_lost_or_damaged_ends_all_sessions(
    tmp_path: Path, content: bytes | None, is_open: bool
) -> None:
    with opened(tmp_path) as sessions:
        (token, session), (other, _) = sessions.create("", ""), sessions.create("", "")
        if not is_open:
            sessions.close()
        for path in tmp_path.glob("sessions.sqlite*"):
            path.unlink()
        if content is not None:
            (tmp_path / "sessions.sqlite").write_bytes(content)
        sessions.delete(session.id)
        assert sessions.find(token) is None and sessions.find(other) is None
        new, _ = sessions.create("", "")
        assert sessions.find(new) is not None
    with opened(tmp_path) as sessions:
        assert sessions.find(new) is not None


@pytest.mark.parametrize("during_write", [False, True])
def test_session_is_deleted_from_the_copy_that_replaced_the_file(tmp_path: Path, during_write: bool) -> None:
    with opened(tmp_path) as sessions:
        (one, session), (other, _) = sessions.create("", ""), sessions.create("", "")
        sessions.close()
        shutil.copy(tmp_path / "sessions.sqlite", tmp_path / "copy")
        assert sessions.find(one) is not None

        def restore(statement: str = "DELETE") -> None:
            if statement.startswith("DELETE") and (tmp_path / "copy").exists():
                os.replace(tmp_path / "copy", tmp_path / "sessions.sqlite")

        if during_write:
            with sessions._storage.read() as db:
                db.set_trace_callback(restore)
        else:
            restore()
        sessions.delete(session.id)
    with opened(tmp_path) as sessions:
        assert sessions.find(one) is None and sessions.find(other) is not None


def test_files_of_earlier_versions_are_migrated_and_removed(tmp_path: Path) -> None:
    """Their log-ins were signed with the secret; people log in again."""
    (tmp_path / "secret").write_text("0" * 64)
    old = Storage(tmp_path / "sessions.sqlite")
    old.migrate(MIGRATIONS[:2], application_id=APPLICATION_ID, create=True)
    with old.write() as db:
        db.execute("INSERT INTO ended (id, until) VALUES ('a', 1)")
    old.close()
    with opened(tmp_path) as sessions:
        assert sessions.find(sessions.create("", "")[0]) is not None
    assert not (tmp_path / "secret").exists()


def test_sessions_created_at_once_in_a_new_directory_are_all_found(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    tokens: list[str] = []
    with opened(tmp_path / "new") as sessions:

        def log_in() -> None:
            barrier.wait()
            tokens.append(sessions.create("", "")[0])

        threads = [threading.Thread(target=log_in) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(tokens) == 8 and all(map(sessions.find, tokens))
