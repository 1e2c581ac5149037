"""Server-sent events, or JSON, read from the body of a response.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

from overseer.llm import ModelError

READ_BYTES = 65536
MAX_EVENT_BYTES = 20_000_000  # one event has a whole picture
MAX_JSON_BYTES = 20_000_000  # of an answer that is not streamed
PAUSE_INTERVAL_SECONDS = 0.005
DONE = "[DONE]"

# Two line ends. The group is atomic, so that CR LF is never taken for two.
BLANK_LINE = re.compile(rb"(?>\r\n|\r|\n){2}")
# An older llama.cpp reports an error in a field named "error".
DATA_FIELD = re.compile(rb"^(?:data|error)(?::|$) ?(.*)", re.M)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


# The first line of an event stream. A stream may begin with blank lines.
FIRST_FIELD = re.compile(rb"(?:data|event|id|retry|error)?[:\r\n]|(?:data|event|id|retry|error)$")
WHITE_SPACE = b" \t\r\n"


class Stream(Protocol):
    """The body of a response."""

    def read1(self, amount: int) -> bytes:
        """Return the bytes that have arrived, at most `amount`; no bytes at the end."""


class Pauses:
    """Lets other greenlets run at intervals, while a server sends without a pause.

    One object serves all loops over a stream. With a clock each, every loop would pause in turn for each event when
    other greenlets are busy, and a stream would be read at one event for each round of the event loop.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()

    def begin(self) -> None:
        """Count from now: other greenlets have just run."""
        self._began = time.monotonic()

    def take(self) -> None:
        """Pause if the last pause was not a moment ago."""
        if time.monotonic() - self._began > PAUSE_INTERVAL_SECONDS:
            time.sleep(0)
            self.begin()


class Body:
    """The data of a response, whatever its content type says: events, or JSON of a server that does not stream.

    After the iteration, `empty` says whether there were only comments and white space, or nothing at all, and `whole`
    whether it was JSON.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.empty = True
        self.whole = False

    def __iter__(self) -> Iterator[str]:
        """Yield the data of each event, or each JSON value, as it arrives.

        Raises ModelError for more than MAX_EVENT_BYTES without an end, and UnicodeDecodeError.
        """
        pauses = Pauses()
        chunks = read_chunks(self._stream, pauses)
        first = b""
        for chunk in chunks:
            first = (first + chunk).removeprefix(BYTE_ORDER_MARK).lstrip(WHITE_SPACE)
            if len(first) >= len(b"retry:"):
                break
        whole = chain([first], chunks)
        if first[:1] in (b"{", b"["):
            self.empty, self.whole = False, True
            yield from read_json(whole, pauses)
        else:
            self.empty = not first or FIRST_FIELD.match(first) is not None
            for data in read_events(whole, pauses):
                self.empty &= data.lstrip().startswith(":")  # a keep-alive comment, sent as data
                yield data


def read_chunks(stream: Stream, pauses: Pauses) -> Iterator[bytes]:
    """Yield the bytes as they arrive."""
    while True:
        began = time.monotonic()
        if not (chunk := stream.read1(READ_BYTES)):
            return
        if time.monotonic() - began > PAUSE_INTERVAL_SECONDS:
            pauses.begin()  # the read waited
        yield chunk
        pauses.take()


def read_events(chunks: Iterable[bytes], pauses: Pauses) -> Iterator[str]:
    """Yield the data of each event as it arrives. Skip events without data, such as comments.

    An event that the end of the stream cuts off is dropped. Raises ModelError for an event over MAX_EVENT_BYTES, and
    UnicodeDecodeError for one that is not UTF-8.
    """
    buffer = bytearray()
    for chunk in chunks:
        start = max(0, len(buffer) - 3)
        buffer += chunk
        while blank_line := BLANK_LINE.search(buffer, start):
            event = bytes(buffer[: blank_line.end()])
            del buffer[: blank_line.end()]
            start = 0
            if data := _data(event):
                yield data
            pauses.take()
        if len(buffer) > MAX_EVENT_BYTES:
            raise _endless()
    if data := _unterminated(bytes(buffer)):
        yield data


def read_json(chunks: Iterable[bytes], pauses: Pauses) -> Iterator[str]:
    """Yield the whole body if it is JSON, else its lines. Raises ModelError for a body over MAX_JSON_BYTES."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        if len(buffer) > MAX_JSON_BYTES:
            raise _endless()
    text = buffer.decode()
    try:
        json.loads(text)
        yield text
    except (ValueError, RecursionError):
        for line in re.split(r"(?<=\})\r?\n(?=\{)", text):
            yield line
            pauses.take()


def _endless() -> ModelError:
    return ModelError("The model server sent an event without an end. Look at its log, then Retry.")


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
