# SPDX-License-Identifier: Apache-2.0
"""A declared endpoint: one Triton model behind one route. Request model → tensors → Triton → tensors → response."""

from collections.abc import AsyncGenerator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from fastapi_triton.core.errors import FastAPITritonError, NotAcceptableError, NotFoundError
from fastapi_triton.endpoints import content_negotiation, images, query_options, responses
from fastapi_triton.endpoints.declared.declaration import Declaration
from fastapi_triton.endpoints.declared.functions import EndpointFunction, Run
from fastapi_triton.endpoints.declared.model import DeclaredModel
from fastapi_triton.endpoints.declared.stream_model import StreamModel
from fastapi_triton.endpoints.fields import client_names
from fastapi_triton.endpoints.interfaces import JobSubmitter, ProgressListener, Services
from fastapi_triton.endpoints.pipeline import Translation, within_deadline
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.endpoints.sse import Event

# The request field that selects the picture's file format.
FORMAT_FIELD = "output_format"


class InferEndpoint:
    """One Triton model behind one route. Fields are tensors by name.

    With a `stream_model`, a decoupled model, every request goes there: clients may read events, and a disconnect
    cancels the request. Fields that only the stream model takes may be declared too. Its `preview_every` is set only if
    the client reads events: to the client's value, or to 1.

    With a `function`, clients see `request` and `response`, and the fields of the function's own models are tensors.
    Such an endpoint has no events: they would show outputs of the model that the client does not know.

    Without a `stream_model`, a disconnect does not stop Triton: `/infer` does not notice it, so the request keeps its
    slot until Triton has finished.
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
        # None: the app has no background jobs.
        self.jobs: JobSubmitter | None = None
        self.services = services
        self.admission = services.admission.of_pair(model, stream_model)
        self._function = function
        self.declaration = Declaration(
            path,
            model=model,
            stream_model=stream_model,
            # The models whose fields are tensors.
            request=function.inputs if function else self.request_model,
            response=function.outputs if function else response,
            registry=services.registry,
            unstreamable=services.triton.unstreamable,
        )
        # With a function, clients do not know the tensors.
        self._model = DeclaredModel(self.declaration, services, None if function else client_names(self.request_model))
        pictures = images.fields(response)
        self.picture_field = pictures[0] if len(pictures) == 1 else None
        has_events = stream_model is not None and function is None
        self.offers = (
            content_negotiation.JSON,
            *(content_negotiation.PICTURES if self.picture_field else ()),
            *((content_negotiation.EVENTS,) if has_events else ()),
        )

    @property
    def stream(self) -> StreamModel | None:
        """The stream model, for APIs that translate its events themselves."""
        return self._model.stream

    async def require_ready(self) -> None:
        """Raise the error that a request would get now: a model is not ready, or the contract is broken."""
        await self.declaration.require_ready()
        if self.stream is not None:
            await self.stream.check_available()
        if self.error is not None:
            raise self.error

    @property
    def error(self) -> FastAPITritonError | None:
        """Why its requests would fail. None: no known reason."""
        return self.declaration.error or (self.stream.unavailable if self.stream is not None else None)

    async def describe(self) -> dict[str, Any]:
        """The stream model's description of itself: sizes, defaults, limits. It is kept while Triton stays up.

        Raises:
            NotFoundError: there is no stream model, or it does not describe itself.
        """
        if self.stream is None:
            raise NotFoundError(f"{self.path} has no stream model, so it has no description.")
        return await self.stream.describe()

    async def respond(self, scope: Scope, receive: Receive) -> Response:
        """Serve one request."""
        if self.jobs is not None and self.jobs.wants(scope["headers"]):
            return await self.jobs.submit(Request(scope, receive))
        return await self.services.pipeline.serve(DeclaredTranslation(self, scope), receive)

    def require_fitting(self, body: BaseModel) -> None:
        """Raise the error that the model's config implies for a checked request. Raises what
        `DeclaredModel.require_fitting` raises."""
        if self._function is None:
            self._model.require_fitting(body)

    def run(self, body: BaseModel, listener: ProgressListener | None = None) -> Awaitable[BaseModel]:
        """The response to one request, which holds its slot."""
        if self._function is None:
            return self._model.run(body, listener)
        return self._call(self._function, body, partial(self._model.run, listener=listener))

    async def _call(self, function: EndpointFunction, body: BaseModel, run: Run) -> BaseModel:
        # Raise the errors that concern every request before the function runs.
        await self.declaration.configs()
        return await within_deadline(function(body, run, self._threads), self.services.settings.request_timeout_s)

    def events(self, body: BaseModel) -> AsyncGenerator[Event, None]:
        """The events of one request, which holds its slot."""
        return self._model.events(body)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        """Threads for a plain function. Admission limits how many run at once, so no request waits for a thread."""
        return ThreadPoolExecutor(self.admission.max_in_flight, thread_name_prefix="function")


class DeclaredTranslation(Translation):
    """A request to a declared endpoint: JSON or a form in; JSON, a picture or events out."""

    body: BaseModel
    result: BaseModel

    def __init__(self, endpoint: InferEndpoint, scope: Scope) -> None:
        self.endpoint = endpoint
        self.admission = endpoint.admission
        self.model = endpoint.model
        self.stops_on_disconnect = endpoint.stream is not None
        self.media_type = content_negotiation.JSON
        self._scope = scope
        self._accept: str | None = None

    def negotiate(self) -> None:
        query_options.read(self._scope)
        self._accept = _accept(self._scope)
        self.media_type = content_negotiation.choose(self._accept, self.endpoint.offers)

    async def read(self, receive: Receive) -> None:
        services = self.endpoint.services
        body = await validation.read(self._scope, receive, self.endpoint.request_model, limits=services.image_limits)
        services.pipeline.record_texts(body)
        is_picture = self.media_type not in (content_negotiation.JSON, content_negotiation.EVENTS)
        self.body = self._with_format(body) if is_picture else body

    def _with_format(self, body: BaseModel) -> BaseModel:
        """The request for a picture in the format that the client accepts."""
        wanted = getattr(body, FORMAT_FIELD, None)
        named = next((media for media, name in content_negotiation.FORMAT_NAMES.items() if name == wanted), None)
        picture = named or content_negotiation.PICTURES[0]
        self.media_type = content_negotiation.choose(self._accept, self.endpoint.offers, picture=picture)
        if named is not None and named != self.media_type:
            raise NotAcceptableError(
                f"The header Accept asks for {self.media_type}, but `{FORMAT_FIELD}` is {wanted}. Omit one of them."
            )
        if FORMAT_FIELD not in self.endpoint.request_model.model_fields:
            return body
        return body.model_copy(update={FORMAT_FIELD: content_negotiation.FORMAT_NAMES[self.media_type]})

    @property
    def wants_events(self) -> bool:
        return self.media_type == content_negotiation.EVENTS

    async def run(self) -> None:
        self.result = await self.endpoint.run(self.body)

    def events(self) -> AsyncGenerator[Event, None]:
        return self.endpoint.events(self.body)

    async def respond(self) -> Response:
        if self.media_type == content_negotiation.JSON:
            return responses.JSONBytesResponse(responses.to_json(self.result))
        field, headers = self.endpoint.picture_field or "", {"Vary": "Accept"}
        return responses.picture(
            responses.plain(self.result), field, self.media_type, model=self.model, headers=headers
        )


def _accept(scope: Scope) -> str | None:
    """The client's Accept header. None: it accepts anything, or did not send the header."""
    for name, value in scope["headers"]:
        if name == b"accept":
            return None if value in (b"", b"*/*") else value.decode("latin-1")
    return None
