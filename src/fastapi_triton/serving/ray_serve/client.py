# SPDX-License-Identifier: Apache-2.0
"""`ClusterTriton`: many Tritons as one. Ray Serve chooses the Triton of a request; the request goes there directly.

A lease is a Ray Serve call that lasts as long as the request, and first yields the URL of a Triton. So Ray's queue
lengths, limits, autoscaling and draining count the requests that run, and neither pictures nor progress pass through
Ray.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
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
from fastapi_triton.triton.client import ModelStatus, Tensors, TritonClient
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor
from fastapi_triton.triton.transport.credentials import Access

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

# For a request that reached no Triton. A Triton that has just died is the least loaded of all until its replica has
# ended too, so the next lease may well be of the same one.
MAX_ATTEMPTS = 8
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 3.2
# How long a question of the frontend's own (configs, readiness) waits for a Triton to be there.
QUESTION_TIMEOUT_S = 5.0


class Lease(Protocol):
    """The use of one Triton, from when it is granted until its end."""

    async def granted(self) -> str:
        """The URL of the Triton, as soon as one has room.

        Raises:
            TritonUnavailableError: the chosen one has just gone.
        """
        ...

    def end(self) -> None:
        """Give it back, granted or not."""
        ...


@dataclass(slots=True)
class _Replica:
    """One Triton, and how many leases of it are held."""

    client: HTTPTriton
    num_leases: int = 0
    is_gone: bool = False


class ClusterTriton:
    """Implements `TritonClient` over the Tritons that `lease` gives. Used inside one event loop.

    Where they `may_sleep`, none may run while there is no request. Questions about models then get the last known
    answers, so that only requests start a Triton.
    """

    def __init__(self, lease: Callable[[], Lease], settings: Settings, *, may_sleep: bool = False) -> None:
        self._new_lease = lease
        self._settings = settings
        self._may_sleep = may_sleep
        self._cold_start = ColdStart()
        self._replicas: dict[str, _Replica] = {}
        # The last known answers.
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
    def is_asleep(self) -> bool:
        """Whether no Triton is there because none is needed; the next request has one started."""
        return self._may_sleep and bool(self._configs) and not self.is_up

    def subscribe(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change

    async def server_ready(self) -> bool:
        return await self._ask(lambda triton: triton.server_ready(), asleep=True)

    async def check_processes(self) -> None:
        await asyncio.gather(*(replica.client.check_processes() for replica in self._replicas.values()))

    async def ready(self, model: str) -> bool:
        return await self._ask(lambda triton: triton.ready(model), asleep=True if model in self._configs else None)

    async def config(self, model: str) -> ModelConfig:
        try:
            config = await self._ask(lambda triton: triton.config(model), asleep=self._configs.get(model))
        except ModelNotReadyError:
            self._configs.pop(model, None)
            raise
        self._configs[model] = config
        return config

    async def index(self) -> list[ModelStatus]:
        self._index = await self._ask(lambda triton: triton.index(), asleep=self._index)
        return self._index

    async def infer(
        self, model: str, inputs: Tensors, *, outputs: Sequence[str] = (), request_id: str = "", version: str = ""
    ) -> dict[str, Tensor]:
        for pause_s in _attempts():
            await asyncio.sleep(pause_s)
            try:
                async with self._lease(self._settings.request_timeout_s) as triton:
                    return await triton.infer(model, inputs, outputs=outputs, request_id=request_id, version=version)
            except TritonUnavailableError as error:
                if not was_not_run(error):
                    raise
        raise _out_of_reach()

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
                # Once there was a response the model has run; such an error never says that nothing was run.
                if not was_not_run(error):
                    raise
        raise _out_of_reach()

    async def _ask(self, question: Callable[[TritonClient], Awaitable[Answer]], *, asleep: Answer | None) -> Answer:
        """Ask any known Triton; Ray is asked for one only where none is known, since a lease counts as load.

        `asleep` is the answer while none is there because none is needed; None: unknown.
        """
        for url, known in list(self._replicas.items()):
            if known.is_gone:  # another request has found that out meanwhile
                continue
            if not known.client.is_up:  # as a replica that Ray has removed
                await self._forget(url)
                continue
            try:
                return await question(known.client)
            except TritonUnavailableError:
                await self._forget(url)
        if self.is_asleep:
            if asleep is None:
                raise self._not_ready("No Triton runs now, so nobody can tell; the next request has one started.")
            return asleep
        async with self._lease(QUESTION_TIMEOUT_S) as triton:
            return await question(triton)

    @asynccontextmanager
    async def _lease(self, wait_s: float) -> AsyncIterator[HTTPTriton]:
        """A Triton of Ray's choice; waits while all are full, or none runs yet.

        Raises:
            OverloadedError: the deadline comes before any of them has room.
            TritonUnavailableError: there is none, or the one that was chosen has just gone.
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
            raise DeadlineExceededError("The request's time was over before it came to a Triton; nothing was run.")
        if not self.is_up:
            self._cold_start.asked()
        try:
            async with asyncio.timeout(left_s):
                url = await lease.granted()
        except TimeoutError:
            if self.is_up:
                raise OverloadedError(
                    "Every Triton of the cluster has as much as it takes. Try again later.", retry_after_s=2.0
                ) from None
            raise self._not_ready("No Triton of the cluster is ready yet; nothing was run.") from None
        self._cold_start.came()
        return url

    def _not_ready(self, why: str) -> TritonUnavailableError:
        left_s = self._cold_start.left_s
        return TritonUnavailableError(
            f"{why} One should be there in about {left_s:.0f} s, as far as earlier starts tell. Try again.",
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
        """It could not be reached. Its client stays open for those that still hold on to it."""
        known = self._replicas.pop(url, None)
        if known is not None:
            logger.warning("the Triton at %s is gone", known.client.url)
            known.is_gone = True
            if not known.num_leases:
                await known.client.__aexit__(None, None, None)


@contextmanager
def _held_with_slot(lease: Lease) -> Iterator[None]:
    """Hold a lease for as long as the request's slot: a Triton may work on for a client that has left."""
    outer = current_slot.get()
    if outer is None:
        try:
            yield
        finally:
            lease.end()
        return

    def free(slot: Slot) -> None:
        lease.end()
        outer.release(is_answered=slot.is_measured)

    outer.hold()
    mine = Slot(outer.count, since=outer.since, free=free)
    current_slot.set(mine)
    try:
        yield
    finally:
        current_slot.set(outer)  # not by its token: a stream may be closed by another task than began it
        mine.release()


def _attempts() -> Iterator[float]:
    """The pause before each attempt to reach a Triton, in seconds."""
    return pauses(Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S), max_attempts=MAX_ATTEMPTS)


def _out_of_reach() -> TritonUnavailableError:
    return TritonUnavailableError(
        "No Triton of the cluster that was chosen could be reached; nothing was run. Try again.", retry_after_s=2.0
    )


def was_not_run(error: TritonUnavailableError) -> bool:
    """Whether the chosen Triton was never reached: only then may another have the request."""
    return error.code == TritonUnavailableError.default_code
