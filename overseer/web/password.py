"""The password: kept as a hash only, and tried only so often."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from werkzeug.security import check_password_hash, generate_password_hash

from overseer.domain.addresses import MAX_PASSWORD_BYTES, client_key

HASH = re.compile(r"scrypt:\d{1,9}:\d{1,3}:\d{1,3}\$[^$\s]+\$[0-9a-f]{128}", re.ASCII)
KNOWN = 64  # right passwords that are remembered, by a hash with a key that this run alone has
CLIENTS = 10_000  # that are remembered for their tries

Check = Callable[[str, str], bool]


class Password:
    """A password, given in plain or as the hash that `hashed` makes. Only a hash of it is kept.

    `check` compares a hash with a password; it takes some 60 ms, so a server may have it done aside.
    """

    def __init__(self, given: str, *, check: Check = check_password_hash) -> None:
        self._hash = given if HASH.fullmatch(given) else hashed(given)
        self._check = check
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def is_right(self, tried: str) -> bool:
        """Whether it is the password. One that was right before is known at once."""
        # To scrypt, zero bytes at the end are none; and half a character is no character.
        tried_bytes = tried.encode(errors="replace")
        if len(tried_bytes) > MAX_PASSWORD_BYTES or "\0" in tried or tried_bytes.decode() != tried:
            return False
        digest = hmac.digest(self._key, tried_bytes, hashlib.sha256)
        if digest in self._known:
            return True
        right = self._check(self._hash, tried)
        if right:
            self._known[digest] = None
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return right


class RateLimiter:
    """How often a password may be tried, by each client and by all: `burst` at once, then one every `seconds`.

    The generic cell rate algorithm: of each client one number is kept, the time when it will have paid for its tries.
    An IPv6 client is its /64.
    """

    def __init__(
        self,
        *,
        burst: int = 5,
        seconds: float = 30.0,
        burst_of_all: int = 100,
        seconds_of_all: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst, self._seconds = burst, seconds
        self._all = (burst_of_all, seconds_of_all)
        self._clock = clock
        self._lock = threading.Lock()
        self._paid: OrderedDict[str, float] = OrderedDict()
        self._paid_of_all = 0.0

    def wait(self, client: str) -> float:
        """Take one try; returns 0, or the seconds until there is one, and then none was taken."""
        now, who = self._clock(), client_key(client)
        with self._lock:
            wait = max(
                self._paid.get(who, 0.0) - now - (self._burst - 1) * self._seconds,
                self._paid_of_all - now - (self._all[0] - 1) * self._all[1],
            )
            if wait > 0:
                return wait
            self._paid[who] = max(self._paid.get(who, 0.0), now) + self._seconds
            self._paid.move_to_end(who)
            self._paid_of_all = max(self._paid_of_all, now) + self._all[1]
            while len(self._paid) > CLIENTS:
                self._paid.popitem(last=False)
            return 0.0

    def give_back(self, client: str) -> None:
        """The try was right, and does not count."""
        with self._lock:
            who = client_key(client)
            self._paid[who] = self._paid.get(who, 0.0) - self._seconds
            self._paid_of_all -= self._all[1]


def hashed(password: str) -> str:
    """A salted hash of a password (scrypt), which can be set in its place."""
    return generate_password_hash(password, method="scrypt")
