# SPDX-License-Identifier: Apache-2.0
"""The JSON of a job in responses."""

from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel
from starlette.requests import Request

from fastapi_triton.core import paths
from fastapi_triton.jobs.job import Job, Status


class JobURLs(BaseModel):
    """The URLs of the job, its events and its result."""

    job: str
    events: str
    result: str


class JobView(BaseModel):
    """A background job. Times are in RFC 3339; unknown values are null.

    `runs` counts how often the job was started: more than once if a run was interrupted. `waits_for` says
    why a queued job does not run. `queue` has its position in the model's queue, and the estimates in seconds.
    `error` is the problem object of a failed job.
    """

    id: str
    status: Status
    endpoint: str
    created: str
    started: str | None
    finished: str | None
    runs: int
    step: int | None
    num_steps: int | None
    waits_for: str | None
    queue: dict[str, float] | None
    error: dict[str, Any] | None
    urls: JobURLs

    @classmethod
    def of(cls, job: Job, request: Request) -> Self:
        """The job, with URLs for the client of this request."""
        url, progress = url_of(job, request), job.progress
        return cls(
            id=job.id,
            status=job.status,
            endpoint=job.path,
            created=_time(job.created),
            started=_time(progress.started) if progress.started else None,
            finished=_time(job.finished) if job.finished else None,
            runs=progress.runs,
            step=progress.step,
            num_steps=progress.num_steps,
            waits_for=progress.waits_for if job.status == "queued" else None,
            queue=None if job.is_over else progress.place,
            error=job.problem,
            urls=JobURLs(job=url, events=f"{url}/events", result=f"{url}/result"),
        )


def url_of(job: Job, request: Request) -> str:
    """The job's path, with the path prefix of a proxy."""
    return f"{request.scope.get('root_path', '')}{paths.JOBS}/{job.id}"


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
