# SPDX-License-Identifier: Apache-2.0
"""The pipeline that every request to a model goes through, for all API families.

    HTTP client, /v2 client, or a stored job
        │
        │  negotiate   headers: media types                                             406 415
        │  CAPACITY    no free slot and a full queue: rejected before the body is read  429 503
        │  READ        body → request, checked                                          400 413 415 422
        │  prepare     checks that need the model                                       422 503
        │  SLOT        waits in the model's queue; the client can see its position      429 503 504
        │  RUN         one response, or a stream of events, from Triton                 422 502 503 504
        │  RESPOND     Triton's response → the API's form                               406 502
        ▼
    HTTP response, server-sent events, Triton's own bytes, or the job's result

The deadline (`X-Request-Timeout`) limits SLOT and RUN. If the client disconnects meanwhile, the request is cancelled
where the model can be stopped. The request holds its slot through RUN, and until Triton has finished. The stages in
capitals are recorded as `RequestRecord.stage`. The error of a deadline names the stage in which it passed.

An API family writes a `Translation`, with the steps in its own terms. `RequestPipeline` owns their order, the slot, the
deadline, the disconnect and the record. `/v2` passes bytes on, so it has no `Translation` and calls the steps itself:
`require_capacity`, `enter`, `slot`, `until_disconnect` and `within_deadline`.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, closing
from enum import Enum
from functools import partial
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Message, Receive

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.admission.limiter import Admission
from fastapi_triton.core import problem_details
from fastapi_triton.core.context import current_caller, remaining_s
from fastapi_triton.core.disconnect import cancel_on_disconnect
from fastapi_triton.core.errors import DeadlineExceededError, FastAPITritonError
from fastapi_triton.core.request_record import RequestRecord, current_record
from fastapi_triton.core.settings import Settings
from fastapi_triton.core.slot import Slot
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.endpoints.sse import Event, EventsResponse, queued_event
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import PRIORITY_INPUT, TIMEOUT_INPUT, ModelConfig
from fastapi_triton.triton.tensor import Tensor

# Models reject a timeout of 0 or less.
_MIN_TIMEOUT_S = 1e-3

T = TypeVar("T")


class PipelineStage(Enum):
    """The recorded stages, each with the error message of a deadline that passes in it."""

    CAPACITY = "The deadline passed before the body was read; nothing was run."
    READ = "The whole body did not arrive within {:.3g} s; nothing was run."
    SLOT = "No slot of the model became free within {:.3g} s; nothing was run. Try again later."
    RUN = "Triton did not respond within {:.3g} s. It may still be working on the request."
    RESPOND = "The response was not sent within {:.3g} s."


class Translation(ABC):
    """One request of one API family. The pipeline calls these methods in this order; `read` keeps the body for them."""

    # The source of its slots, and how many it needs at once.
    admission: Admission
    num_slots = 1
    # The model's name in metrics and the access log.
    model: str
    # Whether the model stops when its stream is closed, so that a disconnect cancels the request.
    stops_on_disconnect = False
    # Shows its position in the queue.
    ticket: QueueTicket | None = None

    def negotiate(self) -> None:  # noqa: B027  # optional
        """Check the headers, and raise the error if they rule the request out."""

    @abstractmethod
    async def read(self, receive: Receive) -> None:
        """Read and check the body."""

    @property
    def wants_events(self) -> bool:
        """Whether the response is the stream of `events`."""
        return False

    async def prepare(self) -> None:  # noqa: B027  # optional
        """Make the checks that need the model, before the request waits for a slot."""

    def close(self) -> None:  # noqa: B027  # optional
        """Free what `prepare` took, at the end of the request, even if it failed."""

    @abstractmethod
    async def run(self) -> None:
        """Run the model once. The slot is held."""

    def events(self) -> AsyncGenerator[Event, None]:
        """Run the model, and yield its events as the client gets them. The slot is held."""
        raise NotImplementedError

    @abstractmethod
    async def respond(self) -> Response:
        """The response after `run`."""

    def queued(self, ticket: QueueTicket) -> Event:
        """The heartbeat of a stream, with the position in the queue."""
        return queued_event(ticket)

    def error_data(self, error: FastAPITritonError) -> str:
        """The data of the `error` event that ends a stream."""
        return problem_details.event_data(error)


class RequestPipeline:
    """Runs the requests of all API families through the stages above."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.request_timeout_s
        self._event_heartbeat_s = settings.event_heartbeat_s
        self._keeps_running = settings.keep_running_when_caller_leaves
        self._records_texts = settings.access_log_prompts

    async def serve(self, request: Translation, receive: Receive) -> Response:
        """The response to one request. A response of events runs the model while it is sent."""
        record = _begin(request)
        record.stage = PipelineStage.CAPACITY
        request.admission.require_capacity()
        record.stage = PipelineStage.READ
        await request.read(receive)
        if request.wants_events:
            return self._stream(request, receive)
        if request.stops_on_disconnect:
            return await self.until_disconnect(receive, partial(self._respond, request))
        return await self._respond(request, receive)

    async def read(self, request: Translation, receive: Receive) -> None:
        """Only read a request, to serve it later by `serve_stored`."""
        _begin(request).stage = PipelineStage.READ
        await request.read(receive)

    async def serve_stored(self, request: Translation) -> bytes:
        """The body of the response to a stored request, for which no client waits."""
        response = await self.serve(request, _never_disconnects)
        return bytes(response.body)

    async def _respond(self, request: Translation, receive: Receive | None) -> Response:
        with closing(request):
            await request.prepare()
            with await self.slot(request.admission, request.num_slots, receive=receive, ticket=request.ticket):
                await request.run()
            enter(PipelineStage.RESPOND)
            return await request.respond()

    def _stream(self, request: Translation, receive: Receive) -> EventsResponse:
        ticket = request.ticket or QueueTicket()
        return EventsResponse(
            self._events(request, receive if self._keeps_running else None, ticket),
            heartbeat=partial(request.queued, ticket),
            heartbeat_interval_s=self._event_heartbeat_s,
            describe_error=request.error_data,
            keeps_running=self._keeps_running,
        )

    async def _events(
        self, request: Translation, receive: Receive | None, ticket: QueueTicket
    ) -> AsyncGenerator[Event, None]:
        with closing(request):
            await request.prepare()
            with await self.slot(request.admission, request.num_slots, receive=receive, ticket=ticket):
                async with aclosing(request.events()) as events:
                    async for event in events:
                        yield event
        enter(PipelineStage.RESPOND)

    # ---- the steps

    def require_capacity(self, admission: Admission) -> None:
        """Reject a request that would get no slot. Raises what `Admission.require_capacity` raises."""
        enter(PipelineStage.CAPACITY)
        admission.require_capacity()

    async def slot(
        self,
        admission: Admission,
        count: int = 1,
        *,
        receive: Receive | None = None,
        ticket: QueueTicket | None = None,
    ) -> Slot:
        """The slots of one request, all or none. With `receive`, a disconnect ends the wait. Raises what
        `Admission.slot` raises."""
        record = current_record.get()
        record.stage = PipelineStage.SLOT
        slot = await admission.slot(count, receive=receive, ticket=ticket)
        record.stage = PipelineStage.RUN
        return slot

    async def until_disconnect(self, receive: Receive, work: Callable[[Receive | None], Coroutine[Any, Any, T]]) -> T:
        """The result of `work`. A disconnect cancels it, unless the setting `keep_running_when_caller_leaves` is on.

        With that setting `work` gets `receive`, so that a disconnect can still end its wait for a slot.

        Raises:
            ClientDisconnectedError: the client disconnected.
        """
        if self._keeps_running:
            return await work(receive)
        return await cancel_on_disconnect(receive, work(None))

    def add_own_inputs(self, inputs: dict[str, Tensor], config: ModelConfig, num_rows: int = 1) -> None:
        """Add the inputs that the frontend sets, if the model has them: deadline and priority.

        The time until the deadline, unless the client has set it. The priority of a batch caller, whatever the client
        has set: it can only lower its priority.
        """
        shape = (num_rows, 1) if config.has_batch_dimension else (1,)
        if TIMEOUT_INPUT in config.frontend_inputs and TIMEOUT_INPUT not in inputs:
            left_s = max(remaining_s(self._timeout_s), _MIN_TIMEOUT_S)
            inputs[TIMEOUT_INPUT] = Tensor(BY_WIRE["FP32"], np.full(shape, left_s, dtype=np.float32))
        priority = current_caller.get().priority
        if PRIORITY_INPUT in config.frontend_inputs and priority == "batch":
            inputs[PRIORITY_INPUT] = Tensor(BY_WIRE["BYTES"], np.full(shape, priority.encode(), dtype=np.object_))

    def record_texts(self, request: BaseModel) -> None:
        """Record the texts of a request, if the setting `access_log_prompts` is on."""
        if self._records_texts:
            current_record.get().texts = validation.logged_texts(request)


async def within_deadline(work: Coroutine[Any, Any, T], limit_s: float, *, late: Callable[[], str] | None = None) -> T:
    """The result of `work`, which may take `limit_s` at most.

    The wait for a slot and Triton's client observe the deadline themselves; this is for all other work.

    Raises:
        DeadlineExceededError: the deadline passed first; the message is `late()`, or the message of the stage.
    """
    timeout_s = remaining_s(limit_s)
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        stage = current_record.get().stage or PipelineStage.CAPACITY
        raise DeadlineExceededError(late() if late else stage.value.format(timeout_s)) from error


def enter(stage: PipelineStage) -> None:
    """Record that the current request is in this stage."""
    current_record.get().stage = stage


def _begin(request: Translation) -> RequestRecord:
    record = current_record.get()
    record.model = request.model
    request.negotiate()
    return record


async def _never_disconnects() -> Message:
    """The `receive` of a request without a client."""
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
