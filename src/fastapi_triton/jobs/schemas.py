# SPDX-License-Identifier: Apache-2.0
"""A job as its caller reads it."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request

from fastapi_triton.core import paths
from fastapi_triton.jobs.job import Job, Status


class JobURLs(BaseModel):
    """Where more is to be had: the job itself, its events, and its answer."""

    job: str
    events: str
    result: str


class JobView(BaseModel):
    """A background job. Times are RFC 3339; what is not known yet is null.

    `runs` counts how often the model was begun with: more than once where something went away meanwhile. `waits_for`
    says in words why a queued job does not run. `error` is a failed job's problem object.
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
    error: dict[str, Any] | None
    urls: JobURLs


def view(job: Job, request: Request) -> dict[str, Any]:
    """The members of a `JobView`."""
    url = url_of(job, request)
    progress = job.progress
    return {
        "id": job.id,
        "status": job.status,
        "endpoint": job.path,
        "created": _time(job.created),
        "started": _time(progress.started),
        "finished": _time(job.finished),
        "runs": progress.runs,
        "step": progress.step,
        "num_steps": progress.num_steps,
        "waits_for": None if job.status != "queued" else progress.waits_for,
        "error": job.problem,
        "urls": {"job": url, "events": f"{url}/events", "result": f"{url}/result"},
    }


def url_of(job: Job, request: Request) -> str:
    """The job's path, with the prefix under which a proxy has the app."""
    return f"{request.scope.get('root_path', '')}{paths.JOBS}/{job.id}"


def _time(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
