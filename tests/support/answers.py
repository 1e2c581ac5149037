"""Questions to an Overseer, and the answers that it stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask

from overseer import create_app
from overseer.domain.messages import Message
from overseer.rooms.overseer import Overseer
from overseer.web.extensions import instance as instance_of
from tests.support.waiting import until

Open = Callable[..., Overseer]


def ask(overseer: Overseer, text: str = "Hello?", *, room_id: str = "") -> Message:
    """Ask a question, in a new room unless there is a `room_id`, and return the answer once it has ended."""
    room_id = room_id or overseer.create().id
    return ended_answer(overseer, room_id, overseer.room(room_id).ask(text).answer)


def ended_answer(overseer: Overseer, room_id: str, number: int) -> Message:
    """Wait until the answer has ended, and return it."""
    until(lambda: overseer.room(room_id).message(number).finished)
    return overseer.room(room_id).message(number)


@contextmanager
def opened(instance: Path, **options: Any) -> Iterator[Flask]:
    """Create an app with these options of `create_app`, and open and close its Overseer."""
    app = create_app(instance, **options)
    instance_of(app).overseer.open()
    try:
        yield app
    finally:
        instance_of(app).overseer.close()
