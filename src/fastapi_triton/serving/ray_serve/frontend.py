# SPDX-License-Identifier: Apache-2.0
"""Loads the app of a `main.py` as the ingress of a Ray Serve application, in front of the cluster's Tritons."""

import os

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.app.loader import load_app
from fastapi_triton.core import bundle
from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.core.settings import Settings
from fastapi_triton.core.shutdown import Drain
from fastapi_triton.serving.ray_serve import environment
from fastapi_triton.serving.ray_serve.client import ClusterTriton
from fastapi_triton.serving.ray_serve.ingress import Ingress
from fastapi_triton.serving.ray_serve.options import ClusterOptions
from fastapi_triton.serving.ray_serve.replica import repository
from fastapi_triton.triton.client import client_factory


class ServeLease:
    """Implements `Lease` by a Ray Serve call that lasts as long as the lease."""

    def __init__(self, handle: DeploymentHandle, holder: str) -> None:
        self._response = handle.lease.remote(holder)

    async def granted(self) -> str:
        try:
            return str(await self._response.__anext__())
        except (RayError, RayServeException, StopAsyncIteration) as error:
            raise TritonUnavailableError(
                "The Triton that Ray chose has just ended; nothing was run. Try again.", retry_after_s=1.0
            ) from error

    def end(self) -> None:
        self._response.cancel()


@serve.ingress()
class Frontend:
    """Loads the app in its own process, since apps cannot be sent between processes."""

    def __init__(self, options: ClusterOptions, tritons: DeploymentHandle) -> None:
        options.versions.require_same(node=ray.util.get_node_ip_address())
        self._options = options
        self._tritons = tritons.options(stream=True)

    def __serve_build_asgi_app__(self) -> Ingress:
        os.chdir(self._options.folder)
        os.environ.update(self._options.settings)
        environment.configure_logging(Settings())
        holder = ray.get_runtime_context().get_actor_name() or ""
        may_sleep = self._options.min_replicas == 0
        client_factory.set(
            lambda settings: ClusterTriton(lambda: ServeLease(self._tritons, holder), settings, may_sleep=may_sleep)
        )
        is_bundled = repository(self._options).resolve() == bundle.model_repository().resolve()
        app = load_app(self._options.app, is_bundled_repository=is_bundled)
        settings, drain = (app.settings, app.drain) if isinstance(app, TritonFrontend) else (Settings(), Drain())
        self._ingress = Ingress(app, settings=settings, drain=drain)
        return self._ingress

    async def end(self) -> None:
        """Shut down gracefully, as the settings say. `local.py` calls this; Ray itself never does."""
        await self._ingress.end()


def deployment(options: ClusterOptions, tritons: serve.Application) -> serve.Application:
    """The deployment of the frontends, which use these Tritons."""
    settings = options.frontend_settings
    made = serve.deployment(Frontend).options(
        name="Frontend",
        num_replicas=options.frontends,
        # Not a limit of work: the app itself limits each model, and waiting requests and probes need more connections.
        max_ongoing_requests=settings.max_connections,
        max_queued_requests=settings.max_connections,
        graceful_shutdown_timeout_s=settings.request_timeout_s,
        logging_config={"enable_access_log": False},
    )
    return made.bind(options, tritons)
