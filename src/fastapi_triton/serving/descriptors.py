# SPDX-License-Identifier: Apache-2.0
"""How many connections a process can hold: each takes a file descriptor, and the rest of the process needs some too."""

import logging
import resource

logger = logging.getLogger(__name__)

# For files, for connections to Triton, for the database of jobs.
_RESERVED = 192
# For connections over the limit, which get 503, or the health that they ask for.
SPARE_CONNECTIONS = 64
# Enough for any server. More would slow down programs that walk through all possible descriptors.
_ENOUGH = 65_536


def raise_limit() -> None:
    """Let the process open as many files as its hard limit allows; many shells and services begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def fitting(max_connections: int) -> int:
    """`max_connections`, or fewer if the process cannot open enough files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return max_connections
    possible = max(1, soft - _RESERVED - SPARE_CONNECTIONS)
    if possible < max_connections:
        logger.warning(
            "This process may open %d files, so it takes %d connections, not %d. Raise the limit (`ulimit -n`).",
            soft,
            possible,
            max_connections,
        )
    return min(max_connections, possible)
