# SPDX-License-Identifier: Apache-2.0
"""Waits for a process to exit, and ends the processes that a killed guard leaves behind.

The guard ends every process below Triton, unless it is killed with SIGKILL. The kernel then kills Triton
(`PR_SET_PDEATHSIG`), but not its stub processes: they would keep Triton's memory, and hold the pipe of its log open.
`end_orphans` finds them by an environment variable that every process below the guard inherits.
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

# The environment variable with the work folder of the embedded Triton that a process belongs to.
MARK = "FASTAPI_TRITON_EMBEDDED_FOLDER"
# How long to wait for killed processes to exit.
KILL_TIMEOUT_S = 10.0


async def until_exit(pid: int) -> None:
    """Wait until a child process has exited. It is not reaped here.

    In Python 3.11, asyncio's `Process.wait` also waits for the pipes, which a grandchild may hold open for ever.
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
    """Kill the processes of a work folder, and remove the folder and its shared memory.

    Call it when the guard has ended. It blocks until the processes have exited. Returns the number of processes.
    """
    deadline = time.monotonic() + KILL_TIMEOUT_S
    num_ended = 0
    while descriptors := list(_pidfds(folder)):
        num_ended += len(descriptors)
        for descriptor in descriptors:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        for descriptor in descriptors:
            select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            with suppress(ChildProcessError):  # a child of ours if the frontend is the container's first process
                os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
            os.close(descriptor)
        if time.monotonic() >= deadline:
            break  # stuck in the kernel
    guard.remove(folder, shared_memory_prefix)
    return num_ended


def _pidfds(folder: Path) -> Iterator[int]:
    """Open a pidfd of each running process of the work folder."""
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
