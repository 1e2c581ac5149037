"""The password, of which only a hash is kept, and the rate limit for attempts to log in."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable

from cachetools import LRUCache
from werkzeug.security import check_password_hash, generate_password_hash

from overseer.domain.addresses import MAX_PASSWORD_BYTES, client_key

HASH = re.compile(r"scrypt:\d{1,9}:\d{1,3}:\d{1,3}\$[^$\s]+\$[0-9a-f]{128}", re.ASCII)
MAX_REMEMBERED = 64  # right passwords, each as an HMAC with a key of this process
MAX_CLIENTS = 10_000  # whose attempts are counted

Check = Callable[[str, str], bool]


class Password:
    """A password, given in plain text or as the hash that `hashed` returns. Only the hash is kept.

    `check` compares a hash with a password. It takes about 60 ms, so a server may run it in another thread.
    """

    def __init__(self, given: str, *, check: Check = check_password_hash) -> None:
        self._hash = given if HASH.fullmatch(given) else hashed(given)
        self._check = check
        self._key = secrets.token_bytes(32)
        self._remembered: LRUCache[bytes, None] = LRUCache(MAX_REMEMBERED)

    def matches(self, given: str) -> bool:
        """Whether this is the password. One that was right before is recognized without the slow check."""
        # scrypt ignores zero bytes at the end, and a lone surrogate is not a character.
        given_bytes = given.encode(errors="replace")
        if len(given_bytes) > MAX_PASSWORD_BYTES or "\0" in given or given_bytes.decode() != given:
            return False
        digest = hmac.digest(self._key, given_bytes, hashlib.sha256)
        if digest in self._remembered:
            return True
        matches = self._check(self._hash, given)
        if matches:
            self._remembered[digest] = None
        return matches


class RateLimiter:
    """Limits how often a password may be tried, per client and in total: `burst` at once, then one per `seconds`.

    This is the generic cell rate algorithm: for each client one number is kept, the time at which its attempts are
    used up no longer. An IPv6 client is its /64 network.
    """

    def __init__(
        self,
        *,
        burst: int = 5,
        seconds: float = 30.0,
        total_burst: int = 100,
        total_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst, self._seconds = burst, seconds
        self._total_burst, self._total_seconds = total_burst, total_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at: LRUCache[str, float] = LRUCache(MAX_CLIENTS)
        self._total_free_at = 0.0

    def acquire(self, client: str) -> float:
        """Use up one attempt and return 0, or return the seconds until there is one."""
        now, key = self._clock(), client_key(client)
        with self._lock:
            wait = max(
                self._free_at.get(key, 0.0) - now - (self._burst - 1) * self._seconds,
                self._total_free_at - now - (self._total_burst - 1) * self._total_seconds,
            )
            if wait > 0:
                return wait
            self._free_at[key] = max(self._free_at.get(key, 0.0), now) + self._seconds
            self._total_free_at = max(self._total_free_at, now) + self._total_seconds
            return 0.0

    def refund(self, client: str) -> None:
        """Return an attempt whose password was right."""
        with self._lock:
            key = client_key(client)
            self._free_at[key] = self._free_at.get(key, 0.0) - self._seconds
            self._total_free_at -= self._total_seconds


def hashed(password: str) -> str:
    """Return a salted scrypt hash of a password, which can be configured in its place."""
    return generate_password_hash(password, method="scrypt")
