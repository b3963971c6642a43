# SPDX-License-Identifier: Apache-2.0
"""The client's address, scheme and host from the headers of trusted proxies.

Every proxy appends the address of its own client to the header. So the middleware reads the addresses from the right:
the first address that is not a trusted proxy's is the client's. The client itself can forge all addresses left of it.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

from starlette.types import ASGIApp, Receive, Scope, Send

Header = Literal["x-forwarded", "forwarded"]
Headers = Sequence[tuple[bytes, bytes]]

# A proxy that connects over a Unix socket has no address.
UNIX = "unix"
# No deployment chains more proxies; only an attacker sends more entries.
_MAX_HOPS = 64
# Parsed addresses are cached: parsing takes ten times as long as all else here.
_MAX_KNOWN = 4096
_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
# RFC 7239: pairs of a token and a token or a quoted string. Semicolons separate pairs, commas separate elements.
_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*([;,]|$)')


@dataclass(frozen=True, slots=True)
class Hop:
    """What one proxy reports about its client."""

    address: str = ""
    scheme: str = ""
    host: str = ""


class Proxies:
    """The networks of the trusted proxies: `10.0.0.0/8`, `2001:db8::1`, or `unix`.

    Raises:
        ValueError: a network is malformed.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._has_unix = UNIX in networks
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(each) for each in networks if each != UNIX]
        self._is_trusted = functools.lru_cache(_MAX_KNOWN)(self._look_up)

    def __contains__(self, host: str) -> bool:
        return self._is_trusted(host)

    def _look_up(self, host: str) -> bool:
        if not host:
            return self._has_unix
        try:
            address = ip_address(host)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


class ProxyHeadersMiddleware:
    """Puts the client's address, scheme and host into the ASGI scope, as without a proxy.

    It reads only one kind of header: proxies pass a client's own header of the other kind on unchanged.
    """

    def __init__(self, app: ASGIApp, proxies: Proxies, header: Header) -> None:
        self.app = app
        self._proxies = proxies
        self._hops = _of_forwarded if header == "forwarded" else _of_x_forwarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and _host_of(scope) in self._proxies:
            found = self._client_hop(self._hops(scope["headers"]))
            if found is not None:
                _apply(found, scope)
        await self.app(scope, receive, send)

    def _client_hop(self, hops: Sequence[Hop]) -> Hop | None:
        """The report of the outermost trusted proxy, which is about the client."""
        found = None
        for found in reversed(hops):
            if not found.address or found.address not in self._proxies:
                break
        return found


def _host_of(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _apply(hop: Hop, scope: Scope) -> None:
    if hop.address:
        scope["client"] = (hop.address, 0)
    if hop.scheme in ("http", "https"):
        scope["scheme"] = hop.scheme if scope["type"] == "http" else hop.scheme.replace("http", "ws")
    if _HOST.fullmatch(hop.host):
        others = [each for each in scope["headers"] if each[0] != b"host"]
        scope["headers"] = [(b"host", hop.host.encode()), *others]


def _of_x_forwarded(headers: Headers) -> list[Hop]:
    """One hop for each address. Values of `-Proto` and `-Host` that are missing are those of the outermost proxy."""
    addresses = _values(headers, b"x-forwarded-for")
    schemes = _values(headers, b"x-forwarded-proto")
    hosts = _values(headers, b"x-forwarded-host")
    num = max(len(addresses), len(schemes), len(hosts))
    columns = (_filled(each, num) for each in (addresses, schemes, hosts))
    return [Hop(_address(address), scheme.lower(), host) for address, scheme, host in zip(*columns, strict=True)]


def _filled(values: list[str], num: int) -> list[str]:
    return [values[0] if values else ""] * (num - len(values)) + values


def _of_forwarded(headers: Headers) -> list[Hop]:
    """The hops of a `Forwarded` header (RFC 7239); none if any part of it is malformed."""
    hops: list[Hop] = []
    for name, value in headers:
        if name == b"forwarded":
            try:
                hops += _elements(value.decode("latin-1"))
            except ValueError:
                return []
    return hops[-_MAX_HOPS:]


def _elements(text: str) -> Iterator[Hop]:
    position, pairs = 0, {}
    while position < len(text):
        found = _PAIR.match(text, position)
        if found is None:
            raise ValueError(text)
        name, value, end = found.groups()
        pairs[name.lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        position = found.end()
        if end != ";":
            yield Hop(_address(pairs.get("for", "")), pairs.get("proto", "").lower(), pairs.get("host", ""))
            pairs = {}


def _values(headers: Headers, name: bytes) -> list[str]:
    joined = ",".join(value.decode("latin-1") for each, value in headers if each == name)
    return [each.strip() for each in joined.split(",")[-_MAX_HOPS:]] if joined else []


@functools.lru_cache(_MAX_KNOWN)
def _address(text: str) -> str:
    """An IP address without port and brackets; empty for `unknown` and for names that stand for an address."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        return ""
