"""Requests that tests of the real server share."""

from __future__ import annotations

import re

import requests

from tests.support.server import DEADLINE, Server


def new_room(server: Server, name: str = "") -> str:
    """Create a room. Return its id."""
    response = requests.post(f"{server.url}/rooms", {"name": name} if name else {}, timeout=DEADLINE)
    return response.headers["Location"].rsplit("/", 1)[-1]


def ask(server: Server, room_id: str, text: str, *, wait: bool = False) -> requests.Response:
    """Post a message. Return the response, with `wait` after the answer has ended."""
    headers = {"Prefer": "wait=60"} if wait else {}
    url = f"{server.url}/rooms/{room_id}/messages"
    response = requests.post(url, {"text": text}, headers=headers, timeout=90)
    assert response.status_code == 201, response.text
    return response


def fetch(server: Server, path: str) -> str:
    """Return the body of a page."""
    return requests.get(server.url + path, timeout=DEADLINE).text


def ended(frame: str, number: int = 2) -> bool:
    """Return whether a frame shows the complete answer `number`."""
    return re.search(rf'<article id="message-{number}"[^>]*data-state="complete"', frame) is not None
