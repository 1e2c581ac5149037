"""The socket: `GET /live[?room=<id>]`. It only tells; it takes no commands."""

from __future__ import annotations

import re
import threading
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask, abort, current_app, g, request
from flask_sock import Sock
from simple_websocket import Server

from overseer.hub import Hub
from overseer.seats import House, Seats

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

PING_SECONDS = 25
MAX_FRAME = 4096  # bytes; tabs have nothing to say
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
    """Refuse what is none, and leave of the headers only those that make it one.

    The library would fail on some of the others, and with one of them offer to unpack what a tab says.
    """
    if not all(one.fullmatch(environ.get(name, "")) for name, one in HANDSHAKE.items()):
        abort(400, "This address is for WebSockets, and this is no handshake of one.")
    for name in [name for name in environ if name.startswith("HTTP_") and name not in {*HANDSHAKE, "HTTP_HOST"}]:
        del environ[name]


def live(ws: Server) -> None:
    """Serve a tab until it goes. `room` is what it has open, `seen` and `rooms` how new what it shows is."""
    hub: Hub = current_app.extensions["hub"]
    tab = hub.join(
        ws,
        request.args.get("room"),
        request.script_root,
        seen=request.args.get("seen", ""),
        rooms=request.args.get("rooms", ""),
    )
    try:
        while True:
            ws.receive()  # whatever it says is dropped; raises ConnectionClosed at its end
    finally:
        hub.leave(tab)
