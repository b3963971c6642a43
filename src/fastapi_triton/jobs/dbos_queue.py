# SPDX-License-Identifier: Apache-2.0
"""The durable queue: which jobs there are, and who runs them. DBOS keeps it, and only this module knows DBOS.

DBOS has an event loop and threads of its own, so that it neither blocks the app's loop nor changes its default
executor. It is one per process, and so is the queue.
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

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Runs the job of this id and returns its outcome, a JSON object. If it is cancelled, the job will run again.
Run = Callable[[str], Coroutine[Any, Any, dict[str, Any]]]
# Sends a job's webhook: its id, the URL, its status. Raises where the receiver does not accept it.
Send = Callable[[str, str, str], Coroutine[Any, Any, None]]

_APPLICATION = "fastapi-triton"
_NAME = "jobs"
_WEBHOOKS = "webhooks"
_JOB = "job"
_MAX_WEBHOOKS_AT_ONCE = 4
_WEBHOOK_DELAY_S = 1.0
# Over about ten minutes.
_WEBHOOK_ATTEMPTS, _WEBHOOK_FIRST_S, _WEBHOOK_FACTOR = 6, 2.0, 4.0
# DBOS runs only jobs that were enqueued under the same version: that of the form of their files.
_FORM = "1"
# A job that kills its process each time is not started for ever.
MAX_RECOVERIES = 10
# How soon a job is found. Each look takes a millisecond.
_POLL_S = 0.25
_MAX_THREADS = 32
# Long enough for SQLite's lock. A database that is away for longer is an error.
_PATIENCE_S = 30.0

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
    """Jobs that are not lost once they are added. Every method may raise `OverloadedError` where the database fails."""

    def __init__(self, url: str, *, executor_id: str, max_running: int, run: Run, send: Send) -> None:
        self._url = url
        self._executor_id = executor_id
        self._max_running = max_running
        self._run = run
        self._send = send
        self._workflow: Callable[..., Any] | None = None
        self._dbos: dbos.DBOS | None = None

    async def start(self) -> None:
        """Begin to run the jobs that wait."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._launch, loop)
        except (SQLAlchemyError, dbos.error.DBOSException) as error:
            await self.stop()
            raise _unavailable(error) from None

    async def stop(self) -> None:
        """Cancel the running jobs; they will run again."""
        if self._dbos is not None:
            await asyncio.to_thread(self._end, self._dbos)
            self._dbos = None

    def _end(self, launched: dbos.DBOS) -> None:
        # DBOS ends its event loop before the threads that start jobs on it, which would lose one until a restart.
        for event in launched.background_thread_stop_events:
            event.set()
        for thread in threading.enumerate():
            if thread.name.startswith("queue-worker-"):
                thread.join(_PATIENCE_S)
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
            del path, fingerprint, created  # kept with the job, for `_job_of`
            job_id = dbos.DBOS.workflow_id or ""
            outcome = await step(job_id)
            if webhook:
                status = "failed" if "problem" in outcome else "completed"
                # A moment later, so that the receiver finds the job finished.
                with dbos.SetWorkflowID(f"{job_id}-told"), dbos.SetEnqueueOptions(delay_seconds=_WEBHOOK_DELAY_S):
                    await dbos.DBOS.enqueue_workflow_async(_WEBHOOKS, webhooks, job_id, webhook, status)
            return outcome

        self._workflow = job
        dbos.DBOS.launch()

    def _register_webhooks(self, loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
        @dbos.DBOS.step(
            name="tell",
            retries_allowed=True,
            max_attempts=_WEBHOOK_ATTEMPTS,
            interval_seconds=_WEBHOOK_FIRST_S,
            backoff_rate=_WEBHOOK_FACTOR,
        )
        async def step(job_id: str, url: str, status: str) -> None:
            await _in_app_loop(loop, self._send(job_id, url, status))

        @dbos.DBOS.workflow(name="told", max_recovery_attempts=MAX_RECOVERIES)
        async def told(job_id: str, url: str, status: str) -> None:
            try:
                await step(job_id, url, status)
            except dbos.error.DBOSMaxStepRetriesExceeded as error:
                logger.warning("job %s: nobody took its webhook: %s", job_id, error.errors[-1])

        return told

    def _register(self) -> None:
        """Register the queues before the launch: DBOS finds a later one only after a second."""
        dbos.DBOS.migrate(self._url)
        client = dbos.DBOSClient(system_database_url=self._url, application_name=_APPLICATION)
        try:
            client.register_queue(_NAME, worker_concurrency=self._max_running, polling_interval_sec=_POLL_S)
            client.register_queue(_WEBHOOKS, worker_concurrency=_MAX_WEBHOOKS_AT_ONCE, polling_interval_sec=1.0)
        finally:
            client.destroy()

    async def add(self, job_id: str, *, caller: str, path: str, fingerprint: str, webhook: str = "") -> None:
        """Add a job durably. A job that exists already stays as it is."""

        def enqueue() -> None:
            if self._workflow is None:
                raise RuntimeError("the queue has not been started")
            with dbos.SetWorkflowID(job_id), dbos.DBOSContextSetAuth(caller, None):
                dbos.DBOS.enqueue_workflow(_NAME, self._workflow, path, fingerprint, time.time(), webhook)

        await _in_thread(enqueue)

    async def find(self, job_id: str) -> Job | None:
        found = await _in_thread(dbos.DBOS.list_workflows, workflow_ids=[job_id])
        return _job_of(found[0]) if found else None

    async def list(self, caller: str, *, limit: int) -> list[Job]:
        """A caller's jobs, the newest first."""
        found = await _in_thread(dbos.DBOS.list_workflows, name=_JOB, user=caller, limit=limit, sort_desc=True)
        return [_job_of(each) for each in found]

    async def count_unfinished(self, *, caller: str | None = None, limit: int) -> int:
        """The number of jobs that wait or run, of one caller or of all; `limit` at most."""
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
        """Cancel a job that is not finished. A run in another process ends within a second."""
        await _in_thread(dbos.DBOS.cancel_workflow, job_id)

    async def delete(self, job_id: str) -> None:
        await _in_thread(dbos.DBOS.delete_workflow, job_id, delete_children=True)

    async def take_over(self, executor_ids: Sequence[str]) -> bool:
        """Requeue the jobs of these processes, all of which must be dead. Returns whether none is left."""
        # DBOS does it for its own executor id at its start, and for others at the word of its paid service. The method
        # for both is private, so the version is pinned. The public `resume_workflows` does not look whether another
        # process has taken the job meanwhile, and forgets how often it was recovered.
        ids = list(executor_ids)
        await _in_thread(dbos.DBOS._recover_pending_workflows, ids)
        left = await _in_thread(dbos.DBOS.list_workflows, status="PENDING", executor_id=ids, limit=1, load_input=False)
        return not left


async def _in_thread(question: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call DBOS in a thread."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await asyncio.to_thread(question, *arguments, **options)
    except (SQLAlchemyError, TimeoutError) as error:
        raise _unavailable(error) from None


async def _in_app_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run work in the app's event loop, and cancel it when this is cancelled.

    It gets an empty context: with DBOS's own, DBOS would record each call as a step of the job.
    """
    return await asyncio.wrap_future(contextvars.Context().run(asyncio.run_coroutine_threadsafe, work, loop))


def _unavailable(error: Exception) -> OverloadedError:
    logger.error("the database of the background jobs: %s", error)
    return OverloadedError(
        "The database of the background jobs cannot be used just now. Try again later.",
        code="jobs_unavailable",
        retry_after_s=10.0,
    )


def _job_of(found: dbos.WorkflowStatus) -> Job:
    path, fingerprint, created, _ = found.input["args"] if found.input else ("", "", 0.0, "")
    outcome = found.output if isinstance(found.output, dict) else {}
    problem = outcome.get("problem")
    # SQLite's clock knows whole seconds only.
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
    """Send DBOS's log to ours, without the lines about cancelled runs, which are harmless."""
    log = logging.getLogger("dbos")
    log.setLevel(logging.WARNING)
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # or else it writes to the terminal itself
        log.addFilter(_is_harmful)


def _is_harmful(record: logging.LogRecord) -> bool:
    text = str(record.msg)
    error = record.exc_info[1] if record.exc_info else None
    return (
        " was cancelled during execution" not in text
        and not text.startswith("Asyncio task cancelled")
        and not isinstance(error, dbos.error.DBOSAwaitedWorkflowCancelledError)
    )
