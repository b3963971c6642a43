# SPDX-License-Identifier: Apache-2.0
"""Runs one job: waits for a slot and for Triton, retries while Triton is not available, and stores the result."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.core import problem_details
from fastapi_triton.core.backoff import Backoff
from fastapi_triton.core.context import Caller, current_caller, current_deadline, current_request_id
from fastapi_triton.core.errors import FastAPITritonError, GoneError, NotFoundError
from fastapi_triton.core.request_record import RequestRecord, current_record
from fastapi_triton.endpoints.interfaces import StreamEvent
from fastapi_triton.endpoints.pipeline import within_deadline
from fastapi_triton.jobs.interfaces import JobEndpoint
from fastapi_triton.jobs.job import POSITION, Job, Progress
from fastapi_triton.jobs.store import JobFiles

logger = logging.getLogger(__name__)

# The pauses before a retry at Triton, and before a retry to write to a full disk.
_FIRST_BACKOFF_S = 0.25
_LONGEST_TRITON_BACKOFF_S, _LONGEST_DISK_BACKOFF_S = 2.0, 30.0
# Errors that pass by themselves: no free slot, a limit of the caller, no Triton.
_RETRIED = (429, 503)
# The shortest time between two writes of the progress, which other processes read.
_PROGRESS_INTERVAL_S = 0.25
_NO_POSITION: dict[str, Any] = dict.fromkeys(POSITION)


class Run:
    """The run of one job in this process. It is the `ProgressListener` of its request."""

    def __init__(
        self, row: Job, endpoint: JobEndpoint | None, *, files: JobFiles, on_change: Callable[[], None]
    ) -> None:
        self.progress = Progress()
        self.ticket = QueueTicket()
        self._row = row
        self._endpoint = endpoint
        self._files = files
        self._on_change = on_change
        self._written_at = 0.0
        self._writing: asyncio.Task[None] | None = None

    @property
    def live_progress(self) -> Progress:
        """The progress, with the current position in the queue for a slot."""
        position = self.ticket.position
        return self.progress if position is None else replace(self.progress, **position.as_json())

    async def outcome(self, timeout_s: float) -> dict[str, Any]:
        """Run the job, until `timeout_s` after it was accepted. Returns its end time, and the problem if it failed."""
        current_caller.set(Caller(self._row.caller, priority="batch"))
        current_request_id.set(self._row.id)
        current_record.set(RequestRecord("JOB"))
        self.progress = replace(
            await asyncio.to_thread(self._files.progress, self._row.id), is_running=False, step=None, preview=None
        )
        try:
            await self._complete(self._row.created + timeout_s)
        except FastAPITritonError as error:
            logger.info("job %s failed: %s", self._row.id, error.detail)
            return {"problem": orjson.loads(problem_details.body(error)), "finished": time.time()}
        except Exception:
            logger.exception("job %s failed", self._row.id)
            raise
        finally:
            if self._writing is not None:
                self._writing.cancel()
        await self._store_progress(self.progress)
        logger.info("job %s is completed", self._row.id)
        return {"finished": time.time()}

    async def _complete(self, deadline: float) -> None:
        if self._endpoint is None:
            raise NotFoundError(f"The endpoint {self._row.path}, for which this job was accepted, no longer exists.")
        stored = await self._request()
        left_s = deadline - time.time()
        current_deadline.set(time.monotonic() + left_s)
        work = self._run_and_store(self._endpoint, stored)
        await within_deadline(work, left_s, late=self._why_late)

    async def _run_and_store(self, endpoint: JobEndpoint, stored: bytes) -> None:
        await self._store_result(await self._run_with_retries(endpoint, stored))

    def _why_late(self) -> str:
        waits_for = self.progress.waits_for
        return f"The job did not finish before its deadline{f'; it was waiting: {waits_for}' if waits_for else '.'}"

    async def _request(self) -> bytes:
        stored = await asyncio.to_thread(self._files.request, self._row.id, self._row.fingerprint)
        if stored is None:
            raise GoneError("The job's request is no longer stored.", code="job_expired")
        return stored

    async def _run_with_retries(self, endpoint: JobEndpoint, stored: bytes) -> bytes:
        """The JSON result. Errors that pass by themselves are retried."""
        backoff = Backoff(_FIRST_BACKOFF_S, _LONGEST_TRITON_BACKOFF_S)
        while True:
            try:
                return await endpoint.run(stored, self)
            except FastAPITritonError as error:
                if error.status not in _RETRIED:
                    raise
                if error.detail != self.progress.waits_for:
                    logger.info("job %s waits: %s", self._row.id, error.detail)
                await self._store_progress(replace(self.progress, is_running=False, step=None, waits_for=error.detail))
            await backoff.sleep()

    async def started(self) -> None:
        """Called when the request has its slot, just before the model runs."""
        logger.info("job %s starts (run %d)", self._row.id, self.progress.runs + 1)
        await self._store_progress(
            replace(
                self.progress,
                runs=self.progress.runs + 1,
                is_running=True,
                started=time.time(),
                step=None,
                preview=None,
                waits_for=None,
                **_NO_POSITION,
            )
        )

    def progressed(self, event: StreamEvent) -> None:
        """Called when the model has sent its progress."""
        self.progress = replace(self.progress, **{**_NO_POSITION, **event.progress})
        self._on_change()
        is_writing = self._writing is not None and not self._writing.done()
        if not is_writing and time.monotonic() - self._written_at > _PROGRESS_INTERVAL_S:
            self._written_at = time.monotonic()
            self._writing = asyncio.create_task(self._write_progress())

    async def _store_progress(self, progress: Progress) -> None:
        """Store the progress at once, so that it survives this process."""
        if self._writing is not None:
            await asyncio.wait([self._writing])  # it would overwrite this progress
        self.progress = progress
        await self._write_progress()
        self._on_change()

    async def _write_progress(self) -> None:
        # A full disk must not make a job fail.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._files.keep_progress, self._row.id, self.progress)

    async def _store_result(self, data: bytes) -> None:
        """Store the result. While the disk is full, try again."""
        backoff = Backoff(_FIRST_BACKOFF_S, _LONGEST_DISK_BACKOFF_S)
        while True:
            try:
                await asyncio.to_thread(self._files.keep_result, self._row.id, data)
                return
            except OSError as error:
                logger.error("job %s: its result cannot be written: %s", self._row.id, error)
                self.progress = replace(self.progress, waits_for="The result cannot be written to the disk.")
            await backoff.sleep()
