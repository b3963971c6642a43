# SPDX-License-Identifier: Apache-2.0
"""The stock pipeline with all cores: one request at a time, or one call for waiting requests with equal step counts.

It runs in virtual time: each call is made and timed, and time without waiting requests is skipped.
"""

import time
from collections.abc import Sequence

from benchmarks.engine.job import Job
from benchmarks.engine.outcome import Outcome
from benchmarks.engine.stock_pipeline import StockPipeline


class WholeRequestBatching:
    """Skips requests whose clients disconnected while waiting. A running call is completed, as in diffusers.

    Args:
        max_batch: the most waiting requests with equal step counts in one call, as in Triton's dynamic batcher.
    """

    def __init__(self, name: str, stock: StockPipeline, *, max_batch: int) -> None:
        self.name = name
        self._stock = stock
        self._max_batch = max_batch

    def warm_up(self) -> None:
        self._stock.warm_up(most=self._max_batch)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        remaining = list(jobs)
        now = 0.0
        while remaining:
            now = max(now, remaining[0].arrival)
            gone = [job for job in remaining if job.leaves_at <= now]
            outcomes += [Outcome(job=job, ended=job.leaves_at) for job in gone]
            remaining = [job for job in remaining if job.leaves_at > now]
            waiting = [job for job in remaining if job.arrival <= now]
            if not waiting:
                continue
            batch = [job for job in waiting if job.num_steps == waiting[0].num_steps][: self._max_batch]
            done, now = self._generate(batch, now)
            outcomes += done
            remaining = [job for job in remaining if job not in batch]
        return outcomes

    def profile(self) -> None:
        """None: only engines have a profile."""

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
