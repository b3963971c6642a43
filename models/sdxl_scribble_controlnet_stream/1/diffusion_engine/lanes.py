# SPDX-License-Identifier: Apache-2.0
"""Deals the rows of a pass to the cores: two half passes with half the cores each take less time than a whole one.

Within a pass, cores wait for each other after every layer; two half passes never wait. A GPU shares its work itself.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

# Not one a core: a lone guided request has two rows, and should have all cores.
NUM_LANES = 2

T = TypeVar("T")


def suitable_lanes(device: torch.device) -> int:
    return NUM_LANES if device.type == "cpu" and torch.get_num_threads() >= NUM_LANES else 1


class Lanes:
    """Threads that do one thing each at the same time. With one lane, the calling thread does it all."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None

    def run(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """What each gave, in their order. Raises what one of them raised, once all are done."""
        if len(works) == 1:
            return [works[0]()]
        if self._pool is None:
            self._pool = self._open()
        futures = [self._pool.submit(work) for work in works]
        wait(futures)
        return [future.result() for future in futures]

    def _open(self) -> ThreadPoolExecutor:
        num_threads = torch.get_num_threads()
        everyone = threading.Barrier(self.count)

        def begin() -> None:
            torch.get_num_threads()  # else the first parallel operation would undo the next line
            torch.set_num_threads(max(1, num_threads // self.count))
            everyone.wait()

        pool = ThreadPoolExecutor(self.count, thread_name_prefix="lane")
        wait([pool.submit(begin) for _ in range(self.count)])
        # The number is a thread's own, but also what threads to come begin with.
        torch.set_num_threads(num_threads)
        return pool
