# SPDX-License-Identifier: Apache-2.0
"""`/metrics` for Prometheus."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.core import paths
from fastapi_triton.observability.metrics import Metrics


def router(collected: Metrics) -> APIRouter:
    """The route `/metrics`, which is not part of the OpenAPI document."""
    routes = APIRouter()

    @routes.get(paths.METRICS, include_in_schema=False)
    async def metrics(request: Request) -> Response:
        text, media_type = await collected.text(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    return routes
