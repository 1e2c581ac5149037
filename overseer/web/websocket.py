"""The WebSocket: `GET /live[?room=<id>|?share=<address>]`. It pushes frames to a tab and ignores what the tab sends."""

from __future__ import annotations

import logging
import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, abort, g, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server
from werkzeug.exceptions import HTTPException
from wsproto.frame_protocol import CloseReason

from overseer.domain.errors import StorageError
from overseer.domain.records import ROOM_ID
from overseer.domain.shares import Share
from overseer.live.renderer import SHARE_ENDED
from overseer.web.auth import current_session, is_visit
from overseer.web.extensions import access_policy, hub, instance, overseer
from overseer.web.login import logged_out_frame
from overseer.web.responses import CANNOT_BE_OPENED

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger(__name__)

PING_SECONDS = 25
VERSION = "13"
MAX_FRAME = 4096  # bytes of a message from a tab, which sends none
HANDSHAKE = {
    "HTTP_HOST": re.compile(".+"),
    "HTTP_CONNECTION": re.compile(r"(.*,)?\s*upgrade\s*(,.*)?", re.I),
    "HTTP_UPGRADE": re.compile("websocket", re.I),
    "HTTP_SEC_WEBSOCKET_VERSION": re.compile(".+"),
    "HTTP_SEC_WEBSOCKET_KEY": re.compile("[A-Za-z0-9+/]{22}=="),
}


class UnsupportedVersion(HTTPException):
    """426: the client uses a version of the protocol that is not supported here; the response names the one that is."""

    code = 426
    name = "Upgrade Required"

    def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
        return [*super().get_headers(*args, **kwargs), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)]


def init_app(app: Flask) -> None:
    """Serve `/live`, within the limits for the number of tabs."""
    app.config["SOCK_SERVER_OPTIONS"] = {
        "ping_interval": PING_SECONDS,
        "max_message_size": MAX_FRAME,
        "thread_class": partial(threading.Thread, daemon=True),
    }
    sock = Sock(app)
    sock.route("/live", endpoint="live")(live)

    @app.before_request
    def acquire_connection() -> None:
        if request.endpoint == "live":
            check_handshake(request.environ)
            g.share = find_share() if is_visit() else None
            g.client = instance().connections.acquire(request.remote_addr or "", is_visitor=is_visit())
            if g.client is None:
                abort(503, "Too many tabs are open. Close some, and this one connects by itself.")
            remove_other_headers(request.environ)

    @app.teardown_request
    def release_connection(error: BaseException | None) -> None:
        if client := g.pop("client", None):
            instance().connections.release(client, is_visitor=is_visit())


def find_share() -> Share:
    """Return the live share that the query names. Aborts with 404 or 503."""
    try:
        share = overseer().find_share(request.args["share"])
    except StorageError:  # its message is for the owner
        abort(503, CANNOT_BE_OPENED)
    if share is None or not share.live:
        abort(404, SHARE_ENDED)
    return share


def check_handshake(environ: WSGIEnvironment) -> None:
    """Reject invalid WebSocket handshakes (RFC 6455, section 4.1) with 400, other versions with 426."""
    if not all(pattern.fullmatch(environ.get(name, "")) for name, pattern in HANDSHAKE.items()):
        abort(400, "This URL is for WebSockets, and the request is not a valid WebSocket handshake.")
    if environ.get("CONTENT_LENGTH", "0").strip("0") or "HTTP_TRANSFER_ENCODING" in environ:
        abort(400, "A WebSocket handshake must not have a body.")
    if environ["HTTP_SEC_WEBSOCKET_VERSION"] != VERSION:
        raise UnsupportedVersion(f"This server supports only version {VERSION} of the WebSocket protocol.")


def remove_other_headers(environ: WSGIEnvironment) -> None:
    """Remove the headers that simple-websocket does not need.

    It fails on some of them, and others would turn on compression. The cookies have been read by then.
    """
    for name in [name for name in environ if name.startswith("HTTP_") and name not in HANDSHAKE]:
        del environ[name]
    environ["HTTP_CONNECTION"] = "Upgrade"  # it may list more


def live(ws: Server) -> None:
    """Serve a tab until it closes. Errors close it with 1011; an HTTP error page is not possible any more."""
    try:
        if g.share is None:
            serve(ws)
        else:
            serve_visitor(ws, g.share)
    except ConnectionClosed:
        raise
    except Exception:
        log.exception("a tab could not be served")
        ws.close(CloseReason.INTERNAL_ERROR, "see the log of the server")


def serve(ws: Server) -> None:
    """Serve a tab until it closes or its session ends. Raises ConnectionClosed.

    In the query, `room` is the room that is open in the tab, and `seen` and `rooms` are the revisions of what the tab
    shows of that room and of the list.
    """
    session = current_session()
    room_id = request.args.get("room")
    tab = hub().join(
        ws,
        room_id
        if room_id is None or ROOM_ID.fullmatch(room_id)
        else "",  # invalid ids share the topic of one lost room
        request.script_root,
        room_revision=request.args.get("seen", ""),
        list_revision=request.args.get("rooms", ""),
        session=session.id if session else "",
    )
    try:
        while session is None or access_policy().session() is not None:
            # Messages are dropped. Raises ConnectionClosed when the tab closes.
            ws.receive(timeout=None if session is None else max(0.0, session.expires_at - time.time()))
        hub().log_out(session.id, logged_out_frame())
        while True:
            ws.receive()  # until the tab has answered the close
    finally:
        hub().leave(tab)


def serve_visitor(ws: Server, share: Share) -> None:
    """Serve a visitor until the tab closes or the share ends. Raises ConnectionClosed."""
    tab = hub().join_share(ws, share, request.script_root, room_revision=request.args.get("seen", ""))
    try:
        # It may have been revoked before the hub knew this tab.
        is_valid = overseer().find_share(share.address) is not None
        while is_valid:
            left = None if share.expires_at is None else (share.expires_at - overseer().clock()) / 1000
            if left is not None and left <= 0:
                break
            ws.receive(timeout=left)
        hub().end_share(tab)
        while True:
            ws.receive()  # until the tab has answered the close
    finally:
        hub().leave(tab)
