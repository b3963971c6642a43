# SPDX-License-Identifier: Apache-2.0
"""The servers that are compared: the frontend as it is, and the frontend with one part of it exchanged."""

from dataclasses import dataclass
from enum import StrEnum

# A part of ours stays where it saves at least this share of a small request's CPU.
THRESHOLD = 0.10


class Variant(StrEnum):
    """One server. All but `FRONTEND` have one part exchanged."""

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


# They share their metrics with other processes.
WORKERS = (Variant.WORKER, Variant.WORKER_BATCHED_METRICS)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Our code for a part and the library's, in servers that are otherwise the same."""

    part: str
    own: Variant
    library: Variant
    decision: str


COMPARISONS = (
    Comparison(
        "request cycle: head and body in one write, header names looked at once",
        Variant.OWN_CYCLE,
        Variant.FRONTEND,
        "deleted: `request_cycle.py` keeps what the limits need",
    ),
    Comparison(
        "HTTP protocol as it is, against uvicorn's",
        Variant.FRONTEND,
        Variant.UVICORN_PROTOCOL,
        "stays for its limits and refusals, not for CPU",
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
        "stays: `middleware/dispatch.py`, a plain middleware and no copy",
    ),
    Comparison(
        "middleware stack and dispatch together",
        Variant.OWN_STACK,
        Variant.ROUTER,
        "the stack is deleted, the dispatch stays",
    ),
    Comparison(
        "a declared route's ASGI app, instead of FastAPI's handling of parameters",
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
