"""Who is let in: the right host, the same origin, and headers that let a page run nothing but our own scripts."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, Response, abort, request

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


def init_app(app: Flask) -> None:
    """Check every request, and protect every page."""
    app.before_request(check_host)
    app.before_request(check_origin)
    app.after_request(protect)


def check_host() -> None:
    """A name that an attacker made point here (DNS rebinding) is not ours."""
    if _hostname("//" + request.host) not in LOOPBACK:
        abort(403, "This server does not answer under that host name. Open it as http://127.0.0.1 or http://localhost.")


def check_origin() -> None:
    """Another site's page may neither change anything nor listen. What is no browser says nothing and may."""
    if request.method in SAFE_METHODS and not _is_handshake():
        return
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    foreign = origin is not None and _netloc(origin) != request.host
    if foreign or site in ("cross-site", "same-site"):
        abort(
            403, "This came from another site's page, and only Overseer's own may do it. Open Overseer and try there."
        )


def protect(response: Response) -> Response:
    """Headers for every answer."""
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    return response


def _is_handshake() -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _netloc(url: str) -> str | None:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
