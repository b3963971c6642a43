# SPDX-License-Identifier: Apache-2.0
"""Callers without a key, by their address; no more of them are remembered than fit into a few megabytes."""

from collections import OrderedDict
from ipaddress import IPv6Address, IPv6Network, ip_address

from fastapi_triton.core.context import ANYONE, Caller
from fastapi_triton.middleware.auth.keys import Limits
from fastapi_triton.middleware.auth.rate_limit import TokenBucket

MAX_ADDRESSES = 10_000
# Whoever has one IPv6 address has all of its network's.
_IPV6_PREFIX = 64


class AnonymousClient:
    """One caller, and how much of its rate is left."""

    __slots__ = ("bucket", "caller")

    def __init__(self, caller: Caller, bucket: TokenBucket | None) -> None:
        self.caller = caller
        self.bucket = bucket


class AnonymousClients:
    """The callers by address. The one that was not seen for longest is forgotten first; its rate begins anew."""

    def __init__(self, limits: Limits, *, max_addresses: int = MAX_ADDRESSES) -> None:
        self._limits = limits
        self._max_addresses = max_addresses
        self._by_host: OrderedDict[str, AnonymousClient] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_host)

    def find(self, client: tuple[str, int] | None) -> AnonymousClient:
        """The caller at an ASGI `client`; a new one where it was never seen."""
        host = client[0] if client else ""
        found = self._by_host.get(host)
        if found is not None:
            self._by_host.move_to_end(host)
            return found
        name = _name(host)
        if name != host:  # all of a network's addresses are one caller
            return self.find((name, 0))
        if len(self._by_host) >= self._max_addresses:
            self._by_host.popitem(last=False)
        caller = Caller(f"{ANYONE.name}{name}", None, self._limits.max_in_flight)
        found = self._by_host[host] = AnonymousClient(caller, self._limits.bucket())
        return found


def _name(host: str) -> str:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), _IPV6_PREFIX), strict=False))
