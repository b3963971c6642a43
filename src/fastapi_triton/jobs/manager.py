# SPDX-License-Identifier: Apache-2.0
"""The background jobs of one app: accepts, finds, runs and cancels them."""

import asyncio
import contextlib
import hashlib
import hmac
import importlib
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.core.errors import ConflictError, OverloadedError, TooManyRequestsError
from fastapi_triton.core.settings import Settings
from fastapi_triton.jobs.cleanup import Cleanup
from fastapi_triton.jobs.interfaces import JobEndpoint
from fastapi_triton.jobs.job import Job, Progress
from fastapi_triton.jobs.liveness import Executors
from fastapi_triton.jobs.runner import Run
from fastapi_triton.jobs.store import JobFiles
from fastapi_triton.jobs.webhooks import Webhooks

if TYPE_CHECKING:
    from fastapi_triton.jobs.dbos_queue import DurableQueue

logger = logging.getLogger(__name__)

# The longest pause between two attempts to start the queue, if its database is not available when the app starts.
_LONGEST_START_PAUSE_S = 5.0
_STORAGE_ERRORS = (OSError, OverloadedError)
_ID_CHARACTERS = 32
# The assumed duration of a run, until one is measured.
_INITIAL_MEAN_RUN_S = 5.0


class Jobs:
    """The jobs of one folder.

    The queue starts with the first job, or with the app if there are jobs already. An app without jobs has no cost.
    """

    def __init__(self, settings: Settings, find_endpoint: Callable[[str], JobEndpoint | None]) -> None:
        folder = Path(settings.jobs_folder).absolute()
        self.files = JobFiles(folder)
        self.webhooks = Webhooks(settings.jobs_webhook_secret, anywhere=settings.jobs_webhooks_anywhere)
        self.event_heartbeat_s = settings.event_heartbeat_s
        self._settings = settings
        self._find_endpoint = find_endpoint
        self._url = settings.jobs_url or f"sqlite:///{self.files.database}"
        self._executors = Executors(folder / "executors")
        self._queue: DurableQueue | None = None
        self._starting = asyncio.Lock()
        self._accepting = asyncio.Lock()
        self._cleanup = contextlib.AsyncExitStack()
        self._secret = b""
        self._runs: dict[str, tuple[Run, asyncio.Task[Any]]] = {}
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._mean_run_s = _INITIAL_MEAN_RUN_S

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the jobs of earlier processes, and stop the queue at the end of the block."""
        try:
            task = BackgroundTask(
                "jobs of earlier processes",
                consequence="Background jobs of earlier processes do not run.",
                expected=_STORAGE_ERRORS,
                longest_backoff_s=_LONGEST_START_PAUSE_S,
            )
            async with task.repeating(self._resume):
                yield
        finally:
            await self._stop()

    async def _resume(self) -> None:
        """Start the queue, if there are jobs of earlier processes."""
        if self._queue is None and await self._is_in_use():
            await self._started()

    async def _started(self) -> "DurableQueue":
        """The queue. The first call starts it."""
        async with self._starting:
            if self._queue is None:
                try:
                    await asyncio.to_thread(self._prepare)
                except OSError as error:
                    raise storage_error(error) from None
                durable_queue = await asyncio.to_thread(importlib.import_module, "fastapi_triton.jobs.dbos_queue")
                queue: DurableQueue = durable_queue.DurableQueue(
                    self._url,
                    executor_id=self._executors.id,
                    max_running=self._settings.jobs_max_running,
                    run=self._run,
                    send=self.webhooks.send,
                )
                await queue.start()
                self._queue = queue
                cleanup = Cleanup(queue, files=self.files, executors=self._executors, keep_s=self._settings.jobs_keep_s)
                await self._cleanup.enter_async_context(cleanup.running())
            return self._queue

    def _prepare(self) -> None:
        self.files.prepare()
        self._secret = self.files.secret()
        self._executors.start()

    async def _stop(self) -> None:
        await self._cleanup.aclose()
        if self._queue is not None:
            await self._queue.stop()
            self._executors.stop()
            self._queue = None

    # ---- running

    async def _run(self, job_id: str) -> dict[str, Any]:
        row = await (await self._started()).find(job_id)
        if row is None:  # deleted meanwhile
            return {}
        run = Run(row, self._find_endpoint(row.path), files=self.files, on_change=lambda: self._notify(job_id))
        task = asyncio.current_task()
        if task is not None:
            self._runs[job_id] = (run, task)
        try:
            outcome = await run.outcome(self._settings.jobs_timeout_s)
            if "problem" not in outcome and run.progress.started:
                self._mean_run_s += 0.2 * (time.time() - run.progress.started - self._mean_run_s)
            return outcome
        finally:
            if self._runs.get(job_id, (None,))[0] is run:
                del self._runs[job_id]
            self._notify(job_id)

    def _notify(self, job_id: str) -> None:
        for event in self._waiting.pop(job_id, ()):
            event.set()

    async def changed(self, job_id: str, *, within_s: float) -> None:
        """Wait until a job changes in this process, for at most `within_s`: another process may run it."""
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            async with asyncio.timeout(within_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    # ---- accepting

    def keyed_id(self, caller: str, key: str) -> str:
        """The id of the job with this caller and idempotency key. Other clients cannot guess it."""
        return hmac.new(self._secret, f"{caller}\0{key}".encode(), hashlib.sha256).hexdigest()[:_ID_CHARACTERS]

    async def accept(
        self,
        request: bytes,
        *,
        path: str,
        caller: str,
        fingerprint: str,
        job_id: Callable[[], str],
        webhook: str = "",
    ) -> Job:
        """Store a new job durably, or return the existing job with this id.

        Raises:
            TooManyRequestsError: the caller has too many jobs.
            OverloadedError: too many jobs wait, or the job cannot be stored.
        """
        queue = await self._started()
        name = job_id()
        async with self._accepting:
            row = await queue.find(name)
            if row is None:
                await self._require_capacity(queue, caller)
                try:
                    await asyncio.to_thread(self.files.keep_request, name, fingerprint, request)
                except OSError as error:
                    raise storage_error(error) from None
                # If this fails, the job may be queued all the same, so its request stays. If it is not queued,
                # housekeeping removes the request.
                await queue.add(name, caller=caller, path=path, fingerprint=fingerprint, webhook=webhook)
                row = await queue.find(name)
        if row is None:
            raise OverloadedError("The job could not be stored. Try again later.", code="jobs_unavailable")
        return row.with_progress(Progress())

    async def _require_capacity(self, queue: "DurableQueue", caller: str) -> None:
        limit, own_limit = self._settings.jobs_max_waiting, self._settings.jobs_max_per_caller
        own = await queue.count_unfinished(caller=caller, limit=own_limit)
        if own >= own_limit:
            raise TooManyRequestsError(
                f"{own} of your jobs are waiting or running, which is the limit for one caller. Try again later.",
                code="too_many_jobs",
                retry_after_s=self._until_done(1),
            )
        waiting = await queue.count_unfinished(limit=limit + self._settings.jobs_max_running)
        if waiting >= limit + self._settings.jobs_max_running:
            raise OverloadedError(
                f"{waiting} jobs are waiting or running, which is this server's limit. Try again later.",
                code="too_many_jobs",
                retry_after_s=self._until_done(1),
            )

    def _until_done(self, count: int) -> float:
        """The estimated time until this many jobs are finished, in seconds."""
        return min(3600.0, max(1.0, self._mean_run_s * count / self._settings.jobs_max_running))

    # ---- finding

    async def find(self, job_id: str) -> Job | None:
        """The job with its current progress."""
        if not _is_id(job_id) or not await self._is_in_use():
            return None
        job = await (await self._started()).find(job_id)
        if job is None:
            return None
        live = self.live_progress(job_id)
        return job.with_progress(await asyncio.to_thread(self.files.progress, job_id) if live is None else live)

    async def of_caller(self, caller: str, *, limit: int) -> Sequence[Job]:
        """A caller's jobs, the newest first."""
        if not await self._is_in_use():
            return []
        jobs = await (await self._started()).list(caller, limit=limit)
        return [job.with_progress(await asyncio.to_thread(self.files.progress, job.id)) for job in jobs]

    async def _is_in_use(self) -> bool:
        return (
            self._queue is not None
            or bool(self._settings.jobs_url)
            or await asyncio.to_thread(self.files.database.exists)
        )

    def live_progress(self, job_id: str) -> Progress | None:
        """The progress of a job that runs in this process."""
        found = self._runs.get(job_id)
        return found[0].live_progress if found else None

    async def result(self, job_id: str) -> bytes | None:
        """The JSON result of a completed job, as long as it is stored."""
        return await asyncio.to_thread(self.files.result, job_id)

    async def is_expired(self, job_id: str) -> bool:
        """Whether there was a job with this id, which has expired."""
        return _is_id(job_id) and await asyncio.to_thread(self.files.is_expired, job_id)

    async def cancel(self, job: Job) -> None:
        """Cancel a running or waiting job.

        Raises:
            ConflictError: the job is finished.
        """
        if job.is_over:
            raise ConflictError(f"The job is {job.status}, so it cannot be cancelled.", code="job_over")
        await (await self._started()).cancel(job.id)
        running = self._runs.get(job.id)
        if running is not None:
            running[1].cancel()
        self._notify(job.id)


def _is_id(text: str) -> bool:
    """Whether the text has the format of a job's id. Ids are used as file names."""
    return len(text) == _ID_CHARACTERS and text.isascii() and text.isalnum()


def storage_error(error: OSError) -> OverloadedError:
    """The error for a job whose files cannot be written."""
    logger.error("the folder for background jobs cannot be used: %s", error)
    return OverloadedError(
        f"The job was not accepted, because it cannot be stored: {error.strerror or error}. Try again later.",
        code="jobs_unavailable",
        retry_after_s=60.0,
    )
