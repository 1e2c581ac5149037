"""Requests as they come in: headers that can be parsed, and forms of a bounded size and number of fields."""

from __future__ import annotations

import io
import re
from typing import IO, TYPE_CHECKING, Any

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from overseer.web.request_headers import normalize

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MAX_FIELDS = 100
MAX_PART_HEAD = 1000  # bytes before the value of a part of a multipart form
ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")


class BoundedForms(FormDataParser):
    """Werkzeug's parser, which would take seconds for some forms that are no larger than a message may be."""

    def _parse_urlencoded(self, stream: IO[bytes], mimetype: str, length: int | None, options: dict[str, str]) -> Any:
        body = self._whole(stream, length)
        body.decode()  # what is not even UTF-8 is no form
        if body.count(b"&") >= MAX_FIELDS:
            raise RequestEntityTooLarge
        fields = (field.partition(b"=") for field in body.replace(b"+", b" ").split(b"&") if field)
        return stream, self.cls([(_unescaped(name), _unescaped(value)) for name, _, value in fields]), self.cls()

    def _parse_multipart(self, stream: IO[bytes], mimetype: str, length: int | None, options: dict[str, str]) -> Any:
        body = self._whole(stream, length)
        delimiter = b"\r\n--" + options.get("boundary", "").encode("ascii")
        before, *parts = (b"\r\n" + body).split(delimiter, MAX_FIELDS + 2)
        if before or any(b"\r\n\r\n" not in part[:MAX_PART_HEAD] for part in parts if not part.startswith(b"--")):
            raise ValueError("no form that a browser makes")
        return super()._parse_multipart(io.BytesIO(body), mimetype, len(body), options)

    def _whole(self, stream: IO[bytes], length: int | None) -> bytes:
        body = stream.read()
        # Of a body without a length Werkzeug would take the beginning, and nobody would know.
        if length is None and self.max_content_length is not None and len(body) >= self.max_content_length:
            raise RequestEntityTooLarge
        return body


class BoundedRequest(Request):
    """A request whose form is bounded, and whose headers and query can be parsed."""

    form_data_parser_class = BoundedForms

    def __init__(self, environ: WSGIEnvironment, populate_request: bool = True, shallow: bool = False) -> None:
        normalize(environ)
        super().__init__(environ, populate_request, shallow)

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        # The body is in memory already. A temporary file would stay open when the form breaks off.
        return io.BytesIO()


def _unescaped(words: bytes) -> str:
    # A run of escapes in one go: urllib takes them one by one.
    found = ESCAPES.sub(lambda run: bytes.fromhex(run[0].replace(b"%", b"").decode()), words)
    return found.decode(errors="replace")
