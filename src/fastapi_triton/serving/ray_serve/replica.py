# SPDX-License-Identifier: Apache-2.0
"""The Ray Serve replica that owns one Triton of the cluster, and ends with it."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import ray
from ray import serve

from fastapi_triton.core import bundle
from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.embedded.installation import EmbeddedTritonError
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from fastapi_triton.serving.ray_serve import environment
from fastapi_triton.serving.ray_serve.gpus import num_gpus
from fastapi_triton.serving.ray_serve.lease_watch import LeaseHolders
from fastapi_triton.serving.ray_serve.options import ClusterOptions
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.transport.credentials import Access

logger = logging.getLogger(__name__)

# The Ray namespace of all of Ray Serve's actors.
SERVE_NAMESPACE = "serve"
PROBE_INTERVAL_S = 0.5
PROBE_TIMEOUT_S = 5.0
# A Triton that this process did not start counts as gone after this number of failed probes; it may only be busy.
MAX_MISSED_PROBES = 4


class NoGPUError(Exception):
    """A Triton should have a GPU, and there is none; the message is for the user."""


class TritonReplica:
    """Owns one Triton. Frontends take leases from the replica, and send their requests to the Triton itself.

    When its Triton dies, the replica's process ends at once. Ray's router then drops the replica, and sends its waiting
    leases elsewhere. If the replica went on and rejected leases, it would be the least loaded, and get all of them.
    """

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, options: ClusterOptions, lease_limit_s: float
    ) -> None:
        node = ray.util.get_node_ip_address()
        options.versions.require_same(node=node)
        require_gpu(options, node=node)
        settings = options.frontend_settings
        environment.configure_logging(settings)
        self._lease_limit_s = lease_limit_s
        self._holders = LeaseHolders(is_alive)
        self._running: asyncio.Task[str] | None = None
        self._embedded: EmbeddedTriton | None = None
        if options.triton_url:
            self.url = options.triton_url.format(node=node)
        else:
            self._embedded = EmbeddedTriton.prepare(repository(options), host=options.address or node)
            self.url = self._embedded.url
            self._running = asyncio.create_task(self._embedded.run_once())
        self._client = HTTPTriton(self.url, connect_timeout_s=PROBE_TIMEOUT_S, access=Access.of(settings))
        await self._client.__aenter__()
        await self._until_live()
        self._watching = asyncio.create_task(self._watch())
        logger.info("Triton at %s is ready", self._client.url)

    async def lease(self, holder: str) -> AsyncGenerator[str, None]:
        """Yield the URL of the Triton, then run until the frontend cancels this call.

        Ray counts the call as a running request. A frontend that dies cancels nothing: its leases end when its actor,
        `holder`, no longer exists, or at their limit.
        """
        yield self.url
        with self._holders.holding(holder) as is_gone, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lease_limit_s):
                await is_gone.wait()
                logger.warning("a frontend has died, so its lease of the Triton at %s ends", self._client.url)

    async def check_health(self) -> None:
        """Ray calls this. Raises an error if the Triton is not live."""
        if not await self._is_live():
            raise RuntimeError(f"Triton at {self._client.url} does not respond")

    async def __del__(self) -> None:
        """Stop Triton and wait for its end. Ray calls this when it removes the replica and no lease is left."""
        self._watching.cancel()
        await self._client.__aexit__(None, None, None)  # Triton waits for open connections before it ends
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _until_live(self) -> None:
        """Wait until Triton has opened its port. It does so when it has loaded its models, or has failed to."""
        while not await self._is_live():
            if self._running is not None and self._running.done():
                raise EmbeddedTritonError(f"Triton did not start. {self._running.result()}")
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def _watch(self) -> None:
        if self._running is not None:
            await asyncio.wait([self._running])
        else:
            is_gone = asyncio.Event()
            missed = 0

            async def probe() -> float:
                nonlocal missed
                missed = 0 if await self._is_live() else missed + 1
                if missed >= MAX_MISSED_PROBES:
                    is_gone.set()
                return PROBE_INTERVAL_S

            task = BackgroundTask("Triton probe", consequence="A Triton that has died is noticed late.")
            await task.repeat(probe, until=is_gone)
        logger.error("Triton at %s has ended; this replica ends too, and Ray starts another", self._client.url)
        # There is nothing to clean up: requests with leases have lost their Triton.
        os._exit(1)

    async def _is_live(self) -> bool:
        try:
            head, _ = await self._client.status_request("GET", "/v2/health/live")
        except FastAPITritonError:
            return False
        return head.status == 200


def require_gpu(options: ClusterOptions, *, node: str) -> None:
    """Check that a Triton that needs a GPU has one: without, it would run on the CPU.

    Raises:
        NoGPUError: Ray assigns no GPU, or Ray was started with a GPU that the driver does not show.
    """
    wanted = options.gpus_per_triton
    if not wanted:
        return
    if not os.environ.get("CUDA_VISIBLE_DEVICES"):
        raise NoGPUError(f"The node {node} has no GPU for this Triton, but gpus_per_triton is {wanted:g}.")
        # A Triton that already runs has its own driver in its container.
    if not options.triton_url and not num_gpus():
        raise NoGPUError(
            f"Ray was started on the node {node} with a GPU (`ray start --num-gpus`), but its driver shows none. "
            f"gpus_per_triton is {wanted:g}."
        )


async def is_alive(actor: str) -> bool:
    """Whether an actor of Ray Serve with this name exists."""
    try:
        await asyncio.to_thread(ray.get_actor, actor, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    return True


def repository(options: ClusterOptions) -> Path:
    """The model repository on this node."""
    if options.models:
        return Path(options.models)
    beside = Path(options.folder) / "models"
    return beside if beside.is_dir() else bundle.model_repository()


def deployment(
    options: ClusterOptions, *, lease_limit_s: float, owner: type[TritonReplica] = TritonReplica
) -> serve.Application:
    """The deployment of the replicas, with their number and resources as the options say."""
    scaling: dict[str, object] = {"num_replicas": options.replicas}
    if options.max_replicas is not None:
        scaling = {
            "autoscaling_config": {
                "min_replicas": options.min_replicas,
                "max_replicas": options.max_replicas,
                "initial_replicas": options.min_replicas or 1,
                "target_ongoing_requests": options.target_in_flight,
                "downscale_delay_s": options.idle_s,
            }
        }
    made = serve.deployment(owner).options(
        name="TritonReplica",
        max_ongoing_requests=options.max_in_flight_per_triton,
        ray_actor_options={"num_cpus": options.cpus_per_triton, "num_gpus": options.gpus_per_triton},
        # A replica that Ray removes gets no new leases, and waits for those that it has.
        graceful_shutdown_timeout_s=lease_limit_s,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=2.0,
        health_check_timeout_s=PROBE_TIMEOUT_S + 5,
        logging_config={"enable_access_log": False},
        **scaling,
    )
    return made.bind(options, lease_limit_s)
