"""Make the headers and the query of a request safe for the parsers that read them later.

Werkzeug parses a header on first access: in a view, in an error handler, or while it sends a static file. Some of its
parsers raise exceptions that nothing there expects: OverflowError for a date, UnicodeDecodeError for a query. Here each
parser is tried once, before anything else reads the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from werkzeug.datastructures import Authorization
from werkzeug.http import parse_date, parse_if_range_header

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Without one of these a request is still valid: it is unconditional (RFC 9110, 13.1), or not logged in.
PARSERS: dict[str, Callable[[str], object]] = {
    "HTTP_AUTHORIZATION": Authorization.from_header,
    "HTTP_IF_MODIFIED_SINCE": parse_date,
    "HTTP_IF_RANGE": parse_if_range_header,
    "HTTP_IF_UNMODIFIED_SINCE": parse_date,
}
NOT_IN_URL = re.compile(r"[^\x21-\x7e]")


def normalize(environ: WSGIEnvironment) -> None:
    """Remove headers that their parser fails on, and escape characters that a query must not contain (RFC 3986)."""
    for name, parse in PARSERS.items():
        if name in environ:
            try:
                parse(environ[name])
            except (ArithmeticError, LookupError, TypeError, ValueError):
                del environ[name]
    query = environ.get("QUERY_STRING", "")
    if NOT_IN_URL.search(query):
        environ["QUERY_STRING"] = NOT_IN_URL.sub(lambda found: f"%{ord(found[0]):02X}", query)
