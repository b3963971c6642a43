# SPDX-License-Identifier: Apache-2.0
"""`TritonFrontend`: a FastAPI app with declared endpoints in front of a Triton; joins routes, middleware and errors."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar, overload

from fastapi import FastAPI
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton import health, openapi, problems
from fastapi_triton.admission import Admission
from fastapi_triton.declaration import watch
from fastapi_triton.endpoints import InferEndpoint, Services
from fastapi_triton.functions import EndpointFunction, read_signature
from fastapi_triton.middleware.body_size import BodySizeMiddleware
from fastapi_triton.middleware.request_id import RequestIDMiddleware
from fastapi_triton.settings import Settings
from fastapi_triton.triton.client import TritonClient
from fastapi_triton.triton.http import HTTPTriton

logger = logging.getLogger(__name__)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class _About:
    """What `infer` is told of an endpoint besides its types."""

    path: str
    model: str
    stream_model: str | None
    name: str | None
    summary: str | None
    tags: list[str] | None


class TritonFrontend(FastAPI):
    """A FastAPI app that fronts one Triton.

    Args:
        title: the API's name in its documentation.
        settings: by default read from the environment.
        triton: the client to use instead of HTTP to `settings.triton_url`; tests give a `FakeTriton`.
        lifespan: your own start and stop, run while Triton's client is open.
        extra: anything else that FastAPI takes.
    """

    def __init__(
        self,
        *,
        title: str = "fastapi-triton",
        settings: Settings | None = None,
        triton: TritonClient | None = None,
        lifespan: Lifespan | None = None,
        **extra: Any,
    ) -> None:
        self.settings = settings or Settings()
        self.triton: TritonClient = triton or HTTPTriton(
            self.settings.triton_url,
            connect_timeout_s=self.settings.connect_timeout_s,
            request_timeout_s=self.settings.request_timeout_s,
        )
        self.services = Services(
            self.triton,
            Admission(self.settings.max_in_flight),
            self.settings,
            ThreadPoolExecutor(self.settings.max_in_flight, thread_name_prefix="function"),
        )
        self.endpoints: list[InferEndpoint] = []
        self._inner_lifespan = lifespan
        super().__init__(
            title=title,
            lifespan=self._run,
            middleware=[
                Middleware(RequestIDMiddleware),
                Middleware(BodySizeMiddleware, max_bytes=self.settings.max_body_bytes),
                *extra.pop("middleware", ()),
            ],
            exception_handlers={**problems.HANDLERS, **extra.pop("exception_handlers", {})},
            **extra,
        )
        self.include_router(health.router(self.endpoints))
        self.add_api_route("/", _to_docs, include_in_schema=False)

    @overload
    def infer(
        self,
        path: str,
        *,
        model: str,
        request: type[BaseModel],
        response: type[BaseModel],
        stream_model: str | None = None,
        name: str | None = None,
        summary: str | None = None,
        tags: list[str] | None = None,
    ) -> InferEndpoint: ...

    @overload
    def infer(
        self,
        path: str,
        *,
        model: str,
        stream_model: str | None = None,
        name: str | None = None,
        summary: str | None = None,
        tags: list[str] | None = None,
    ) -> Callable[[Function], Function]: ...

    def infer(
        self,
        path: str,
        *,
        model: str,
        request: type[BaseModel] | None = None,
        response: type[BaseModel] | None = None,
        stream_model: str | None = None,
        name: str | None = None,
        summary: str | None = None,
        tags: list[str] | None = None,
    ) -> InferEndpoint | Callable[[Function], Function]:
        """Declare `POST path`: the fields of `request` are the model's inputs, those of `response` its outputs.

        The declaration is held against the model's config as soon as Triton has it loaded, and at every change; while
        it does not fit, the endpoint answers 503 and `/health/ready` says why.

        Without `request` and `response` it decorates a function that works before and after the model, and whose
        annotations declare all four: `async def mood(request: Text, infer: Infer[Tokens, Logits]) -> Mood`. A plain
        `def` takes a `BlockingInfer`, and runs in a thread.

        `stream_model` names the model's decoupled twin. With it every request goes to the twin, callers may ask for
        events (`Accept: text/event-stream`; not of a function), one who leaves stops the work, and `GET path/describe`
        says what the model can do. A request field that only the twin takes is fine, `preview_every` above all: how
        many steps apart previews come, 2 where a caller of events does not say.
        """
        about = _About(path, model, stream_model, name, summary, tags)
        if request is not None and response is not None:
            return self._add_infer(about, request=request, response=response, function=None)
        if request is not None or response is not None:
            raise TypeError(
                f"{path}: give both request= and response=, or neither and decorate a function with the four models "
                "in its annotations."
            )

        def decorate(function: Function) -> Function:
            declared = read_signature(function)
            self._add_infer(
                about, request=declared.request, response=declared.response, function=declared, doc=function.__doc__
            )
            return function

        return decorate

    def _add_infer(
        self,
        about: "_About",
        *,
        request: type[BaseModel],
        response: type[BaseModel],
        function: EndpointFunction | None,
        doc: str | None = None,
    ) -> InferEndpoint:
        endpoint = InferEndpoint(
            about.path,
            model=about.model,
            stream_model=about.stream_model,
            request=request,
            response=response,
            services=self.services,
            function=function,
        )

        async def serve(request: Request) -> Response:
            return await endpoint(request)

        self.endpoints.append(endpoint)
        name, tags = about.name or about.model, list(about.tags or [about.model])
        self.add_api_route(
            about.path,
            serve,
            methods=["POST"],
            name=name,
            summary=about.summary or f"Run {about.model}",
            description=doc or request.__doc__,
            tags=list(tags),
            response_model=None,
            openapi_extra=openapi.operation(endpoint),
        )
        if about.stream_model:
            self._add_describe(endpoint, name=name, tags=list(tags))
        return endpoint

    def _add_describe(self, endpoint: InferEndpoint, *, name: str, tags: list[str | Enum]) -> None:
        async def describe() -> Response:
            return JSONResponse(await endpoint.describe())

        self.add_api_route(
            f"{endpoint.path}/describe",
            describe,
            methods=["GET"],
            name=f"describe_{name}",
            summary="Sizes, defaults and limits of the model",
            tags=tags,
            response_model=None,
            openapi_extra=openapi.describe_operation(),
        )

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with the schemas of the declared endpoints."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(openapi.components(self.endpoints))
        return self.openapi_schema or {}

    @asynccontextmanager
    async def _run(self, app: FastAPI) -> AsyncIterator[None]:
        async with self.triton, self._watching():
            if self._inner_lifespan is None:
                yield
            else:
                async with self._inner_lifespan(app):
                    yield

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """Hold every declaration against its models' configs now and every few seconds: Triton tells of no change."""
        watching = asyncio.create_task(
            watch(lambda: [each.declaration for each in self.endpoints], self.settings.watch_interval_s)
        )
        watching.add_done_callback(_tell_end)
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])


def _tell_end(watching: asyncio.Task[None]) -> None:
    if not watching.cancelled() and watching.exception() is not None:
        logger.error("configs are no longer looked at for changes", exc_info=watching.exception())


async def _to_docs(request: Request) -> RedirectResponse:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")
