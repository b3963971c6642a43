# SPDX-License-Identifier: Apache-2.0
"""Liveness, which never depends on Triton; readiness, which does, model by model; and whether it was ready once."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from fastapi_triton.core import paths
from fastapi_triton.core.background import running_tasks
from fastapi_triton.core.errors import ContractError, FastAPITritonError, ShuttingDownError
from fastapi_triton.core.shutdown import Drain, Phase
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.generated.model_registry import Catalogue
from fastapi_triton.triton.client import CanSleep

BROKEN = ContractError.default_code


def router(
    endpoints: Sequence[InferEndpoint],
    catalogue: Catalogue | None = None,
    drain: Drain | None = None,
    sleeper: CanSleep | None = None,
) -> APIRouter:
    """The routes under `/health`; `endpoints` may still grow. Without any, the models of a catalogue must be known."""
    routes = APIRouter(prefix=paths.HEALTH, tags=["health"])
    was_ready = False

    @routes.get("/live", summary="The process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @routes.get(
        "/ready",
        summary="The models that this app declares take requests",
        responses={503: {"description": "Not yet, or no longer; `endpoints` says why"}},
    )
    async def ready() -> JSONResponse:
        if drain is not None and drain.phase >= Phase.UNREADY:
            return JSONResponse(
                {"status": "shutting down", "code": ShuttingDownError.default_code, "endpoints": []},
                status_code=503,
                headers={"Retry-After": "1"},
            )
        states = await asyncio.gather(*(_state(endpoint) for endpoint in list(endpoints)))
        if catalogue is not None and not states:  # an app that declares nothing has nothing else to be ready for
            states += _catalogue_states(catalogue)
        nonlocal was_ready
        is_ready = _is_ready(states) if endpoints or catalogue is None else states[0]["ready"]
        was_ready = was_ready or is_ready
        status = "ready" if all(state["ready"] for state in states) else "partly ready" if is_ready else "not ready"
        told: dict[str, Any] = {"status": status, "endpoints": states}
        if sleeper is not None and sleeper.is_asleep:
            told["detail"] = "No Triton runs: none is needed, and the next request has one started."
        if failing := _failing_tasks():
            told["failing_tasks"] = failing
        return JSONResponse(
            told,
            status_code=200 if is_ready else 503,
            headers={} if is_ready else {"Retry-After": "1"},
        )

    @routes.get(
        "/startup",
        summary="The models have taken requests once",
        responses={503: {"description": "Not yet; `endpoints` says why"}},
    )
    async def startup() -> JSONResponse:
        return JSONResponse({"status": "started"}) if was_ready else await ready()

    return routes


def _catalogue_states(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Of all generated endpoints together, which are ready while one of them works; and of each dead model."""
    state: dict[str, Any] = {"path": paths.MODELS, "ready": True}
    try:
        catalogue.require_read()
    except FastAPITritonError as error:
        return [state | {"ready": False, "code": error.code, "detail": error.detail}]
    dead = [entry for entry in catalogue.entries if entry.is_dead]
    if dead and not any(entry.is_served for entry in catalogue.entries):
        state |= {"ready": False, "code": dead[0].code, "detail": dead[0].reason}
    return [
        state,
        *(
            {
                "path": f"{paths.MODELS}/{quote(entry.name, safe='')}/infer",
                "model": entry.name,
                "ready": False,
                "code": entry.code,
                "detail": entry.reason,
            }
            for entry in dead
        ),
    ]


def _failing_tasks() -> list[dict[str, Any]]:
    """The background tasks of this process that fail. Their errors are in the log only: they may name files."""
    return [
        {
            "task": task.name,
            "consequence": task.consequence,
            "failures": task.num_failures,
            "failing_for_s": round(task.failing_for_s, 1),
        }
        for task in running_tasks()
        if task.is_failing
    ]


def _is_ready(states: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the process should get traffic.

    An endpoint that does not fit its model stays unready by itself, for as long as another one works: taking the
    process out of the balancer would take that one away too, and would not mend the first.
    """
    unready = [state for state in states if not state["ready"]]
    is_any_ready = len(unready) < len(states) or not states
    return is_any_ready and all(state["code"] == BROKEN for state in unready)


async def _state(endpoint: InferEndpoint) -> dict[str, Any]:
    state: dict[str, Any] = {"path": endpoint.path, "model": endpoint.model}
    if endpoint.stream_model:
        state["stream_model"] = endpoint.stream_model
    state["ready"] = True
    try:
        await endpoint.require_ready()
    except FastAPITritonError as error:
        state |= {"ready": False, "code": error.code, "detail": error.detail}
        if isinstance(error, ContractError):
            state["mismatches"] = list(error.mismatches)
    return state
