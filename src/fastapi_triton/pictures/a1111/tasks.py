# SPDX-License-Identifier: Apache-2.0
"""The pictures that A1111's clients wait for, and their owners: no client sees or stops another's."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.core.context import current_caller
from fastapi_triton.core.errors import FieldProblem, InvalidRequestError, shown
from fastapi_triton.endpoints.interfaces import StreamEvent
from fastapi_triton.pictures.text_to_image import Picture

# Set by the discovery routes, which clients that keep a session ask first.
COOKIE = "fastapi_triton_a1111"


@dataclass(frozen=True, slots=True)
class TaskOwner:
    """A client, as far as it can be identified: by its authorization, its session, its address."""

    authorization: str
    session: str | None
    address: str

    @classmethod
    def of(cls, request: Request) -> "TaskOwner":
        address = request.client.host if request.client else ""
        caller = current_caller.get()
        # For a client with a key the key's name, so that no key is kept here.
        who = request.headers.get("authorization", "") if caller.scopes is None else caller.name
        return cls(who, request.cookies.get(COOKIE), address)

    def owns(self, other: "TaskOwner") -> bool:
        """Whether this client may see and stop tasks of `other`: of its own session, or of clients at its address that
        have no session."""
        if self.authorization != other.authorization:
            return False
        if other.session is not None:
            return self.session == other.session
        return self.address == other.address


@dataclass(slots=True, eq=False)
class Task:
    """One `txt2img` request at work; a `Listener` of its pictures."""

    id: str
    caller: TaskOwner
    count: int
    started: float = field(default_factory=time.time)
    is_interrupted: bool = False
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)
    previews: dict[int, str] = field(default_factory=dict)
    pictures: dict[int, Picture] = field(default_factory=dict)
    ticket: QueueTicket = field(default_factory=QueueTicket)
    serving: asyncio.Task[Any] | None = None

    def progressed(self, index: int, event: StreamEvent) -> None:
        progress = event.progress
        if "step" in progress and "num_steps" in progress:
            self.steps[index] = (progress["step"], progress["num_steps"])
        if "preview" in progress:
            self.previews[index] = progress["preview"]

    def finished(self, index: int, picture: Picture) -> None:
        self.pictures[index] = picture

    def interrupt(self) -> None:
        """Stop the work. The response has the pictures as far as they came."""
        self.is_interrupted = True
        if self.serving is not None:
            self.serving.cancel()

    @property
    def progress(self) -> float:
        """From 0 to 1, over all pictures."""
        parts = [1.0 if index in self.pictures else _part(self.steps.get(index, (0, 1))) for index in range(self.count)]
        return sum(parts) / self.count

    @property
    def current(self) -> int:
        """The picture to show: the first that is not done."""
        return next((index for index in range(self.count) if index not in self.pictures), self.count - 1)


def _part(step: tuple[int, int]) -> float:
    return step[0] / max(1, step[1])


class Tasks:
    """The tasks that run now, in this process."""

    def __init__(self) -> None:
        self._running: dict[str, Task] = {}

    def add(self, caller: TaskOwner, count: int, *, task_id: str | None) -> Task:
        """A new task.

        Raises:
            InvalidRequestError: a task of this name runs.
        """
        name = task_id or uuid.uuid4().hex
        if name in self._running:
            detail = f"A task '{shown(name)}' runs already; give each a name of its own."
            raise InvalidRequestError(detail, problems=[FieldProblem("#/force_task_id", "invalid_value", detail)])
        task = self._running[name] = Task(name, caller, count)
        return task

    def remove(self, task: Task) -> None:
        """The task is over."""
        del self._running[task.id]

    def find(self, caller: TaskOwner, task_id: str | None) -> Task | None:
        """The task of this name, which only its client knows; without a name, the client's oldest."""
        if task_id is not None:
            return self._running.get(task_id)
        mine = [task for task in self._running.values() if caller.owns(task.caller)]
        return min(mine, key=lambda task: task.caller.session is None, default=None)
