"""Log-ins: signed, expiring, ended."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from overseer.web.sessions import Sessions


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    """Those of a directory that is not there yet."""
    found = Sessions(tmp_path / "instance", "password")
    yield found
    found.close()


def test_a_token_stands_for_its_log_in_until_it_expires(tmp_path: Path) -> None:
    """To the second; and no two are alike."""
    now = [1000.0]
    sessions = Sessions(tmp_path, "password", lasts=60, clock=lambda: now[0])
    token, session = sessions.begin()
    assert sessions.find(token) == session and session.until == 1060
    assert sessions.begin()[0] != token
    now[0] = 1059.9
    assert sessions.find(token) == session
    now[0] = 1060
    assert sessions.find(token) is None
    sessions.close()


def test_an_ended_log_in_is_ended_over_restarts_and_forgotten_when_it_would_have_expired(tmp_path: Path) -> None:
    """What is kept of it is bounded by time."""
    now = [1000.0]

    def again() -> Sessions:
        return Sessions(tmp_path, "password", lasts=60, clock=lambda: now[0])

    sessions = again()
    (token, session), (other, _) = sessions.begin(), sessions.begin()
    sessions.end(session)
    sessions.end(session)
    assert sessions.find(token) is None and sessions.find(other)
    sessions.close()
    sessions = again()
    assert sessions.find(token) is None and sessions.find(other)
    now[0] = 2000
    sessions.end(sessions.begin()[1])
    sessions.close()
    with closing(sqlite3.connect(tmp_path / "sessions.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM ended").fetchone()[0] == 1


@pytest.mark.parametrize("change", ["secret", "password"])
def test_another_secret_or_password_ends_all(tmp_path: Path, change: str) -> None:
    """Which is how all log-ins are ended at once."""
    sessions = Sessions(tmp_path, "password")
    token, _ = sessions.begin()
    sessions.close()
    if change == "secret":
        (tmp_path / "secret").unlink()
    sessions = Sessions(tmp_path, "password" if change == "secret" else "another")
    assert sessions.find(token) is None
    assert sessions.find(sessions.begin()[0])
    sessions.close()


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("rest", [None, b"", b"junk" * 2000])
def test_where_it_is_lost_which_log_ins_were_ended_all_are(tmp_path: Path, rest: bytes | None, running: bool) -> None:
    """Also under the server. Nobody is kept out by it, and no log-out is taken back."""
    sessions = Sessions(tmp_path, "password")
    left, staying = sessions.begin(), sessions.begin()
    sessions.end(left[1])
    if not running:
        sessions.close()
    for path in tmp_path.glob("sessions.sqlite*"):
        path.unlink()
    if rest is not None:
        (tmp_path / "sessions.sqlite").write_bytes(rest)
    if not running:
        sessions = Sessions(tmp_path, "password")
    else:
        assert sessions.find(staying[0]) and not sessions.find(left[0])
        sessions.end(staying[1])
    assert not sessions.find(left[0]) and not sessions.find(staying[0])
    token, session = sessions.begin()
    assert sessions.find(token)
    sessions.end(session)
    sessions.close()
    sessions = Sessions(tmp_path, "password")
    assert not sessions.find(token)
    sessions.close()


@pytest.mark.parametrize("during", [False, True])
def test_a_log_out_is_stored_in_the_copy_that_replaced_the_file(tmp_path: Path, *, during: bool) -> None:
    """A copy that was put back knows the same log-ins, and must learn of those that have ended since."""
    sessions = Sessions(tmp_path, "password")
    (first, one), (second, two), (third, _) = (sessions.begin() for _ in range(3))
    sessions.close()
    shutil.copy(tmp_path / "sessions.sqlite", tmp_path / "copy")
    sessions = Sessions(tmp_path, "password")
    sessions.end(one)

    def restore() -> None:
        os.replace(tmp_path / "copy", tmp_path / "sessions.sqlite")

    if not during:
        restore()
    else:
        with sessions._storage.read() as db:  # SQLite itself says when the transaction writes
            db.set_trace_callback(lambda sql: restore() if sql.startswith("INSERT") else None)
    sessions.end(two)
    sessions.close()
    sessions = Sessions(tmp_path, "password")
    assert not sessions.find(first) and not sessions.find(second) and sessions.find(third)
    sessions.close()


def test_a_secret_that_cannot_be_written_leaves_no_file_behind(sessions: Sessions, tmp_path: Path) -> None:
    """Every request would leave another one on a disk that is full already."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError):
            sessions.begin()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "instance").iterdir()) == []
    assert sessions.find(sessions.begin()[0])


@pytest.mark.parametrize("rest", ["", "0" * 31])
def test_a_secret_that_is_cut_short_is_made_anew(tmp_path: Path, rest: str) -> None:
    """A disk that was full leaves no secret that could be guessed."""
    (tmp_path / "secret").write_text(rest)
    sessions = Sessions(tmp_path, "password")
    token, _ = sessions.begin()
    assert sessions.find(token) and len((tmp_path / "secret").read_text()) == 64
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("secret")] == ["secret"]
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    sessions.close()


def test_many_who_come_at_once_have_one_secret(tmp_path: Path) -> None:
    """The first ones of a new directory."""
    sessions = Sessions(tmp_path, "password")
    tokens: list[str] = []
    together = threading.Barrier(8)

    def come() -> None:
        together.wait()
        tokens.append(sessions.begin()[0])

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 8 and all(map(sessions.find, tokens))
    sessions.close()


def test_nothing_but_a_whole_token_is_one(sessions: Sessions) -> None:
    """Changed in any one place, cut anywhere, or made up."""
    token, _ = sessions.begin()
    for n in range(len(token)):
        assert sessions.find(token[:n]) is None
    for n in range(len(token) - 1):  # the last character holds bits that count for nothing
        for other in "A", "B", ".":
            changed = token[:n] + other + token[n + 1 :]
            assert changed == token or sessions.find(changed) is None

    @given(st.text() | st.binary().map(lambda junk: junk.decode("latin-1")))
    def junk(made_up: str) -> None:
        assert sessions.find(made_up) is None
        assert sessions.find(f"{made_up}.{token.split('.')[1]}") is None
        assert sessions.find(f"{token.split('.')[0]}.{made_up}") is None

    junk()


def test_two_servers_on_one_host_do_not_share_a_cookie(tmp_path: Path) -> None:
    """Browsers send cookies to every port."""
    one, other = Sessions(tmp_path / "one", "password"), Sessions(tmp_path / "other", "password")
    assert one.cookie != other.cookie
    assert one.cookie.isascii() and one.cookie.isidentifier()
    assert one.cookie == Sessions(tmp_path / "one", "else").cookie
    assert other.find(one.begin()[0]) is None
    one.close()
    other.close()
