# SPDX-License-Identifier: Apache-2.0
"""The address that a server listens on, and a warning if it is reachable from a network without API keys."""

import logging
import socket
import sys
from ipaddress import ip_address

from fastapi_triton.core.settings import Settings

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_RULE = "!" * 78


def is_every_address(host: str) -> bool:
    """Whether the host is `0.0.0.0` or `::`."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def is_public(host: str) -> bool:
    """Whether other machines can reach the host."""
    if host == "localhost":
        return False
    try:
        return not ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. `::` accepts IPv4 too, as users expect.

    Raises:
        OSError: the address is in use, or does not belong to this machine.
    """
    is_ipv6 = ":" in host
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    takes_both = is_ipv6 and is_every_address(host) and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=takes_both)


def warn_if_open(host: str, settings: Settings) -> bool:
    """Warn in the log and on a terminal if other machines need no API key. Returns whether it warned."""
    if settings.api_keys_file or not is_public(host):
        return False
    warning = f"Listening on {host} without API keys: everyone who can reach this port can use the models."
    advice = "Create a key: `fastapi-triton keys add NAME --file keys.toml`, and start with --api-keys-file keys.toml"
    logger.warning("%s %s (docs/security.md)", warning, advice)
    if sys.stdout.isatty():
        sys.stdout.write(f"\n{_RULE}\n  {warning}\n  {advice}\n{_RULE}\n")
        sys.stdout.flush()
    return True
