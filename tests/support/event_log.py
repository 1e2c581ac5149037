"""Recording the events of rooms and waiting for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from overseer.domain.events import RoomEvent, TurnEnded
from overseer.domain.messages import State
from tests.support.waiting import DEADLINE

E = TypeVar("E", bound=RoomEvent)


class EventLog:
    """Records events. `listeners` are called with each one before it is recorded."""

    def __init__(self) -> None:
        self.events: list[RoomEvent] = []
        self.listeners: list[Callable[[RoomEvent], None]] = []
        self._recorded = threading.Condition()

    def record(self, event: RoomEvent) -> None:
        for listener in self.listeners:
            listener(event)
        with self._recorded:
            self.events.append(event)
            self._recorded.notify_all()

    def events_of(self, kind: type[E], **fields: object) -> list[E]:
        """Return the events of a class whose fields have these values."""
        found = [event for event in self.events if isinstance(event, kind)]
        return [event for event in found if all(getattr(event, name) == value for name, value in fields.items())]

    def wait_for(self, kind: type[E], times: int = 1, **fields: object) -> E:
        """Wait for so many events of a class. Return the last."""
        with self._recorded:
            assert self._recorded.wait_for(lambda: len(self.events_of(kind, **fields)) >= times, DEADLINE), self.events
            return self.events_of(kind, **fields)[times - 1]

    def wait_for_end(self, number: int, times: int = 1, room_id: str = "room") -> State:
        """Wait until this answer has ended so often. Return its state."""
        return self.wait_for(TurnEnded, times, number=number, room_id=room_id).state
