"""The socket: `GET /live[?room=<id>]`. It only tells; it takes no commands."""

from __future__ import annotations

import threading
from functools import partial

from flask import Flask, abort, current_app, g, request
from flask_sock import Sock
from simple_websocket import Server

from overseer.hub import Hub
from overseer.seats import House, Seats

PING_SECONDS = 25
MAX_FRAME = 4096  # bytes; tabs have nothing to say


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
            g.seat = seats.take(request.remote_addr or "")
            if g.seat is None:
                abort(503, "Too many tabs are open. Close some, and this one connects by itself.")

    @app.teardown_request
    def give_seat_back(error: BaseException | None) -> None:
        if seat := g.pop("seat", None):
            seats.give_back(seat)


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
