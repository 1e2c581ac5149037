"""Who may come in, as far as addresses and names tell: hosts, origins, proxies, loopback."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

IPV6_CLIENT_PREFIX_BITS = 64
MAX_URL_CHARS = 8192  # characters, as of a request line
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_PASSWORD_BYTES = 1024  # bytes
DEFAULT_PORTS = {"http": 80, "https": 443}

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in: by which `password` (or its hash, see `overseer.web.password`; empty for none), under which host
    names, and which `proxies` are believed what they say of a client."""

    password: str = ""
    hosts: frozenset[str] = LOOPBACK
    proxies: tuple[Network, ...] = ()

    @property
    def allows_remote(self) -> bool:
        """Whether it is meant for others than this machine."""
        return bool(self.proxies) or self.hosts != LOOPBACK

    def with_host(self, host: str) -> Access:
        """The same for a server that listens on `host`, and so answers under that name too."""
        address = parse_address(host)
        wild = not host or (address is not None and address.is_unspecified)
        return self if wild else replace(self, hosts=self.hosts | {str(address or host).lower()})


def is_loopback(address: str) -> bool:
    """Whether an address, or the name one listens on, can be reached from this machine alone."""
    if address == "localhost":
        return True
    found = parse_address(address)
    return found is not None and found.is_loopback


def parse_address(address: str) -> IPv4Address | IPv6Address | None:
    """An IP address; one of IPv4 in the clothes of IPv6 is undressed. None for what is none."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def client_key(address: str) -> str:
    """Whom an address stands for: itself, or with IPv6 its /64, which is what a household has at the least."""
    found = parse_address(address)
    if isinstance(found, IPv6Address) and not found.is_loopback:
        return str(IPv6Network((found, IPV6_CLIENT_PREFIX_BITS), strict=False))
    return str(found or address)


def split_url(url: str) -> SplitResult | None:
    """Return the parts of a URL that somebody sent, or None if it is not one. Its port can be read without an error.

    A URL of more than MAX_URL characters is refused, since `urlsplit` keeps the last 128 in a cache.
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
    """The name in a Host header, in small letters, or None for what cannot be one."""
    parts = split_url(f"//{host}")
    return None if parts is None or parts.port == 0 or parts.username is not None else parts.hostname


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an address that is an origin and nothing more (RFC 6454), or None."""
    parts = split_url(url)
    if parts is None:
        return None
    port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    if not parts.hostname or port is None or parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.scheme, parts.hostname, port
