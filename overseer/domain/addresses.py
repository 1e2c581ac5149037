"""Network addresses, host names and origins, and the access settings that are made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

IPV6_CLIENT_PREFIX_BITS = 64  # the smallest network that providers assign to a customer
MAX_URL_CHARS = 8192
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_PASSWORD_BYTES = 1024
DEFAULT_PORTS = {"http": 80, "https": 443}

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Access:
    """The access settings of a server.

    `password` is the password or its hash (see `overseer.web.password`), or empty for none. `hosts` are the host names
    that requests may name. `proxies` are the networks whose forwarding headers are trusted.
    """

    password: str = ""
    hosts: frozenset[str] = LOOPBACK
    proxies: tuple[Network, ...] = ()

    @property
    def allows_remote(self) -> bool:
        """Whether the settings admit clients other than this machine."""
        return bool(self.proxies) or self.hosts != LOOPBACK

    def with_host(self, host: str) -> Access:
        """Return the settings of a server that listens on `host`, which is then a valid host name too."""
        address = parse_address(host)
        any_address = not host or (address is not None and address.is_unspecified)
        return self if any_address else replace(self, hosts=self.hosts | {str(address or host).lower()})


def is_loopback(address: str) -> bool:
    """Return whether an address or host name can be reached only from this machine."""
    if address == "localhost":
        return True
    found = parse_address(address)
    return found is not None and found.is_loopback


def parse_address(address: str) -> IPv4Address | IPv6Address | None:
    """Parse an IP address and unwrap an IPv4-mapped IPv6 address. Return None if `address` is not one."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def client_key(address: str) -> str:
    """Return what identifies a client in limits: its IPv4 address, or the /64 network of its IPv6 address."""
    found = parse_address(address)
    if isinstance(found, IPv6Address) and not found.is_loopback:
        return str(IPv6Network((found, IPV6_CLIENT_PREFIX_BITS), strict=False))
    return str(found or address)


def split_url(url: str) -> SplitResult | None:
    """Split a URL from a client. Return None if it is invalid, its port included.

    URLs of more than MAX_URL_CHARS characters are rejected, because `urlsplit` caches its last arguments.
    """
    if len(url) > MAX_URL_CHARS:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def hostname(host: str) -> str | None:
    """Return the lower-case host name of a Host header, or None if the header is invalid."""
    parts = split_url(f"//{host}")
    return None if parts is None or parts.port == 0 or parts.username is not None else parts.hostname


def origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an origin (RFC 6454), or None if `url` is not an origin."""
    parts = split_url(url)
    if parts is None:
        return None
    port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    if not parts.hostname or port is None or parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.scheme, parts.hostname, port
