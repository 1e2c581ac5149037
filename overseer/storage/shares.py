"""The shares of a room, in its file. The caller begins and commits the transaction."""

from __future__ import annotations

import hmac
import sqlite3

from overseer.domain.errors import NoSuchShare, TooManyShares
from overseer.domain.shares import MAX_SHARES, Share, new_secret
from overseer.storage import message_tree, room_rows

COLUMNS = "number, secret, live, created_at, expires_at, visited_at"  # all but the page, which may be large


def add(db: sqlite3.Connection, room_id: str, *, page: bytes | None, expires_at: int | None, now: int) -> Share:
    """Insert a share with this page, or a live one, and delete those that have expired. Raises TooManyShares."""
    db.execute("DELETE FROM shares WHERE expires_at <= ?", (now,))
    if db.execute("SELECT count(*) FROM shares").fetchone()[0] >= MAX_SHARES:
        raise TooManyShares(f"A room has at most {MAX_SHARES} shares. Revoke one that is not needed any more.")
    secret, live = new_secret(), page is None
    done = db.execute(
        "INSERT INTO shares (secret, live, created_at, expires_at, page) VALUES (?, ?, ?, ?, ?)",
        (secret, live, now, expires_at, page),
    )
    return Share(room_id, done.lastrowid or 0, secret, live, now, expires_at)


def select(db: sqlite3.Connection, room_id: str, *, now: int) -> tuple[Share, ...]:
    """Return the shares that have not expired, the newest first."""
    found = db.execute(
        f"SELECT {COLUMNS} FROM shares WHERE ifnull(expires_at, ?) > ? ORDER BY number DESC",  # noqa: S608 - a constant
        (now + 1, now),
    )
    return tuple(_share(row, room_id) for row in found)


def find(db: sqlite3.Connection, room_id: str, secret: str, *, now: int) -> Share | None:
    """Return the share with this secret, or None. It takes as long for any secret."""
    matches = [share for share in select(db, room_id, now=now) if _is_equal(share.secret, secret)]
    return matches[0] if matches else None


def page(db: sqlite3.Connection, number: int) -> bytes | None:
    """Return the snapshot of a share."""
    row = db.execute("SELECT page FROM shares WHERE number = ?", (number,)).fetchone()
    return None if row is None else row["page"]


def note_visit(db: sqlite3.Connection, number: int, *, now: int) -> None:
    """Store the time of a visit."""
    db.execute("UPDATE shares SET visited_at = ? WHERE number = ?", (now, number))


def delete(db: sqlite3.Connection, number: int) -> None:
    """Delete a share. Raises NoSuchShare."""
    if not db.execute("DELETE FROM shares WHERE number = ?", (number,)).rowcount:
        raise NoSuchShare("This share doesn’t exist or was revoked.")


def delete_all(db: sqlite3.Connection) -> list[int]:
    """Delete all shares. Return their numbers."""
    return [row["number"] for row in db.execute("DELETE FROM shares RETURNING number").fetchall()]


def is_file_shown(db: sqlite3.Connection, sha256: str) -> bool:
    """Return whether a message of the shown path shows this file, or an answer that is beside one."""
    head = message_tree.head(db)
    shown_by = db.execute(
        "SELECT m.number, m.parent, m.lane FROM parts JOIN messages m ON m.number = parts.message WHERE file = ?",
        (sha256,),
    )
    return any(_is_shown(db, row, head) for row in shown_by.fetchall())


def _is_shown(db: sqlite3.Connection, message: sqlite3.Row, head: int | None) -> bool:
    if message_tree.at_or_below(db, head, message["number"]) == message["number"]:
        return True
    beside = message_tree.lanes(db, message["parent"]) if message["lane"] is not None and message["parent"] else []
    return any(message_tree.at_or_below(db, head, one) == one for one in beside)


def _is_equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _share(row: sqlite3.Row, room_id: str) -> Share:
    room_rows.require(row, str, "secret")
    room_rows.require(row, int, "number", "live", "created_at")
    room_rows.require(row, int | None, "expires_at", "visited_at")
    return Share(
        room_id,
        row["number"],
        row["secret"],
        bool(row["live"]),
        row["created_at"],
        row["expires_at"],
        row["visited_at"],
    )
