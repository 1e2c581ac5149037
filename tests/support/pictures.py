"""Small pictures of each format, as models send them."""

from __future__ import annotations

import base64
import struct
import zlib

GIF = base64.b64decode("R0lGODlhAgABAIAAAP8AAAAA/ywAAAAAAgABAAACAkQKADs=")
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJDRENDg8QEBEQCgwSExIQEw8Q"
    "EBD/yQALCAABAAIBAREA/8wABgAQEAX/2gAIAQEAAD8A0s8g/9k="
)
WEBP = base64.b64decode("UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoCAAEAAgA0JaQAA3AA/vuUAAA=")


def png(width: int = 3, height: int = 2, *, pad: int = 0) -> bytes:
    """Return a PNG in one colour, with a comment of `pad` bytes that do not compress."""
    rows = b"".join(b"\0" + b"\x20\x60\xc0" * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    comment = b"Comment\0" + bytes(33 + (n * n * 7919) % 90 for n in range(pad))
    chunks = [(b"IHDR", header), (b"tEXt", comment), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def data_uri(content: bytes, media_type: str = "image/png") -> str:
    """Return a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
