"""Requests to the cluster: each on a connection of its own, with a short time to answer."""

from __future__ import annotations

import base64
import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from tests.support.waiting import DEADLINE

FORM = "application/x-www-form-urlencoded"
UNAVAILABLE = (0, 503)  # what a request may get while an Overseer moves; 0 is no response


@dataclass(frozen=True, slots=True)
class Response:
    """`status` is 0 if the connection broke, or nothing came in time, before the whole response was there."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


NO_RESPONSE = Response(0, {}, "")


def basic(password: str) -> dict[str, str]:
    """Return the header of Basic authentication with a password."""
    return {"Authorization": "Basic " + base64.b64encode(f":{password}".encode()).decode()}


def call(
    base: str,
    method: str,
    path: str,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    seconds: float = DEADLINE,
) -> Response:
    """Make a request to the server at the URL `base`."""
    at = urlsplit(base)
    assert at.hostname is not None
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=seconds)
    body = urlencode(form).encode() if form is not None else None
    try:
        connection.request(method, path, body, {**({"Content-Type": FORM} if body else {}), **(headers or {})})
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
        return Response(response.status, {name.lower(): value for name, value in response.getheaders()}, text)
    except (OSError, http.client.HTTPException):
        return NO_RESPONSE
    finally:
        connection.close()


def call_until_answered(
    base: str,
    method: str,
    path: str,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    seconds: float = 30.0,
) -> Response:
    """Repeat a request that is safe to repeat until it gets another status than 503. Return the last response."""
    deadline = time.monotonic() + seconds
    while (response := call(base, method, path, form, headers, seconds=5)).status in UNAVAILABLE:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return response
