"""Which proxy a URL goes through: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, as curl has them.

aiohttp's own ``trust_env`` is not used: it would read ``.netrc`` as well.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from contextlib import suppress

from attrs import field, frozen
from yarl import URL

from phota_async.transport.addresses import Place, place


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, section 6.3


def proxy_url(value: str) -> URL:
    """Return a proxy's URL; without a scheme it is http, as in curl.

    Raises:
        ValueError: It is no http or https proxy.
    """
    try:
        url = URL(value if "://" in value else f"http://{value}")
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("proxy must be an http:// or https:// URL with a host")
    return url


@frozen(eq=False)
class Proxies:
    """The proxies of one client.

    Attributes:
        by_scheme: Values by scheme (``http``, ``https``, ``all``) and, under ``no``, the hosts that need none.
        spares_loopback: Whether loopback is never proxied. curl does proxy it; but plain http with the key is permitted
            to loopback only because it stays on the machine.
    """

    by_scheme: Mapping[str, str] = field(factory=dict[str, str], repr=False)
    spares_loopback: bool = True

    def places(self) -> set[Place]:
        """Return where all proxies are."""
        found: set[Place] = set()
        for scheme in self.by_scheme.keys() - {"no"}:
            with suppress(ValueError):
                found.add(place(proxy_url(self.by_scheme[scheme])))
        return found

    def for_url(self, url: URL) -> URL | None:
        """Return the proxy to use for ``url``, or None.

        Raises:
            ValueError: The environment names a proxy of an unknown kind.
        """
        if self.spares_loopback and is_loopback(url.host or ""):
            return None
        value = self.by_scheme.get(url.scheme) or self.by_scheme.get("all")
        if not value or any(_covers(rule, url) for rule in re.split(r"[,\s]+", self.by_scheme.get("no", ""))):
            return None
        return proxy_url(value)


def _covers(rule: str, url: URL) -> bool:
    rule, host = rule.lower(), (url.host or "").lower().removesuffix(".")
    if rule == "*":
        return True
    name, colon, port = rule.rpartition(":")
    if colon and port.isdigit() and ":" not in name:
        if int(port) != url.port:
            return False
        rule = name
    rule = rule.strip(".").strip("[]")
    if not rule:
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == rule or host.endswith(f".{rule}")
    try:
        return address in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return False
