# SPDX-License-Identifier: Apache-2.0
"""The state of a background job at one moment, as plain data."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from fastapi_triton.admission.fair_queue import QueuePosition

# `queued`: it waits in the jobs' queue, for a slot, or for Triton.
Status = Literal["queued", "running", "completed", "failed", "cancelled"]
POSITION = tuple(each.name for each in fields(QueuePosition))
IS_OVER = frozenset[Status](("completed", "failed", "cancelled"))


@dataclass(frozen=True, slots=True)
class Progress:
    """A job's progress, as reported by the process that runs it. Times are seconds since 1970."""

    runs: int = 0  # how often the job was started
    is_running: bool = False
    started: float | None = None  # of the last run
    step: int | None = None
    num_steps: int | None = None
    preview: str | None = None
    waits_for: str | None = None  # a sentence that says why it does not run
    position: int | None = None  # in the model's queue, with the estimated seconds
    estimated_wait_s: float | None = None
    estimated_total_s: float | None = None

    @property
    def place(self) -> dict[str, float] | None:
        """The position in the model's queue with the known estimates, if it waits there."""
        members = {name: getattr(self, name) for name in POSITION}
        return {name: value for name, value in members.items() if value is not None} or None


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `problem` is the problem object of a failed job. Times are seconds since 1970."""

    id: str
    caller: str
    path: str  # of its endpoint
    fingerprint: str  # of its request's body
    status: Status
    created: float
    finished: float | None = None
    problem: dict[str, Any] | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def is_over(self) -> bool:
        return self.status in IS_OVER

    def with_progress(self, progress: Progress) -> Self:
        """The job with the progress that its process has reported.

        For the queue, a job runs as soon as a process has taken it, but it may still wait for a slot or for Triton.
        """
        status: Status = self.status
        if status == "running" and not progress.is_running:
            status = "queued"
        # If the queue's clock has whole seconds only, the end could be before the start.
        finished = self.finished and max(self.finished, self.created, progress.started or 0.0)
        return replace(self, status=status, finished=finished, progress=progress)
