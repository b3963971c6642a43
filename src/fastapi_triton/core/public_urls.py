# SPDX-License-Identifier: Apache-2.0
"""Requests to URLs that clients name: https only, public addresses only, no proxy, no redirects."""

import errno
import ipaddress
import socket

import aiohttp
from aiohttp import AddrInfoType
from yarl import URL

from fastapi_triton.core.public_addresses import is_public

MAX_CHARACTERS = 2000


def check(url: str, *, anywhere: bool = False) -> None:
    """Check a URL as far as possible without resolving its host. `anywhere` allows http and private addresses.

    Raises:
        ValueError: it is not allowed. The message continues a sentence about the URL.
    """
    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    schemes = ("https", "http") if anywhere else ("https",)
    has_credentials = bool(parsed.user or parsed.password)
    if len(url) > MAX_CHARACTERS or parsed.scheme not in schemes or not parsed.host or has_credentials:
        raise ValueError(f"must be an https URL of at most {MAX_CHARACTERS} characters, without credentials")
    if not anywhere and _is_literal(parsed.host) and not is_public(parsed.host):
        raise ValueError("must not point to a private address")


def session(timeout_s: float, *, anywhere: bool = False) -> aiohttp.ClientSession:
    """A session for one request, which must not follow redirects. `timeout_s` is for the whole request.

    Each connection checks its address while it is made. An earlier DNS lookup could have a different result.
    """
    connector = aiohttp.TCPConnector(
        force_close=True, socket_factory=None if anywhere else _public_socket, use_dns_cache=False
    )
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False, auto_decompress=False)


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
