# SPDX-License-Identifier: Apache-2.0
"""Runs two half passes at once on a CPU, each with half the cores, which takes less time than one whole pass.

Within a pass, cores wait for each other after each layer; two half passes never wait for each other. A GPU runs whole
passes, since it divides the work itself.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

# Not one for each core: a single request with guidance has only two rows, and should use all cores.
CPU_PARALLEL_SIZE = 2

T = TypeVar("T")


def suitable_cpu_parallel_size(device: torch.device) -> int:
    return CPU_PARALLEL_SIZE if device.type == "cpu" and torch.get_num_threads() >= CPU_PARALLEL_SIZE else 1


class CPUParallel:
    """Calls functions at the same time, each on a thread with its share of the cores.

    Args:
        size: the number of threads. If it is 1, or with a single function, the calling thread runs all, with all cores.
        meanwhile: entered while functions run, if `size` is not 1.
    """

    def __init__(self, size: int, *, meanwhile: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self.size = size
        self._meanwhile = meanwhile
        self._pool: ThreadPoolExecutor | None = None

    def run(self, functions: Sequence[Callable[[], T]]) -> list[T]:
        """Their results, in order. If any raise, the first exception is raised when all have ended."""
        if self.size == 1:
            return [function() for function in functions]
        if self._pool is None:
            self._pool = self._open()
        with self._meanwhile():
            if len(functions) == 1:
                return [functions[0]()]
            futures = [self._pool.submit(function) for function in functions]
            wait(futures)
        return [future.result() for future in futures]

    def _open(self) -> ThreadPoolExecutor:
        num_threads = torch.get_num_threads()
        all_started = threading.Barrier(self.size)

        def begin() -> None:
            torch.get_num_threads()  # else the first parallel operation would undo the next line
            torch.set_num_threads(max(1, num_threads // self.size))
            all_started.wait()

        pool = ThreadPoolExecutor(self.size, thread_name_prefix="cpu-parallel")
        wait([pool.submit(begin) for _ in range(self.size)])
        # Each thread has its own number, but the last one set is also the default of new threads.
        torch.set_num_threads(num_threads)
        return pool
