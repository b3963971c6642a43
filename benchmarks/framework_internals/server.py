# SPDX-License-Identifier: Apache-2.0
"""Run one of the compared servers: `python -m benchmarks.framework_internals.server VARIANT PORT`."""

import sys
from types import ModuleType

import uvicorn
from fastapi.routing import APIRoute, request_response
from pydantic import BaseModel
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from benchmarks.framework_internals.batched_metrics import BatchedMetrics
from benchmarks.framework_internals.fast_cycle import FastCycle
from benchmarks.framework_internals.fast_stack import FastStackFrontend
from benchmarks.framework_internals.library_transport import AiohttpPool
from benchmarks.framework_internals.upstream import MODEL
from benchmarks.framework_internals.variants import Variant
from fastapi_triton import Base64Image, TritonFrontend
from fastapi_triton.app import frontend
from fastapi_triton.observability import gauges
from fastapi_triton.serving import http_protocol
from fastapi_triton.triton import http_client
from main import ScribbleRequest

PATH = "/scribble"


class EchoResponse(BaseModel):
    generated_image: Base64Image


# Parts that the app creates: the module and the name that it uses, and the replacement.
_REPLACEMENTS: dict[Variant, tuple[ModuleType, str, type]] = {
    Variant.OWN_CYCLE: (http_protocol, "Exchange", FastCycle),
    Variant.BATCHED_METRICS: (frontend, "Metrics", BatchedMetrics),
    Variant.WORKER_BATCHED_METRICS: (frontend, "Metrics", BatchedMetrics),
    Variant.AIOHTTP: (http_client, "ConnectionPool", AiohttpPool),
}


def build(variant: Variant) -> TritonFrontend:
    """The app of this variant."""
    if variant in _REPLACEMENTS:
        setattr(*_REPLACEMENTS[variant])
    app = (FastStackFrontend if variant is Variant.OWN_STACK else TritonFrontend)(title="scribble echo")
    app.infer(PATH, model=MODEL, request=ScribbleRequest, response=EchoResponse)
    if variant in (Variant.ROUTER, Variant.FASTAPI_ENDPOINT):
        app.user_middleware.pop()  # the innermost middleware, which is the dispatch
    if variant is Variant.FASTAPI_ENDPOINT:
        for route in app.router.routes:
            if isinstance(route, APIRoute) and route.path == PATH:
                route.app = request_response(route.get_route_handler())
    return app


def main() -> None:
    gauges.INTERVAL_S = 3600.0  # under valgrind, work that runs every second would count for few requests
    variant, port = Variant(sys.argv[1]), int(sys.argv[2])
    uvicorn.run(
        build(variant),
        port=port,
        http=HttpToolsProtocol if variant is Variant.UVICORN_PROTOCOL else http_protocol.Protocol,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )


if __name__ == "__main__":
    main()
