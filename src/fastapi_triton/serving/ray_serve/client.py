# SPDX-License-Identifier: Apache-2.0
"""`ClusterTriton`: many Tritons as one. Ray Serve chooses the Triton for a request; the request goes there directly.

A lease is a Ray Serve call that first yields the URL of a Triton, and then lasts as long as the request. So Ray's queue
lengths, limits, autoscaling and draining count the running requests. Pictures and progress do not pass through Ray.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self, TypeVar

from fastapi_triton.core.backoff import Backoff, pauses
from fastapi_triton.core.context import remaining_s
from fastapi_triton.core.errors import (
    DeadlineExceededError,
    ModelNotReadyError,
    OverloadedError,
    TritonUnavailableError,
)
from fastapi_triton.core.settings import Settings
from fastapi_triton.core.slot import Slot, current_slot
from fastapi_triton.serving.ray_serve.cold_start import ColdStart
from fastapi_triton.triton import generate_codec
from fastapi_triton.triton.client import NO_EXTENSIONS, Extensions, ModelStatus, Tensors, TritonClient, Unstreamable
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor
from fastapi_triton.triton.transport.credentials import Access

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

# Attempts of a request that did not reach its Triton. Until the replica of a dead Triton has ended too, Ray considers
# it the least loaded. So the next lease is often of the same Triton.
MAX_ATTEMPTS = 8
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 3.2
# How long the frontend's own requests (configs, readiness) wait for a Triton.
STATUS_TIMEOUT_S = 5.0


class Lease(Protocol):
    """The reservation of one Triton for a request, from the grant to the end of the request."""

    async def granted(self) -> str:
        """Wait for the grant. Returns the URL of the Triton.

        Raises:
            TritonUnavailableError: the chosen Triton has just ended.
        """
        ...

    def end(self) -> None:
        """End the lease, granted or not."""
        ...


@dataclass(slots=True)
class _Replica:
    """One Triton, and the number of its leases."""

    client: HTTPTriton
    num_leases: int = 0
    is_gone: bool = False


class ClusterTriton:
    """Implements `TritonClient` over the Tritons that `lease` gives. Used inside one event loop.

    With `may_sleep`, no Triton runs while there are no requests. Configs and readiness are then the last known ones, so
    that only clients' requests start a Triton.
    """

    def __init__(self, lease: Callable[[], Lease], settings: Settings, *, may_sleep: bool = False) -> None:
        if settings.triton_grpc_url:
            logger.warning("TRITON_GRPC_URL has no effect in a Ray cluster: its streams use HTTP only")
        self._new_lease = lease
        self._settings = settings
        self._may_sleep = may_sleep
        self._cold_start = ColdStart()
        self._replicas: dict[str, _Replica] = {}
        # The last known responses.
        self._configs: dict[str, ModelConfig] = {}
        self._index: list[ModelStatus] | None = None
        self._on_change: Callable[[str], None] = lambda _: None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        for known in self._replicas.values():
            await known.client.__aexit__(None, None, None)
        self._replicas.clear()

    @property
    def is_up(self) -> bool:
        return any(known.client.is_up for known in self._replicas.values())

    @property
    def num_open_breakers(self) -> int:
        return sum(known.client.num_open_breakers for known in self._replicas.values())

    @property
    def keeps_sequences(self) -> bool:
        return False  # each request has a lease of its own

    @property
    def is_asleep(self) -> bool:
        """Whether no Triton runs because there is no load. The next request starts one."""
        return self._may_sleep and bool(self._configs) and not self.is_up

    def subscribe(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change

    async def server_ready(self) -> bool:
        return await self._query(lambda triton: triton.server_ready(), asleep=True)

    async def check_processes(self) -> None:
        await asyncio.gather(*(replica.client.check_processes() for replica in self._replicas.values()))

    async def ready(self, model: str) -> bool:
        return await self._query(lambda triton: triton.ready(model), asleep=True if model in self._configs else None)

    async def config(self, model: str) -> ModelConfig:
        try:
            config = await self._query(lambda triton: triton.config(model), asleep=self._configs.get(model))
        except ModelNotReadyError:
            self._configs.pop(model, None)
            raise
        self._configs[model] = config
        return config

    async def index(self) -> list[ModelStatus]:
        self._index = await self._query(lambda triton: triton.index(), asleep=self._index)
        return self._index

    async def infer(
        self,
        model: str,
        inputs: Tensors,
        *,
        outputs: Sequence[str] = (),
        request_id: str = "",
        version: str = "",
        extensions: Extensions = NO_EXTENSIONS,
    ) -> dict[str, Tensor]:
        for pause_s in _attempts():
            await asyncio.sleep(pause_s)
            try:
                async with self._lease(self._settings.request_timeout_s) as triton:
                    return await triton.infer(
                        model,
                        inputs,
                        outputs=outputs,
                        request_id=request_id,
                        version=version,
                        extensions=extensions,
                    )
            except TritonUnavailableError as error:
                if not was_not_run(error):
                    raise
        raise _out_of_reach()

    def unstreamable(self, config: ModelConfig) -> Unstreamable:
        return replace(generate_codec.unstreamable(config), remedy="in a Ray cluster, streams use HTTP only")

    async def stream(
        self, model: str, inputs: Tensors, *, request_id: str = "", version: str = ""
    ) -> AsyncGenerator[dict[str, Tensor], None]:
        for pause_s in _attempts():
            await asyncio.sleep(pause_s)
            try:
                async with (
                    self._lease(self._settings.request_timeout_s) as triton,
                    aclosing(triton.stream(model, inputs, request_id=request_id, version=version)) as responses,
                ):
                    async for response in responses:
                        yield response
                return
            except TritonUnavailableError as error:
                # After a response the model has run, so the error is never one for which `was_not_run` is true.
                if not was_not_run(error):
                    raise
        raise _out_of_reach()

    async def _query(self, query: Callable[[TritonClient], Awaitable[Result]], *, asleep: Result | None) -> Result:
        """Send a query to any known Triton. Without one, take a lease, which counts as load in Ray.

        `asleep` is the result while no Triton runs because there is no load; None: unknown.
        """
        for url, known in list(self._replicas.items()):
            if known.is_gone:  # another request has found that meanwhile
                continue
            if not known.client.is_up:  # for example, Ray has removed the replica
                await self._forget(url)
                continue
            try:
                return await query(known.client)
            except TritonUnavailableError:
                await self._forget(url)
        if self.is_asleep:
            if asleep is None:
                raise self._not_ready("No Triton of the cluster is running. The next request for a model starts one.")
            return asleep
        async with self._lease(STATUS_TIMEOUT_S) as triton:
            return await query(triton)

    @asynccontextmanager
    async def _lease(self, wait_s: float) -> AsyncIterator[HTTPTriton]:
        """The client of a Triton that Ray chooses. Waits while all are at their limit, or none runs yet.

        Raises:
            OverloadedError: the deadline passes while all are at their limit.
            TritonUnavailableError: no Triton is ready, or the chosen one has just ended.
        """
        lease = self._new_lease()
        with _held_with_slot(lease):
            url = await self._granted(lease, wait_s)
            known = self._replicas.get(url) or await self._connect(url)
            known.num_leases += 1
            try:
                yield known.client
            except TritonUnavailableError as error:
                if was_not_run(error):
                    await self._forget(url)
                raise
            finally:
                known.num_leases -= 1
                if known.is_gone and not known.num_leases:
                    await known.client.__aexit__(None, None, None)

    async def _granted(self, lease: Lease, wait_s: float) -> str:
        left_s = remaining_s(wait_s)
        if left_s <= 0:
            raise DeadlineExceededError("The request's deadline passed before it reached a Triton; nothing was run.")
        if not self.is_up:
            self._cold_start.requested()
        try:
            async with asyncio.timeout(left_s):
                url = await lease.granted()
        except TimeoutError:
            if self.is_up:
                raise OverloadedError(
                    "Every Triton of the cluster is at its limit. Try again later.", retry_after_s=2.0
                ) from None
            raise self._not_ready("No Triton of the cluster is ready yet; nothing was run.") from None
        self._cold_start.started()
        return url

    def _not_ready(self, reason: str) -> TritonUnavailableError:
        left_s = self._cold_start.left_s
        return TritonUnavailableError(
            f"{reason} By earlier starts, one should be ready in about {left_s:.0f} s. Try again then.",
            code="cluster_not_ready",
            retry_after_s=left_s,
        )

    async def _connect(self, url: str) -> _Replica:
        client = HTTPTriton(
            url,
            connect_timeout_s=self._settings.connect_timeout_s,
            request_timeout_s=self._settings.request_timeout_s,
            heartbeat_s=self._settings.watch_interval_s,
            access=Access.of(self._settings),
        )
        client.subscribe(self._on_change)
        await client.__aenter__()
        return self._replicas.setdefault(url, _Replica(client))

    async def _forget(self, url: str) -> None:
        """Drop a Triton that could not be reached. Its client stays open until the last lease ends."""
        known = self._replicas.pop(url, None)
        if known is not None:
            logger.warning("the Triton at %s cannot be reached; this frontend no longer uses it", known.client.url)
            known.is_gone = True
            if not known.num_leases:
                await known.client.__aexit__(None, None, None)


@contextmanager
def _held_with_slot(lease: Lease) -> Iterator[None]:
    """Hold a lease as long as the request's slot: Triton may go on working after the client has disconnected."""
    outer = current_slot.get()
    if outer is None:
        try:
            yield
        finally:
            lease.end()
        return

    def free(slot: Slot) -> None:
        lease.end()
        outer.release(is_completed=slot.is_measured)

    outer.hold()
    inner = Slot(outer.count, since=outer.since, free=free)
    current_slot.set(inner)
    try:
        yield
    finally:
        current_slot.set(outer)  # not by the token: another task may close a stream than the one that began it
        inner.release()


def _attempts() -> Iterator[float]:
    """The pause before each attempt to reach a Triton, in seconds."""
    return pauses(Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S), max_attempts=MAX_ATTEMPTS)


def _out_of_reach() -> TritonUnavailableError:
    return TritonUnavailableError(
        "None of the Tritons that Ray chose could be reached; nothing was run. Try again.", retry_after_s=2.0
    )


def was_not_run(error: TritonUnavailableError) -> bool:
    """Whether the request never reached the chosen Triton. Only then may it go to another one."""
    return error.code == TritonUnavailableError.default_code
