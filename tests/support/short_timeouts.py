"""The server as it is, but with less patience and fewer descriptors: what takes minutes takes a second."""

from __future__ import annotations

from gevent import monkey

if __name__ == "__main__":
    monkey.patch_all()

import json
import os
import resource
import sys


def main() -> int:
    """`python -m tests.support.short_timeouts` and the server's own flags; IMPATIENT says what differs."""
    from app import main as serve
    from overseer.live.hub import Hub
    from overseer.server import connection_limits
    from overseer.server.wsgi_server import BoundedServer, Timeouts
    from overseer.web import websocket

    given = json.loads(os.environ["IMPATIENT"])
    if descriptors := given.pop("descriptors", 0):
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    if given.pop("strangers", False):
        connection_limits.is_loopback = lambda address: address == "127.0.0.1"  # others of this machine are strangers
    if ping := given.pop("ping", 0):
        websocket.PING_SECONDS = ping
    if given.pop("broken_hub", False):
        Hub.join = join_fails  # type: ignore[method-assign]
    BoundedServer.timeouts = Timeouts(**given)
    return serve()


def join_fails(*_: object, **__: object) -> None:
    """Stand in for a fault in the server."""
    raise RuntimeError("a fault in the hub")


if __name__ == "__main__":
    sys.exit(main())
