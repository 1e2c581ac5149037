"""The app on a port of this process, where its work can be counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server


class SilentHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        return


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve the app. Yield its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=SilentHandler)
    server.daemon_threads = False  # type: ignore[attr-defined]  # server_close waits for all requests
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
