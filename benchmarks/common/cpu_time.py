# SPDX-License-Identifier: Apache-2.0
"""CPU time of a process and its descendants, exact to nanoseconds. (`/proc/<pid>/stat` counts in steps of 10 ms.)"""

import ctypes
import os
import time

import psutil

_libc = ctypes.CDLL(None, use_errno=True)


def tree(pid: int) -> list[int]:
    """The process and its descendants."""
    process = psutil.Process(pid)
    return [pid, *(each.pid for each in process.children(recursive=True))]


def children() -> list[int]:
    """The children of this process."""
    return [each.pid for each in psutil.Process().children()]


def seconds(pids: list[int]) -> float:
    """The CPU time that the processes have used so far, including ended threads."""
    return sum(_nanoseconds(pid) for pid in pids) / 1e9


def _nanoseconds(pid: int) -> int:
    clock = ctypes.c_int()
    failed = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if failed:
        raise ProcessLookupError(failed, os.strerror(failed))
    return time.clock_gettime_ns(clock.value)
