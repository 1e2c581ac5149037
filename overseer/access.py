"""Who may come in, as far as addresses and names tell: hosts, origins, proxies, loopback."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_PASSWORD = 1024  # bytes
DEFAULT_PORTS = {"http": 80, "https": 443}

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in: by which `password` (or its hash, see `overseer.password`; empty for none), under which host
    names, and which `proxies` are believed what they say of a client."""

    password: str = ""
    hosts: frozenset[str] = LOOPBACK
    proxies: tuple[Network, ...] = ()

    @property
    def beyond(self) -> bool:
        """Whether it is meant for others than this machine."""
        return bool(self.proxies) or self.hosts != LOOPBACK

    def on(self, host: str) -> Access:
        """The same for a server that listens on `host`, and so answers under that name too."""
        address = parsed(host)
        wild = not host or (address is not None and address.is_unspecified)
        return self if wild else replace(self, hosts=self.hosts | {str(address or host).lower()})


def is_loopback(address: str) -> bool:
    """Whether an address, or the name one listens on, can be reached from this machine alone."""
    if address == "localhost":
        return True
    found = parsed(address)
    return found is not None and found.is_loopback


def parsed(address: str) -> IPv4Address | IPv6Address | None:
    """An IP address; one of IPv4 in the clothes of IPv6 is undressed. None for what is none."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def hostname(host: str) -> str | None:
    """The name in a Host header, in small letters, or None for what cannot be one."""
    try:
        parts = urlsplit(f"//{host}")
        return None if parts.port == 0 or parts.username is not None else parts.hostname
    except ValueError:
        return None


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an address that is an origin and nothing more (RFC 6454), or None."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None or parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.scheme, parts.hostname, port
