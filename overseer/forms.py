"""Forms as they come in: at most so large, and of at most so many fields, however they are sent."""

from __future__ import annotations

import io
from typing import IO, Any

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

MAX_FIELDS = 100


class BoundedForms(FormDataParser):
    """Werkzeug's parser, which bounds the parts of a multipart form, but not the fields of an ordinary one."""

    def _parse_urlencoded(self, stream: IO[bytes], mimetype: str, content_length: int | None, *more: Any) -> Any:
        body = stream.read()
        # Of a body without a length it would take the beginning, and nobody would know.
        cut_off = content_length is None and len(body) >= (self.max_content_length or len(body) + 1)
        if cut_off or body.count(b"&") >= MAX_FIELDS:
            raise RequestEntityTooLarge
        return super()._parse_urlencoded(io.BytesIO(body), mimetype, content_length, *more)


class BoundedRequest(Request):
    """A request whose form is bounded."""

    form_data_parser_class = BoundedForms
