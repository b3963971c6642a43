# SPDX-License-Identifier: Apache-2.0
"""The peers follow the rules that the results page states. Their networks are replaced and take hardly any time."""

from collections.abc import Callable, Sequence
from typing import cast

from benchmarks.engine.job import Job
from benchmarks.engine.stock_pipeline import StockPipeline
from benchmarks.engine.whole_request_batching import WholeRequestBatching


class FakeStockPipeline:
    """Records the calls."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def generate(self, jobs: Sequence[Job], after_step: Callable[[], None]) -> list[bytes]:
        self.calls.append([job.index for job in jobs])
        for _ in range(jobs[0].num_steps):
            after_step()
        return [b""] * len(jobs)


def calls(*jobs: Job, max_batch: int) -> list[list[int]]:
    stock = FakeStockPipeline()
    outcomes = WholeRequestBatching("", cast("StockPipeline", stock), max_batch=max_batch).run(jobs)
    assert len(outcomes) == len(jobs)
    return stock.calls


def test_single_requests_run_in_order_of_arrival() -> None:
    jobs = [Job(index=index, arrival=0.0, num_steps=4) for index in range(3)]
    assert calls(*jobs, max_batch=1) == [[0], [1], [2]]


def test_waiting_requests_with_equal_steps_share_call() -> None:
    steps = (4, 8, 4, 8, 4)
    jobs = [Job(index=index, arrival=0.0, num_steps=count) for index, count in enumerate(steps)]
    assert calls(*jobs, max_batch=2) == [[0, 2], [1, 3], [4]]


def test_call_does_not_wait_for_later_arrivals() -> None:
    jobs = [Job(index=0, arrival=0.0, num_steps=4), Job(index=1, arrival=50.0, num_steps=4)]
    assert calls(*jobs, max_batch=8) == [[0], [1]]


def test_request_of_disconnected_client_is_skipped() -> None:
    jobs = [Job(index=0, arrival=0.0, num_steps=4), Job(index=1, arrival=0.0, num_steps=8, leaves_after=0.0)]
    assert calls(*jobs, max_batch=1) == [[0]]
