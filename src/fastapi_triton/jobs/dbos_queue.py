# SPDX-License-Identifier: Apache-2.0
"""The durable queue of jobs, which DBOS runs. Only this module uses DBOS.

DBOS has its own event loop and threads, so it neither blocks the app's loop nor changes its default executor. A process
can have one DBOS, so it has one queue.
"""

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import dbos
from sqlalchemy.exc import SQLAlchemyError

from fastapi_triton.core.errors import OverloadedError
from fastapi_triton.jobs.job import Job, Status
from fastapi_triton.jobs.sqlite_clock import with_clock

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Runs the job with this id and returns its outcome, a JSON object. If it is cancelled, the job will run again.
Run = Callable[[str], Coroutine[Any, Any, dict[str, Any]]]
# Sends a job's webhook: job id, URL, status. Raises an error if the receiver does not accept it.
Send = Callable[[str, str, str], Coroutine[Any, Any, None]]

_APPLICATION = "fastapi-triton"
_NAME = "jobs"
_WEBHOOKS = "webhooks"
_JOB = "job"
# These names are stored in databases: renaming them would lose webhooks that wait.
_WEBHOOK_WORKFLOW, _WEBHOOK_STEP = "told", "tell"
_MAX_WEBHOOKS_AT_ONCE = 4
_WEBHOOK_DELAY_S = 1.0
# Six attempts take about ten minutes.
_WEBHOOK_ATTEMPTS, _WEBHOOK_FIRST_S, _WEBHOOK_FACTOR = 6, 2.0, 4.0
# The version of the job files' format. DBOS runs only jobs that were enqueued under the same version.
_FORM = "1"
# A job that crashes its process each time is not started again after this many recoveries.
MAX_RECOVERIES = 10
# The interval of looking for queued jobs. Each look takes a millisecond.
_POLL_S = 0.25
_MAX_THREADS = 32
# The timeout for the database: long enough for SQLite's lock.
_DATABASE_TIMEOUT_S = 30.0

_STATUSES: dict[str, Status] = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "SUCCESS": "completed",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
    "CANCELLED": "cancelled",
}
_UNFINISHED = ["ENQUEUED", "DELAYED", "PENDING"]


class DurableQueue:
    """A queue that never loses a job. All methods raise `OverloadedError` if the database fails."""

    def __init__(self, url: str, *, executor_id: str, max_running: int, run: Run, send: Send) -> None:
        self._url = with_clock(url)
        self._executor_id = executor_id
        self._max_running = max_running
        self._run = run
        self._send = send
        self._workflow: Callable[..., Any] | None = None
        self._dbos: dbos.DBOS | None = None

    async def start(self) -> None:
        """Start to run the queued jobs."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._launch, loop)
        except (SQLAlchemyError, dbos.error.DBOSException) as error:
            await self.stop()
            raise _unavailable(error) from None

    async def stop(self) -> None:
        """Cancel the running jobs; they will run again."""
        if self._dbos is not None:
            await asyncio.to_thread(self._shut_down, self._dbos)
            self._dbos = None

    def _shut_down(self, launched: dbos.DBOS) -> None:
        # DBOS would stop its event loop before the threads that start jobs on it: a job could be stuck until a restart.
        for event in launched.background_thread_stop_events:
            event.set()
        for thread in threading.enumerate():
            if thread.name.startswith("queue-worker-"):
                thread.join(_DATABASE_TIMEOUT_S)
        dbos.DBOS.destroy(destroy_registry=True)

    def _launch(self, loop: asyncio.AbstractEventLoop) -> None:
        _drop_harmless_logs()
        self._register()
        self._dbos = dbos.DBOS(
            config={
                "name": _APPLICATION,
                "system_database_url": self._url,
                "application_version": _FORM,
                "executor_id": self._executor_id,
                "serializer": dbos.DBOSPortableJSONSerializer(),  # the default is pickle
                "log_level": "WARNING",
                "max_executor_threads": _MAX_THREADS,
                "use_listen_notify": False,
            }
        )

        @dbos.DBOS.step(name="run", preemptible=True)
        async def step(job_id: str) -> dict[str, Any]:
            return await _in_app_loop(loop, self._run(job_id))

        webhooks = self._register_webhooks(loop)

        @dbos.DBOS.workflow(name=_JOB, max_recovery_attempts=MAX_RECOVERIES)
        async def job(path: str, fingerprint: str, created: float, webhook: str) -> dict[str, Any]:
            del path, fingerprint, created  # DBOS stores them with the job, for `_job_of`
            job_id = dbos.DBOS.workflow_id or ""
            outcome = await step(job_id)
            if webhook:
                status = "failed" if "problem" in outcome else "completed"
                # Delayed, so that the job is finished when the receiver requests it.
                with (
                    dbos.SetWorkflowID(f"{job_id}-{_WEBHOOK_WORKFLOW}"),
                    dbos.SetEnqueueOptions(delay_seconds=_WEBHOOK_DELAY_S),
                ):
                    await dbos.DBOS.enqueue_workflow_async(_WEBHOOKS, webhooks, job_id, webhook, status)
            return outcome

        self._workflow = job
        dbos.DBOS.launch()

    def _register_webhooks(self, loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
        @dbos.DBOS.step(
            name=_WEBHOOK_STEP,
            retries_allowed=True,
            max_attempts=_WEBHOOK_ATTEMPTS,
            interval_seconds=_WEBHOOK_FIRST_S,
            backoff_rate=_WEBHOOK_FACTOR,
        )
        async def step(job_id: str, url: str, status: str) -> None:
            await _in_app_loop(loop, self._send(job_id, url, status))

        @dbos.DBOS.workflow(name=_WEBHOOK_WORKFLOW, max_recovery_attempts=MAX_RECOVERIES)
        async def send(job_id: str, url: str, status: str) -> None:
            try:
                await step(job_id, url, status)
            except dbos.error.DBOSMaxStepRetriesExceeded as error:
                logger.warning("job %s: its webhook was not delivered: %s", job_id, error.errors[-1])

        return send

    def _register(self) -> None:
        """Register the queues before the launch. DBOS needs a second to find a queue that is registered later."""
        dbos.DBOS.migrate(self._url)
        client = dbos.DBOSClient(system_database_url=self._url, application_name=_APPLICATION)
        try:
            client.register_queue(_NAME, worker_concurrency=self._max_running, polling_interval_sec=_POLL_S)
            client.register_queue(_WEBHOOKS, worker_concurrency=_MAX_WEBHOOKS_AT_ONCE, polling_interval_sec=1.0)
        finally:
            client.destroy()

    async def add(self, job_id: str, *, caller: str, path: str, fingerprint: str, webhook: str = "") -> None:
        """Add a job durably. If a job with this id exists, nothing changes."""

        def enqueue() -> None:
            if self._workflow is None:
                raise RuntimeError("the queue has not been started")
            with dbos.SetWorkflowID(job_id), dbos.DBOSContextSetAuth(caller, None):
                dbos.DBOS.enqueue_workflow(_NAME, self._workflow, path, fingerprint, time.time(), webhook)

        await _in_thread(enqueue)

    async def find(self, job_id: str) -> Job | None:
        """The job with this id, without its progress."""
        found = await _in_thread(dbos.DBOS.list_workflows, workflow_ids=[job_id])
        return _job_of(found[0]) if found else None

    async def list(self, caller: str, *, limit: int) -> list[Job]:
        """A caller's jobs, the newest first."""
        found = await _in_thread(dbos.DBOS.list_workflows, name=_JOB, user=caller, limit=limit, sort_desc=True)
        return [_job_of(each) for each in found]

    async def count_unfinished(self, *, caller: str | None = None, limit: int) -> int:
        """The number of waiting and running jobs of one caller, or of all callers; at most `limit`."""
        found = await _in_thread(
            dbos.DBOS.list_workflows,
            name=_JOB,
            status=_UNFINISHED,
            user=caller,
            limit=limit,
            load_input=False,
            load_output=False,
        )
        return len(found)

    async def finished_before(self, moment: float, *, limit: int) -> Sequence[str]:
        """The ids of jobs that finished before this moment."""
        found = await _in_thread(
            dbos.DBOS.list_workflows,
            name=_JOB,
            completed_before=datetime.fromtimestamp(moment, UTC).isoformat(),
            limit=limit,
            load_input=False,
            load_output=False,
        )
        return [each.workflow_id for each in found]

    async def cancel(self, job_id: str) -> None:
        """Cancel an unfinished job. If it runs in another process, it stops within a second."""
        await _in_thread(dbos.DBOS.cancel_workflow, job_id)

    async def delete(self, job_id: str) -> None:
        await _in_thread(dbos.DBOS.delete_workflow, job_id, delete_children=True)

    async def take_over(self, executor_ids: Sequence[str]) -> bool:
        """Requeue the jobs of dead processes. Returns whether all of their jobs are requeued."""
        # DBOS does it for its own executor id when it starts, and for others when its paid service says so. Its method
        # for both is private, so the version of DBOS is pinned. The public `resume_workflows` does not check that no
        # other process has taken the job meanwhile, and does not count recoveries.
        ids = list(executor_ids)
        await _in_thread(dbos.DBOS._recover_pending_workflows, ids)
        left = await _in_thread(dbos.DBOS.list_workflows, status="PENDING", executor_id=ids, limit=1, load_input=False)
        return not left


async def _in_thread(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call a function of DBOS in a thread.

    Raises:
        OverloadedError: the database failed, or did not respond in time.
    """
    try:
        async with asyncio.timeout(_DATABASE_TIMEOUT_S):
            return await asyncio.to_thread(function, *arguments, **options)
    except (SQLAlchemyError, TimeoutError) as error:
        raise _unavailable(error) from None


async def _in_app_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the app's event loop. Cancelling this call cancels it.

    It runs in an empty context: in DBOS's own, DBOS would record each call as a step of the job.
    """
    return await asyncio.wrap_future(contextvars.Context().run(asyncio.run_coroutine_threadsafe, work, loop))


def _unavailable(error: Exception) -> OverloadedError:
    logger.error("the database for background jobs failed: %s", error)
    return OverloadedError(
        "The database for background jobs is not available. Try again later.",
        code="jobs_unavailable",
        retry_after_s=10.0,
    )


def _job_of(found: dbos.WorkflowStatus) -> Job:
    path, fingerprint, created, _ = found.input["args"] if found.input else ("", "", 0.0, "")
    outcome = found.output if isinstance(found.output, dict) else {}
    problem = outcome.get("problem")
    # SQLite's clock has whole seconds only.
    finished = outcome.get("finished") or (found.completed_at / 1000 if found.completed_at else None)
    return Job(
        found.workflow_id,
        caller=found.authenticated_user or "",
        path=path,
        fingerprint=fingerprint,
        status="failed" if problem else _STATUSES[found.status],
        created=created,
        finished=finished,
        problem=problem,
    )


def _drop_harmless_logs() -> None:
    """Send DBOS's log to the app's log, without the harmless lines about cancelled runs."""
    log = logging.getLogger("dbos")
    log.setLevel(logging.WARNING)
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # without a handler, DBOS adds one that writes to the terminal
        log.addFilter(_is_harmful)


def _is_harmful(record: logging.LogRecord) -> bool:
    text = str(record.msg)
    error = record.exc_info[1] if record.exc_info else None
    return (
        " was cancelled during execution" not in text
        and not text.startswith("Asyncio task cancelled")
        and not isinstance(error, dbos.error.DBOSAwaitedWorkflowCancelledError)
    )
