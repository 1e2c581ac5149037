"""A session, as the store keeps it and the web layer shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Session:
    """What a log-in begins, with the address and user agent it came from. Times are in Unix seconds."""

    id: str
    created_at: int
    last_seen_at: int
    expires_at: int
    address: str
    user_agent: str
