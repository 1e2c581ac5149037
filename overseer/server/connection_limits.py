"""Seats: how many tabs there may be at once, in all and of one client."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from overseer.domain.addresses import client_of, is_loopback


@dataclass(frozen=True, slots=True)
class House:
    """How many tabs there may be, and how many of them one client may have."""

    all: int = 10_000
    each: int = 200


class Seats:
    """Taken by a tab before it is connected, and given back when it has gone.

    A client is an address, or with IPv6 the network of a household. This machine itself has no bound of its own: a
    proxy on it speaks for everyone.
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, address: str) -> str | None:
        """The seat, to be given back; None if there is none left for who comes from there."""
        client = client_of(address)
        with self._lock:
            of_client = 0 if is_loopback(address) else self._taken[client]
            if self._taken.total() >= self.house.all or of_client >= self.house.each:
                return None
            self._taken[client] += 1
            return client

    def give_back(self, seat: str) -> None:
        """The tab has gone."""
        with self._lock:
            self._taken[seat] -= 1
            if not self._taken[seat]:
                del self._taken[seat]
