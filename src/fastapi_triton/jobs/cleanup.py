# SPDX-License-Identifier: Apache-2.0
"""Housekeeping: requeues the jobs of dead processes, and deletes expired jobs."""

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

# The intervals of looking for dead processes, and for expired jobs.
TAKE_OVER_S, SWEEP_S = 2.0, 60.0
# If a request's files are this old and there is no job, the request was never accepted.
_ABANDONED_S = 3600.0
# For at least this time, requests for an expired job get 410 instead of 404.
_KEEP_MARKS_S = 86_400.0
_MAX_DELETED_AT_ONCE = 200


class Cleanup:
    """The housekeeping of one process. Any number of processes may share a folder."""

    def __init__(self, queue: "DurableQueue", *, files: JobFiles, executors: Executors, keep_s: float) -> None:
        self._queue = queue
        self._files = files
        self._executors = executors
        self._keep_s = keep_s
        self._swept_at = float("-inf")

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run in the background during the `async with` block."""
        return BackgroundTask(
            "jobs housekeeping",
            consequence="Jobs of dead processes do not run again, and finished jobs do not expire.",
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
            # Deletes the job last, so that no new job with its id starts while its files are being removed.
            for job_id in await self._queue.finished_before(time.time() - self._keep_s, limit=_MAX_DELETED_AT_ONCE):
                await asyncio.to_thread(self._files.expire, job_id)
                await self._queue.delete(job_id)
            for job_id in await asyncio.to_thread(self._files.ids, older_than_s=_ABANDONED_S):
                if await self._queue.find(job_id) is None:
                    await asyncio.to_thread(self._files.remove, job_id)
            await asyncio.to_thread(self._files.forget_expired, older_than_s=max(self._keep_s, _KEEP_MARKS_S))
