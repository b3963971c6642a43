# SPDX-License-Identifier: Apache-2.0
"""What a job that gave no answer has instead: its problem object, and the same as an error."""

from typing import Any

import orjson

from fastapi_triton import problems
from fastapi_triton.errors import ConflictError, FastAPITritonError, FieldProblem
from fastapi_triton.jobs.job import Job


def problem_of(job: Job) -> dict[str, Any]:
    """The problem object of a job that failed or was cancelled."""
    if job.problem is not None:
        return job.problem
    told: dict[str, Any] = orjson.loads(problems.body(error_of(job)))
    return told


def error_of(job: Job) -> FastAPITritonError:
    """What a caller meets who asks for the answer of such a job: what the endpoint would have answered."""
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
