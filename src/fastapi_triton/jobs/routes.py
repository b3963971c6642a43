# SPDX-License-Identifier: Apache-2.0
"""`/jobs`: the state, the events and the result of background jobs, and their cancellation."""

import importlib.util
import logging
from collections.abc import Callable, Sequence

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.core import paths
from fastapi_triton.core.context import current_caller
from fastapi_triton.core.errors import ConflictError, GoneError, NotAllowedError, NotFoundError, shown
from fastapi_triton.core.settings import Settings
from fastapi_triton.endpoints import openapi
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.generated.endpoint import GeneratedEndpoint
from fastapi_triton.endpoints.generated.infer_path import InferPath
from fastapi_triton.jobs.declared import DeclaredJobs
from fastapi_triton.jobs.event_stream import events_response
from fastapi_triton.jobs.generated import GeneratedJobs
from fastapi_triton.jobs.interfaces import JobEndpoint
from fastapi_triton.jobs.job import Job
from fastapi_triton.jobs.manager import Jobs
from fastapi_triton.jobs.results import reply
from fastapi_triton.jobs.schemas import JobView
from fastapi_triton.jobs.submission import Submissions

logger = logging.getLogger(__name__)

MAX_LISTED = 100


class JobList(BaseModel):
    """The caller's own jobs, the newest first; at most 100."""

    jobs: list[JobView]


def mount(
    app: FastAPI, endpoints: Sequence[InferEndpoint], generated: GeneratedEndpoint | None, settings: Settings
) -> Jobs | None:
    """Add `/jobs` to the app, and let generated endpoints create jobs. `endpoints` may still grow.

    Returns None if background jobs are off.
    """
    if not settings.jobs_folder:
        return None
    if importlib.util.find_spec("dbos") is None:
        logger.warning(
            "background jobs are off: jobs_folder is set, but the package dbos is not installed. "
            "Run: pip install 'fastapi-triton[jobs]'"
        )
        return None

    def find(path: str) -> JobEndpoint | None:
        for endpoint in endpoints:
            if endpoint.path == path:
                return DeclaredJobs(endpoint)
        address = InferPath.of(path)
        return GeneratedJobs(generated, address) if generated is not None and address is not None else None

    jobs = Jobs(settings, find)
    app.include_router(router(jobs, find))
    if generated is not None:
        generated.jobs = lambda address: Submissions(jobs, GeneratedJobs(generated, address))
    return jobs


def enable_jobs(endpoint: InferEndpoint, jobs: Jobs) -> None:
    """Let a declared endpoint create jobs."""
    endpoint.jobs = Submissions(jobs, DeclaredJobs(endpoint))


def router(jobs: Jobs, find_endpoint: Callable[[str], JobEndpoint | None]) -> APIRouter:
    """The routes under `/jobs`."""
    own_jobs = _OwnJobs(jobs, find_endpoint)
    routes = APIRouter(prefix=paths.JOBS, tags=["jobs"])

    @routes.get("", summary="List the caller's own jobs", responses=openapi.errors(403, 503))
    async def own(request: Request) -> JobList:
        return JobList(jobs=[JobView.of(each, request) for each in await own_jobs.own()])

    @routes.get("/{job_id}", summary="Get a job", responses=openapi.errors(404, 410, 503))
    async def one(request: Request, job_id: str) -> JobView:
        return JobView.of(await own_jobs.find(job_id), request)

    @routes.get(
        "/{job_id}/events", response_model=None, summary="Follow a job's events", responses=openapi.job_events()
    )
    async def follow(job_id: str) -> Response:
        return events_response(jobs, await own_jobs.find(job_id))

    @routes.get(
        "/{job_id}/result",
        response_model=None,
        summary="Get a job's result: the response of its endpoint",
        responses=openapi.job_result(),
    )
    async def result(request: Request, job_id: str) -> Response:
        return await own_jobs.result(job_id, request.headers.get("accept"))

    @routes.delete("/{job_id}", status_code=204, summary="Cancel a job", responses=openapi.errors(404, 409, 410, 503))
    async def cancel(job_id: str) -> Response:
        await jobs.cancel(await own_jobs.find(job_id))
        return Response(status_code=204)

    return routes


class _OwnJobs:
    """The jobs of the current caller."""

    def __init__(self, jobs: Jobs, find_endpoint: Callable[[str], JobEndpoint | None]) -> None:
        self._jobs = jobs
        self._find_endpoint = find_endpoint

    async def own(self) -> Sequence[Job]:
        caller = current_caller.get().name
        if _is_anonymous(caller):
            raise NotAllowedError(
                "Listing jobs needs an API key, which identifies their owner. Without one, use the jobs' ids.",
                code="not_listed",
            )
        return await self._jobs.of_caller(caller, limit=MAX_LISTED)

    async def find(self, job_id: str) -> Job:
        job = await self._jobs.find(job_id)
        if job is not None and _is_own(job):
            return job
        if job is None and await self._jobs.is_expired(job_id):
            raise GoneError(
                f"The job {shown(job_id)} has expired: finished jobs are stored for a limited time.", code="job_expired"
            )
        raise NotFoundError(f"You have no job `{shown(job_id)}`.", code="job_not_found")

    async def result(self, job_id: str, accept: str | None) -> Response:
        job = await self.find(job_id)
        if not job.is_over:
            raise ConflictError(
                f"The job is {job.status}; it has no result yet.", code="job_unfinished", retry_after_s=1.0
            )
        return reply(job, await self._jobs.result(job.id), self._find_endpoint(job.path), accept)


def _is_anonymous(caller: str) -> bool:
    return caller.startswith("address:")


def _is_own(job: Job) -> bool:
    """Whether the caller may see the job. Without API keys, everyone who knows its id may see it."""
    return _is_anonymous(job.caller) or job.caller == current_caller.get().name
