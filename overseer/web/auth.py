"""Who is let in: one function decides, for every route and for the socket. And headers for every answer."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, field

from flask import Flask, Response, abort, current_app, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized

from overseer.domain.addresses import Access, hostname, is_loopback, origin
from overseer.domain.text import escape_for_log
from overseer.web.password import Password, RateLimiter
from overseer.web.proxies import PEER
from overseer.web.sessions import Session, Sessions

log = logging.getLogger(__name__)

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# What is answered before a log-in: the way in, what its page is made of, and whether the server is alive.
OPEN = frozenset({"login.show_login", "login.create_login", "static", "joined", "rooms.healthz"})
MAX_LOG_IN = 16_000  # bytes of a form with a password,
MAX_UNKNOWN = 400_000  # and of one by somebody unknown, who may have been logged in when they began to type
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
UNUSED = (
    "camera",
    "display-capture",
    "geolocation",
    "microphone",
    "midi",
    "payment",
    "usb",
    "serial",
    "hid",
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in UNUSED),
}


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """What is asked of who comes: `password` is None where none is set, and then only this machine is let in."""

    access: Access
    sessions: Sessions
    password: Password | None
    tries: RateLimiter
    checking: threading.Lock = field(default_factory=threading.Lock)

    def authorize(self) -> None:
        """Decide whether this request is let in; the one place that does. Aborts with 401, 403 or 429."""
        self._check_host()
        _check_origin()
        if self.password is None:
            if not is_loopback(request.environ.get(PEER, "")):
                abort(403, "This server has no password, so it answers this machine only. Open it there.")
        elif request.endpoint in OPEN:
            request.max_content_length = MAX_LOG_IN
            return
        else:
            self._identify(self.password)
        g.is_authenticated = True

    def check_password(self, tried: str) -> None:
        """Check a password that somebody sends. Raises Unauthorized, or TooManyRequests with the seconds to wait."""
        assert self.password is not None
        client = request.remote_addr or ""
        # One after the other: of many that come at once with the right one, none is a try too many.
        with self.checking:
            if wait := math.ceil(self.tries.wait(client)):
                raise TooManyRequests(f"That was tried too often. Wait {wait} s, then try again.", retry_after=wait)
            if not self.password.is_right(tried):
                log.warning("a wrong password from %s", escape_for_log(client))
                raise Unauthorized("That is not the password. Try again.", www_authenticate=_challenge())
            self.tries.give_back(client)

    def session(self) -> Session | None:
        """The log-in that the request's cookie stands for; another port of the host may have set one of its name."""
        found = map(self.sessions.find, request.cookies.getlist(self.sessions.cookie))
        return next(filter(None, found), None)

    def _check_host(self) -> None:
        """A name that an attacker made point here (DNS rebinding) is not ours."""
        if hostname(request.host) not in self.access.hosts:
            abort(
                403,
                "This server does not answer under that host name. Open it as http://127.0.0.1 or http://localhost, "
                "or list the name in OVERSEER_HOSTS.",
            )

    def _identify(self, password: Password) -> None:
        g.session = self.session()
        if g.session is not None:
            return
        given = request.authorization
        if given is not None and given.type == "basic":
            self.check_password(given.password or "")
        elif given is not None and given.type == "bearer":
            self.check_password(given.token or "")
        else:
            request.max_content_length = MAX_UNKNOWN
            raise Unauthorized("You are not logged in. Log in, and try again.", www_authenticate=_challenge())


def init_app(app: Flask, door: AccessPolicy) -> None:
    """Ask at the door of every request, and protect every answer."""
    app.extensions["door"] = door
    app.before_request(door.authorize)
    app.after_request(protect)


def door() -> AccessPolicy:
    """The door of the app."""
    found: AccessPolicy = current_app.extensions["door"]
    return found


def logged_in() -> Session | None:
    """The log-in that the request was let in by; None for one with the password itself, or where none is asked."""
    found: Session | None = g.get("session")
    return found


def is_authenticated() -> bool:
    """Whether who asks was let in. Who asks for something open was not, and who was turned away neither."""
    return bool(g.get("is_authenticated"))


def protect(response: Response) -> Response:
    """Headers for every answer."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def is_browser() -> bool:
    """Whether a browser asks, which would meet a challenge with a window of its own."""
    headers = request.headers
    return "Sec-Fetch-Mode" in headers or "Origin" in headers or "HX-Request" in headers or accepts_page()


def accepts_page() -> bool:
    """Whether it says what browsers say that go to a page, where they say no more: over plain HTTP from elsewhere."""
    return "Sec-Fetch-Mode" not in request.headers and "application/xhtml+xml" in request.headers.get("Accept", "")


def _check_origin() -> None:
    """Another site's page may neither change anything nor listen. What is no browser says nothing and may."""
    if request.method in SAFE_METHODS and not _is_handshake():
        return
    came_from = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    foreign = came_from is not None and origin(came_from) != origin(request.host_url.rstrip("/"))
    if foreign or site in ("cross-site", "same-site"):
        abort(
            403,
            "This came from another site's page, and only Overseer's own may do it. Open Overseer and try there; "
            "behind a proxy, see OVERSEER_TRUSTED_PROXIES.",
        )


def _challenge() -> WWWAuthenticate | None:
    return None if is_browser() else WWWAuthenticate("basic", {"realm": "Overseer chat"})


def _is_handshake() -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"
