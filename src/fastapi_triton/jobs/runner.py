# SPDX-License-Identifier: Apache-2.0
"""Runs one job: waits for a slot and for Triton, runs again if Triton goes away, stores the answer."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from fastapi_triton.core import problem_details
from fastapi_triton.core.backoff import Backoff
from fastapi_triton.core.context import Caller, current_caller, current_deadline, current_request_id
from fastapi_triton.core.errors import FastAPITritonError, GoneError, NotFoundError
from fastapi_triton.core.request_record import RequestRecord, current_record
from fastapi_triton.endpoints.interfaces import StreamEvent
from fastapi_triton.endpoints.pipeline import within_deadline
from fastapi_triton.jobs.interfaces import JobEndpoint
from fastapi_triton.jobs.job import Job, Progress
from fastapi_triton.jobs.store import JobFiles

logger = logging.getLogger(__name__)

# The pauses between two attempts at Triton, and between two attempts to write to a full disk.
_FIRST_BACKOFF_S = 0.25
_LONGEST_TRITON_BACKOFF_S, _LONGEST_DISK_BACKOFF_S = 2.0, 30.0
# Statuses that end by themselves: no slot, no share, no Triton.
_LATER = (429, 503)
# The least time between two writes of the progress, for other processes.
_TELL_S = 0.25


class Run:
    """One job that runs in this process: a `ProgressListener` of its request."""

    def __init__(
        self, row: Job, endpoint: JobEndpoint | None, *, files: JobFiles, on_change: Callable[[], None]
    ) -> None:
        self.progress = Progress()
        self._row = row
        self._endpoint = endpoint
        self._files = files
        self._on_change = on_change
        self._kept_at = 0.0
        self._keeping: asyncio.Task[None] | None = None

    async def outcome(self, timeout_s: float) -> dict[str, Any]:
        """Run it until `timeout_s` after it was accepted. Returns when it ended, and the problem if it failed."""
        current_caller.set(Caller(self._row.caller))
        current_request_id.set(self._row.id)
        current_record.set(RequestRecord("JOB"))
        self.progress = replace(
            await asyncio.to_thread(self._files.progress, self._row.id), is_running=False, step=None, preview=None
        )
        try:
            await self._answer(self._row.created + timeout_s)
        except FastAPITritonError as error:
            logger.info("job %s failed: %s", self._row.id, error.detail)
            return {"problem": orjson.loads(problem_details.body(error)), "finished": time.time()}
        except Exception:
            logger.exception("job %s failed", self._row.id)
            raise
        finally:
            if self._keeping is not None:
                self._keeping.cancel()
        await self._tell(self.progress)
        logger.info("job %s is completed", self._row.id)
        return {"finished": time.time()}

    async def _answer(self, deadline: float) -> None:
        if self._endpoint is None:
            raise NotFoundError(f"The app has no endpoint {self._row.path} any more, for which this job was accepted.")
        stored = await self._request()
        left_s = deadline - time.time()
        current_deadline.set(time.monotonic() + left_s)
        work = self._complete(self._endpoint, stored)
        await within_deadline(work, left_s, late=self._why_late)

    async def _complete(self, endpoint: JobEndpoint, stored: bytes) -> None:
        await self._keep(await self._patiently(endpoint, stored))

    def _why_late(self) -> str:
        waited = self.progress.waits_for
        return f"The job was not done in its time{f', for it waited: {waited}' if waited else '.'}"

    async def _request(self) -> bytes:
        kept = await asyncio.to_thread(self._files.request, self._row.id, self._row.fingerprint)
        if kept is None:
            raise GoneError("The job's request is not kept any longer.", code="job_expired")
        return kept

    async def _patiently(self, endpoint: JobEndpoint, stored: bytes) -> bytes:
        """The answer. After an error that ends by itself, the request is served again."""
        backoff = Backoff(_FIRST_BACKOFF_S, _LONGEST_TRITON_BACKOFF_S)
        while True:
            try:
                return await endpoint.run(stored, self)
            except FastAPITritonError as error:
                if error.status not in _LATER:
                    raise
                logger.info("job %s waits: %s", self._row.id, error.detail)
                await self._tell(replace(self.progress, is_running=False, step=None, waits_for=error.detail))
            await backoff.sleep()

    async def started(self) -> None:
        """The request has its slot, and the model is about to run."""
        logger.info("job %s runs, for the %d. time", self._row.id, self.progress.runs + 1)
        await self._tell(
            replace(
                self.progress,
                runs=self.progress.runs + 1,
                is_running=True,
                started=time.time(),
                step=None,
                preview=None,
                waits_for=None,
            )
        )

    def progressed(self, event: StreamEvent) -> None:
        """The model has sent its progress."""
        self.progress = replace(self.progress, **event.progress)
        self._on_change()
        if (self._keeping is None or self._keeping.done()) and time.monotonic() - self._kept_at > _TELL_S:
            self._kept_at = time.monotonic()
            self._keeping = asyncio.create_task(self._keep_progress())

    async def _tell(self, progress: Progress) -> None:
        """Store the progress at once, so that it outlasts this process."""
        if self._keeping is not None:
            await asyncio.wait([self._keeping])  # it would write over this
        self.progress = progress
        await self._keep_progress()
        self._on_change()

    async def _keep_progress(self) -> None:
        # A full disk must not fail a job.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._files.keep_progress, self._row.id, self.progress)

    async def _keep(self, data: bytes) -> None:
        """Store the answer. While the disk is full, try again."""
        backoff = Backoff(_FIRST_BACKOFF_S, _LONGEST_DISK_BACKOFF_S)
        while True:
            try:
                await asyncio.to_thread(self._files.keep_result, self._row.id, data)
                return
            except OSError as error:
                logger.error("job %s: its answer cannot be written: %s", self._row.id, error)
                self.progress = replace(self.progress, waits_for="Its answer cannot be written to the disk.")
            await backoff.sleep()
