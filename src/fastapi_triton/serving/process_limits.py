# SPDX-License-Identifier: Apache-2.0
"""Limits of the serving process: the number of open files, and when the C library returns freed memory."""

import ctypes
import logging
import resource

logger = logging.getLogger(__name__)

# Descriptors for files, connections to Triton and the job database.
_RESERVED = 192
# Descriptors for connections over the limit: requests on them fail with 503, except health probes.
SPARE_CONNECTIONS = 64
# Enough for any server. More would slow down programs that walk through all possible descriptors.
_ENOUGH_FILES = 65_536
# Parameters of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 4 * 1024 * 1024


def raise_open_files() -> None:
    """Raise the limit for open files to the hard limit; many shells and services start with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_within(max_connections: int) -> int:
    """`max_connections`, or fewer if the process cannot open enough files: each connection takes a file descriptor."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return max_connections
    possible = max(1, soft - _RESERVED - SPARE_CONNECTIONS)
    if possible < max_connections:
        logger.warning(
            "This process may open %d files, so it accepts only %d connections, not %d. Raise the limit (`ulimit -n`).",
            soft,
            possible,
            max_connections,
        )
    return min(max_connections, possible)


def return_large_blocks() -> None:
    """Have glibc return the memory of large bodies to the system when they are freed. No effect on other C libraries.

    glibc gives blocks above a threshold a mapping of their own. By default the threshold grows with the freed blocks,
    up to 32 MB, and holes of that size stay in the heap. This function fixes the threshold. But then glibc would return
    the end of the heap whenever 128 KB of it are free, and fetch it again for the next body. So it also raises that
    limit.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES)
