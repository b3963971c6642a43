# SPDX-License-Identifier: Apache-2.0
"""`TritonFrontend`: a FastAPI app in front of a Triton. It joins endpoints, routes, middleware and error handlers."""

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar, cast, overload

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fastapi_triton.admission.limiter import Admissions
from fastapi_triton.app import health, metrics_route, model_routes, state_gauges
from fastapi_triton.app.api_docs import routes as api_docs
from fastapi_triton.app.triton_proxy.endpoint import TritonProxy, TritonProxyRoute
from fastapi_triton.app.triton_proxy.response import error_response as v2_error
from fastapi_triton.core import body_buffers, paths, problem_details, shutdown
from fastapi_triton.core.settings import STATE as SETTINGS
from fastapi_triton.core.settings import Settings, old_names
from fastapi_triton.endpoints.declared import openapi as openapi
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.declared.functions import EndpointFunction, read_signature
from fastapi_triton.endpoints.generated import openapi as generated_openapi
from fastapi_triton.endpoints.generated.endpoint import GeneratedEndpoint
from fastapi_triton.endpoints.generated.models import GeneratedModels
from fastapi_triton.endpoints.interfaces import Services
from fastapi_triton.jobs import routes as background_jobs
from fastapi_triton.middleware import stack
from fastapi_triton.middleware.auth import openapi as openapi_security
from fastapi_triton.middleware.deadline import DeadlineMiddleware
from fastapi_triton.middleware.dispatch import DirectRoute, DispatchMiddleware, raise_dispatch_error
from fastapi_triton.middleware.head_requests import HeadMiddleware
from fastapi_triton.middleware.max_body_size import MaxBodySizeMiddleware
from fastapi_triton.middleware.request_recording import Observer, RequestRecordingMiddleware
from fastapi_triton.middleware.shutdown import ShutdownMiddleware
from fastapi_triton.observability import access_log, logging_config, tracing
from fastapi_triton.observability.gauges import Gauges
from fastapi_triton.observability.metrics import Metrics
from fastapi_triton.pictures.playground import page
from fastapi_triton.pictures.routes import PictureAPIs
from fastapi_triton.triton.client import CanSleep, TritonClient, client_factory
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_registry import ModelRegistry

logger = logging.getLogger(__name__)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class _Declaration:
    """The arguments of `infer` without the request and response types."""

    path: str
    model: str
    stream_model: str | None
    name: str | None
    summary: str | None
    tags: list[str] | None


class TritonFrontend(FastAPI):
    """A FastAPI app in front of one Triton.

    Args:
        title: the name of the API in its documentation.
        settings: by default read from the environment.
        triton: the client to use instead of HTTP to `settings.triton_url`; tests pass a `FakeTriton`.
        generate: whether every ready model gets a generated endpoint, `POST /models/{name}/infer`; by default as the
            settings say.
        lifespan: your own startup and shutdown; it runs while Triton's client is open.
        extra: further arguments of `FastAPI`.
    """

    def __init__(
        self,
        *,
        title: str = "fastapi-triton",
        settings: Settings | None = None,
        triton: TritonClient | None = None,
        generate: bool | None = None,
        lifespan: Lifespan | None = None,
        **extra: Any,
    ) -> None:
        self.settings = settings or Settings()
        for old, new in old_names(os.environ).items():
            logger.warning("%s is now called %s. The next release ignores the old name.", old, new)
        self.triton: TritonClient = triton or (client_factory.get() or HTTPTriton.of)(self.settings)
        self.registry = ModelRegistry(self.triton, interval_s=self.settings.watch_interval_s)
        self.drain = shutdown.Drain()
        self.services = Services(self.triton, self.registry, self._admissions(), self.settings)
        self.endpoints: list[InferEndpoint] = []
        self._direct_routes: dict[str, DirectRoute] = {}
        self.generated_models: GeneratedModels | None = None
        if self.settings.generate if generate is None else generate:
            self.generated_models = GeneratedModels(self.registry, self.triton, on_change=self._forget_openapi)
        self._generated = GeneratedEndpoint(self.generated_models, self.services) if self.generated_models else None
        self._has_model_routes = False
        self._inner_lifespan = lifespan
        self._body_buffers = body_buffers.BodyBuffers(self.settings.max_buffered_body_bytes)
        self._picture_apis = PictureAPIs(
            self, self.settings, self._body_buffers, offers_similar=self.generated_models is not None
        )
        self._proxy: TritonProxy | None = None
        if self.settings.v2 and isinstance(self.triton, HTTPTriton):
            self._proxy = TritonProxy(self.triton, self.services, self._body_buffers)
        self._key_file = stack.key_file(self.settings)
        self._metrics = Metrics() if self.settings.metrics else None
        self._gauges = Gauges(self._metrics) if self._metrics else None
        extra.setdefault("redoc_url", None)  # ReDoc would load its files from another host
        extra["telemetry"] = {**tracing.telemetry(), **(extra.get("telemetry") or {})}
        super().__init__(
            title=title,
            lifespan=self._run,
            middleware=[
                *self._middleware(may_trace=extra["telemetry"]["tracing"]),
                *extra.pop("middleware", ()),
                Middleware(ShutdownMiddleware, drain=self.drain),
                Middleware(DispatchMiddleware, endpoints=self._direct_routes, v2=self._proxy),
            ],
            exception_handlers={**problem_details.HANDLERS, **extra.pop("exception_handlers", {})},
            **extra,
        )
        self.root_path = self.settings.root_path or self.root_path
        self.readiness = health.Readiness(
            self.endpoints,
            self.registry,
            generated=self.generated_models,
            drain=self.drain,
            sleeper=self.triton if isinstance(self.triton, CanSleep) else None,
        )
        self._add_own_routes()
        self._jobs = background_jobs.mount(self, self.endpoints, self._generated, self.settings)

    def _admissions(self) -> Admissions:
        settings = self.settings
        return Admissions(
            settings.max_in_flight, max_waiting=settings.max_waiting, max_per_caller=settings.max_per_caller
        )

    def _middleware(self, *, may_trace: bool) -> Iterator[Middleware]:
        """The middleware from the outermost to the innermost."""
        observers: list[Observer] = []
        if self._metrics is not None:
            observers.append(self._metrics.record)
        if self.settings.access_log:
            logging_config.open_access_log(self.settings)
            observers.append(access_log.write)
        yield Middleware(RequestRecordingMiddleware, observers=observers, may_trace=may_trace)
        yield from stack.middleware(self.settings, self._key_file)
        yield Middleware(DeadlineMiddleware, max_timeout_s=self.settings.request_timeout_s)
        yield Middleware(
            MaxBodySizeMiddleware,
            max_bytes=self.settings.max_body_bytes,
            compressed_below=f"{paths.V2}/" if self.settings.v2_compressed else "",
        )
        yield Middleware(HeadMiddleware)

    def _add_own_routes(self) -> None:
        """Add `/health`, `/metrics`, `/` and `/v2`, as the settings say."""
        self.include_router(health.router(self.readiness))
        if self._metrics is not None and self._gauges is not None:
            state_gauges.add_to(
                self._gauges,
                admission=self.services.admission,
                triton=self.triton,
                endpoints=self.endpoints,
                generated=self.generated_models,
                body_buffers=self._body_buffers,
                pictures=self._picture_apis.store,
            )
            self.include_router(metrics_route.router(self._metrics))
        if self.settings.playground:
            self.include_router(page.router(self.endpoints))
        else:
            self.add_api_route("/", page.to_docs, include_in_schema=False, response_model=None)
        if self._proxy is not None:
            problem_details.set_error_format(self, paths.V2, v2_error)
            self.router.routes.insert(0, TritonProxyRoute(self._proxy))

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

        The declaration is compared with the model's config when Triton has loaded the model, and after every change.
        While they disagree, the endpoint fails with 503, and `/health/ready` reports the mismatches.

        Without `request` and `response`, `infer` decorates a function that runs before and after the model. Its
        annotations declare the request, the inputs, the outputs and the response:
        `async def mood(request: Text, infer: Infer[Tokens, Logits]) -> Mood`. A plain `def` takes a `BlockingInfer` and
        runs in a thread.

        `stream_model` names a decoupled model that does the same work; all requests then go to it. Clients may request
        events with `Accept: text/event-stream`, except from a function. A disconnect cancels the work, and
        `GET path/describe` returns the model's sizes, defaults and limits. The request may declare fields that only the
        stream model has, such as `preview_every`: the number of steps between previews, by default 1 for events.
        """
        declaration = _Declaration(path, model, stream_model, name, summary, tags)
        if request is not None and response is not None:
            return self._add_infer(declaration, request=request, response=response, function=None)
        if request is not None or response is not None:
            raise TypeError(
                f"{path}: pass both request= and response=, or pass neither and decorate a function. The function's "
                "annotations then declare the request, the inputs, the outputs and the response."
            )

        def decorate(function: Function) -> Function:
            declared = read_signature(function)
            self._add_infer(
                declaration,
                request=declared.request,
                response=declared.response,
                function=declared,
                doc=function.__doc__,
            )
            return function

        return decorate

    def _add_infer(
        self,
        declaration: "_Declaration",
        *,
        request: type[BaseModel],
        response: type[BaseModel],
        function: EndpointFunction | None,
        doc: str | None = None,
    ) -> InferEndpoint:
        endpoint = InferEndpoint(
            declaration.path,
            model=declaration.model,
            stream_model=declaration.stream_model,
            request=request,
            response=response,
            services=self.services,
            function=function,
        )

        if self._jobs is not None:
            background_jobs.enable_jobs(endpoint, self._jobs)

        async def serve(request: Request) -> Response:
            return await endpoint.respond(request.scope, request.receive)

        async def serve_directly(scope: Scope, receive: Receive, send: Send) -> None:
            raise_dispatch_error(scope)
            response = await endpoint.respond(scope, receive)
            await response(scope, receive, send)

        name, tags = declaration.name or declaration.model, list(declaration.tags or [declaration.model])
        self.add_api_route(
            declaration.path,
            serve,
            methods=["POST"],
            name=name,
            summary=declaration.summary or f"Run {declaration.model}",
            description=doc or request.__doc__,
            tags=list(tags),
            response_model=None,
            openapi_extra=openapi.operation(endpoint),
        )
        route = cast(APIRoute, self.router.routes[-1])
        if not route.dependencies:
            # FastAPI's handling of parameters takes 15% of a small request's CPU, and this route has no parameters.
            route.app = serve_directly
            self._direct_routes.setdefault(declaration.path, DirectRoute(route, serve_directly))
        self.endpoints.append(endpoint)
        if declaration.stream_model:
            self._add_describe(endpoint, name=name, tags=list(tags))
        self._picture_apis.add(endpoint)
        return endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection as FastAPI does, with `root_path` at the start of the path, as ASGI defines it."""
        if self.root_path and scope["type"] != "lifespan":
            paths.put_below_root(scope, self.root_path)
        await super().__call__(scope, receive, send)

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

    def setup(self) -> None:
        """FastAPI's own, after a `/docs` that needs no other host."""
        api_docs.add_to(self)
        super().setup()

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with the schemas of all endpoints."""
        self.registry.refresh_soon()
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(openapi.components(self.endpoints, self._picture_apis.bodies))
            if self.generated_models is not None:
                generated_openapi.add_to(document, self.generated_models.configs, has_jobs=self._jobs is not None)
            declared = tuple(endpoint.path for endpoint in self.endpoints)
            # `/docs` shows operations in this order.
            document["paths"] = dict(
                sorted(document["paths"].items(), key=lambda path: not path[0].startswith(declared))
            )
            if self._key_file is not None:
                openapi_security.add_to(document, self.settings.public_scopes)
        return self.openapi_schema or {}

    def _forget_openapi(self) -> None:
        self.openapi_schema = None

    def _add_model_routes(self) -> None:
        if self.generated_models is not None and self._generated is not None and not self._has_model_routes:
            self.include_router(model_routes.router(self.generated_models, self._generated))
            self._has_model_routes = True
            self._forget_openapi()

    @asynccontextmanager
    async def _run(self, app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        self._add_model_routes()  # only now, so that the routes of the app's author come first
        async with AsyncExitStack() as running:
            for part in self._parts(app):
                await running.enter_async_context(part)
            # The state for the server and for every request: `http_protocol.py` reads its limits from these settings.
            yield {
                shutdown.STATE: self.drain,
                SETTINGS: self.settings,
                body_buffers.STATE: self._body_buffers,
            }

    def _parts(self, app: FastAPI) -> Iterator[AbstractAsyncContextManager[Any]]:
        """The context managers that are open while the app runs, in the order in which they are entered."""
        if self._key_file is not None:
            yield self._key_file.watched()
        yield self.triton
        yield self.registry.polling()
        if self._jobs is not None:
            yield self._jobs.running()
        yield self._picture_apis.running()
        if self._gauges is not None:
            yield self._gauges.kept()
        if self._inner_lifespan is not None:
            yield self._inner_lifespan(app)
