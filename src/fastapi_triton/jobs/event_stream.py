# SPDX-License-Identifier: Apache-2.0
"""A job's events, from the moment that a client connects. They are the events of the job's endpoint."""

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

# The poll interval: a job may run in another process, which reports its progress in files only.
_POLL_S = 0.5


def events_response(jobs: Jobs, job: Job) -> EventsResponse:
    """The job's events as a response. Closing the connection does not cancel the job."""
    return EventsResponse(events(jobs, job), heartbeat_interval_s=jobs.event_heartbeat_s)


async def events(jobs: Jobs, job: Job) -> AsyncGenerator[Event, None]:
    """Yields the current state at once, then each change. Ends with `completed` and the JSON result, or `error`."""
    sent: Any = None
    while True:
        event = await _event(jobs, job)
        state = (QUEUED, job.progress.position) if event.name == QUEUED else event  # its estimates change all the time
        if state != sent:
            yield event
            sent = state
        if job.is_over:
            return
        job = await _next(jobs, job)


async def until_over(jobs: Jobs, job: Job) -> Job:
    """Wait until the job is finished."""
    while not job.is_over:
        job = await _next(jobs, job)
    return job


async def _next(jobs: Jobs, job: Job) -> Job:
    """Wait for a change, for at most `_POLL_S`. Returns the job's new state."""
    await jobs.changed(job.id, within_s=_POLL_S)
    live = jobs.live_progress(job.id)
    if live is not None:  # it runs in this process, so this is the newest state
        return replace(job, status="running" if live.is_running else "queued", progress=live)
    found = await jobs.find(job.id)
    if found is None:
        raise GoneError("The job is no longer stored.", code="job_expired")
    return found


async def _event(jobs: Jobs, job: Job) -> Event:
    if job.status == "completed":
        result = await jobs.result(job.id)
        if result is None:
            raise GoneError("The job's result is no longer stored.", code="job_expired")
        return Event(COMPLETED, result.decode())
    if job.is_over:
        return Event("error", orjson.dumps(problem_of(job)).decode())
    if job.status == "running" and job.progress.step is not None:
        return Event(PROGRESS, orjson.dumps(_progress(job.progress)).decode())
    return Event(QUEUED, orjson.dumps(job.progress.place or {}).decode())


def _progress(progress: Progress) -> dict[str, Any]:
    members = {"step": progress.step, "num_steps": progress.num_steps, "preview": progress.preview}
    return {name: value for name, value in members.items() if value is not None}
