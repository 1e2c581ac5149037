"""The syntax of HTTP/1.1 requests (RFC 9110 and RFC 9112), without I/O.

Parsing is strict wherever two readers could understand a request differently.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Methods that reach the application. They are case-sensitive.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
MAX_CHUNK = 20_000_000  # bytes; larger than any accepted body

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# The target has no control characters and no fragment. RFC 3986 excludes bytes beyond ASCII, but curl sends them as
# they are typed; they count as percent-encoded.
REQUEST_LINE = re.compile(rb"(%b) ([!\"$-~\x80-\xff]+) HTTP/([0-9])\.([0-9])\r?\n" % TOKEN)
# A line that begins with white space continues the line before it (obs-fold), and is rejected.
FIELD = re.compile(rb"(%b):([^\0\r\n]*)\r?\n" % TOKEN)
EXTENSION = rb'[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|"(?:[^\0-\x08\x0a-\x1f"\\\x7f]|\\[\t -~\x80-\xff])*+"))?+' % (
    TOKEN,
    TOKEN,
)
CHUNK = re.compile(rb"([0-9A-Fa-f]+)((?:%b)*+)\r\n" % EXTENSION)
AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]*)?")
ABSOLUTE = re.compile(r"https?://([^/?]*)(/[^?]*)?(\?.*)?", re.I)
LENGTH = re.compile("[0-9]{1,18}")


class BadRequest(ValueError):
    """A request that breaks the syntax or that the server does not support. `status` is that of the response."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class RequestLine(NamedTuple):
    """The parts of a request line. `authority` is empty unless the target is in absolute form."""

    method: str
    target: str
    authority: str
    version: str


def parse_request_line(line: bytes) -> RequestLine:
    """Return the parts of a request line. The target is `*`, or a path with a query.

    A later minor version counts as 1.1 (RFC 9110, section 2.5). Raises BadRequest, with 501 for an unknown method, with
    505 for an unknown major version, and otherwise with 400.
    """
    found = REQUEST_LINE.fullmatch(line)
    if found is None:
        raise BadRequest(400)
    method, target, major, minor = (part.decode("latin-1") for part in found.groups())
    if major != "1":
        raise BadRequest(505)
    if method not in METHODS:
        raise BadRequest(501)
    return RequestLine(method, *parse_target(method, target), "HTTP/1.0" if minor == "0" else "HTTP/1.1")


def parse_target(method: str, target: str) -> tuple[str, str]:
    """Split a request target into the target without its authority, and the authority. Raises BadRequest."""
    if target.startswith("/"):
        return target, ""
    if target == "*" and method == "OPTIONS":
        return target, ""
    found = ABSOLUTE.fullmatch(target)
    if found is None or not AUTHORITY.fullmatch(found[1]):
        raise BadRequest(400)
    if method == "OPTIONS" and not found[2] and not found[3]:
        return "*", found[1]
    return (found[2] or "/") + (found[3] or ""), found[1]


def parse_field(line: bytes) -> tuple[bytes, bytes]:
    """Return the name and the value of a header or trailer line. Raises BadRequest."""
    found = FIELD.fullmatch(line)
    if found is None:
        raise BadRequest(400)
    return found[1], found[2].strip(b" \t")


def check_host(hosts: list[str], version: str) -> None:
    """Check that there is one valid Host, or none in HTTP/1.0. Raises BadRequest."""
    if len(hosts) > 1 or not all(map(AUTHORITY.fullmatch, hosts)) or not hosts and version != "HTTP/1.0":
        raise BadRequest(400)


def check_framing(lengths: list[str], codings: list[str], version: str) -> None:
    """Check that the headers define the end of the body unambiguously.

    Raises BadRequest, with 501 for an unknown transfer coding, and otherwise with 400.
    """
    if not all(map(LENGTH.fullmatch, lengths)) or len({*lengths}) > 1:
        raise BadRequest(400)
    if codings:
        *others, last = (coding.strip(" \t").lower() for coding in ",".join(codings).split(","))
        if lengths or version == "HTTP/1.0" or last != "chunked" or "chunked" in others:
            raise BadRequest(400)
        if others:
            raise BadRequest(501)


def parse_chunk_head(line: bytes) -> int:
    """Return the size of a chunk from its first line. Raises BadRequest, also for more than MAX_CHUNK bytes."""
    found = CHUNK.fullmatch(line)
    if found is None or len(digits := found[1].lstrip(b"0")) > 16 or (size := int(digits or b"0", 16)) > MAX_CHUNK:
        raise BadRequest(400)
    return size


def options(values: list[str]) -> frozenset[str]:
    """Return the members of a header that is a list of case-insensitive tokens, such as Connection."""
    return frozenset(option.strip(" \t").lower() for option in ",".join(values).split(",")) - {""}
