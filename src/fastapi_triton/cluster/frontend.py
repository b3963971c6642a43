# SPDX-License-Identifier: Apache-2.0
"""The app of a `main.py` as the ingress of a Ray Serve application, in front of the cluster's Tritons."""

import os

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import Message, Receive, Scope, Send

from fastapi_triton import bundle
from fastapi_triton.cluster import output
from fastapi_triton.cluster.leased import ClusterTriton
from fastapi_triton.cluster.options import ClusterOptions
from fastapi_triton.cluster.replica import repository
from fastapi_triton.errors import TritonUnavailableError
from fastapi_triton.serve import load_app
from fastapi_triton.settings import Settings
from fastapi_triton.triton.fronted import fronted


class ServeLease:
    """Implements `Lease` by a call that lasts as long."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._response = handle.lease.remote()

    async def granted(self) -> str:
        try:
            return str(await self._response.__anext__())
        except (RayError, RayServeException, StopAsyncIteration) as error:
            raise TritonUnavailableError(
                "The chosen Triton has just gone; nothing was run. Try again.", retry_after_s=1.0
            ) from error

    def end(self) -> None:
        self._response.cancel()


class OneRequestID:
    """Leaves the header X-Request-ID to Ray's proxy, which adds the same one to every answer."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [each for each in message.get("headers", ()) if each[0] != b"x-request-id"]
            await send(message)

        await self.app(scope, receive, without_id)


@serve.ingress()
class Frontend:
    """Loads the app where it is to run, since apps cannot be sent there."""

    def __init__(self, options: ClusterOptions, tritons: DeploymentHandle) -> None:
        options.versions.require_same(node=ray.util.get_node_ip_address())
        self._options = options
        self._tritons = tritons.options(stream=True)

    def __serve_build_asgi_app__(self) -> "OneRequestID":
        os.chdir(self._options.folder)
        os.environ.update(self._options.settings)
        output.configure(Settings())
        fronted.set(lambda settings: ClusterTriton(lambda: ServeLease(self._tritons), settings))
        is_bundled = repository(self._options).resolve() == bundle.model_repository().resolve()
        return OneRequestID(load_app(self._options.app, is_bundled_repository=is_bundled))


def deployment(options: ClusterOptions, tritons: serve.Application) -> serve.Application:
    """As many processes as the options say, in front of these Tritons."""
    settings = options.frontend_settings
    made = serve.deployment(Frontend).options(
        name="Frontend",
        num_replicas=options.frontends,
        # Admission bounds those of each model; what waits, probes and refusals are to come through beside them.
        max_ongoing_requests=settings.max_connections,
        max_queued_requests=settings.max_connections,
        graceful_shutdown_timeout_s=settings.request_timeout_s,
        logging_config={"enable_access_log": False},
    )
    return made.bind(options, tritons)
