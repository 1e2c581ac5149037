"""Server-sent events, read from the body of a response.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Protocol

from overseer.llm import ModelError

READ_BYTES = 65536
MAX_EVENT_BYTES = 1_000_000
PAUSE_INTERVAL_SECONDS = 0.005
DONE = "[DONE]"

# Two line ends. The group is atomic, so that CR LF is never taken for two.
BLANK_LINE = re.compile(rb"(?>\r\n|\r|\n){2}")
# An older llama.cpp reports an error in a field named "error".
DATA_FIELD = re.compile(rb"^(?:data|error)(?::|$) ?(.*)", re.M)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Stream(Protocol):
    """The body of a response."""

    def read1(self, amount: int) -> bytes:
        """Return the bytes that have arrived, at most `amount`; no bytes at the end."""


def read_events(stream: Stream) -> Iterator[str]:
    """Yield the data of each event as it arrives. Skip events without data, such as comments.

    An event that the end of the stream cuts off is dropped. Raises ModelError for an event over MAX_EVENT_BYTES, and
    UnicodeDecodeError for one that is not UTF-8.
    """
    buffer = bytearray()
    paused = time.monotonic()
    for chunk in iter(partial(stream.read1, READ_BYTES), b""):
        start = max(0, len(buffer) - 3)
        buffer += chunk
        while blank_line := BLANK_LINE.search(buffer, start):
            event = bytes(buffer[: blank_line.end()])
            del buffer[: blank_line.end()]
            start = 0
            if data := _data(event):
                yield data
            paused = _pause(paused)
        if len(buffer) > MAX_EVENT_BYTES:
            raise ModelError("The model server sent an event without an end. Look at its log, then Retry.")
        paused = _pause(paused)
    if data := _unterminated(bytes(buffer)):
        yield data


def _pause(last: float) -> float:
    """Let other greenlets run unless the last pause was a moment ago. Return the time of the last pause."""
    # A server that sends without a pause would otherwise keep every other greenlet from running.
    if time.monotonic() - last <= PAUSE_INTERVAL_SECONDS:
        return last
    time.sleep(0)
    return time.monotonic()


def _data(event: bytes) -> str:
    lines = event.removeprefix(BYTE_ORDER_MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return b"\n".join(DATA_FIELD.findall(lines)).decode()


def _unterminated(event: bytes) -> str:
    """Return the data of an event without a blank line after it, or an empty text if the data is incomplete."""
    try:
        data = _data(event)
        return data if data.strip() == DONE or json.loads(data) else ""
    except (ValueError, RecursionError):
        return ""
