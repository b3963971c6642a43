# SPDX-License-Identifier: Apache-2.0
"""Runs two half passes at once on a CPU, each with half the cores, which takes less time than one whole pass.

Within a pass, cores wait for each other after each layer; two half passes never wait for each other. A GPU runs whole
passes, since it divides the work itself.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

_changing = threading.Lock()

# Not one for each core: a single request with guidance has only two rows, and should use all cores.
CPU_PARALLEL_SIZE = 2

T = TypeVar("T")


def use_cores(count: int | None = None) -> None:
    """Let torch's operations on the calling thread use this many cores; None: all. Other threads keep theirs.

    Each thread that works on several cores has OpenMP threads of its own. When there are more of them than cores,
    OpenMP's threads no longer spin while they wait for each other, which makes small passes two to three times slower.
    So only the threads that run passes use several cores.
    """
    with _changing:  # torch has one number for all threads that have not asked for it yet
        of_new_threads, is_changed = torch.get_num_threads(), threading.Event()

        def restore() -> None:
            is_changed.wait()
            torch.set_num_threads(of_new_threads)

        restoring = threading.Thread(target=restore)
        try:
            restoring.start()
        except RuntimeError as error:  # the machine's limit of threads: passes are slower then
            logger.warning("the number of cores of a thread cannot be set: %s", error)
            return
        torch.set_num_threads(count or of_new_threads)
        is_changed.set()
        restoring.join()


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
        """All threads of the pool have their share when it returns, since one that starts changes what others see."""
        share = max(1, torch.get_num_threads() // self.size)
        pool = ThreadPoolExecutor(
            self.size, thread_name_prefix="cpu-parallel", initializer=use_cores, initargs=(share,)
        )
        all_started = threading.Barrier(self.size)
        try:
            wait([pool.submit(all_started.wait) for _ in range(self.size)])
        except RuntimeError:  # the machine's limit of threads
            all_started.abort()
            pool.shutdown(wait=False)
            raise
        return pool
