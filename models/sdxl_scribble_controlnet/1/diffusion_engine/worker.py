# SPDX-License-Identifier: Apache-2.0
"""One thread that makes one picture after another, and a bounded queue in front of it."""

import math
import queue
import threading
import time
from collections.abc import Callable

from diffusion_engine.request import RequestError

# How much the latest job counts in the mean duration.
LATEST_WEIGHT = 0.2


class Worker:
    """A job answers its own request, failures included, and never raises."""

    def __init__(self, *, max_waiting: int) -> None:
        self.jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self.max_waiting = max_waiting
        self.seconds_per_job = 1.0
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self.run, name="diffusion", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Returns when every job that was submitted has been done."""
        self.jobs.put(None)
        if self.thread is not None:
            self.thread.join()

    def submit(self, job: Callable[[], None]) -> None:
        self.check_room()
        self.jobs.put(job)

    def check_room(self) -> None:
        num_waiting = self.jobs.qsize()
        if num_waiting >= self.max_waiting:
            raise RequestError(
                "overloaded",
                f"{num_waiting} requests are waiting already; try again later",
                # By then half the queue is done: soon enough to keep it busy, late enough to find room.
                retry_after_s=math.ceil(num_waiting / 2 * self.seconds_per_job),
            )

    def run(self) -> None:
        for job in iter(self.jobs.get, None):
            started = time.monotonic()
            job()
            self.seconds_per_job += LATEST_WEIGHT * (time.monotonic() - started - self.seconds_per_job)
