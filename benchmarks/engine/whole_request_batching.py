# SPDX-License-Identifier: Apache-2.0
"""The stock pipeline with both cores: one request at a time, or those alike that wait together in one call.

Virtual time: each call is made and timed, and the time in which nobody waits is skipped.
"""

import time
from collections.abc import Sequence

from benchmarks.engine.job import Job
from benchmarks.engine.outcome import Outcome
from benchmarks.engine.stock_pipeline import StockPipeline


class WholeRequestBatching:
    """Callers who left while they waited are passed over; a call that runs is run to its end, as diffusers does.

    Args:
        max_batch: how many waiting requests with equally many steps share a call, as in Triton's dynamic batcher.
    """

    def __init__(self, name: str, stock: StockPipeline, *, max_batch: int) -> None:
        self.name = name
        self._stock = stock
        self._max_batch = max_batch

    def warm_up(self) -> None:
        self._stock.warm_up(most=self._max_batch)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        left = list(jobs)
        now = 0.0
        while left:
            now = max(now, left[0].arrival)
            gone = [job for job in left if job.leaves_at <= now]
            outcomes += [Outcome(job=job, ended=job.leaves_at) for job in gone]
            left = [job for job in left if job.leaves_at > now]
            waiting = [job for job in left if job.arrival <= now]
            if not waiting:
                continue
            batch = [job for job in waiting if job.num_steps == waiting[0].num_steps][: self._max_batch]
            done, now = self._generate(batch, now)
            outcomes += done
            left = [job for job in left if job not in batch]
        return outcomes

    def profile(self) -> None:
        """Only engines have one."""

    def close(self) -> None:
        pass

    def _generate(self, batch: Sequence[Job], now: float) -> tuple[list[Outcome], float]:
        started = time.perf_counter()
        step_ends: list[float] = []
        self._stock.generate(batch, lambda: step_ends.append(now + time.perf_counter() - started))
        ended = now + time.perf_counter() - started
        return [
            Outcome(job=job, ended=ended, wasted_steps=sum(end > job.leaves_at for end in step_ends)) for job in batch
        ], ended
