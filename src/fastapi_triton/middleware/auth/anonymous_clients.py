# SPDX-License-Identifier: Apache-2.0
"""Callers without a key, identified by their IP address. The least recently used are dropped, which bounds memory."""

import functools
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from fastapi_triton.core.context import ANYONE, Caller
from fastapi_triton.middleware.auth.keys import Limits
from fastapi_triton.middleware.auth.rate_limit import TokenBucket

MAX_ADDRESSES = 10_000
# A client can use every address of its IPv6 network, so the network is one caller.
_IPV6_PREFIX = 64


class AnonymousClient(NamedTuple):
    """A caller without a key, and the token bucket of its rate limit."""

    caller: Caller
    bucket: TokenBucket | None


class AnonymousClients:
    """The callers by address. A caller that was dropped begins again with a full bucket."""

    def __init__(self, limits: Limits, *, max_addresses: int = MAX_ADDRESSES) -> None:
        self._limits = limits
        self._of = functools.lru_cache(max_addresses)(self._new)

    def __len__(self) -> int:
        return self._of.cache_info().currsize

    def find(self, client: tuple[str, int] | None) -> AnonymousClient:
        """The caller at the address in an ASGI scope's `client`."""
        return self._of(_name(client[0] if client else ""))

    def _new(self, name: str) -> AnonymousClient:
        caller = Caller(f"{ANYONE.name}{name}", None, self._limits.max_in_flight)
        return AnonymousClient(caller, self._limits.bucket())


@functools.lru_cache(MAX_ADDRESSES)
def _name(host: str) -> str:
    """The address that identifies the caller: an IPv4 address or an IPv6 network."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), _IPV6_PREFIX), strict=False))
