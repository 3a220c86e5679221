"""Where a signed link may lead: to the API's own origin, or over https to an address of the public internet.

A link comes out of an answer; followed blindly it would let whoever forges one reach into the caller's network.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Container
from typing import TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Place: TypeAlias = tuple[str, int]
"""A host and a port."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits

# What older versions of ipaddress take for global.
_NEVER_PUBLIC = (
    ipaddress.IPv6Network("::/96"),  # RFC 4291, section 2.5.5.1: IPv4-compatible, deprecated
    ipaddress.IPv6Network("::ffff:0:0:0/96"),  # RFC 2765: IPv4-translated
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # RFC 8215: NAT64 for local use
    ipaddress.IPv6Network("fec0::/10"),  # RFC 3879: site-local, deprecated
)


_PLAIN = re.compile(r"[!-~]+")


class ForbiddenAddressError(OSError):
    """A name led to an address that no link may lead to."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also when it wraps an IPv4 address in an IPv6 one."""
    try:
        return _is_global(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False


def _is_global(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_global(inner)
        if any(address in network for network in _NEVER_PUBLIC):
            return False
    return address.is_global and not address.is_multicast


def parsed(link: URL | str, base: URL | None = None) -> URL:
    """Return a link as a URL, or an empty one, which leads nowhere, where no connection could be made to it.

    Args:
        link: It may be anything: it comes out of an answer.
        base: What it is relative to.
    """
    try:
        if isinstance(link, str):
            link.encode()  # of what is no text, URL would drop what it cannot read
        # A str is taken as it is: to quote it anew would break its signature.
        url = URL(link, encoded=isinstance(link, str) and _PLAIN.fullmatch(link) is not None)
        url = url if base is None else base.join(url)
        # Asking for them is what checks them, the name as the system's resolver does.
        name = url.raw_host or ""
        is_whole = url.port and url.host and _PLAIN.fullmatch(name) and name.encode("idna")
    except (TypeError, ValueError):
        return URL()
    return url if is_whole else URL()


def place(url: URL) -> Place:
    """Return where a URL is served."""
    return (url.host or "").lower(), url.port or 0


def refusal(url: URL, own: URL, proxies: Container[Place] = ()) -> str | None:
    """Say why ``url`` must not be fetched, as far as the URL itself tells, or return None.

    Args:
        url: The link, or what it redirects to.
        own: The API's base URL.
        proxies: Where proxies are: no link leads to one, it may be private.
    """
    if url.scheme in {"http", "https"} and (url.scheme, url.host, url.port) == (own.scheme, own.host, own.port):
        return None
    if url.scheme != "https" or not url.host:
        return "only https links, or links to the API's own host, are followed"
    if url.user is not None or url.password is not None:
        return "a link with a user name is not followed"
    if place(url) in proxies:
        return "the link leads to a proxy"
    # Also an address in other digits, or with the dot that ends a full name, reaches the same place.
    host = unicodedata.normalize("NFKC", url.host).rstrip(".")
    if _is_numeric(host) and not is_public(host):
        return "the link leads to an address that is not public"
    return None


def _is_numeric(host: str) -> bool:
    # inet_aton also reads the spellings that resolvers accept: 2130706433, 0x7f.1, 127.1.
    if ":" in host:
        return True
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


class PublicResolver(AbstractResolver):
    """Resolves names, and refuses one that has any address outside the public internet.

    The check stands here, behind the name and before the connection, so that a name cannot resolve to one address when
    it is checked and to another when it is used.
    """

    def __init__(self, own: Container[Place]) -> None:
        """Let what is ``own``, the API's place and the proxies', resolve to anything."""
        self._own = own
        # The system's own: aiohttp closes no resolver that was given to it, and this one leaves nothing open.
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve ``host``.

        Raises:
            ForbiddenAddressError: One of its addresses is not public.
        """
        found = await self._resolver.resolve(host, port, family)
        if (host.lower(), port) not in self._own and not all(is_public(one["host"]) for one in found):
            raise ForbiddenAddressError(f"{host} has an address that is not public")
        return found

    async def close(self) -> None:
        """Close the resolver behind this one."""
        await self._resolver.close()
