"""The socket: `GET /live[?room=<id>]`. It only tells; it takes no commands."""

from __future__ import annotations

import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask, abort, current_app, g, request
from flask_sock import Sock
from simple_websocket import Server

from overseer.hub import Hub
from overseer.login import farewell
from overseer.seats import House, Seats
from overseer.security import door, logged_in

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

PING_SECONDS = 25
MAX_FRAME = 4096  # bytes; tabs have nothing to say
HEADER, PLAIN = re.compile("HTTP_[A-Z0-9_]+"), re.compile(r"[^\x00-\x1f\x7f]*")
HANDSHAKE = {
    "HTTP_CONNECTION": re.compile(r"(.*,)?\s*upgrade\s*(,.*)?", re.I),
    "HTTP_UPGRADE": re.compile("websocket", re.I),
    "HTTP_SEC_WEBSOCKET_VERSION": re.compile("13"),
    "HTTP_SEC_WEBSOCKET_KEY": re.compile("[A-Za-z0-9+/]{22}=="),
}


def init_app(app: Flask, house: House) -> None:
    """Answer `/live`, to so many tabs."""
    app.config["SOCK_SERVER_OPTIONS"] = {
        "ping_interval": PING_SECONDS,
        "max_message_size": MAX_FRAME,
        "thread_class": partial(threading.Thread, daemon=True),
    }
    sock = Sock(app)
    sock.route("/live", endpoint="live")(live)
    seats = Seats(house)

    @app.before_request
    def take_seat() -> None:
        if request.endpoint == "live":
            check_handshake(request.environ)
            g.seat = seats.take(request.remote_addr or "")
            if g.seat is None:
                abort(503, "Too many tabs are open. Close some, and this one connects by itself.")

    @app.teardown_request
    def give_seat_back(error: BaseException | None) -> None:
        if seat := g.pop("seat", None):
            seats.give_back(seat)


def check_handshake(environ: WSGIEnvironment) -> None:
    """Refuse what is none, and take away the headers that the library would fail on, or unpack what a tab says for."""
    if not all(one.fullmatch(environ.get(name, "")) for name, one in HANDSHAKE.items()):
        abort(400, "This address is for WebSockets, and this is no handshake of one.")
    for name, value in list(environ.items()):
        odd = name.startswith("HTTP_") and not (HEADER.fullmatch(name) and PLAIN.fullmatch(value))
        if odd or name == "HTTP_SEC_WEBSOCKET_EXTENSIONS":
            del environ[name]


def live(ws: Server) -> None:
    """Serve a tab until it goes, or its log-in ends. `room` is what it has open, `seen` and `rooms` how new what it
    shows is."""
    hub: Hub = current_app.extensions["hub"]
    session = logged_in()
    tab = hub.join(
        ws,
        request.args.get("room"),
        request.script_root,
        seen=request.args.get("seen", ""),
        rooms=request.args.get("rooms", ""),
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
