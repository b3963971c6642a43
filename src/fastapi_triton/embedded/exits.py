# SPDX-License-Identifier: Apache-2.0
"""Waits for a process to exit, without waiting for its output to be closed.

asyncio's own `Process.wait` waits for the process's pipes too (Python 3.11), which a grandchild may hold open for ever.
"""

import asyncio
import os


async def until_exit(pid: int) -> None:
    """Wait until a child of ours has exited; it need not be reaped."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:  # reaped already
        return
    loop = asyncio.get_running_loop()
    has_exited = asyncio.Event()
    loop.add_reader(descriptor, has_exited.set)
    try:
        await has_exited.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
