# SPDX-License-Identifier: Apache-2.0
"""Limits of the serving process: how many files it may open, and when the C library returns freed memory."""

import ctypes
import logging
import resource

logger = logging.getLogger(__name__)

# For files, for connections to Triton, for the database of jobs.
_RESERVED = 192
# For connections over the limit, which get 503, or the health that they ask for.
SPARE_CONNECTIONS = 64
# Enough for any server. More would slow down programs that walk through all possible descriptors.
_ENOUGH_FILES = 65_536
# Parameters of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 4 * 1024 * 1024


def raise_open_files() -> None:
    """Let the process open as many files as its hard limit allows; many shells and services begin with 1,024."""
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
            "This process may open %d files, so it takes %d connections, not %d. Raise the limit (`ulimit -n`).",
            soft,
            possible,
            max_connections,
        )
    return min(max_connections, possible)


def return_large_blocks() -> None:
    """Have glibc return the memory of large bodies to the system once they are freed. Other C libraries are unchanged.

    By default the threshold for blocks with a mapping of their own grows with the blocks that are freed, up to 32 MB,
    and holes of that size stay in the heap. Once it is fixed, glibc would return the end of the heap whenever 128 KB of
    it are free, and fetch it again for the next body. So that limit becomes twice the fixed threshold.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES)
