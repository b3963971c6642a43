# SPDX-License-Identifier: Apache-2.0
"""The socket that a server takes connections from."""

import socket
from ipaddress import ip_address

_BACKLOG = 2048


def is_every_address(host: str) -> bool:
    """Whether it is `0.0.0.0` or `::`."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def listener(host: str, port: int) -> socket.socket:
    """A listening socket. `::` takes IPv4 as well, as people expect of it.

    Raises:
        OSError: the address is taken, or none of this machine's.
    """
    is_ipv6 = ":" in host
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    takes_both = is_ipv6 and is_every_address(host) and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=takes_both)
