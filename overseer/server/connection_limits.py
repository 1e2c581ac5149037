"""Limits on the number of open connections, in total and per client."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from overseer.domain.addresses import client_key, is_loopback


@dataclass(frozen=True, slots=True)
class Limits:
    """The number of connections allowed in total, and for one client."""

    total: int = 10_000
    per_client: int = 200


class ConnectionLimits:
    """Counts open connections and refuses those over the limits. Half of each limit is kept from visitors of shares.

    A client is an IPv4 address or an IPv6 /64 network. The limit per client does not apply to loopback addresses,
    because a proxy on this machine connects on behalf of all its clients.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._visitors: Counter[str] = Counter()  # those of `_open`

    def acquire(self, address: str, *, is_visitor: bool = False) -> str | None:
        """Count one more connection from `address`.

        Return the client, which must be passed to `release`, or None if a limit is reached.
        """
        client = client_key(address)
        with self._lock:
            of_client = 0 if is_loopback(address) else self._open[client]
            if self._open.total() >= self.limits.total or of_client >= self.limits.per_client:
                return None
            if is_visitor:
                of_visitor = 0 if is_loopback(address) else self._visitors[client]
                if self._visitors.total() >= self.limits.total // 2 or of_visitor >= self.limits.per_client // 2:
                    return None
            for counter in self._counters(is_visitor=is_visitor):
                counter[client] += 1
            return client

    def release(self, client: str, *, is_visitor: bool = False) -> None:
        """Count one connection of `client` less."""
        with self._lock:
            for counter in self._counters(is_visitor=is_visitor):
                counter[client] -= 1
                if not counter[client]:
                    del counter[client]

    def _counters(self, *, is_visitor: bool) -> list[Counter[str]]:
        return [self._open, self._visitors] if is_visitor else [self._open]
