# SPDX-License-Identifier: Apache-2.0
"""Serves the requests to all generated endpoints: which model, its place, its inputs, one run or its events."""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, Self, TypeVar, cast, get_args
from urllib.parse import quote, unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.core.context import current_request_id
from fastapi_triton.core.errors import InvalidRequestError, ModelNotReadyError, UnsupportedMediaError, shown
from fastapi_triton.core.request_record import current_observation
from fastapi_triton.core.slot import Place
from fastapi_triton.endpoints import content_negotiation
from fastapi_triton.endpoints.declared.endpoint import JobDesk, Services
from fastapi_triton.endpoints.declared.tensors import time_left
from fastapi_triton.endpoints.generated.codec import GeneratedModel, Inputs
from fastapi_triton.endpoints.generated.model_registry import Catalogue
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.json_codec import Arrays
from fastapi_triton.endpoints.request_body import threads, validation, whole
from fastapi_triton.endpoints.sse import Event, EventsResponse, queued_event
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.model_config import TIMEOUT_INPUT

P = ParamSpec("P")
T = TypeVar("T")

# The events of a decoupled model.
RESPONSE, COMPLETED = "response", "completed"
# Some tens of milliseconds of parsing.
_MUCH_BYTES = 256 * 1024
_PATH = re.compile(r"/models/([^/]+)(?:/versions/([^/]+))?/infer(?:\?arrays=(.+))?")


@dataclass(frozen=True, slots=True)
class Address:
    """What a request's URL says: the model, its version, or "" for Triton's choice, and how arrays are written."""

    model: str
    version: str = ""
    arrays: Arrays = "list"

    @property
    def path(self) -> str:
        """The URL, without the prefix under which a proxy has the app."""
        versions = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        arrays = f"?arrays={self.arrays}" if self.arrays != "list" else ""
        return f"/models/{quote(self.model, safe='')}{versions}/infer{arrays}"

    @classmethod
    def of(cls, path: str) -> Self | None:
        """The address that has this path; None: it is no generated endpoint's."""
        found = _PATH.fullmatch(path)
        if found is None or found[3] not in (None, *get_args(Arrays)):
            return None
        return cls(unquote(found[1]), unquote(found[2] or ""), cast(Arrays, found[3] or "list"))


class GeneratedEndpoint:
    """Takes requests to any model that has an endpoint."""

    def __init__(self, catalogue: Catalogue, services: Services) -> None:
        # None where the app has no background jobs.
        self.jobs: Callable[[Address], JobDesk] | None = None
        self._catalogue = catalogue
        self._services = services
        self._limits = ImageLimits(
            services.settings.max_image_pixels,
            services.settings.max_json_elements,
            services.settings.max_image_side,
            services.settings.max_text_bytes,
        )
        self._keeps_running = services.settings.keep_running_when_caller_leaves

    async def __call__(self, request: Request, address: Address) -> Response:
        """Serve one request."""
        model = self.model(address)
        current_observation.get().model = address.model
        if self.jobs is not None and not model.config.decoupled:  # a job has one answer
            desk = self.jobs(address)
            if desk.wants(request.scope["headers"]):
                return await desk.accept(request)
        self.require_form(model, request)
        self._services.admission.of(address.model).require_room()
        body = await whole.read(request.receive)
        if model.config.decoupled:
            receive = request.receive if self._keeps_running else None
            ticket = QueueTicket()
            return EventsResponse(
                self._events(model, address, body, receive, ticket),
                heartbeat=partial(queued_event, ticket),
                heartbeat_interval_s=self._services.settings.event_heartbeat_s,
                keeps_running=self._keeps_running,
            )
        with await self.place(model, receive=request.receive):
            answer = await self.run(model, address, await self.inputs(model, body))
        return Response(answer, media_type=content_negotiation.JSON)

    def model(self, address: Address) -> GeneratedModel:
        """The model as it is now. Raises what `Catalogue.endpoint` raises."""
        return self._catalogue.endpoint(address.model, address.version)

    def is_unloaded(self, address: Address) -> bool:
        """Whether somebody had Triton unload it; one that loads, or could not be loaded, is not."""
        return self._catalogue.entry(address.model).is_unloaded

    def require_form(self, model: GeneratedModel, request: Request) -> None:
        """Raise what is wrong with a request's headers, if anything.

        Raises:
            NotAcceptableError, UnsupportedMediaError: it wants, or sends, another media type.
        """
        offer = content_negotiation.EVENTS if model.config.decoupled else content_negotiation.JSON
        content_negotiation.choose(request.headers.get("accept"), [offer])
        media_type = request.headers.get("content-type", validation.JSON).partition(";")[0].strip().lower()
        if media_type != validation.JSON and not media_type.endswith("+json"):
            raise UnsupportedMediaError(
                f"The body's Content-Type is {shown(media_type)}; send {validation.JSON}. "
                "With curl that is -H 'Content-Type: application/json'."
            )

    async def place(
        self, model: GeneratedModel, *, receive: Receive | None = None, ticket: QueueTicket | None = None
    ) -> Place:
        """A place for one request. Raises what `Admission.place` raises."""
        return await self._services.admission.of(model.config.name).place(receive=receive, ticket=ticket)

    async def inputs(self, model: GeneratedModel, body: bytes) -> Inputs:
        """The tensors of a body. Raises what `GeneratedModel.read` raises."""
        inputs = await apart(len(body), model.read, body, self._limits)
        if model.config.takes_timeout and TIMEOUT_INPUT not in inputs.tensors:
            limit_s = self._services.settings.request_timeout_s
            shape = (inputs.num_rows or 1, 1) if model.takes_batches else (1,)
            inputs.tensors[TIMEOUT_INPUT] = time_left(limit_s, shape)
        return inputs

    async def run(self, model: GeneratedModel, address: Address, inputs: Inputs) -> bytes:
        """The JSON answer of one run; the caller holds its place."""
        try:
            outputs = await self._services.triton.infer(
                address.model, inputs.tensors, request_id=current_request_id.get(), version=address.version
            )
        except (InvalidRequestError, ModelNotReadyError):
            self._catalogue.forget(address.model)  # what it takes may have changed
            raise
        return await apart(_num_bytes(outputs), model.answer, outputs, inputs.num_rows, address.arrays)

    async def _events(
        self, model: GeneratedModel, address: Address, body: bytes, receive: Receive | None, ticket: QueueTicket
    ) -> AsyncGenerator[Event, None]:
        with await self.place(model, receive=receive, ticket=ticket):
            inputs = await self.inputs(model, body)
            num_responses = 0
            stream = self._services.triton.stream(
                address.model, inputs.tensors, request_id=current_request_id.get(), version=address.version
            )
            async with aclosing(stream) as responses:
                async for outputs in responses:
                    num_responses += 1
                    answer = await apart(_num_bytes(outputs), model.answer, outputs, inputs.num_rows, address.arrays)
                    yield Event(RESPONSE, answer.decode())
        yield Event(COMPLETED, orjson.dumps({"num_responses": num_responses}).decode())


async def apart(num_bytes: int, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do it here, or, where it is much, in a thread, so that others get their turn on the event loop."""
    return await threads.run(num_bytes > _MUCH_BYTES, work, *arguments, **options)


def _num_bytes(tensors: Tensors) -> int:
    """About as many as they are; strings count as pointers."""
    return sum(tensor.array.nbytes for tensor in tensors.values())
