"""When the time of a temporary room begins: with the tab that leaves last."""

from __future__ import annotations

from contextlib import ExitStack, closing

from flask import Flask

from overseer.rooms.overseer import Overseer
from overseer.web.extensions import instance as instance_of
from tests.support.served import served
from tests.support.tab import Tab
from tests.support.waiting import until


def test_last_tab_that_leaves_begins_the_time_of_a_temporary_room(app: Flask, overseer: Overseer) -> None:
    room, hub, due = overseer.create(temporary=True), instance_of(app).hub, overseer.temporary_rooms._due
    ordinary = overseer.create()
    with ExitStack() as tabs:
        url = tabs.enter_context(served(app))
        first, second, other = (Tab(url, f"room={one.id}") for one in (room, room, ordinary))
        for tab in (first, second, other):
            tabs.enter_context(closing(tab))
            tab.read_until('hx-target="#context"')
        assert hub.has_tab(room.id) and hub.has_tab(ordinary.id)
        shown_until = due[room.id]
        first.close()
        until(lambda: len(hub._tabs) == 2)
        assert hub.has_tab(room.id) and due[room.id] == shown_until
        second.close()
        until(lambda: len(hub._tabs) == 1)
        assert not hub.has_tab(room.id) and due[room.id] > shown_until
    assert list(due) == [room.id]
