# SPDX-License-Identifier: Apache-2.0
"""Generated endpoints: JSON → the tensors of any model that Triton has → JSON, or events."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import ParamSpec, Self, TypeVar, cast, get_args
from urllib.parse import quote, unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from fastapi_triton.core import paths
from fastapi_triton.core.context import current_request_id
from fastapi_triton.core.errors import (
    FastAPITritonError,
    InvalidRequestError,
    ModelNotReadyError,
    UnsupportedMediaError,
    shown,
)
from fastapi_triton.endpoints import content_negotiation
from fastapi_triton.endpoints.generated import batches
from fastapi_triton.endpoints.generated.batches import Inputs, Part
from fastapi_triton.endpoints.generated.codec import GeneratedModel
from fastapi_triton.endpoints.generated.models import GeneratedModels
from fastapi_triton.endpoints.interfaces import COMPLETED, JobSubmitter, Services
from fastapi_triton.endpoints.json_codec import Arrays
from fastapi_triton.endpoints.pipeline import Translation
from fastapi_triton.endpoints.request_body import raw_body, validation
from fastapi_triton.endpoints.sse import Event
from fastapi_triton.triton.client import Tensors

P = ParamSpec("P")
T = TypeVar("T")

# The event of each response of a decoupled model, before `completed`.
RESPONSE = "response"
# Longer bodies take tens of milliseconds to parse.
_LONG_BYTES = 256 * 1024
_PATH = re.compile(rf"{paths.MODELS}/([^/]+)(?:/versions/([^/]+))?/infer(?:\?arrays=(.+))?")


@dataclass(frozen=True, slots=True)
class InferPath:
    """A request's URL: the model, its version ("" lets Triton choose), and the form of arrays."""

    model: str
    version: str = ""
    arrays: Arrays = "list"

    @property
    def path(self) -> str:
        """The path and query, without the prefix that a proxy adds."""
        versions = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        arrays = f"?arrays={self.arrays}" if self.arrays != "list" else ""
        return f"{paths.MODELS}/{quote(self.model, safe='')}{versions}/infer{arrays}"

    @classmethod
    def of(cls, path: str) -> Self | None:
        """The parsed path. None: it is not the path of a generated endpoint."""
        found = _PATH.fullmatch(path)
        if found is None or found[3] not in (None, *get_args(Arrays)):
            return None
        return cls(unquote(found[1]), unquote(found[2] or ""), cast(Arrays, found[3] or "list"))


class GeneratedEndpoint:
    """Serves requests to all models that have an endpoint."""

    def __init__(self, models: GeneratedModels, services: Services) -> None:
        # None: the app has no background jobs.
        self.jobs: Callable[[InferPath], JobSubmitter] | None = None
        self.services = services
        self._models = models

    async def __call__(self, request: Request, address: InferPath) -> Response:
        """Serve one request."""
        await self._models.confirm(address.model)
        model = self.model(address)
        if self.jobs is not None and not model.config.decoupled:  # a job has one response
            jobs = self.jobs(address)
            if jobs.wants(request.scope["headers"]):
                return await jobs.submit(request)
        return await self.services.pipeline.serve(GeneratedTranslation(self, model, address, request), request.receive)

    def model(self, address: InferPath) -> GeneratedModel:
        """The model with its current config. Raises what `GeneratedModels.endpoint` raises."""
        return self._models.endpoint(address.model, address.version)

    def is_unloaded(self, address: InferPath) -> bool:
        """Whether the model was unloaded on request. False for a model that is loading or failed to load."""
        return self._models.entry(address.model).is_unloaded

    def doubt(self, address: InferPath) -> None:
        """Read the model's config again before the next request, because it may have changed."""
        self._models.doubt(address.model)


class GeneratedTranslation(Translation):
    """A request to one model: JSON in; JSON or events out."""

    body: bytes
    result: bytes

    def __init__(
        self, endpoint: GeneratedEndpoint, model: GeneratedModel, address: InferPath, request: Request | None = None
    ) -> None:
        self.model = address.model
        self.admission = endpoint.services.admission.of(address.model)
        self._endpoint = endpoint
        self._services = endpoint.services
        self._model = model
        self._address = address
        self._request = request

    def negotiate(self) -> None:
        """Check the media types.

        Raises:
            NotAcceptableError: the client accepts only other media types.
            UnsupportedMediaError: the client sends another media type.
        """
        if self._request is None:
            return
        headers = self._request.headers
        offer = content_negotiation.EVENTS if self._model.config.decoupled else content_negotiation.JSON
        content_negotiation.choose(headers.get("accept"), [offer])
        media_type = headers.get("content-type", validation.JSON).partition(";")[0].strip().lower()
        if media_type != validation.JSON and not media_type.endswith("+json"):
            raise UnsupportedMediaError(
                f"The body's Content-Type is {shown(media_type)}; send {validation.JSON}. "
                "With curl, use -H 'Content-Type: application/json'."
            )

    async def read(self, receive: Receive) -> None:
        self.body = await raw_body.read(receive)

    @property
    def wants_events(self) -> bool:
        return self._model.config.decoupled

    async def run(self) -> None:
        self.result = await self.infer(await self.inputs())

    async def inputs(self) -> Inputs:
        """The requests of the body. Raises what `GeneratedModel.read` raises."""
        return await in_thread_if_long(len(self.body), self._model.read, self.body, self._services.image_limits)

    async def infer(self, inputs: Inputs) -> bytes:
        """Run the model once for each part, and return the JSON response."""
        if len(inputs.parts) == 1:
            return await self._json([await self._infer(inputs.parts[0])], inputs)
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(self._infer_rows(part)) for part in inputs.parts]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return await self._json([each.result() for each in running], inputs)

    async def _infer(self, part: Part) -> Tensors:
        self._services.pipeline.add_timeout(part.tensors, self._model.config, len(part.rows))
        try:
            return await self._services.triton.infer(
                self.model, part.tensors, request_id=current_request_id.get(), version=self._address.version
            )
        except (InvalidRequestError, ModelNotReadyError):
            self._endpoint.doubt(self._address)
            raise

    async def _infer_rows(self, part: Part) -> Tensors:
        """Run one of several parts."""
        try:
            return await self._infer(part)
        except FastAPITritonError as error:
            batches.name_rows(error, part.rows)
            raise

    async def events(self) -> AsyncGenerator[Event, None]:
        inputs = await self.inputs()
        (part,) = inputs.parts
        self._services.pipeline.add_timeout(part.tensors, self._model.config)
        num_responses = 0
        stream = self._services.triton.stream(
            self.model, part.tensors, request_id=current_request_id.get(), version=self._address.version
        )
        async with aclosing(stream) as responses:
            async for outputs in responses:
                num_responses += 1
                yield Event(RESPONSE, (await self._json([outputs], inputs)).decode())
        yield Event(COMPLETED, orjson.dumps({"num_responses": num_responses}).decode())

    async def respond(self) -> Response:
        return Response(self.result, media_type=content_negotiation.JSON)

    async def _json(self, outputs: Sequence[Tensors], inputs: Inputs) -> bytes:
        num_bytes = sum(map(_num_bytes, outputs))
        return await in_thread_if_long(num_bytes, self._model.to_json, outputs, inputs, self._address.arrays)


async def in_thread_if_long(num_bytes: int, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do the work here, or in a thread if there are many bytes, so that it does not block the event loop."""
    return await raw_body.process(num_bytes > _LONG_BYTES, work, *arguments, **options)


def _num_bytes(tensors: Tensors) -> int:
    """Their approximate size; strings count as pointers."""
    return sum(tensor.array.nbytes for tensor in tensors.values())
