"""Compression of text responses, which shrink to a third: Brotli where it is accepted, else gzip."""

from __future__ import annotations

import gzip

import brotli
from cachetools import LRUCache
from flask import Flask, Response, request

from overseer.render.assets import ENDPOINTS

TYPES = ("text/html", "text/css", "text/javascript", "application/javascript", "image/svg+xml")
MIN_BYTES = 500  # less fits into one packet with its headers anyway
LEVEL = 5
FILE_LEVEL = 9  # for static files, which are compressed once
BROTLI_QUALITY = 5  # 1 ms for a page of 90 KB, a fifth smaller than gzip's level 5
BROTLI_FILE_QUALITY = 11  # slow
MAX_FILES = 64  # static files that are kept compressed


def init_app(app: Flask) -> None:
    """Compress the responses of the app for clients that accept it."""
    files: LRUCache[tuple[str, str, str], bytes] = LRUCache(MAX_FILES)

    def compress(response: Response) -> Response:
        is_static = request.endpoint in ENDPOINTS
        if (
            response.mimetype not in TYPES
            or response.status_code in (206, 304)
            or response.is_streamed
            and not is_static
        ):
            return response
        if is_static:
            response.vary.add("Accept-Encoding")
        if "Content-Encoding" in response.headers:
            return response
        # Errors are not kept: they have no version, and may contain data of one request.
        kept = files if is_static and response.status_code == 200 else None
        for encoding in ("br", "gzip"):
            if request.accept_encodings[encoding]:
                _compress(response, encoding, kept)
                break
        return response

    app.after_request(compress)


def _compress(response: Response, encoding: str, files: LRUCache[tuple[str, str, str], bytes] | None) -> None:
    response.direct_passthrough = False  # otherwise the server sends the file itself
    key = (request.path, response.headers.get("ETag", ""), encoding)
    body = files.get(key) if files is not None else None
    if body is None:
        plain = response.get_data()
        if len(plain) < MIN_BYTES:
            return
        if encoding == "br":
            body = brotli.compress(plain, quality=BROTLI_QUALITY if files is None else BROTLI_FILE_QUALITY)
        else:
            body = gzip.compress(plain, LEVEL if files is None else FILE_LEVEL, mtime=0)
        if files is not None:
            files[key] = body
    if hasattr(response.response, "close"):
        response.response.close()  # the file, if it was compressed before
    response.set_data(body)
    response.headers["Content-Encoding"] = encoding
