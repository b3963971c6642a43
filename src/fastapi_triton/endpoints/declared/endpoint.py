# SPDX-License-Identifier: Apache-2.0
"""A declared endpoint: request model → tensors → Triton → tensors → response model, in the form that is asked for."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.admission.limiter import Admission, Admissions
from fastapi_triton.core.context import current_request_id, remaining_s
from fastapi_triton.core.disconnect import for_its_caller
from fastapi_triton.core.errors import (
    DeadlineExceededError,
    FastAPITritonError,
    InferenceError,
    InvalidRequestError,
    NotAcceptableError,
    NotFoundError,
)
from fastapi_triton.core.request_record import current_observation
from fastapi_triton.core.settings import Settings
from fastapi_triton.endpoints import content_negotiation, images, responses
from fastapi_triton.endpoints.declared import tensors
from fastapi_triton.endpoints.declared.declaration import Declaration
from fastapi_triton.endpoints.declared.functions import EndpointFunction
from fastapi_triton.endpoints.declared.stream_model import COMPLETED, PREVIEW_FIELD, Twin, TwinEvent
from fastapi_triton.endpoints.fields import caller_names, put_in_callers_words, tensor_names, tensor_values
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.endpoints.sse import Event, EventsResponse, queued_event
from fastapi_triton.triton.client import TritonClient
from fastapi_triton.triton.model_config import TIMEOUT_INPUT

# The field by which our models are told how to write the picture.
FORMAT_FIELD = "output_format"
# How many steps apart previews are where the caller reads events and says nothing about it.
DEFAULT_PREVIEW_EVERY = 2


@dataclass(frozen=True, slots=True)
class Services:
    """What every endpoint of an app shares."""

    triton: TritonClient
    admission: Admissions
    settings: Settings


class Listener(Protocol):
    """Is told how one request fares."""

    async def begun(self) -> None:
        """It has its place, and is about to reach the model."""
        ...

    def told(self, event: TwinEvent) -> None:
        """The streaming twin, where there is one, told this before its answer."""
        ...


class JobDesk(Protocol):
    """Takes the requests of one endpoint whose callers prefer to be answered later."""

    def wants(self, headers: Iterable[tuple[bytes, bytes]]) -> bool: ...

    async def accept(self, request: Request) -> Response: ...


class InferEndpoint:
    """One Triton model behind one route. Fields are tensors by name.

    With a `stream_model`, its decoupled twin, every request goes there: callers may read events, and one who leaves
    stops the work. A field that only the twin takes may be declared too. `preview_every` is given to it only where the
    caller reads events: what the caller says, or else 2.

    With a `function`, request and response are what callers see, and the function's own models are the tensors. It has
    no events yet: they would tell of a model's outputs that the caller does not know.

    Without a `stream_model`, a caller who leaves once Triton has the request changes nothing: its `/infer` does not
    notice, so the request keeps its place in flight until Triton is done.
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
        function: EndpointFunction | None = None,
    ) -> None:
        self.path = path
        self.model = model
        self.stream_model = stream_model
        self.request_model = validation.strict(request)
        self.response_model = response
        # None where the app has no background jobs.
        self.jobs: JobDesk | None = None
        self._services = services
        self._limits = images.ImageLimits(
            services.settings.max_image_pixels,
            services.settings.max_json_elements,
            services.settings.max_image_side,
            services.settings.max_text_bytes,
        )
        self._function = function
        self.admission = services.admission.of_pair(model, stream_model)
        # For a plain function. Admission bounds how many run, so nothing waits for a thread.
        self._executor = ThreadPoolExecutor(self.admission.max_in_flight, thread_name_prefix="function")
        self._keeps_running = services.settings.keep_running_when_caller_leaves
        # The models whose fields are tensors.
        self._inputs = function.inputs if function else self.request_model
        self._outputs = function.outputs if function else response
        # Callers of a function have never heard of its tensors.
        self._caller_names = None if function else caller_names(self.request_model)
        self.declaration = Declaration(
            path,
            model=model,
            stream_model=stream_model,
            request=self._inputs,
            response=self._outputs,
            triton=services.triton,
        )
        self._twin: Twin | None = None
        if stream_model:
            self._twin = Twin(
                stream_model,
                self.declaration,
                triton=services.triton,
                request_timeout_s=services.settings.request_timeout_s,
            )
        pictures = [name for name, field in response.model_fields.items() if images.is_image(field.metadata)]
        self.picture_field = pictures[0] if len(pictures) == 1 else None
        has_events = stream_model is not None and function is None
        self.offers = (
            content_negotiation.JSON,
            *(content_negotiation.PICTURES if self.picture_field else ()),
            *((content_negotiation.EVENTS,) if has_events else ()),
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
        await self.declaration.require_ready()
        if self._twin is not None:
            await self._twin.require_available()

    async def describe(self) -> dict[str, Any]:
        """What the stream model says of itself: sizes, defaults, limits; kept for as long as Triton stays up.

        Raises:
            NotFoundError: there is no stream model, or it does not describe itself.
        """
        if self._twin is None:
            raise NotFoundError(f"{self.path} has no stream model, which alone can describe itself.")
        return await self._twin.describe()

    async def respond(self, scope: Scope, receive: Receive) -> Response:
        """Serve one request."""
        current_observation.get().model = self.model
        if self.jobs is not None and self.jobs.wants(scope["headers"]):
            return await self.jobs.accept(Request(scope, receive))
        media_type, body = await self.read(scope, receive, self.admission)
        if self._twin is not None and media_type == content_negotiation.EVENTS:
            ticket = QueueTicket()
            events = self._events(self._twin, tensor_values(body), receive if self._keeps_running else None, ticket)
            return EventsResponse(
                events,
                heartbeat=partial(queued_event, ticket),
                heartbeat_interval_s=self._services.settings.event_heartbeat_s,
                keeps_running=self._keeps_running,
            )
        if self._twin is None:
            answer = await self.answer(body, receive)
        else:
            answer = await for_its_caller(receive, partial(self.answer, body), keeps_running=self._keeps_running)
        if media_type == content_negotiation.JSON:
            return responses.JSONAnswer(responses.to_json(answer))
        headers = {"Vary": "Accept"}
        return responses.as_picture(answer, self.picture_field or "", media_type, model=self.model, headers=headers)

    async def read(self, scope: Scope, receive: Receive, admission: Admission | None = None) -> tuple[str, BaseModel]:
        """The media type that the caller is to be answered in, and its checked request.

        With an `admission` what it would refuse is not read.
        """
        accept = _accept(scope)
        media_type = content_negotiation.choose(accept, self.offers)
        if admission is not None:
            admission.require_room()
        body = await validation.read(scope, receive, self.request_model, limits=self._limits)
        if self._services.settings.access_log_prompts:
            current_observation.get().texts = validation.own_words(body)
        if media_type not in (content_negotiation.JSON, content_negotiation.EVENTS):
            return self._ask_for(accept, body)
        return media_type, body

    def require_fitting(self, body: BaseModel) -> None:
        """Raise the error that the model's config implies for a value of a checked request, if the config is known.

        Raises:
            InvalidRequestError: a value does not fit its tensor.
        """
        configs = self.declaration.last_configs
        if configs is None or self._function is not None:
            return
        try:
            tensors.from_fields(tensor_values(body), configs.asked)
        except InvalidRequestError as error:
            put_in_callers_words(error, self._caller_names)
            raise

    def _ask_for(self, accept: str | None, body: BaseModel) -> tuple[str, BaseModel]:
        """Have the model write the format that the caller accepts. Gives its media type, and the request for it."""
        wanted = getattr(body, FORMAT_FIELD, None)
        named = next((media for media, name in content_negotiation.FORMAT_NAMES.items() if name == wanted), None)
        media_type = content_negotiation.choose(accept, self.offers, picture=named or content_negotiation.PICTURES[0])
        if named is not None and named != media_type:
            raise NotAcceptableError(
                f"Accept asks for {media_type}, but `{FORMAT_FIELD}` for {wanted}. Leave one of them out."
            )
        if FORMAT_FIELD in self.request_model.model_fields:
            body = body.model_copy(update={FORMAT_FIELD: content_negotiation.FORMAT_NAMES[media_type]})
        return media_type, body

    async def answer(
        self, body: BaseModel, receive: Receive | None = None, *, listener: Listener | None = None
    ) -> BaseModel:
        """The one answer to a request, which holds one place in flight."""
        with await self.admission.place(receive=receive):
            if self._function is None:
                return await self._run(body, listener)
            return await self._call(self._function, body, listener)

    async def _call(self, function: EndpointFunction, body: BaseModel, listener: Listener | None) -> BaseModel:
        # What makes every request fail is told before the app's own work is done.
        await self.declaration.configs()
        run = self._run if listener is None else partial(self._run, listener=listener)
        limit = asyncio.timeout(remaining_s(self._services.settings.request_timeout_s))
        try:
            async with limit:
                return await function(body, run, self._executor)
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineExceededError("The request's time was over before its answer was there.") from error
            raise

    async def _run(self, inputs: BaseModel, listener: Listener | None = None) -> BaseModel:
        """One run of the model: the inputs' fields are its input tensors, the outputs' its output tensors."""
        if listener is not None:
            await listener.begun()
        try:
            if self._twin is None:
                return await self._infer(tensor_values(inputs))
            return await self._complete(self._twin, tensor_values(inputs), listener)
        except FastAPITritonError as error:
            put_in_callers_words(error, self._caller_names)
            raise

    async def _infer(self, values: Mapping[str, Any]) -> BaseModel:
        """One answer of a model without a twin."""
        config = (await self.declaration.configs()).asked
        inputs = tensors.from_fields(values, config)
        if config.takes_timeout and TIMEOUT_INPUT not in inputs:
            shape = (1, 1) if config.is_batched else (1,)
            inputs[TIMEOUT_INPUT] = tensors.time_left(self._services.settings.request_timeout_s, shape)
        try:
            outputs = await self._services.triton.infer(
                self.model,
                inputs,
                outputs=list(tensor_names(self._outputs).values()),
                request_id=current_request_id.get(),
            )
        except FastAPITritonError as error:
            self.declaration.learn_from(error)
            raise
        return responses.read(self._outputs, tensors.to_fields(outputs, config), model=self.model)

    async def _complete(self, twin: Twin, values: dict[str, Any], listener: Listener | None) -> BaseModel:
        """The twin's one answer, at the end of its stream."""
        answer: BaseModel | None = None
        if listener is None:
            values = {**values, PREVIEW_FIELD: None}  # nobody would see them
        elif values.get(PREVIEW_FIELD) is None:
            values = {**values, PREVIEW_FIELD: DEFAULT_PREVIEW_EVERY}
        async with aclosing(twin.events(values)) as events:
            async for event in events:
                if event.kind == COMPLETED:
                    answer = responses.read(self._outputs, event.fields, model=twin.model)
                elif listener is not None:
                    listener.told(event)
        if answer is None:  # `Twin.events` raises before
            raise InferenceError(f"The model {twin.model} gave no answer.")
        return answer

    async def _events(
        self, twin: Twin, values: dict[str, Any], receive: Receive | None, ticket: QueueTicket
    ) -> AsyncGenerator[Event, None]:
        """The twin's events as a caller reads them."""
        if values.get(PREVIEW_FIELD) is None:
            values[PREVIEW_FIELD] = DEFAULT_PREVIEW_EVERY
        with await self.admission.place(receive=receive, ticket=ticket):
            try:
                async with aclosing(twin.events(values)) as events:
                    async for event in events:
                        if event.kind == COMPLETED:
                            answer = responses.read(self._outputs, event.fields, model=twin.model)
                            yield Event(event.kind, responses.to_json(answer).decode())
                        else:
                            yield Event(event.kind, responses.encode(event.progress).decode())
            except FastAPITritonError as error:
                put_in_callers_words(error, self._caller_names)
                raise


def _accept(scope: Scope) -> str | None:
    """What the caller says that it accepts; None: anything, or nothing was said."""
    for name, value in scope["headers"]:
        if name == b"accept":
            return None if value in (b"", b"*/*") else value.decode("latin-1")
    return None
