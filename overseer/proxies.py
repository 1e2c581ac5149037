"""What a proxy says of a client is believed of those that are trusted, and of nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from overseer.access import Network, parsed

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX = re.compile(r"(/[\w.~-]{1,64}){1,8}/?", re.ASCII)
PEER = "overseer.peer"


class TrustedProxies:
    """Takes over X-Forwarded-For, -Proto, -Host and -Prefix when they come from a trusted address.

    The client is the last address in X-Forwarded-For that is not itself a trusted proxy. Who is really at the other
    end of the connection is kept in the environment as PEER.
    """

    def __init__(self, app: WSGIApplication, proxies: Sequence[Network]) -> None:
        self._app = app
        self._proxies = proxies

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[PEER] = environ.get("REMOTE_ADDR", "")
        if not self._trusts(environ[PEER]):
            return self._app(environ, start_response)
        if not PREFIX.fullmatch(environ.get("HTTP_X_FORWARDED_PREFIX", "")):
            environ.pop("HTTP_X_FORWARDED_PREFIX", None)
        hops = self._hops(environ.get("HTTP_X_FORWARDED_FOR", ""))
        return ProxyFix(self._app, x_for=hops, x_proto=1, x_host=1, x_prefix=1)(environ, start_response)

    def _hops(self, forwarded: str) -> int:
        clients = [client.strip() for client in forwarded.split(",")][::-1]
        trusted = next((n for n, client in enumerate(clients) if not self._trusts(client)), len(clients) - 1)
        return trusted + 1

    def _trusts(self, address: str) -> bool:
        found = parsed(address)
        return found is not None and any(found in network for network in self._proxies)
