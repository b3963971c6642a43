# SPDX-License-Identifier: Apache-2.0
"""The compared servers: the frontend, and the frontend with one part replaced."""

from dataclasses import dataclass
from enum import StrEnum

# Our own part stays if it saves at least this share of a small request's CPU.
THRESHOLD = 0.10


class Variant(StrEnum):
    """One server. All but `FRONTEND` have one part replaced."""

    FRONTEND = "the frontend"
    OWN_CYCLE = "own request cycle"
    UVICORN_PROTOCOL = "uvicorn's protocol"
    OWN_STACK = "own middleware stack"
    ROUTER = "FastAPI's router"
    FASTAPI_ENDPOINT = "FastAPI's router and endpoint"
    BATCHED_METRICS = "batched metrics"
    AIOHTTP = "aiohttp"
    WORKER = "the frontend, one of several workers"
    WORKER_BATCHED_METRICS = "batched metrics, one of several workers"


# These share their metrics with other processes.
WORKERS = (Variant.WORKER, Variant.WORKER_BATCHED_METRICS)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Our code and the library's for one part, in otherwise equal servers."""

    part: str
    own: Variant
    library: Variant
    decision: str


COMPARISONS = (
    Comparison(
        "request cycle: head and body in one write, header names checked once",
        Variant.OWN_CYCLE,
        Variant.FRONTEND,
        "deleted: `request_cycle.py` has only what the limits need",
    ),
    Comparison(
        "HTTP protocol, against uvicorn's",
        Variant.FRONTEND,
        Variant.UVICORN_PROTOCOL,
        "stays for its limits, not for CPU",
    ),
    Comparison(
        "middleware stack: error handling only after an error",
        Variant.OWN_STACK,
        Variant.FRONTEND,
        "deleted: FastAPI's `build_middleware_stack`",
    ),
    Comparison(
        "dispatch ahead of the router",
        Variant.FRONTEND,
        Variant.ROUTER,
        "stays: `middleware/dispatch.py`, a plain middleware, not a copy",
    ),
    Comparison(
        "middleware stack and dispatch together",
        Variant.OWN_STACK,
        Variant.ROUTER,
        "the stack is deleted, the dispatch stays",
    ),
    Comparison(
        "a declared route's ASGI app, instead of FastAPI's parameter handling",
        Variant.ROUTER,
        Variant.FASTAPI_ENDPOINT,
        "stays: `route.app` in `app/frontend.py`",
    ),
    Comparison(
        "batched metrics, one process",
        Variant.BATCHED_METRICS,
        Variant.FRONTEND,
        "deleted: prometheus_client's public API",
    ),
    Comparison(
        "batched metrics, several workers",
        Variant.WORKER_BATCHED_METRICS,
        Variant.WORKER,
        "deleted: prometheus_client's public API",
    ),
    Comparison("Triton transport, against aiohttp", Variant.FRONTEND, Variant.AIOHTTP, "stays: `triton/transport/`"),
)
