# SPDX-License-Identifier: Apache-2.0
"""The address that a server listens on, and a loud warning where everybody on a network may use the models."""

import logging
import socket
import sys
from ipaddress import ip_address

from fastapi_triton.core.settings import Settings

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_RULE = "!" * 78


def is_every_address(host: str) -> bool:
    """Whether it is `0.0.0.0` or `::`."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def is_public(host: str) -> bool:
    """Whether other machines can reach it."""
    if host == "localhost":
        return False
    try:
        return not ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. `::` accepts IPv4 as well, as people expect of it.

    Raises:
        OSError: the address is in use, or none of this machine's.
    """
    is_ipv6 = ":" in host
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    takes_both = is_ipv6 and is_every_address(host) and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=takes_both)


def warn_if_open(host: str, settings: Settings) -> bool:
    """Warn in the log and on a terminal if other machines need no API key. Returns whether it did."""
    if settings.api_keys_file or not is_public(host):
        return False
    words = f"Listening on {host} without API keys: whoever reaches this port may use the models."
    advice = "Make a key: `fastapi-triton keys add NAME --file keys.toml`, and start with --api-keys-file keys.toml"
    logger.warning("%s %s (docs/security.md)", words, advice)
    if sys.stdout.isatty():
        sys.stdout.write(f"\n{_RULE}\n  {words}\n  {advice}\n{_RULE}\n")
        sys.stdout.flush()
    return True
