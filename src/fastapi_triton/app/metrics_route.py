# SPDX-License-Identifier: Apache-2.0
"""`/metrics`: what Prometheus reads."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.core import paths
from fastapi_triton.observability.metrics import Metrics


def router(numbers: Metrics) -> APIRouter:
    """The one route; it is for machines, so the API's document leaves it out."""
    routes = APIRouter()

    @routes.get(paths.METRICS, include_in_schema=False)
    async def metrics(request: Request) -> Response:
        text, media_type = await numbers.text(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    return routes
