"""X-Forwarded headers, which are used only if a trusted proxy sends them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from overseer.domain.addresses import DEFAULT_PORTS, Network, hostname, parse_address

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX = re.compile(r"(/[\w.~-]{1,64}){1,8}/?", re.ASCII)
PEER = "overseer.peer"
MAX_CLIENT_CHARS = 64  # of a client, which may not be an address


class TrustedProxies:
    """Applies X-Forwarded-For, -Proto, -Host and -Prefix if they come from a trusted address.

    The client is the last address in X-Forwarded-For that is not itself a trusted proxy. The address of the connection
    is kept in the environment as PEER.
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
        environ["HTTP_X_FORWARDED_PROTO"] = _scheme(environ.get("HTTP_X_FORWARDED_PROTO", ""))
        # ProxyFix ignores what follows a quote, which a client may send before a proxy appends to the list.
        environ["REMOTE_ADDR"] = self._client(environ.get("HTTP_X_FORWARDED_FOR", "")) or environ[PEER]
        return ProxyFix(self._app, x_for=0, x_proto=1, x_host=1, x_prefix=1)(environ, start_response)

    def _client(self, forwarded: str) -> str:
        clients = [_without_port(client.strip()) for client in forwarded.split(",")][::-1]
        # Shortened, since it is logged and kept in memory by the rate limiter.
        return next((client for client in clients if not self._trusts(client)), clients[-1])[:MAX_CLIENT_CHARS]

    def _trusts(self, address: str) -> bool:
        found = parse_address(address)
        return found is not None and any(found in network for network in self._proxies)


def _scheme(forwarded: str) -> str:
    """Return the last of a list of schemes, or an empty string if it is neither http nor https."""
    scheme = forwarded.rpartition(",")[2].strip().lower()
    return scheme if scheme in DEFAULT_PORTS else ""


def _without_port(client: str) -> str:
    return client if parse_address(client) is not None else hostname(client) or client
