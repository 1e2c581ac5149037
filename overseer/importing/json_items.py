"""Read the conversations of a JSON file one by one, in bounded memory.

A file is one value, a list of values, an object with one list of them (`{"conversations": […]}`), or a value a line
(JSON Lines). A value that is broken or too large does not keep those after it from being read.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from overseer.importing.conversations import Unreadable

CHUNK_BYTES = 262_144
MAX_ITEM_CHARS = 64_000_000
MAX_ITEM_COST = 120_000_000  # estimated bytes of memory of a parsed value
VALUE_COST = 60  # bytes that a short string, number, list or object takes more than its text
LIST_KEYS = ("conversations", "chats", "data", "items", "threads")
MARK = re.compile(r'["\[\]{}]')
IN_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
BEFORE_LIST = re.compile(r'\s*\{\s*"(' + "|".join(LIST_KEYS) + r')"\s*:\s*\[')
SPACE = re.compile(r"[\s,]*")
TOO_LARGE = "It is larger than {size} MB, which is more than can be read at once."


class Stream(Protocol):
    """What bytes are read from."""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; none at the end."""


class Item(NamedTuple):
    """A value of the file, or the error that it could not be read for, and where it is."""

    value: object
    place: str
    error: Unreadable | None = None


class JsonReader:
    """Reads the values of one stream of UTF-8 text, with or without a byte order mark.

    `position` is the number of bytes that were read.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._decoder = json.JSONDecoder(strict=False, parse_constant=lambda name: None)
        self._buffer = ""
        self._at = 0  # the position in the buffer
        self._line = 1  # of the start of the buffer
        self._ended = False
        self.position = 0

    def items(self) -> Iterator[Item]:
        """Yield the values. Raises Unreadable if the file is no JSON or ends too early, after what could be read."""
        self._fill(CHUNK_BYTES)
        found = BEFORE_LIST.match(self._buffer) or re.match(r"\s*\[", self._buffer)
        if found:
            self._at = found.end()
            yield from self._list()
        else:
            yield from self._values()

    def _list(self) -> Iterator[Item]:
        count = 0
        while True:
            self._skip_space()
            if self._at >= len(self._buffer):
                raise Unreadable(f"The file ends within the list, after {count} items. Export it again.", self._place())
            if self._buffer[self._at] == "]":
                return
            count += 1
            yield self._item(f"item {count}")

    def _values(self) -> Iterator[Item]:
        count = 0
        while True:
            self._skip_space()
            if self._at >= len(self._buffer):
                break
            count += 1
            place = self._place()
            item = self._item(place)
            if item.error is not None and count == 1 and self._buffer[:1] not in '{["':
                raise Unreadable("This is not JSON.", place)
            yield item
        if not count:
            raise Unreadable("The file is empty.")

    def _item(self, place: str) -> Item:
        """Parse the value at the position, and go to its end."""
        size = CHUNK_BYTES
        while True:
            try:
                self._check_cost(size)
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except RecursionError:
                return self._skipped(place, "It is nested too deeply.")
            except json.JSONDecodeError as error:
                # An error far from the end of the buffer is none of a value that goes on.
                if self._ended or (error.pos < len(self._buffer) - 16 and "Unterminated" not in error.msg):
                    where = f"{place}, line {self._line + self._buffer.count(chr(10), 0, error.pos)}"
                    return self._skipped(where, f"It is not valid JSON ({error.msg}).")
            except ValueError:  # of an integer with thousands of digits
                return self._skipped(place, "It has a number that is too long.")
            except Unreadable as error:
                return self._skipped(place, str(error))
            else:
                # A number at the end of the buffer may go on.
                if end < len(self._buffer) or self._ended:
                    self._at = end
                    return Item(value, place)
            size = max(CHUNK_BYTES, len(self._buffer) - self._at)
            self._fill(size)  # twice as much: a value is parsed again only a few times

    def _check_cost(self, size: int) -> None:
        length = len(self._buffer) - self._at
        if length > MAX_ITEM_CHARS:
            raise Unreadable(TOO_LARGE.format(size=MAX_ITEM_CHARS // 1_000_000))
        if size >= CHUNK_BYTES * 8:
            values = sum(self._buffer.count(mark, self._at) for mark in ",[{")
            if length + values * VALUE_COST > MAX_ITEM_COST:
                raise Unreadable("It has more values than can be read at once.")

    def _skipped(self, place: str, sentence: str) -> Item:
        """Go to the end of a value that cannot be parsed, by its brackets."""
        item, depth, in_string, moved = Item(None, place, Unreadable(sentence, place)), 0, False, False
        while True:
            while self._at < len(self._buffer):
                if in_string:
                    found = IN_STRING.match(self._buffer, self._at)
                    self._at = found.end() if found else self._at
                    if self._buffer[self._at : self._at + 1] != '"':
                        break  # it goes on in the next piece, which may begin with what is escaped
                    in_string = False
                    self._at += 1
                    continue
                found = MARK.search(self._buffer, self._at)
                if found is None:
                    self._at = len(self._buffer)
                    break
                mark = found[0]
                if mark in "]}" and not depth:  # the end of the list that the value is in, or a stray bracket
                    self._at = found.start() if moved else found.end()
                    return item
                self._at, moved = found.end(), True
                in_string = mark == '"'
                depth += (mark in "[{") - (mark in "]}")
                if not depth and mark in "]}":
                    return item
            if self._ended:
                self._at = len(self._buffer)
                return item
            self._fill(CHUNK_BYTES)

    def _skip_space(self) -> None:
        while True:
            found = SPACE.match(self._buffer, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._buffer) or self._ended:
                return
            self._fill(CHUNK_BYTES)

    def _fill(self, size: int) -> None:
        """Drop what was parsed, and read at least `size` more bytes unless the file ends."""
        self._line += self._buffer.count("\n", 0, self._at)
        pieces = [self._buffer[self._at :]]
        self._at = 0
        left = size
        while left > 0 and not self._ended:
            data = self._stream.read(min(left, CHUNK_BYTES))
            self._ended = not data
            self.position += len(data)
            left -= len(data)
            pieces.append(self._decode(data, self._ended))
        self._buffer = "".join(pieces)

    def _place(self) -> str:
        return f"line {self._line + self._buffer.count(chr(10), 0, self._at)}"
