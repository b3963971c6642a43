# SPDX-License-Identifier: Apache-2.0
"""Requests to URLs that clients name: https only, public addresses only, no proxy, no redirects."""

import asyncio
import errno
import functools
import ipaddress
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from fastapi_triton.core.public_addresses import is_public

MAX_CHARACTERS = 2000
# More than pictures are fetched at once (see `FetchSlots`), so that slow names of pictures delay no webhook.
_LOOKUP_THREADS = 16

OnLookup = Callable[[Future[Any]], None]


def check(url: str, *, anywhere: bool = False) -> None:
    """Check a URL as far as possible without resolving its host. `anywhere` allows http and private addresses.

    Raises:
        ValueError: it is not allowed. The message continues a sentence about the URL.
    """
    try:
        parsed = URL(url)
        (parsed.raw_host or "").encode("idna")  # as Python's lookup does: labels have 1 to 63 characters
    except ValueError:
        parsed = URL()
    schemes = ("https", "http") if anywhere else ("https",)
    has_credentials = bool(parsed.user or parsed.password)
    if len(url) > MAX_CHARACTERS or parsed.scheme not in schemes or not parsed.host or has_credentials:
        raise ValueError(f"must be an https URL of at most {MAX_CHARACTERS} characters, without credentials")
    if not anywhere and _is_literal(parsed.host) and not is_public(parsed.host):
        raise ValueError("must not point to a private address")


def session(timeout_s: float, *, anywhere: bool = False, on_lookup: OnLookup | None = None) -> aiohttp.ClientSession:
    """A session for one request, which must not follow redirects. `timeout_s` is for the whole request.

    Each connection checks its address while it is made. An earlier DNS lookup could have a different result.

    Args:
        on_lookup: called with each DNS lookup. It occupies a thread until it is done, even if the request ends before.
    """
    connector = aiohttp.TCPConnector(
        force_close=True,
        socket_factory=None if anywhere else _public_socket,
        use_dns_cache=False,
        resolver=_Resolver(on_lookup),
    )
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False, auto_decompress=False)


class _Resolver(AbstractResolver):
    """Looks names up in threads of its own: a slow DNS server would occupy those that the app's other work needs."""

    def __init__(self, on_lookup: OnLookup | None) -> None:
        self._on_lookup = on_lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        lookup = _lookup_threads().submit(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        if self._on_lookup is not None:
            self._on_lookup(lookup)
        found = await asyncio.wrap_future(lookup)
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=flags)
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        pass


@functools.cache
def _lookup_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="dns")


def _public_socket(address_info: AddrInfoType) -> socket.socket:
    """A socket for a resolved address, in any notation.

    Raises:
        OSError: the address is not public.
    """
    family, kind, protocol, _, address = address_info
    try:
        may_connect = is_public(str(address[0]))
    except ValueError:  # such as a decimal number, which the C library reads as an IPv4 address
        may_connect = False
    if not may_connect:
        # With an error number, because aiohttp shows only the `strerror` of an OSError.
        raise PermissionError(errno.EACCES, f"{address[0]} is not a public address")
    return socket.socket(family, kind, protocol)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
