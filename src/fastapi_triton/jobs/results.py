# SPDX-License-Identifier: Apache-2.0
"""The result of a finished job: the response of its endpoint, or the error."""

from typing import Any

import orjson
from starlette.responses import Response

from fastapi_triton.core import problem_details
from fastapi_triton.core.errors import ConflictError, FastAPITritonError, FieldProblem, GoneError
from fastapi_triton.jobs.interfaces import JobEndpoint
from fastapi_triton.jobs.job import Job

# A result belongs to one caller, and its format depends on `Accept`.
HEADERS = {"Vary": "Accept", "Cache-Control": "no-store"}
RAW_HEADERS = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}


def reply(job: Job, result: bytes | None, endpoint: JobEndpoint | None, accept: str | None) -> Response:
    """The response with a finished job's result; `result` is its JSON.

    Raises:
        FastAPITritonError: the endpoint's error, if the job failed.
        GoneError: the result is no longer stored.
        NotAcceptableError: the client accepts none of the possible formats.
    """
    if job.status != "completed":
        raise error_of(job)
    if result is None or endpoint is None:
        raise GoneError("The job's result is no longer stored.", code="job_expired")
    return endpoint.reply(result, accept)


def problem_of(job: Job) -> dict[str, Any]:
    """The problem object of a job that failed or was cancelled."""
    if job.problem is not None:
        return job.problem
    problem: dict[str, Any] = orjson.loads(problem_details.body(error_of(job)))
    return problem


def error_of(job: Job) -> FastAPITritonError:
    """The error of a job that failed or was cancelled. A failed job has the error of its endpoint."""
    if job.status == "cancelled":
        return ConflictError("The job was cancelled and has no result.", code="job_cancelled")
    if job.problem is None:
        return FastAPITritonError(
            "The job failed: each process that ran it crashed or was killed. The log has the reason under the job's id."
        )

    problem = job.problem

    class JobError(FastAPITritonError):
        status = problem["status"]

    return JobError(
        problem["detail"],
        code=problem["code"],
        problems=[FieldProblem(each["pointer"], each["code"], each["detail"]) for each in problem.get("errors", ())],
    )
