# SPDX-License-Identifier: Apache-2.0
"""`/models`: what Triton has, each model's contract, its generated endpoint. One route serves all models by name."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, ParamSpec, TypeVar

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from fastapi_triton import bodies, negotiate, openapi, tensor_schemas
from fastapi_triton.catalogue import Catalogue, Entry, first_line
from fastapi_triton.endpoints import Services
from fastapi_triton.errors import InvalidRequestError, ModelNotReadyError, UnsupportedMediaError
from fastapi_triton.events import Event, EventsResponse
from fastapi_triton.generated import GeneratedModel, Inputs
from fastapi_triton.generated_openapi import COMPLETED, RESPONSE, path_of
from fastapi_triton.images import ImageLimits
from fastapi_triton.json_values import Arrays
from fastapi_triton.middleware.request_id import current_request_id
from fastapi_triton.model_config import TIMEOUT_INPUT, Content, TensorConfig
from fastapi_triton.observation import current_observation
from fastapi_triton.tensors import time_left
from fastapi_triton.triton.client import Tensors

P = ParamSpec("P")
T = TypeVar("T")

# Some tens of milliseconds of parsing.
_MUCH_BYTES = 256 * 1024


class Version(BaseModel):
    """One version of a model, as Triton tells of it."""

    version: str
    state: str
    reason: str


class ModelSummary(BaseModel):
    """A model in Triton's repositories. `endpoint` is null where there is none; `reason` says why."""

    name: str
    ready: bool
    endpoint: str | None
    reason: str | None
    versions: list[Version]


class Models(BaseModel):
    """Every model in Triton's repositories."""

    models: list[ModelSummary]


class TensorContract(BaseModel):
    """One input or output: `dims` without the batch dimension; -1 stands for any length."""

    name: str
    datatype: str
    dims: list[int]
    optional: bool
    content: Content | None
    example: Any


class ModelContract(ModelSummary):
    """What a model takes and answers. `warnings` are hints in its config that change nothing."""

    max_batch_size: int | None = None
    decoupled: bool | None = None
    inputs: list[TensorContract] = []
    outputs: list[TensorContract] = []
    warnings: list[str] = []


class _Endpoint:
    """Serves requests to all generated endpoints."""

    def __init__(self, catalogue: Catalogue, services: Services) -> None:
        self._catalogue = catalogue
        self._services = services
        self._limits = ImageLimits(services.settings.max_image_pixels, services.settings.max_json_elements)
        self._keeps_running = services.settings.keep_running_when_caller_leaves

    async def __call__(self, request: Request, name: str, version: str, arrays: Arrays) -> Response:
        model = self._catalogue.endpoint(name, version)
        current_observation.get().model = name
        offer = negotiate.EVENTS if model.config.decoupled else negotiate.JSON
        negotiate.choose(request.headers.get("accept"), [offer])
        media_type = request.headers.get("content-type", bodies.JSON).partition(";")[0].strip().lower()
        if media_type != bodies.JSON and not media_type.endswith("+json"):
            raise UnsupportedMediaError(
                f"The body's Content-Type is {media_type}; send {bodies.JSON}. "
                "With curl that is -H 'Content-Type: application/json'."
            )
        admission = self._services.admission.of(name)
        admission.require_room()
        body = await request.body()
        if model.config.decoupled:
            receive = request.receive if self._keeps_running else None
            events = self._events(model, version, body, arrays, receive)
            return EventsResponse(events, keeps_running=self._keeps_running)
        with await admission.place(receive=request.receive):
            inputs = await self._inputs(model, body)
            try:
                outputs = await self._services.triton.infer(
                    name, inputs.tensors, request_id=current_request_id.get(), version=version
                )
            except (InvalidRequestError, ModelNotReadyError):
                self._catalogue.forget(name)  # what it takes may have changed
                raise
            num_bytes = _num_bytes(outputs)
            answer = await _apart(num_bytes, model.answer, outputs, inputs.num_rows, arrays)
        return Response(answer, media_type=negotiate.JSON)

    async def _inputs(self, model: GeneratedModel, body: bytes) -> Inputs:
        inputs = await _apart(len(body), model.read, body, self._limits)
        if model.config.takes_timeout and TIMEOUT_INPUT not in inputs.tensors:
            limit_s = self._services.settings.request_timeout_s
            shape = (inputs.num_rows or 1, 1) if model.takes_batches else (1,)
            inputs.tensors[TIMEOUT_INPUT] = time_left(limit_s, shape)
        return inputs

    async def _events(
        self, model: GeneratedModel, version: str, body: bytes, arrays: Arrays, receive: Receive | None
    ) -> AsyncGenerator[Event, None]:
        with await self._services.admission.of(model.config.name).place(receive=receive):
            inputs = await self._inputs(model, body)
            num_responses = 0
            stream = self._services.triton.stream(
                model.config.name, inputs.tensors, request_id=current_request_id.get(), version=version
            )
            async with aclosing(stream) as responses:
                async for outputs in responses:
                    num_responses += 1
                    answer = await _apart(_num_bytes(outputs), model.answer, outputs, inputs.num_rows, arrays)
                    yield Event(RESPONSE, answer.decode())
        yield Event(COMPLETED, orjson.dumps({"num_responses": num_responses}).decode())


async def _apart(num_bytes: int, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do it here, or, where it is much, in a thread, so that others get their turn on the event loop."""
    if num_bytes <= _MUCH_BYTES:
        return work(*arguments, **options)
    return await asyncio.to_thread(work, *arguments, **options)


def _num_bytes(tensors: Tensors) -> int:
    """About as many as they are; strings count as pointers."""
    return sum(tensor.array.nbytes for tensor in tensors.values())


def router(catalogue: Catalogue, services: Services) -> APIRouter:
    """The routes under `/models`."""
    routes = APIRouter(prefix="/models", tags=["models"])
    endpoint = _Endpoint(catalogue, services)

    @routes.get("", summary="Every model that Triton has", responses=openapi.errors(502, 503, 504))
    async def models() -> Models:
        catalogue.require_read()
        return Models(models=[ModelSummary(**_summary(entry)) for entry in catalogue.entries])

    @routes.get("/{name}", summary="What a model takes and answers", responses=openapi.errors(404, 502, 503, 504))
    async def model(name: str) -> ModelContract:
        return _contract(catalogue.entry(name))

    # The document names each model's own path instead: see `generated_openapi`.
    @routes.post("/{name}/infer", include_in_schema=False)
    async def infer(request: Request, name: str, arrays: Arrays = "list") -> Response:
        return await endpoint(request, name, "", arrays)

    @routes.post("/{name}/versions/{version}/infer", include_in_schema=False)
    async def infer_version(request: Request, name: str, version: str, arrays: Arrays = "list") -> Response:
        return await endpoint(request, name, version, arrays)

    return routes


def _summary(entry: Entry) -> dict[str, Any]:
    obstacles = entry.endpoint.obstacles if entry.endpoint else [entry.reason]
    return {
        "name": entry.name,
        "ready": bool(entry.versions),
        "endpoint": None if obstacles else path_of(entry.name),
        "reason": "; ".join(obstacles) or None,
        "versions": [
            Version(version=each.version, state=each.state, reason=first_line(each.reason))
            for each in entry.statuses
            if each.version
        ],
    }


def _contract(entry: Entry) -> ModelContract:
    if entry.endpoint is None:
        return ModelContract(**_summary(entry))
    config = entry.endpoint.config
    return ModelContract(
        **_summary(entry),
        max_batch_size=config.max_batch_size,
        decoupled=config.decoupled,
        inputs=[_tensor(tensor) for tensor in config.inputs],
        outputs=[_tensor(tensor) for tensor in config.outputs],
        warnings=list(config.useless_hints),
    )


def _tensor(tensor: TensorConfig) -> TensorContract:
    return TensorContract(
        name=tensor.name,
        datatype=tensor.datatype.wire,
        dims=list(tensor.dims),
        optional=tensor.optional,
        content=tensor.content,
        example=tensor_schemas.example(tensor),
    )
