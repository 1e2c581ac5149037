"""Pictures in an answer: as parts of a message, or as data URIs in its text."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace

from overseer.domain.pictures import identify
from overseer.domain.text import clean
from overseer.llm import Delta, PictureFound, TextDelta
from overseer.llm.thoughts import MarkdownPosition

PICTURE_TYPES = ("image", "image_url", "input_image", "output_image", "image_generation_call")
INLINE_FIELDS = ("inline_data", "inlineData")  # Gemini
# Where a part of a message has its picture: OpenAI, OpenRouter, Gemini, Claude, Ollama.
ADDRESS_FIELDS = ("image_url", "source", *INLINE_FIELDS, "image", "url", "data", "b64_json", "result")
MAX_PICTURES = 20  # of one reply
MAX_PICTURE_BYTES = 50_000_000  # of all pictures of one reply
MAX_DESCRIPTION_CHARS = 300
MAX_DATA_URIS = 50  # of one reply; the text after them is not searched
MIN_CUT_CHARS = 1000  # of base64 that is no picture and is left out of the text; less is kept

DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,40}(?:;[a-z0-9=._-]{1,60}){0,4};base64,", re.I)
BASE64_MARK = "base64,"  # the end of DATA_URI
BASE64 = re.compile(r"[A-Za-z0-9+/=_-]*")
MARKDOWN_BEGINNING = re.compile(r"!\[([^\[\]\n]{0,300})\]\(\s{0,9}<?$")
MARKDOWN_END = re.compile(r">?(?:\s{1,9}[\"'(][^\n\"')]{0,200}[\"')])?\s{0,9}\)")
HTML_BEGINNING = re.compile(r"<img\b[^<>]{0,300}\bsrc\s{0,9}=\s{0,9}[\"']?$", re.I)
HTML_END = re.compile(r"[^<>]{0,300}>")
NO_END = re.compile("")
MAX_BEGINNING_CHARS = 700  # of a picture in Markdown or HTML, to the end of DATA_URI
MAX_END_CHARS = 320
MAX_UNREAD = 500  # pieces of text
LINES_AND_BACKTICKS = re.compile(r"(`{1,100}|\n)")


class PictureCollector:
    """The pictures of one reply.

    `unshown` is set if there is one that cannot be shown, and `links` are the addresses of those that are on the web.
    """

    def __init__(self) -> None:
        self.unshown = False
        self.links: list[str] = []
        self._digests: list[bytes] = []
        self._left_bytes = MAX_PICTURE_BYTES

    def of_message(self, message: Mapping[str, object]) -> Iterator[PictureFound]:
        """Yield the pictures among the parts of a message or delta, unless they were found before."""
        for part in _picture_parts(message):
            address = _address(part)
            if address.startswith(("http://", "https://")):
                self.links.append(address)
                continue
            known = set(self._digests)
            picture = self.decode(DATA_URI.sub("", address[:MAX_BEGINNING_CHARS]) + address[MAX_BEGINNING_CHARS:])
            if picture is not None and self._digests[-1] not in known:
                yield picture

    def decode(self, encoded: str) -> PictureFound | None:
        """Return the picture of a base64 text, or None if it cannot be shown or is one too many."""
        picture = decode_picture(encoded)
        if picture is None or len(self._digests) >= MAX_PICTURES or len(picture.content) > self._left_bytes:
            self.unshown = True
            return None
        self._digests.append(hashlib.sha256(picture.content).digest())
        self._left_bytes -= len(picture.content)
        return picture


def decode_picture(encoded: str) -> PictureFound | None:
    """Return the picture of a base64 text. None if it is damaged, of a format that browsers do not show, or too large.

    The format is read from the content, whatever the model says.
    """
    try:
        content = binascii.a2b_base64(encoded.replace("-", "+").replace("_", "/") + "==")
    except ValueError:
        return None
    found = identify(content)
    return None if found is None else PictureFound(content, *found)


class DataUriParser:
    """Replaces data URIs of pictures in a growing text, outside of code, with the pictures.

    The Markdown or HTML around a data URI is replaced with it. Long base64 that is no picture is left out of the text.
    """

    def __init__(self, pictures: PictureCollector) -> None:
        self._pictures = pictures
        self._at = MarkdownPosition()
        self._tail = ""  # the end of the text before `_at`
        self._unread: list[str] = []  # the text after `_at`
        self._left = MAX_DATA_URIS
        self._beginning = ""  # of a picture, to the end of DATA_URI
        self._shown = ""  # the beginning of it, that was yielded
        self._description = ""
        self._end = NO_END  # the pattern of the end
        self._base64: list[str] | None = None  # from a data URI on
        self._after: str | None = None  # what follows the base64

    def passes(self, text: str) -> bool:
        """Return whether the text is to be yielded as it is, without `add`."""
        if self._base64 is not None or "," in text and self._ends_data_uri(text):
            return False
        self._unread.append(text)
        if len(self._unread) > MAX_UNREAD:
            self._read("")
        return True

    def add(self, text: str) -> Iterator[Delta]:
        """Yield the text and the pictures in it. What may belong to a picture is held back."""
        yield from self._parse(text, final=False)

    def flush(self) -> Iterator[Delta]:
        """Yield what was held back, at the end of the text."""
        if self._base64 is not None:
            yield from self._parse("", final=True)

    def _ends_data_uri(self, text: str) -> bool:
        return BASE64_MARK in ("".join(self._unread[1 - len(BASE64_MARK) :]) + text).lower()

    def _parse(self, text: str, *, final: bool) -> Iterator[Delta]:
        while text or self._base64 is not None:
            if self._base64 is None:
                text = yield from self._find_data_uri(text)
                continue
            if self._after is None:
                run = BASE64.match(text)
                assert run is not None
                self._base64.append(run[0])
                if run.end() == len(text) and not final:
                    return
                self._after, text = "", text[run.end() :]
            self._after += text
            end = self._end.match(self._after)
            if end is None and len(self._after) < MAX_END_CHARS and not final:
                return
            length = end.end() if end else 0
            text = self._after[length:]
            yield from self._finish(self._after[:length])

    def _find_data_uri(self, text: str) -> Generator[Delta, None, str]:
        """Yield the text before a data URI outside of code. Return the text behind its comma."""
        before = self._tail + "".join(self._unread)
        window, start, read = before + text, len(before), 0
        for uri in DATA_URI.finditer(window, max(0, start - MAX_BEGINNING_CHARS)) if self._left > 0 else ():
            if uri.end() <= start:
                continue
            self._left -= 1
            end = max(0, uri.start() - start)
            self._read(text[read:end])
            read = end
            if self._at.in_code:
                continue
            begin = self._begin(window, uri)
            if begin > start:
                yield TextDelta(text[: begin - start])
            self._shown = window[begin:start]
            self._base64 = []
            return text[uri.end() - start :]
        self._unread.append(text[read:])
        yield TextDelta(text)
        return ""

    def _begin(self, window: str, uri: re.Match[str]) -> int:
        """Return where the Markdown or HTML that contains the data URI begins, or else the data URI itself."""
        first, end = max(0, uri.start() - MAX_BEGINNING_CHARS), uri.start()
        markdown = MARKDOWN_BEGINNING.search(window, first, end)
        found = markdown or HTML_BEGINNING.search(window, first, end)
        begin = found.start() if found else end
        self._end = MARKDOWN_END if markdown else HTML_END if found else NO_END
        self._description = " ".join(clean(markdown[1]).split())[:MAX_DESCRIPTION_CHARS] if markdown else ""
        self._beginning = window[begin : uri.end()]
        return begin

    def _finish(self, end: str) -> Iterator[Delta]:
        encoded = "".join(self._base64 or ())
        self._base64 = self._after = None
        if picture := self._pictures.decode(encoded):
            yield replace(picture, text=self._description, replaces=self._shown)
            return
        encoded = encoded if len(encoded) < MIN_CUT_CHARS else "…"
        text = self._beginning[len(self._shown) :] + encoded + end
        self._unread.append(text)
        yield TextDelta(text)

    def _read(self, text: str) -> None:
        """Move `_at` to the end of the text until now, and of this one."""
        text = "".join(self._unread) + text
        for piece in LINES_AND_BACKTICKS.split(text):
            if piece == "\n":
                self._at.end_line()
            else:
                self._at.advance(piece)
        self._tail = (self._tail + text)[-MAX_BEGINNING_CHARS:]
        self._unread.clear()


def _picture_parts(message: Mapping[str, object]) -> Iterator[object]:
    images, content = message.get("images"), message.get("content")
    yield from images if isinstance(images, list) else ()
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping) and (part.get("type") in PICTURE_TYPES or any(map(part.get, INLINE_FIELDS))):
            yield part


def _address(part: object, depth: int = 3) -> str:
    """Return the data URI, web address or base64 of a part of a message; empty if it has none."""
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and depth:
        return next(filter(None, (_address(part.get(name), depth - 1) for name in ADDRESS_FIELDS)), "")
    return ""
