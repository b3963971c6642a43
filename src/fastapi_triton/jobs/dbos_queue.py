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
from fastapi_triton.jobs.job import Row, RowStatus

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Runs the job of this id, and gives what became of it as a JSON object; cancelled, it leaves the job to be run again.
Run = Callable[[str], Coroutine[Any, Any, dict[str, Any]]]
# Tells the server at a URL that the job of this id has come to this end; fails where it was not taken.
Tell = Callable[[str, str, str], Coroutine[Any, Any, None]]

_APPLICATION = "fastapi-triton"
_NAME = "jobs"
_WEBHOOKS = "webhooks"
_JOB = "job"
_MAX_TELLING = 4
_TELL_DELAY_S = 1.0
# Over about ten minutes.
_TELL_ATTEMPTS, _TELL_FIRST_S, _TELL_FACTOR = 6, 2.0, 4.0
# DBOS runs only what was enqueued under the app's own version. What a job needs of us is the form of its files.
_FORM = "1"
# A job that takes the whole process with it each time is not begun with for ever.
MAX_RECOVERIES = 10
# How soon a job is seen. Each look is a millisecond of work.
_POLL_S = 0.25
_MAX_THREADS = 32
# Long enough for SQLite's lock to be free; a database that is away is not waited for.
_PATIENCE_S = 30.0

_STATUSES: dict[str, RowStatus] = {
    "ENQUEUED": "waiting",
    "DELAYED": "waiting",
    "PENDING": "taken",
    "SUCCESS": "done",
    "ERROR": "broken",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "broken",
    "CANCELLED": "cancelled",
}
_UNDONE = ["ENQUEUED", "DELAYED", "PENDING"]


class DurableQueue:
    """Jobs that are not lost once they are added. Every method may raise `OverloadedError` where the database fails."""

    def __init__(self, url: str, *, executor_id: str, max_running: int, run: Run, tell: Tell) -> None:
        self._url = url
        self._executor_id = executor_id
        self._max_running = max_running
        self._run = run
        self._tell = tell
        self._workflow: Callable[..., Any] | None = None
        self._dbos: dbos.DBOS | None = None

    async def start(self) -> None:
        """Begin to run what waits."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._launch, loop)
        except (SQLAlchemyError, dbos.error.DBOSException) as error:
            await self.stop()
            raise _unavailable(error) from None

    async def stop(self) -> None:
        """What runs is cancelled here, and left to be run again."""
        if self._dbos is not None:
            await asyncio.to_thread(self._end, self._dbos)
            self._dbos = None

    def _end(self, launched: dbos.DBOS) -> None:
        # DBOS ends the event loop of its runs before the threads that begin them, which would lose one until a restart.
        for event in launched.background_thread_stop_events:
            event.set()
        for thread in threading.enumerate():
            if thread.name.startswith("queue-worker-"):
                thread.join(_PATIENCE_S)
        dbos.DBOS.destroy(destroy_registry=True)

    def _launch(self, loop: asyncio.AbstractEventLoop) -> None:
        _quieten()
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
            return await _over_there(loop, self._run(job_id))

        told = self._register_webhooks(loop)

        @dbos.DBOS.workflow(name=_JOB, max_recovery_attempts=MAX_RECOVERIES)
        async def job(path: str, fingerprint: str, created: float, webhook: str) -> dict[str, Any]:
            del path, fingerprint, created  # kept with the job, for `_row_of`
            job_id = dbos.DBOS.workflow_id or ""
            outcome = await step(job_id)
            if webhook:
                status = "failed" if "problem" in outcome else "completed"
                # A moment later, so that who is told finds the job over.
                with dbos.SetWorkflowID(f"{job_id}-told"), dbos.SetEnqueueOptions(delay_seconds=_TELL_DELAY_S):
                    await dbos.DBOS.enqueue_workflow_async(_WEBHOOKS, told, job_id, webhook, status)
            return outcome

        self._workflow = job
        dbos.DBOS.launch()

    def _register_webhooks(self, loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
        @dbos.DBOS.step(
            name="tell",
            retries_allowed=True,
            max_attempts=_TELL_ATTEMPTS,
            interval_seconds=_TELL_FIRST_S,
            backoff_rate=_TELL_FACTOR,
        )
        async def step(job_id: str, url: str, status: str) -> None:
            await _over_there(loop, self._tell(job_id, url, status))

        @dbos.DBOS.workflow(name="told", max_recovery_attempts=MAX_RECOVERIES)
        async def told(job_id: str, url: str, status: str) -> None:
            try:
                await step(job_id, url, status)
            except dbos.error.DBOSMaxStepRetriesExceeded as error:
                logger.warning("job %s: nobody took its webhook: %s", job_id, error.errors[-1])

        return told

    def _register(self) -> None:
        """Ahead of the launch, since a queue that comes later is found only a second later."""
        dbos.DBOS.migrate(self._url)
        client = dbos.DBOSClient(system_database_url=self._url, application_name=_APPLICATION)
        try:
            client.register_queue(_NAME, worker_concurrency=self._max_running, polling_interval_sec=_POLL_S)
            client.register_queue(_WEBHOOKS, worker_concurrency=_MAX_TELLING, polling_interval_sec=1.0)
        finally:
            client.destroy()

    async def add(self, job_id: str, *, caller: str, path: str, fingerprint: str, webhook: str = "") -> None:
        """It is durably there when this returns. An id that is there already stays as it is."""

        def enqueue() -> None:
            if self._workflow is None:
                raise RuntimeError("the queue has not been started")
            with dbos.SetWorkflowID(job_id), dbos.DBOSContextSetAuth(caller, None):
                dbos.DBOS.enqueue_workflow(_NAME, self._workflow, path, fingerprint, time.time(), webhook)

        await _asked(enqueue)

    async def find(self, job_id: str) -> Row | None:
        return await _asked(self._row, job_id)

    def _row(self, job_id: str) -> Row | None:
        found = dbos.DBOS.list_workflows(workflow_ids=[job_id])
        return _row_of(found[0]) if found else None

    async def list(self, caller: str, *, limit: int) -> list[Row]:
        """A caller's jobs, the newest first."""
        found = await _asked(dbos.DBOS.list_workflows, name=_JOB, user=caller, limit=limit, sort_desc=True)
        return [_row_of(each) for each in found]

    async def undone(self, *, caller: str | None = None, limit: int) -> int:
        """How many wait or run, of one caller or in all; no more than `limit` are counted."""
        found = await _asked(
            dbos.DBOS.list_workflows,
            name=_JOB,
            status=_UNDONE,
            user=caller,
            limit=limit,
            load_input=False,
            load_output=False,
        )
        return len(found)

    async def over_since(self, moment: float, *, limit: int) -> Sequence[str]:
        """The jobs that were over before this moment."""
        found = await _asked(
            dbos.DBOS.list_workflows,
            name=_JOB,
            completed_before=datetime.fromtimestamp(moment, UTC).isoformat(),
            limit=limit,
            load_input=False,
            load_output=False,
        )
        return [each.workflow_id for each in found]

    async def cancel(self, job_id: str) -> None:
        """One that is over stays as it is. A run in another process ends within a second."""
        await _asked(dbos.DBOS.cancel_workflow, job_id)

    async def delete(self, job_id: str) -> None:
        await _asked(dbos.DBOS.delete_workflow, job_id, delete_children=True)

    async def take_over(self, executor_ids: Sequence[str]) -> bool:
        """Put back what these processes left; each of them must be dead. Gives whether nothing is left."""
        # DBOS does it for its own executor id at its start, and for others on a paid service's word; the method by
        # which it does both is not public, which is why the version is pinned.
        ids = list(executor_ids)
        await _asked(dbos.DBOS._recover_pending_workflows, ids)
        left = await _asked(dbos.DBOS.list_workflows, status="PENDING", executor_id=ids, limit=1, load_input=False)
        return not left


async def _asked(question: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """What DBOS says, asked in a thread."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await asyncio.to_thread(question, *arguments, **options)
    except (SQLAlchemyError, TimeoutError) as error:
        raise _unavailable(error) from None


async def _over_there(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """The result of work in the app's event loop; cancelled with this.

    It begins without what DBOS knows in this context: over there it would take every question for a part of the job.
    """
    return await asyncio.wrap_future(contextvars.Context().run(asyncio.run_coroutine_threadsafe, work, loop))


def _unavailable(error: Exception) -> OverloadedError:
    logger.error("the database of the background jobs: %s", error)
    return OverloadedError(
        "The database of the background jobs cannot be used just now. Try again later.",
        code="jobs_unavailable",
        retry_after_s=10.0,
    )


def _row_of(found: dbos.WorkflowStatus) -> Row:
    path, fingerprint, created, _ = found.input["args"] if found.input else ("", "", 0.0, "")
    outcome = found.output if isinstance(found.output, dict) else {}
    # SQLite's clock knows whole seconds only.
    finished = outcome.get("finished") or (found.completed_at / 1000 if found.completed_at else None)
    return Row(
        found.workflow_id,
        caller=found.authenticated_user or "",
        path=path,
        fingerprint=fingerprint,
        status=_STATUSES[found.status],
        created=created,
        finished=finished,
        problem=outcome.get("problem"),
    )


def _quieten() -> None:
    """Its lines go where ours go, without those that tell of what is no trouble."""
    log = logging.getLogger("dbos")
    log.setLevel(logging.WARNING)
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # or else it writes to the terminal itself
        log.addFilter(_is_trouble)


def _is_trouble(record: logging.LogRecord) -> bool:
    """What is said of a run that was cancelled is none."""
    told = str(record.msg)
    error = record.exc_info[1] if record.exc_info else None
    return (
        " was cancelled during execution" not in told
        and not told.startswith("Asyncio task cancelled")
        and not isinstance(error, dbos.error.DBOSAwaitedWorkflowCancelledError)
    )
