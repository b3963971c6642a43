# SPDX-License-Identifier: Apache-2.0
"""A background job as it is known at one moment. Plain data."""

from dataclasses import dataclass, field
from typing import Any, Literal

# `queued`: it waits for its turn, for a place, or for Triton.
Status = Literal["queued", "running", "completed", "failed", "cancelled"]
# What the queue says of it; a broken one failed in a way that nobody foresaw.
RowStatus = Literal["waiting", "taken", "done", "broken", "cancelled"]
IS_OVER = frozenset[Status](("completed", "failed", "cancelled"))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, as told by the process that runs it. Times are seconds since 1970."""

    runs: int = 0  # how often the model was begun with
    is_running: bool = False
    started: float | None = None  # of the last run
    step: int | None = None
    num_steps: int | None = None
    preview: str | None = None
    waits_for: str | None = None  # in words, where it waits for Triton


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `problem` is the problem object of a failed one."""

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


@dataclass(frozen=True, slots=True)
class Row:
    """What the queue knows of a job. Times are seconds since 1970."""

    id: str
    caller: str
    path: str
    fingerprint: str
    status: RowStatus
    created: float
    finished: float | None
    problem: dict[str, Any] | None
