"""`app.py` with short timeouts and few file descriptors, so that limits are reached in a second.

`python -m tests.support.short_timeouts` takes the flags of `app.py`, and SHORT_TIMEOUTS in the environment: a JSON
object with the fields of `Timeouts` and these options:

- `descriptors`: the limit of open files
- `limit_loopback`: apply limits per client to all loopback addresses but 127.0.0.1
- `ping`: seconds between two pings of a WebSocket
- `broken_hub`: let `Hub.join` fail
"""

from __future__ import annotations

from gevent import monkey

if __name__ == "__main__":
    monkey.patch_all()

import json
import os
import resource
import sys


def main() -> int:
    from app import main as serve
    from overseer.live.hub import Hub
    from overseer.server import connection_limits
    from overseer.server.wsgi_server import BoundedServer, Timeouts
    from overseer.web import websocket

    options = json.loads(os.environ["SHORT_TIMEOUTS"])
    if descriptors := options.pop("descriptors", 0):
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    if options.pop("limit_loopback", False):
        connection_limits.is_loopback = lambda address: address == "127.0.0.1"  # type: ignore[attr-defined]
    if ping := options.pop("ping", 0):
        websocket.PING_SECONDS = ping
    if options.pop("broken_hub", False):
        Hub.join = fail  # type: ignore[method-assign,assignment]
    BoundedServer.timeouts = Timeouts(**options)
    return serve()


def fail(*_: object, **__: object) -> None:
    """Replace a method by one with a fault."""
    raise RuntimeError("a fault in the hub")


if __name__ == "__main__":
    sys.exit(main())
