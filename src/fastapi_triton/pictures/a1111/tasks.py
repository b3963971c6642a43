# SPDX-License-Identifier: Apache-2.0
"""The running requests of A1111's clients, and their owners: a client can watch and interrupt only its own."""

import asyncio
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from fastapi_triton.admission.fair_queue import QueuePosition, QueueTicket
from fastapi_triton.core.context import current_caller
from fastapi_triton.core.errors import FieldProblem, InvalidRequestError, shown
from fastapi_triton.endpoints.interfaces import StreamEvent
from fastapi_triton.pictures.text_to_image import Picture

# The session cookie. The discovery routes set it, because clients request them first.
COOKIE = "fastapi_triton_a1111"
# The number of finished tasks that are remembered. A client asks again within seconds.
_MAX_FINISHED = 1000


@dataclass(frozen=True, slots=True)
class TaskOwner:
    """The identity of a client: its authorization, its session cookie, its IP address, and the owner of its API key."""

    authorization: str
    session: str | None
    address: str
    key_owner: str = ""  # empty if there are no keys

    @classmethod
    def of(cls, request: Request) -> "TaskOwner":
        address = request.client.host if request.client else ""
        caller = current_caller.get()
        # With an API key, the name of its owner: the key itself is not stored.
        key_owner = "" if caller.scopes is None else caller.name
        return cls(
            key_owner or request.headers.get("authorization", ""), request.cookies.get(COOKIE), address, key_owner
        )

    def owns(self, other: "TaskOwner") -> bool:
        """Whether this client may watch and interrupt tasks of `other`.

        It may if both have the same session, or if `other` has no session and the same address.
        """
        if self.authorization != other.authorization:
            return False
        if other.session is not None:
            return self.session == other.session
        return self.address == other.address


@dataclass(slots=True, eq=False)
class Task:
    """One running request; a `Listener` of its pictures."""

    id: str
    owner: TaskOwner
    count: int
    has_chosen_id: bool = False
    started: float = field(default_factory=time.time)
    began: float = field(default_factory=time.time)  # when it stopped waiting
    is_interrupted: bool = False
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)
    previews: dict[int, str] = field(default_factory=dict)
    num_previews: int = 0
    pictures: dict[int, Picture] = field(default_factory=dict)
    model_positions: dict[int, QueuePosition | None] = field(default_factory=dict)
    ticket: QueueTicket = field(default_factory=QueueTicket)
    serving: asyncio.Task[Any] | None = None

    def progressed(self, index: int, event: StreamEvent) -> None:
        progress = event.progress
        self.model_positions[index] = event.position
        if event.position is not None:
            self.began = time.time()
        if "step" in progress and "num_steps" in progress:
            self.steps[index] = (progress["step"], progress["num_steps"])
        if "preview" in progress:
            self.previews[index] = progress["preview"]
            self.num_previews += 1

    def finished(self, index: int, picture: Picture) -> None:
        self.pictures[index] = picture

    def interrupt(self) -> None:
        """Cancel the request. Its response has the finished pictures, and previews of the others."""
        self.is_interrupted = True
        if self.serving is not None:
            self.serving.cancel()

    @property
    def position(self) -> QueuePosition | None:
        """The position of the current picture while it waits, for a slot or in the model's own queue."""
        return self.ticket.position or self.model_positions.get(self.current)

    @property
    def progress(self) -> float:
        """From 0 to 1, over all pictures."""
        shares = [
            1.0 if index in self.pictures else _share(self.steps.get(index, (0, 1))) for index in range(self.count)
        ]
        return sum(shares) / self.count

    @property
    def eta_s(self) -> float | None:
        """The estimated time until the pictures are finished."""
        if (position := self.position) is not None:
            return position.estimated_total_s or position.estimated_wait_s
        done = self.progress
        return (time.time() - self.began) * (1 - done) / done if done else None

    @property
    def current(self) -> int:
        """The index of the first unfinished picture, or of the last picture."""
        return next((index for index in range(self.count) if index not in self.pictures), self.count - 1)


def _share(step: tuple[int, int]) -> float:
    return step[0] / max(1, step[1])


# A task's id belongs to the owner of an API key: others may use the same, and cannot find the task by it.
_OwnedId = tuple[str, str]


class Tasks:
    """The running tasks of this process, and the ids of those that finished last."""

    def __init__(self) -> None:
        self._running: dict[_OwnedId, Task] = {}
        # Of ids that clients did not choose, and of those that they did: few ask for the former, which are more.
        self._finished: tuple[deque[_OwnedId], deque[_OwnedId]] = (
            deque(maxlen=_MAX_FINISHED),
            deque(maxlen=_MAX_FINISHED),
        )

    def add(self, owner: TaskOwner, count: int, *, task_id: str | None) -> Task:
        """Add a new task.

        Raises:
            InvalidRequestError: a task of the same key's owner with this id is running.
        """
        name = task_id or uuid.uuid4().hex
        if (owner.key_owner, name) in self._running:
            detail = f"A task with the id '{shown(name)}' is running already. Use another force_task_id."
            raise InvalidRequestError(detail, problems=[FieldProblem("#/force_task_id", "invalid_value", detail)])
        task = Task(name, owner, count, has_chosen_id=bool(task_id))
        self._running[owner.key_owner, name] = task
        return task

    def remove(self, task: Task) -> None:
        """Remove a finished task."""
        owned_id = (task.owner.key_owner, task.id)
        del self._running[owned_id]
        self._finished[task.has_chosen_id].append(owned_id)

    def is_finished(self, client: TaskOwner, task_id: str | None) -> bool:
        """Whether the last task with this id has finished. Ids of older tasks are forgotten."""
        owned_id = (client.key_owner, task_id)
        return owned_id not in self._running and any(owned_id in finished for finished in self._finished)

    def find(self, client: TaskOwner, task_id: str | None) -> Task | None:
        """The task with this id, which without API keys only its client knows; without an id, the client's oldest."""
        if task_id is not None:
            return self._running.get((client.key_owner, task_id))
        mine = [task for task in self._running.values() if client.owns(task.owner)]
        return min(mine, key=lambda task: task.owner.session is None, default=None)
