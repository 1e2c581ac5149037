"""Who has logged in: signed tokens that expire, and those that were given back before."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from itsdangerous import BadSignature, URLSafeSerializer

from overseer.domain.errors import StorageDamaged, StorageReplaced
from overseer.storage.database import Storage, remove

APPLICATION_ID = 0x4F565254  # "OVRT"
LASTS = 30 * 24 * 3600  # seconds
SECRET_BYTES = 32


def m001_ended(db: sqlite3.Connection) -> None:
    """The sessions that were ended by a log-out, until they would have expired."""
    db.execute("CREATE TABLE ended (id TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID")


def m002_era(db: sqlite3.Connection) -> None:
    """What signs has a part of its own in this file: where it is lost, nobody knows any more what was ended."""
    db.execute("CREATE TABLE era (id TEXT NOT NULL)")
    db.execute("INSERT INTO era (id) VALUES (?)", (secrets.token_hex(16),))


MIGRATIONS = (m001_ended, m002_era)  # append only


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in: its id, and until when it is good (Unix seconds)."""

    id: str
    until: int


class Sessions:
    """The log-ins of one instance directory, whose secret signs them; another password ends them all.

    The secret is made when it is first needed, for the owner's eyes only. A file that is damaged or gone is made anew,
    and ends all log-ins. Raises StorageError and OSError for files that cannot be used.
    """

    def __init__(
        self, directory: Path, password: str, *, lasts: int = LASTS, clock: Callable[[], float] = time.time
    ) -> None:
        self._directory = directory
        self._password = password
        self._lasts = lasts
        self._clock = clock
        self._lock = threading.Lock()
        self._signer: URLSafeSerializer | None = None
        self._ended: dict[str, int] = {}
        self._storage = Storage(directory / "sessions.sqlite")
        self._name = ""

    @property
    def cookie(self) -> str:
        """The name of the cookie: cookies know no ports, and two servers on one host are two doors."""
        self._open()
        return self._name

    def begin(self) -> tuple[str, Session]:
        """A new log-in, and the token that stands for it."""
        session = Session(secrets.token_urlsafe(16), int(self._clock()) + self._lasts)
        return str(self._open().dumps([session.id, session.until])), session

    def find(self, token: str) -> Session | None:
        """The log-in that a token stands for, if it is good still."""
        signer = self._open()
        try:
            session = Session(*signer.loads(token))
        except (BadSignature, TypeError):
            return None
        return session if self._clock() < session.until and session.id not in self._ended else None

    def end(self, session: Session) -> None:
        """End a log-in for good."""
        self._open()
        ended = {**self._ended, session.id: session.until}
        try:
            self._store([session.id], ended)
        except StorageDamaged:
            self.close()
            self._open()  # made anew, or another that was put in its place, which knows less than we do
            self._store(ended, ended)

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            self._storage.close()
            self._signer = None

    def _open(self) -> URLSafeSerializer:
        if (signer := self._signer) is not None:
            return signer
        with self._lock:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            secret = _secret(self._directory / "secret")
            try:
                era = self._read()
            except StorageReplaced:
                self._storage.close()
                era = self._read()  # what is there now may be sound
            except StorageDamaged:
                self._storage.close()
                remove(self._storage.path)
                era = self._read()
            self._name = f"overseer_{hmac.digest(secret, b'cookie', hashlib.sha256).hex()[:8]}"
            key = hmac.digest(secret, f"session {era} {self._password}".encode(), hashlib.sha256)
            self._signer = signer = URLSafeSerializer(
                key, salt="session", signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
            )
            return signer

    def _store(self, ids: Iterable[str], ended: dict[str, int]) -> None:
        """Keep for good that these of the `ended` log-ins have ended, and forget those that have expired."""
        now = int(self._clock())
        with self._storage.write() as db:
            db.execute("DELETE FROM ended WHERE until < ?", (now,))
            db.executemany("INSERT OR IGNORE INTO ended (id, until) VALUES (?, ?)", [(one, ended[one]) for one in ids])
        self._ended = {known: until for known, until in ended.items() if until >= now}

    def _read(self) -> str:
        self._storage.migrate(MIGRATIONS, application_id=APPLICATION_ID, create=True)
        with self._storage.read() as db:
            self._ended = dict(db.execute("SELECT id, until FROM ended").fetchall())
            era: str = db.execute("SELECT id FROM era").fetchone()["id"]
            return era


def _secret(path: Path) -> bytes:
    """The secret of the instance directory, made if there is none: whole or not at all, and for the owner alone."""
    with suppress(FileNotFoundError):
        if len(known := path.read_bytes()) >= SECRET_BYTES:
            return known
    made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(SECRET_BYTES).encode())
            file.flush()
            os.fsync(descriptor)
        os.replace(made, path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    return path.read_bytes()
