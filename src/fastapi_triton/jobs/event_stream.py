# SPDX-License-Identifier: Apache-2.0
"""A job's events, from the moment a client listens: the same that its endpoint would send."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import orjson

from fastapi_triton.core.errors import GoneError
from fastapi_triton.endpoints.interfaces import COMPLETED, PROGRESS
from fastapi_triton.endpoints.sse import QUEUED, Event, EventsResponse
from fastapi_triton.jobs.job import Job, Progress
from fastapi_triton.jobs.manager import Jobs
from fastapi_triton.jobs.results import problem_of

# A job may run in another process, which reports its progress by files only.
_LOOK_S = 0.5


def events_response(jobs: Jobs, job: Job) -> EventsResponse:
    """The job's events as a response. The job goes on if the client leaves."""
    return EventsResponse(events(jobs, job), heartbeat_interval_s=jobs.event_heartbeat_s)


async def events(jobs: Jobs, job: Job) -> AsyncGenerator[Event, None]:
    """The present state at once, what follows as it comes; the last is `completed` with the JSON answer, or `error`."""
    sent: Event | None = None
    while True:
        event = await _event(jobs, job)
        if event != sent:
            yield event
            sent = event
        if job.is_over:
            return
        job = await _next(jobs, job)


async def until_over(jobs: Jobs, job: Job) -> Job:
    """The job when it is over."""
    while not job.is_over:
        job = await _next(jobs, job)
    return job


async def _next(jobs: Jobs, job: Job) -> Job:
    """The job, once there may be something new."""
    await jobs.changed(job.id, within_s=_LOOK_S)
    live = jobs.live_progress(job.id)
    if live is not None:  # it runs here, so this is the newest
        return replace(job, status="running" if live.is_running else "queued", progress=live)
    found = await jobs.find(job.id)
    if found is None:
        raise GoneError("The job is not kept any longer.", code="job_expired")
    return found


async def _event(jobs: Jobs, job: Job) -> Event:
    if job.status == "completed":
        result = await jobs.result(job.id)
        if result is None:
            raise GoneError("The job's answer is not kept any longer.", code="job_expired")
        return Event(COMPLETED, result.decode())
    if job.is_over:
        return Event("error", orjson.dumps(problem_of(job)).decode())
    if job.status == "running" and job.progress.step is not None:
        return Event(PROGRESS, orjson.dumps(_progress(job.progress)).decode())
    return Event(QUEUED, "{}")


def _progress(progress: Progress) -> dict[str, Any]:
    members = {"step": progress.step, "num_steps": progress.num_steps, "preview": progress.preview}
    return {name: value for name, value in members.items() if value is not None}
