"""The request class: parseable headers, and forms with a bounded size and number of fields."""

from __future__ import annotations

import io
import re
import secrets
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from overseer.web.request_headers import normalize

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MAX_FIELDS = 100
MAX_PART_HEAD_BYTES = 1000  # before the value of a part of a multipart form
ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")


class BoundedForms(FormDataParser):
    """Parses forms in linear time. Werkzeug's parser takes seconds for some forms of the size of a message."""

    def _parse_urlencoded(self, stream: IO[bytes], mimetype: str, length: int | None, options: dict[str, str]) -> Any:
        body = self._read_all(stream, length)
        body.decode()  # raises UnicodeDecodeError, so the form is rejected
        if body.count(b"&") >= MAX_FIELDS:
            raise RequestEntityTooLarge
        fields = (field.partition(b"=") for field in body.replace(b"+", b" ").split(b"&") if field)
        return stream, self.cls([(_unescape(name), _unescape(value)) for name, _, value in fields]), self.cls()

    def _parse_multipart(self, stream: IO[bytes], mimetype: str, length: int | None, options: dict[str, str]) -> Any:
        body = self._read_all(stream, length)
        delimiter = b"\r\n--" + options.get("boundary", "").encode("ascii")
        before, *parts = (b"\r\n" + body).split(delimiter, MAX_FIELDS + 2)
        if before or any(b"\r\n\r\n" not in part[:MAX_PART_HEAD_BYTES] for part in parts if not part.startswith(b"--")):
            raise ValueError("not a form that a browser sends")
        return super()._parse_multipart(io.BytesIO(body), mimetype, len(body), options)

    def _read_all(self, stream: IO[bytes], length: int | None) -> bytes:
        body = stream.read()
        # Werkzeug silently truncates a body without a length.
        if length is None and self.max_content_length is not None and len(body) >= self.max_content_length:
            raise RequestEntityTooLarge
        return body


class BoundedRequest(Request):
    """A request whose form is bounded, and whose headers and query can be parsed."""

    form_data_parser_class = BoundedForms
    upload_directory: Path | None = None  # where the files of the form are stored, instead of in memory

    def __init__(self, environ: WSGIEnvironment, populate_request: bool = True, shallow: bool = False) -> None:
        normalize(environ)
        self.upload_streams: list[IO[bytes]] = []  # that were opened, to be closed after the request
        super().__init__(environ, populate_request, shallow)

    def make_form_data_parser(self) -> FormDataParser:
        """Return the parser of the form; one that stores files as they arrive if there is a directory for them."""
        if self.upload_directory is None:
            return super().make_form_data_parser()
        return FormDataParser(
            stream_factory=self._get_file_stream,
            max_form_memory_size=self.max_form_memory_size,
            max_content_length=self.max_content_length,
            max_form_parts=self.max_form_parts,
            cls=self.parameter_storage_class,
        )

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        if self.upload_directory is not None:
            self.upload_streams.append((self.upload_directory / secrets.token_hex(8)).open("x+b"))
            return self.upload_streams[-1]
        # The body is in memory already, and a temporary file would stay open if the form is incomplete.
        return io.BytesIO()


def _unescape(text: bytes) -> str:
    # A run of escapes at once: urllib decodes them one by one.
    unescaped = ESCAPES.sub(lambda run: bytes.fromhex(run[0].replace(b"%", b"").decode()), text)
    return unescaped.decode(errors="replace")
