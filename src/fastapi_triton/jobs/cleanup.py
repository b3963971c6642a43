# SPDX-License-Identifier: Apache-2.0
"""Cleanup beside the jobs: requeues those of processes that died, and deletes those that are long over."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from fastapi_triton.core import file_lock
from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.core.errors import OverloadedError
from fastapi_triton.jobs.liveness import Executors
from fastapi_triton.jobs.store import JobFiles

if TYPE_CHECKING:
    from fastapi_triton.jobs.dbos_queue import DurableQueue

# How often the dead are looked for, and what has expired.
TAKE_OVER_S, SWEEP_S = 2.0, 60.0
# A request whose files are this old without a job was never accepted.
_ABANDONED_S = 3600.0
# How long, at least, an expired job is said to have expired, and not to be unknown.
_TELL_EXPIRED_S = 86_400.0
_MOST_AT_A_TIME = 200


class Cleanup:
    """Of one process; any number of them may share a folder."""

    def __init__(self, queue: "DurableQueue", *, files: JobFiles, executors: Executors, keep_s: float) -> None:
        self._queue = queue
        self._files = files
        self._executors = executors
        self._keep_s = keep_s
        self._swept_at = float("-inf")

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run beside the block."""
        return BackgroundTask(
            "jobs housekeeping",
            consequence="Jobs of dead processes do not run again, and finished ones do not expire.",
            expected=(OSError, OverloadedError),
        ).repeating(self._step)

    async def _step(self) -> float:
        await self._take_over()
        if time.monotonic() - self._swept_at > SWEEP_S:
            await self._sweep()
            self._swept_at = time.monotonic()
        return TAKE_OVER_S

    async def _take_over(self) -> None:
        dead = await asyncio.to_thread(self._executors.dead)
        if dead and await self._queue.take_over(dead):
            for each in dead:
                await asyncio.to_thread(self._executors.forget, each)

    async def _sweep(self) -> None:
        lock = self._files.folder / "sweep.lock"
        lock.touch(mode=0o600)
        with file_lock.held(lock) as is_held:
            if not is_held:
                return
            # The job is deleted last, so that no new one of its id begins while its files are being removed.
            for job_id in await self._queue.finished_before(time.time() - self._keep_s, limit=_MOST_AT_A_TIME):
                await asyncio.to_thread(self._files.expire, job_id)
                await self._queue.delete(job_id)
            for job_id in await asyncio.to_thread(self._files.ids, older_than_s=_ABANDONED_S):
                if await self._queue.find(job_id) is None:
                    await asyncio.to_thread(self._files.remove, job_id)
            await asyncio.to_thread(self._files.forget_expired, older_than_s=max(self._keep_s, _TELL_EXPIRED_S))
