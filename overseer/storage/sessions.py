"""The sessions of an instance directory: the SQL of sessions.sqlite."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from overseer.domain.errors import StorageDamaged, StorageError, StorageReplaced
from overseer.domain.records import Session
from overseer.storage.database import RunInThread, Storage, remove, run_inline
from overseer.storage.replication import Replication

SESSIONS_FILE = "sessions.sqlite"
APPLICATION_ID = 0x4F565254  # "OVRT"
LIFETIME_SECONDS = 30 * 24 * 3600
TOUCH_SECONDS = 60  # between two updates of last_seen_at
TOKEN_BYTES = 32
MAX_SESSIONS = 1000  # the least recently seen ones are ended first
MAX_USER_AGENT_CHARS = 120
SCRYPT_COST = 2**15
SCRYPT_MEMORY_BYTES = 2**26

Write = Callable[[sqlite3.Connection], object]


def m001_ended(db: sqlite3.Connection) -> None:
    """The signed sessions that were ended before they expired."""
    db.execute("CREATE TABLE ended (id TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID")


def m002_era(db: sqlite3.Connection) -> None:
    """A random part of the key that signed sessions."""
    db.execute("CREATE TABLE era (id TEXT NOT NULL)")
    db.execute("INSERT INTO era (id) VALUES (?)", (secrets.token_hex(16),))


def m003_sessions(db: sqlite3.Connection) -> None:
    """Stored sessions instead of signed ones, the name of their cookie, and a fingerprint of the password."""
    db.execute("DROP TABLE ended")
    db.execute("DROP TABLE era")
    db.execute(
        """CREATE TABLE sessions (
             id TEXT PRIMARY KEY,
             token_hash BLOB NOT NULL UNIQUE,
             created_at INTEGER NOT NULL,
             last_seen_at INTEGER NOT NULL,
             expires_at INTEGER NOT NULL,
             address TEXT NOT NULL,
             user_agent TEXT NOT NULL)"""
    )
    db.execute("CREATE TABLE instance (cookie_name TEXT NOT NULL, salt BLOB NOT NULL, fingerprint BLOB NOT NULL)")
    db.execute(
        "INSERT INTO instance (cookie_name, salt, fingerprint) VALUES (?, ?, x'')",
        (f"overseer_{secrets.token_hex(4)}", secrets.token_bytes(16)),
    )


MIGRATIONS = (m001_ended, m002_era, m003_sessions)  # append only


class SessionStorage:
    """Stores the sessions of one instance directory; another password ends them all.

    The cookie holds a random token, the file only its SHA-256. All sessions are in memory as well, so a request reads
    no file. The file is opened with the first use. A damaged or missing file is created again, which ends all
    sessions. Raises StorageError and OSError for files that cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        password: str,
        *,
        lifetime_seconds: int = LIFETIME_SECONDS,
        clock: Callable[[], float] = time.time,
        run_in_thread: RunInThread = run_inline,
        replication: Replication | None = None,
    ) -> None:
        self._directory = directory
        self._password = password
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock
        self._lock = threading.RLock()
        self._storage = Storage(directory / SESSIONS_FILE, run_in_thread=run_in_thread, replication=replication)
        self._is_open = False
        self._cookie_name = ""
        self._sessions: dict[bytes, Session] = {}  # by the hash of the token

    @property
    def cookie_name(self) -> str:
        """The name of the cookie. It differs between instances, since browsers send cookies to every port of a host."""
        self._open()
        return self._cookie_name

    def create(self, address: str, user_agent: str) -> tuple[str, Session]:
        """Store a new session. Return its token and the session."""
        self._open()
        token, now = secrets.token_urlsafe(TOKEN_BYTES), int(self._clock())
        expires_at = now + self._lifetime_seconds
        session = Session(secrets.token_hex(8), now, now, expires_at, address, user_agent[:MAX_USER_AGENT_CHARS])
        self._write(lambda db: _insert(db, _token_hash(token), session))
        return token, session

    def find(self, token: str) -> Session | None:
        """Return the session of a token, or None if there is none or it has expired."""
        self._open()
        token_hash, now = _token_hash(token), self._clock()
        session = self._sessions.get(token_hash)
        if session is None or now >= session.expires_at:
            return None
        if now - session.last_seen_at >= TOUCH_SECONDS:
            self._touch(token_hash, int(now))
        return session

    def live(self) -> Sequence[Session]:
        """Return the sessions that have not expired, the most recently seen first."""
        self._open()
        now = self._clock()
        live = [session for session in self._sessions.values() if now < session.expires_at]
        return sorted(live, key=lambda session: session.last_seen_at, reverse=True)

    def delete(self, session_id: str) -> bool:
        """End a session for good. Return whether it was valid until now."""
        was_live = any(session.id == session_id for session in self.live())
        self._write(lambda db: db.execute("DELETE FROM sessions WHERE id = ?", (session_id,)))
        return was_live

    def shrink(self) -> None:
        """Free the memory that SQLite uses as a cache."""
        self._storage.shrink()

    def close(self) -> None:
        """Close the file; it is opened again with the next use."""
        with self._lock:
            self._storage.close()
            self._is_open = False

    # In call order

    def _open(self) -> None:
        if self._is_open:
            return
        with self._lock:
            if self._is_open:
                return
            with suppress(FileExistsError):  # or it was removed at this moment: the next step says so
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._load()
            except StorageReplaced:
                self._storage.close()
                self._load()  # what is there now may be sound
            except StorageDamaged:
                self._storage.close()
                remove(self._storage.path)
                self._load()
            with suppress(OSError):
                (self._directory / "secret").unlink(missing_ok=True)  # earlier versions signed sessions with it
            self._is_open = True

    def _load(self) -> None:
        self._storage.migrate(MIGRATIONS, application_id=APPLICATION_ID, create=True)
        with self._storage.read() as db:
            self._cookie_name, salt, known = db.execute(
                "SELECT cookie_name, salt, fingerprint FROM instance"
            ).fetchone()
            self._sessions = _select_all(db)
        fingerprint = _fingerprint(self._password, salt)
        if not hmac.compare_digest(known, fingerprint):
            with self._storage.write() as db:
                db.execute("DELETE FROM sessions")
                db.execute("UPDATE instance SET fingerprint = ?", (fingerprint,))
            self._sessions = {}

    def _write(self, write: Write) -> None:
        """Change the file and what is known of it; in a new file if it was damaged, removed or replaced."""
        with self._lock:
            try:
                self._write_once(write)
            except StorageDamaged:
                self.close()
                self._open()
                self._write_once(write)

    def _write_once(self, write: Write) -> None:
        with self._storage.write() as db:
            write(db)
            _prune(db, int(self._clock()))
            sessions = _select_all(db)
        self._sessions = sessions

    def _touch(self, token_hash: bytes, now: int) -> None:
        if not self._lock.acquire(blocking=False):
            return  # a session is being stored; a later request updates this one
        try:
            if (session := self._sessions.get(token_hash)) is not None:
                self._sessions[token_hash] = replace(session, last_seen_at=now)
                with suppress(StorageError), self._storage.write(durable=False) as db:
                    db.execute("UPDATE sessions SET last_seen_at = ? WHERE id = ?", (now, session.id))
        finally:
            self._lock.release()


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


def _fingerprint(password: str, salt: bytes) -> bytes:
    """Return a slow hash of the configured password, or a fast one of the slow hash that is configured in its place."""
    if password.startswith("scrypt:"):
        return hmac.digest(salt, password.encode(), "sha256")
    return hashlib.scrypt(password.encode(), salt=salt, n=SCRYPT_COST, r=8, p=1, maxmem=SCRYPT_MEMORY_BYTES)


def _insert(db: sqlite3.Connection, token_hash: bytes, session: Session) -> None:
    db.execute(
        "INSERT INTO sessions (id, token_hash, created_at, last_seen_at, expires_at, address, user_agent)"
        " VALUES (:id, :token_hash, :created_at, :last_seen_at, :expires_at, :address, :user_agent)",
        {**asdict(session), "token_hash": token_hash},
    )


def _prune(db: sqlite3.Connection, now: int) -> None:
    db.execute(
        "DELETE FROM sessions WHERE expires_at <= ?"
        " OR id NOT IN (SELECT id FROM sessions ORDER BY last_seen_at DESC, rowid DESC LIMIT ?)",
        (now, MAX_SESSIONS),
    )


def _select_all(db: sqlite3.Connection) -> dict[bytes, Session]:
    rows = db.execute(
        "SELECT token_hash, id, created_at, last_seen_at, expires_at, address, user_agent FROM sessions"
    ).fetchall()
    return {row[0]: Session(*row[1:]) for row in rows}
