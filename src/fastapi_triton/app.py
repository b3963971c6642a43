# SPDX-License-Identifier: Apache-2.0
"""`TritonFrontend`: a FastAPI app with declared endpoints in front of a Triton; joins routes, middleware and errors."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton import health, openapi, problems
from fastapi_triton.admission import Admission
from fastapi_triton.endpoints import InferEndpoint, Services
from fastapi_triton.middleware.body_size import BodySizeMiddleware
from fastapi_triton.middleware.request_id import RequestIDMiddleware
from fastapi_triton.playground import page
from fastapi_triton.settings import Settings
from fastapi_triton.triton.client import TritonClient
from fastapi_triton.triton.http import HTTPTriton

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


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
        self.services = Services(self.triton, Admission(self.settings.max_in_flight), self.settings)
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
        if self.settings.playground:
            self.include_router(page.router(self.endpoints))
        else:
            self.add_api_route("/", page.to_docs, include_in_schema=False, response_model=None)

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
    ) -> InferEndpoint:
        """Declare `POST path`: the fields of `request` are the model's inputs, those of `response` its outputs.

        The declaration is held against the model's config as soon as Triton has it loaded; until it fits, the endpoint
        answers 503 and `/health/ready` says why.

        `stream_model` names the model's decoupled twin. With it every request goes to the twin, callers may ask for
        events (`Accept: text/event-stream`), one who leaves stops the work, and `GET path/describe` says what the
        model can do. A request field that only the twin takes is fine, `preview_every` above all: how many steps
        apart previews come, 2 where a caller of events does not say.
        """
        endpoint = InferEndpoint(
            path, model=model, stream_model=stream_model, request=request, response=response, services=self.services
        )

        async def serve(request: Request) -> Response:
            return await endpoint(request)

        self.endpoints.append(endpoint)
        self.add_api_route(
            path,
            serve,
            methods=["POST"],
            name=name or model,
            summary=summary or f"Run {model}",
            description=request.__doc__,
            tags=list(tags or [model]),
            response_model=None,
            openapi_extra=openapi.operation(endpoint),
        )
        if stream_model:
            self._add_describe(endpoint, name=name or model, tags=list(tags or [model]))
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
        async with self.triton:
            if self._inner_lifespan is None:
                yield
            else:
                async with self._inner_lifespan(app):
                    yield
