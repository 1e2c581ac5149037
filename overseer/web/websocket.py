"""The socket: `GET /live[?room=<id>]`. It only tells; it takes no commands."""

from __future__ import annotations

import logging
import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, abort, current_app, g, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server
from werkzeug.exceptions import HTTPException
from wsproto.frame_protocol import CloseReason

from overseer.domain.records import ROOM_ID
from overseer.live.hub import Hub
from overseer.server.connection_limits import ConnectionLimits, Limits
from overseer.web.auth import door, logged_in
from overseer.web.login import farewell

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger(__name__)

PING_SECONDS = 25
VERSION = "13"
MAX_FRAME = 4096  # bytes; tabs have nothing to say
HANDSHAKE = {
    "HTTP_HOST": re.compile(".+"),
    "HTTP_CONNECTION": re.compile(r"(.*,)?\s*upgrade\s*(,.*)?", re.I),
    "HTTP_UPGRADE": re.compile("websocket", re.I),
    "HTTP_SEC_WEBSOCKET_VERSION": re.compile(".+"),
    "HTTP_SEC_WEBSOCKET_KEY": re.compile("[A-Za-z0-9+/]{22}=="),
}


class OtherVersion(HTTPException):
    """426: the client speaks another version of the protocol, and is told which one is spoken here."""

    code = 426
    name = "Upgrade Required"

    def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
        return [*super().get_headers(*args, **kwargs), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)]


def init_app(app: Flask, limits: Limits) -> None:
    """Answer `/live`, to so many tabs."""
    app.config["SOCK_SERVER_OPTIONS"] = {
        "ping_interval": PING_SECONDS,
        "max_message_size": MAX_FRAME,
        "thread_class": partial(threading.Thread, daemon=True),
    }
    sock = Sock(app)
    sock.route("/live", endpoint="live")(live)
    connections = ConnectionLimits(limits)

    @app.before_request
    def acquire_connection() -> None:
        if request.endpoint == "live":
            check_handshake(request.environ)
            g.client = connections.acquire(request.remote_addr or "")
            if g.client is None:
                abort(503, "Too many tabs are open. Close some, and this one connects by itself.")
            keep_handshake(request.environ)

    @app.teardown_request
    def release_connection(error: BaseException | None) -> None:
        if client := g.pop("client", None):
            connections.release(client)


def check_handshake(environ: WSGIEnvironment) -> None:
    """Reject what is not a WebSocket handshake (RFC 6455, section 4.1) with 400."""
    if not all(one.fullmatch(environ.get(name, "")) for name, one in HANDSHAKE.items()):
        abort(400, "This address is for WebSockets, and this is no handshake of one.")
    if environ.get("CONTENT_LENGTH", "0").strip("0") or "HTTP_TRANSFER_ENCODING" in environ:
        abort(400, "The handshake of a WebSocket has no body.")
    if environ["HTTP_SEC_WEBSOCKET_VERSION"] != VERSION:
        raise OtherVersion(f"This server speaks version {VERSION} of the WebSocket protocol only.")


def keep_handshake(environ: WSGIEnvironment) -> None:
    """Remove the headers that the library has no need of.

    It fails on some, and would unpack what a tab says for others. Cookies were read when the tab was let in.
    """
    for name in [name for name in environ if name.startswith("HTTP_") and name not in HANDSHAKE]:
        del environ[name]
    environ["HTTP_CONNECTION"] = "Upgrade"  # it may list more


def live(ws: Server) -> None:
    """Serve a tab until it closes. An error closes it with 1011, and has no page: this is no HTTP any more."""
    try:
        serve(ws)
    except ConnectionClosed:
        raise
    except Exception:
        log.exception("a tab could not be served")
        ws.close(CloseReason.INTERNAL_ERROR, "see the log of the server")


def serve(ws: Server) -> None:
    """Serve a tab until it goes, or its log-in ends. `room` is what it has open, `seen` and `rooms` how new what it
    shows is. Raises ConnectionClosed."""
    hub: Hub = current_app.extensions["hub"]
    session = logged_in()
    room_id = request.args.get("room")
    tab = hub.join(
        ws,
        room_id if room_id is None or ROOM_ID.fullmatch(room_id) else "",  # what is no id is one room that is gone
        request.script_root,
        room_revision=request.args.get("seen", ""),
        list_revision=request.args.get("rooms", ""),
        session=session.id if session else "",
    )
    try:
        while session is None or door().session() is not None:
            # Whatever it says is dropped. Raises ConnectionClosed at its end.
            ws.receive(timeout=None if session is None else max(0.0, session.until - time.time()))
        hub.log_out(session.id, farewell())
        while True:
            ws.receive()  # for the peer to answer the close
    finally:
        hub.leave(tab)
