# SPDX-License-Identifier: Apache-2.0
"""Triton's processes: waits for the end of one, and ends those that a killed guard left behind.

The guard ends everything below Triton, but a guard killed with SIGKILL cannot. The kernel then kills Triton
(`PR_SET_PDEATHSIG`), not the Python stubs: they would keep Triton's memory, and hold the pipe of its log open. They are
found by an environment variable that every process below the guard inherits.
"""

import asyncio
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fastapi_triton.embedded import guard

# Names the work folder of the embedded Triton that a process belongs to.
MARK = "FASTAPI_TRITON_EMBEDDED_FOLDER"
# How long killed processes have to disappear.
GONE_WITHIN_S = 10.0


async def until_exit(pid: int) -> None:
    """Wait until a child process has exited; it need not be reaped.

    asyncio's `Process.wait` waits for the process's pipes too (Python 3.11), which a grandchild may hold open for ever.
    """
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


def end_orphans(folder: Path, shared_memory_prefix: str) -> int:
    """Kill the processes of a work folder, and remove the folder and their shared memory.

    Returns how many processes there were. Call it when the guard has ended; it blocks until they are gone.
    """
    deadline = time.monotonic() + GONE_WITHIN_S
    num_ended = 0
    while descriptors := list(_opened(folder)):
        num_ended += len(descriptors)
        for descriptor in descriptors:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        for descriptor in descriptors:
            select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            with suppress(ChildProcessError):  # of a frontend that is a container's first process, it is a child
                os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
            os.close(descriptor)
        if time.monotonic() >= deadline:
            break  # stuck in the kernel
    guard.remove(folder, shared_memory_prefix)
    return num_ended


def _opened(folder: Path) -> Iterator[int]:
    """A pidfd of each living process of the work folder."""
    mark = os.fsencode(f"{MARK}={folder}")
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if _is_marked(entry, mark):
                descriptor = os.pidfd_open(int(entry.name))
                if _is_marked(entry, mark):  # still the same process
                    yield descriptor
                else:
                    os.close(descriptor)


def _is_marked(entry: Path, mark: bytes) -> bool:
    return mark in (entry / "environ").read_bytes().split(b"\0")
