"""Access control: one function authorizes every request and WebSocket. Security headers for every response."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Flask, Response, abort, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized

from overseer.domain.addresses import Access, hostname, is_loopback, origin
from overseer.domain.records import Session
from overseer.domain.text import escape_for_log
from overseer.render.assets import ENDPOINTS
from overseer.storage.sessions import SessionStorage
from overseer.web.password import Password, RateLimiter
from overseer.web.proxies import PEER

log = logging.getLogger(__name__)

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# What needs no log-in: the log-in itself, the files of its page, and the health check.
OPEN_ENDPOINTS: frozenset[str | None] = frozenset(
    {"login.show_login", "login.create_login", *ENDPOINTS, "rooms.healthz"}
    | {"shares.show_share", "shares.show_shared_file"}  # whose address is a secret
)
MAX_LOGIN_BYTES = 16_000  # of a form with a password
MAX_UNAUTHORIZED_BYTES = 400_000  # of another form: its text is shown again if the session ended while it was typed
LOGGED_OUT = "You’ve been logged out. Log in to continue."
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
FILE_POLICY = "default-src 'none'"  # of static files, which load nothing; X-Frame-Options keeps them out of frames
UNUSED_FEATURES = ["camera", "display-capture", "geolocation", "microphone", "midi", "payment", "usb", "serial", "hid"]
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in UNUSED_FEATURES),
}


@dataclass(frozen=True, kw_only=True)
class PasswordPolicy:
    """Lets those in whose requests carry the password. If it is None, only clients on this machine.

    Requests for `open_endpoints` need no password.
    """

    access: Access
    password: Password | None
    open_endpoints: frozenset[str | None]
    rate_limiter: RateLimiter = field(default_factory=RateLimiter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def authorize(self) -> None:
        """Authorize the current request. Aborts with 401, 403 or 429."""
        self._check_host()
        _check_origin()
        if self.password is None:
            if not is_loopback(request.environ.get(PEER, "")):
                abort(403, "This server has no password, so it answers this machine only. Open it there.")
        elif request.endpoint in self.open_endpoints or is_visit():
            request.max_content_length = MAX_LOGIN_BYTES
            return
        else:
            self._authenticate()
        g.is_authenticated = True

    def check_password(self, given: str) -> None:
        """Raise Unauthorized if this is not the password, or TooManyRequests with the seconds to wait."""
        assert self.password is not None
        client = request.remote_addr or ""
        # One at a time: clients that send the right password at the same moment do not use up each other's attempts.
        with self.lock:
            if wait := math.ceil(self.rate_limiter.acquire(client)):
                raise TooManyRequests(f"Too many attempts. Try again in {wait} seconds.", retry_after=wait)
            if not self.password.matches(given):
                log.warning("a wrong password from %s", escape_for_log(client))
                raise Unauthorized("Wrong password.", www_authenticate=_challenge())
            self.rate_limiter.refund(client)

    def session(self) -> Session | None:
        """Return None: there are no sessions."""
        return None

    def _check_host(self) -> None:
        """Reject other host names, so that no site can make its own name resolve to this server (DNS rebinding)."""
        if hostname(request.host) not in self.access.hosts:
            abort(
                403,
                "This server does not answer under that host name. Open it as http://127.0.0.1 or http://localhost, "
                "or list the name in OVERSEER_HOSTS.",
            )

    def _authenticate(self) -> None:
        g.session = self.session()
        if g.session is not None:
            return
        given = request.authorization
        if given is not None and given.type == "basic":
            self.check_password(given.password or "")
        elif given is not None and given.type == "bearer":
            self.check_password(given.token or "")
        else:
            request.max_content_length = MAX_UNAUTHORIZED_BYTES
            raise Unauthorized(LOGGED_OUT, www_authenticate=_challenge())


@dataclass(frozen=True, kw_only=True)
class AccessPolicy(PasswordPolicy):
    """Lets those in who have logged in, too."""

    sessions: SessionStorage
    open_endpoints: frozenset[str | None] = OPEN_ENDPOINTS

    def session(self) -> Session | None:
        """Return the session of the cookie. Another port of the host may have set a cookie of that name too."""
        found = map(self.sessions.find, request.cookies.getlist(self.sessions.cookie_name))
        return next(filter(None, found), None)


def init_app(app: Flask, policy: Callable[[], PasswordPolicy]) -> None:
    """Authorize every request by the access policy, and add the security headers to every response."""
    app.before_request(lambda: policy().authorize())
    app.after_request(add_security_headers)


def current_session() -> Session | None:
    """Return the session that authorized the request; None if the password itself did, or none is set."""
    found: Session | None = g.get("session")
    return found


def is_authenticated() -> bool:
    """Whether the request was authorized. Requests for open endpoints and rejected ones were not."""
    return bool(g.get("is_authenticated"))


def add_security_headers(response: Response) -> Response:
    """Add the security headers, but keep those that the view has set."""
    if request.endpoint in ENDPOINTS:
        response.headers.setdefault("Content-Security-Policy", FILE_POLICY)
        response.headers.setdefault("Permissions-Policy", "camera=()")  # it governs pages, not files
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def is_browser() -> bool:
    """Whether the client is a browser, which would open a window of its own for a challenge."""
    headers = request.headers
    return "Sec-Fetch-Mode" in headers or "Origin" in headers or "HX-Request" in headers or accepts_page()


def is_visit() -> bool:
    """Whether the request is for the WebSocket of a share, whose address is in the query."""
    return request.endpoint == "live" and "share" in request.args


def accepts_page() -> bool:
    """Whether a browser navigates over plain HTTP from another machine, where it sends no Sec-Fetch-Mode."""
    return "Sec-Fetch-Mode" not in request.headers and "application/xhtml+xml" in request.headers.get("Accept", "")


def _check_origin() -> None:
    """Reject changes and WebSockets from another site's page. Other clients than browsers send none of the headers."""
    if request.method in SAFE_METHODS and not _is_handshake():
        return
    came_from = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    is_foreign = came_from is not None and origin(came_from) != origin(request.host_url.rstrip("/"))
    if is_foreign or site in ("cross-site", "same-site"):
        abort(
            403,
            "This came from another site's page, and only Overseer's own may do it. Open Overseer and try there; "
            "behind a proxy, see OVERSEER_TRUSTED_PROXIES.",
        )


def _challenge() -> WWWAuthenticate | None:
    return None if is_browser() else WWWAuthenticate("basic", {"realm": "Overseer chat"})


def _is_handshake() -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"
