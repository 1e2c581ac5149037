"""HTTP as the clients speak it: the status line is the acknowledgement, whatever becomes of the rest."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from tests.crash.log import Act, clock

DEADLINE = 20.0


class Lost(Exception):
    """No answer came."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is empty if it was cut off."""

    status: int
    location: str
    body: str


def call(
    port: int,
    method: str,
    path: str,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    act: Act | None = None,
) -> Answer:
    """Ask the server; notes in the act when the status came. Raises Lost."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    body = urlencode(form).encode() if form is not None else None
    sent = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
    try:
        connection.request(method, path, body, {**sent, **(headers or {})})
        response = connection.getresponse()
        location = response.headers.get("Location", "")
        if act is not None:
            if act.kind == "ask" and response.status < 300:
                act.number = int(location.rsplit("/", 1)[-1])
            act.end, act.status = clock(), response.status
        try:
            return Answer(response.status, location, response.read().decode())
        except (OSError, http.client.HTTPException):
            return Answer(response.status, location, "")
    except (OSError, http.client.HTTPException) as error:
        raise Lost from error
    finally:
        connection.close()
