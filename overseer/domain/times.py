"""Times, which are milliseconds since 1970 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

MAX_MS = 253_402_300_799_000  # the end of the year 9999


def utc(ms: int) -> datetime:
    """Return a time as a datetime, or for one that no calendar has, which another program may store, the nearest."""
    return datetime.fromtimestamp(min(max(ms, 0), MAX_MS) / 1000, UTC)
