"""The socket: `GET /live[?room=<id>]`. It only tells; it takes no commands."""

from __future__ import annotations

import threading
import time
from functools import partial

from flask import Flask, current_app, request
from flask_sock import Sock
from simple_websocket import Server

from overseer.hub import Hub
from overseer.login import farewell
from overseer.security import door, logged_in

PING_SECONDS = 25
MAX_FRAME = 4096  # bytes; tabs have nothing to say


def init_app(app: Flask) -> None:
    """Answer `/live`."""
    app.config["SOCK_SERVER_OPTIONS"] = {
        "ping_interval": PING_SECONDS,
        "max_message_size": MAX_FRAME,
        "thread_class": partial(threading.Thread, daemon=True),
    }
    sock = Sock(app)
    sock.route("/live", endpoint="live")(live)


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
