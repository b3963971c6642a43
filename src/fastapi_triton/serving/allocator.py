# SPDX-License-Identifier: Apache-2.0
"""Has the C library return the memory of large bodies to the system once they are freed."""

import ctypes

# Parameters of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 4 * 1024 * 1024


def return_large_blocks() -> None:
    """Fix glibc's threshold for blocks with a mapping of their own. By default it grows with the blocks that are freed,
    up to 32 MB, and holes of that size stay in the heap. Other C libraries are left as they are.

    With that threshold fixed, glibc would return the end of the heap whenever 128 KB of it are free, and fetch it again
    for the next body. So that limit gets the value that goes with the other: twice as much.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES)
