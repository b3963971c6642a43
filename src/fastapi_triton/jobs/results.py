# SPDX-License-Identifier: Apache-2.0
"""What became of a job that is over: its answer as its endpoint would have given it, or the error."""

from typing import Any

import orjson
from starlette.responses import Response

from fastapi_triton.core import problem_details
from fastapi_triton.core.errors import ConflictError, FastAPITritonError, FieldProblem, GoneError
from fastapi_triton.jobs.interfaces import JobEndpoint
from fastapi_triton.jobs.job import Job

# Of an answer: it is one caller's, and in the form that was asked for.
HEADERS = {"Vary": "Accept", "Cache-Control": "no-store"}
RAW_HEADERS = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}


def reply(job: Job, result: bytes | None, endpoint: JobEndpoint | None, accept: str | None) -> Response:
    """The response with a finished job's answer; `result` is its JSON.

    Raises:
        FastAPITritonError: what the endpoint would have raised, where the job gave no answer.
        GoneError: the answer is not kept any longer.
        NotAcceptableError: it is not to be had in a format that the caller accepts.
    """
    if job.status != "completed":
        raise error_of(job)
    if result is None or endpoint is None:
        raise GoneError("The job's answer is not kept any longer.", code="job_expired")
    return endpoint.reply(result, accept)


def problem_of(job: Job) -> dict[str, Any]:
    """The problem object of a job that failed or was cancelled."""
    if job.problem is not None:
        return job.problem
    problem: dict[str, Any] = orjson.loads(problem_details.body(error_of(job)))
    return problem


def error_of(job: Job) -> FastAPITritonError:
    """The error that a job without an answer has instead: the one that its endpoint would have answered."""
    if job.status == "cancelled":
        return ConflictError("The job was cancelled, and has no answer.", code="job_cancelled")
    if job.problem is None:
        return FastAPITritonError(
            "The job failed: the process that ran it failed or was ended each time. The log has the reason under the "
            "job's id."
        )

    problem = job.problem

    class JobError(FastAPITritonError):
        status = problem["status"]

    return JobError(
        problem["detail"],
        code=problem["code"],
        problems=[FieldProblem(each["pointer"], each["code"], each["detail"]) for each in problem.get("errors", ())],
    )
