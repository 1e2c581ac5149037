"""Recognise pictures by their content."""

from __future__ import annotations

import re
from io import BytesIO
from typing import NamedTuple

SIGNATURES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.S),
}
MAX_PIXELS = 50_000_000  # a browser needs four bytes for each


class PictureFormat(NamedTuple):
    """The media type of a picture, and its size in pixels."""

    media_type: str
    width: int
    height: int


def identify(content: bytes) -> PictureFormat | None:
    """Return the format of a picture, whatever its name says. None if browsers do not show it, or it is too large."""
    import imagesize  # it imports an HTTP client and an XML parser, and few rooms have pictures

    media_type = next((name for name, signature in SIGNATURES.items() if signature.match(content)), None)
    if media_type is None:
        return None
    try:
        width, height = imagesize.get(BytesIO(content))
    except Exception:  # imagesize is not written for damaged pictures
        return None
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        return None
    return PictureFormat(media_type, width, height)
