# SPDX-License-Identifier: Apache-2.0
"""A declared endpoint: request model → tensors → Triton → tensors → response model, in the form that is asked for."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton import answers, bodies, images, negotiate, tensors
from fastapi_triton.admission import Admission
from fastapi_triton.declaration import Declaration
from fastapi_triton.disconnects import unless_caller_leaves
from fastapi_triton.errors import InferenceError, NotAcceptableError, NotFoundError, TritonUnavailableError
from fastapi_triton.events import Event, EventsResponse
from fastapi_triton.middleware.request_id import current_request_id
from fastapi_triton.settings import Settings
from fastapi_triton.triton.client import TritonClient
from fastapi_triton.twin import COMPLETED, PREVIEW_FIELD, Twin

# The field by which our models are told how to write the picture.
FORMAT_FIELD = "output_format"
# How many steps apart previews are where the caller reads events and says nothing about it.
DEFAULT_PREVIEW_EVERY = 2


@dataclass(frozen=True, slots=True)
class Services:
    """What every endpoint of an app shares."""

    triton: TritonClient
    admission: Admission
    settings: Settings


class InferEndpoint:
    """One Triton model behind one route. Fields are tensors by name.

    With a `stream_model`, its decoupled twin, every request goes there: callers may read events, and one who leaves
    stops the work. A field that only the twin takes may be declared too. `preview_every` is given to it only where the
    caller reads events: what the caller says, or else 2.

    Without one, a caller who leaves changes nothing: Triton's `/infer` does not notice, so the request keeps its place
    in flight until Triton is done.
    """

    def __init__(
        self,
        path: str,
        *,
        model: str,
        request: type[BaseModel],
        response: type[BaseModel],
        services: Services,
        stream_model: str | None = None,
    ) -> None:
        self.path = path
        self.model = model
        self.stream_model = stream_model
        self.request_model = bodies.strict(request)
        self.response_model = response
        self._services = services
        self._limits = images.ImageLimits(max_pixels=services.settings.max_image_pixels)
        triton = services.triton
        self._declaration = Declaration(
            path, model=model, stream_model=stream_model, request=self.request_model, response=response, triton=triton
        )
        self._twin: Twin | None = None
        if stream_model:
            self._twin = Twin(stream_model, self._declaration, triton=triton, admission=services.admission)
        pictures = [name for name, field in response.model_fields.items() if images.is_image(field.metadata)]
        self.picture_field = pictures[0] if len(pictures) == 1 else None
        self.offers = (
            negotiate.JSON,
            *(negotiate.PICTURES if self.picture_field else ()),
            *((negotiate.EVENTS,) if stream_model else ()),
        )

    @property
    def twin(self) -> Twin | None:
        """The stream model, for routes that speak to it in another API's words."""
        return self._twin

    @property
    def services(self) -> Services:
        """What every endpoint of the app shares."""
        return self._services

    @property
    def image_limits(self) -> images.ImageLimits:
        """What a picture in a request is checked against."""
        return self._limits

    async def require_ready(self) -> None:
        """Raise what a caller would meet now, if anything: a model is not ready, or the contract is broken."""
        await self._declaration.require_ready()

    async def describe(self) -> dict[str, Any]:
        """What the stream model says of itself: sizes, defaults, limits; kept for as long as Triton stays up.

        Raises:
            NotFoundError: there is no stream model, or it does not describe itself.
        """
        if self._twin is None:
            raise NotFoundError(f"{self.path} has no stream model, which alone can describe itself.")
        return await self._twin.describe()

    async def __call__(self, request: Request) -> Response:
        """Serve one request."""
        media_type = negotiate.choose(request.headers.get("accept"), self.offers)
        body = await bodies.read(
            request, self.request_model, limits=self._limits, max_bytes=self._services.settings.max_body_bytes
        )
        fields = {name: getattr(body, name) for name in self.request_model.model_fields}
        if self._twin is not None and media_type == negotiate.EVENTS:
            return EventsResponse(self._events(self._twin, fields))
        if media_type != negotiate.JSON:
            media_type = self._ask_for(request, fields)
        started = time.perf_counter()
        if self._twin is None:
            answer = await self._infer(fields)
        else:
            answer = await unless_caller_leaves(request.receive, self._complete(self._twin, fields))
        duration_ms = 1000 * (time.perf_counter() - started)
        if media_type == negotiate.JSON:
            reply = answers.as_json(answer)
        else:
            reply = answers.as_picture(answer, self.picture_field or "", media_type, model=self.model)
        reply.headers["Server-Timing"] = f"triton;dur={duration_ms:.1f}"
        reply.headers["Vary"] = "Accept"
        return reply

    def _ask_for(self, request: Request, fields: dict[str, Any]) -> str:
        """Have the model write the format that the caller accepts. Gives its media type."""
        wanted = fields.get(FORMAT_FIELD)
        named = next((media for media, name in negotiate.FORMAT_NAMES.items() if name == wanted), None)
        media_type = negotiate.choose(
            request.headers.get("accept"), self.offers, picture=named or negotiate.PICTURES[0]
        )
        if named is not None and named != media_type:
            raise NotAcceptableError(
                f"Accept asks for {media_type}, but `{FORMAT_FIELD}` for {wanted}. Leave one of them out."
            )
        if FORMAT_FIELD in self.request_model.model_fields:
            fields[FORMAT_FIELD] = negotiate.FORMAT_NAMES[media_type]
        return media_type

    async def _infer(self, fields: Mapping[str, Any]) -> BaseModel:
        """One answer of a model without a twin."""
        with self._services.admission.slot():
            config = (await self._declaration.configs()).asked
            inputs = tensors.from_fields(fields, config)
            try:
                outputs = await self._services.triton.infer(
                    self.model,
                    inputs,
                    outputs=list(self.response_model.model_fields),
                    request_id=current_request_id.get(),
                )
            except TritonUnavailableError:
                self._declaration.forget()
                raise
        return answers.read(self.response_model, tensors.to_fields(outputs, config), model=self.model)

    async def _complete(self, twin: Twin, fields: dict[str, Any]) -> BaseModel:
        """The twin's one answer, at the end of its stream."""
        answer: BaseModel | None = None
        async with aclosing(twin.events({**fields, PREVIEW_FIELD: None})) as events:
            async for event in events:
                if event.kind == COMPLETED:
                    answer = answers.read(self.response_model, event.fields, model=twin.model)
        if answer is None:  # `Twin.events` raises before
            raise InferenceError(f"The model {twin.model} gave no answer.")
        return answer

    async def _events(self, twin: Twin, fields: dict[str, Any]) -> AsyncGenerator[Event, None]:
        """The twin's events as a caller reads them."""
        if fields.get(PREVIEW_FIELD) is None:
            fields[PREVIEW_FIELD] = DEFAULT_PREVIEW_EVERY
        async with aclosing(twin.events(fields)) as events:
            async for event in events:
                if event.kind == COMPLETED:
                    answer = answers.read(self.response_model, event.fields, model=twin.model)
                    yield Event(event.kind, answers.to_json(answer))
                else:
                    yield Event(event.kind, orjson.dumps(event.progress).decode())
