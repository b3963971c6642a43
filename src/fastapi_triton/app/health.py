# SPDX-License-Identifier: Apache-2.0
"""The health routes: `/health/live`, which does not depend on Triton, `/health/ready` and `/health/startup`."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from fastapi_triton.core import paths
from fastapi_triton.core.background import running_tasks
from fastapi_triton.core.errors import ContractError, FastAPITritonError, ShuttingDownError
from fastapi_triton.core.shutdown import Drain, Phase
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.generated.models import GeneratedModels
from fastapi_triton.triton.client import CanSleep
from fastapi_triton.triton.model_registry import ModelRegistry

BROKEN = ContractError.default_code


@dataclass(frozen=True, slots=True)
class Report:
    """Whether the process should get traffic, and the body of `/health/ready`."""

    is_ready: bool
    body: Mapping[str, Any]


class Readiness:
    """Whether the app's endpoints accept requests; `endpoints` may still grow.

    An app without declared endpoints is ready when the models of the `generated` endpoints are known.
    """

    def __init__(
        self,
        endpoints: Sequence[InferEndpoint],
        registry: ModelRegistry,
        *,
        generated: GeneratedModels | None = None,
        drain: Drain | None = None,
        sleeper: CanSleep | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._registry = registry
        self._generated = generated
        self._drain = drain
        self._sleeper = sleeper
        self._num_checks = 0
        # Whether any report was ready.
        self.was_ready = False

    async def check(self) -> Report:
        """Check every declared endpoint now."""
        if not self._is_draining:
            await asyncio.gather(*(_check(endpoint) for endpoint in list(self._endpoints)))
        return self.report()

    async def reports(self) -> AsyncGenerator[Report, None]:
        """Yield a report now and after every change. It sends no requests to Triton beyond those of the registry."""
        changed = asyncio.Event()
        self._registry.subscribe(changed.set)

        async def check_next() -> None:
            streams = [endpoint.stream for endpoint in self._endpoints if endpoint.stream is not None]
            if streams:
                self._num_checks += 1
                await streams[self._num_checks % len(streams)].check_available(is_due=True)
                changed.set()

        self._registry.add_spot_check(check_next)
        while True:
            yield self.report()
            await changed.wait()
            changed.clear()

    def report(self) -> Report:
        """A report from what the registry knows, without requests to Triton."""
        if self._is_draining:
            code = ShuttingDownError.default_code
            return Report(is_ready=False, body={"status": "shutting down", "code": code, "endpoints": []})
        states = [_state(endpoint) for endpoint in self._endpoints]
        if self._generated is not None and not states:
            states = _generated_states(self._generated)
        is_ready = _is_ready(states) if self._endpoints or self._generated is None else states[0]["ready"]
        self.was_ready = self.was_ready or is_ready
        status = "ready" if all(state["ready"] for state in states) else "partly ready" if is_ready else "not ready"
        body: dict[str, Any] = {"status": status, "endpoints": states}
        if self._sleeper is not None and self._sleeper.is_asleep:
            body["detail"] = "No Triton is running, because there is no load. The next request starts one."
        if failing := _failing_tasks():
            body["failing_tasks"] = failing
        return Report(is_ready=is_ready, body=body)

    @property
    def _is_draining(self) -> bool:
        return self._drain is not None and self._drain.phase >= Phase.UNREADY


def router(readiness: Readiness) -> APIRouter:
    """The routes under `/health`."""
    routes = APIRouter(prefix=paths.HEALTH, tags=["health"])

    @routes.get("/live", summary="Liveness: the process responds")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @routes.get(
        "/ready",
        summary="Readiness: the app's models accept requests",
        responses={503: {"description": "Not ready; `endpoints` gives the reasons"}},
    )
    async def ready() -> JSONResponse:
        report = await readiness.check()
        return JSONResponse(
            report.body,
            status_code=200 if report.is_ready else 503,
            headers={} if report.is_ready else {"Retry-After": "1"},
        )

    @routes.get(
        "/startup",
        summary="Startup: the app has been ready at least once",
        responses={503: {"description": "Not ready yet; `endpoints` gives the reasons"}},
    )
    async def startup() -> JSONResponse:
        return JSONResponse({"status": "started"}) if readiness.was_ready else await ready()

    return routes


async def _check(endpoint: InferEndpoint) -> None:
    try:
        await endpoint.require_ready()
    except FastAPITritonError:
        return  # the endpoint keeps the error


def _state(endpoint: InferEndpoint) -> dict[str, Any]:
    state: dict[str, Any] = {"path": endpoint.path, "model": endpoint.model}
    if endpoint.stream_model:
        state["stream_model"] = endpoint.stream_model
    error = endpoint.error
    state["ready"] = error is None
    if error is not None:
        state |= {"code": error.code, "detail": error.detail}
    if isinstance(error, ContractError):
        state["mismatches"] = list(error.mismatches)
    return state


def _generated_states(generated: GeneratedModels) -> list[dict[str, Any]]:
    """The state of the generated endpoints as one, ready while any of them works, and of each dead model."""
    state: dict[str, Any] = {"path": paths.MODELS, "ready": True}
    try:
        generated.require_read()
    except FastAPITritonError as error:
        return [state | {"ready": False, "code": error.code, "detail": error.detail}]
    dead = [entry for entry in generated.entries if entry.is_dead]
    if dead and not any(entry.is_served for entry in generated.entries):
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
    """The failing background tasks of this process. Their errors are only in the log, since they may name files."""
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

    An endpoint that does not fit its model does not make the process unready while another endpoint works. Without
    traffic the process could not serve the working endpoint either.
    """
    unready = [state for state in states if not state["ready"]]
    is_any_ready = len(unready) < len(states) or not states
    return is_any_ready and all(state["code"] == BROKEN for state in unready)
