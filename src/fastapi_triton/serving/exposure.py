# SPDX-License-Identifier: Apache-2.0
"""Says so, loudly, where everybody on a network may use the models."""

import logging
import sys
from ipaddress import ip_address

from fastapi_triton.core.settings import Settings

logger = logging.getLogger(__name__)

_RULE = "!" * 78


def is_public(host: str) -> bool:
    """Whether others than this machine reach what listens there."""
    if host == "localhost":
        return False
    try:
        return not ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return True


def warn(host: str, settings: Settings) -> bool:
    """Warn in the log and, where somebody looks, on the terminal. Gives whether there was reason to."""
    if settings.api_keys_file or not is_public(host):
        return False
    words = f"Listening on {host} without API keys: whoever reaches this port may use the models."
    advice = "Make a key: `fastapi-triton keys add NAME --file keys.toml`, and start with --api-keys-file keys.toml"
    logger.warning("%s %s (docs/security.md)", words, advice)
    if sys.stdout.isatty():
        sys.stdout.write(f"\n{_RULE}\n  {words}\n  {advice}\n{_RULE}\n")
        sys.stdout.flush()
    return True
