"""Shares: addresses at which anybody can read a room, without a log-in."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from overseer.domain.text import Invalid

SECRET_BYTES = 24
ADDRESS = re.compile(r"([0-9a-f]{12})([A-Za-z0-9_-]{32})", re.ASCII)  # the id of the room, and the secret
MAX_SHARES = 50  # of a room
MAX_EXPIRY_SECONDS = 10 * 366 * 24 * 3600
VISIT_INTERVAL_MS = 60_000  # between two visits that are noted


@dataclass(frozen=True, slots=True)
class Share:
    """A share of a room: a snapshot, or `live`. Times are UTC milliseconds; one that never expires has no `expires_at`.

    `number` starts at 1 and is never used again in the room.
    """

    room_id: str
    number: int
    secret: str
    live: bool
    created_at: int
    expires_at: int | None = None
    visited_at: int | None = None

    @property
    def address(self) -> str:
        """The part of the address that is a secret: the id of the room and random characters."""
        return self.room_id + self.secret


@dataclass(frozen=True, slots=True)
class Visit:
    """A share that somebody opens, and its snapshot: a page as HTML, compressed with gzip. A live share has none."""

    share: Share
    page: bytes | None


def new_secret() -> str:
    """Return 192 random bits as 32 characters."""
    return secrets.token_urlsafe(SECRET_BYTES)


def parse_live(given: str) -> bool:
    """Return whether a form asks for a live share. Raises Invalid."""
    if given not in ("", "0", "1"):
        raise Invalid("live is 1 for a share that follows the room, and 0 for a snapshot.")
    return given == "1"


def parse_expiry(given: str) -> int | None:
    """Return the seconds after which a share expires, or None for an empty field: never. Raises Invalid."""
    given = given.strip()
    if not given:
        return None
    if not (given.isascii() and given.isdecimal() and 0 < int(given[:12]) <= MAX_EXPIRY_SECONDS):
        raise Invalid(
            f"expires is the number of seconds after which the share ends, from 1 to {MAX_EXPIRY_SECONDS}. "
            "Leave it empty for one that never does."
        )
    return int(given)
