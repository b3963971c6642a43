# SPDX-License-Identifier: Apache-2.0
"""The models of one Triton: polls it, caches the models' configs, and notifies subscribers of changes.

Nothing else polls Triton. Normally a round is two requests, however many models there are: the repository index, which
lists the loaded models, and one spot check. The index does not show that a model was reloaded with another config. So
the spot checks read the configs in turn, and a config that is older than a round is read again before a request.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.core.errors import (
    ContractError,
    DeadlineExceededError,
    FastAPITritonError,
    ModelNotReadyError,
    TritonUnavailableError,
)
from fastapi_triton.triton import model_health
from fastapi_triton.triton.client import ModelStatus, TritonClient
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.transport.circuit_breaker import AWAY_INTERVAL_S
from fastapi_triton.triton.transport.errors import ACCESS_DENIED

logger = logging.getLogger(__name__)

# Models that are checked concurrently.
MAX_CHECKS = 8
# The most models with an apparently unchanged config that one round reads again.
MAX_REFRESHES = 16
# The pause between two rounds while a declared model is not ready.
UNREADY_INTERVAL_S = 0.5
# A round takes time: a config may be this much older than the interval before it is read again for a request.
GRACE_S = 0.5
# The longest that a request waits for this.
REREAD_TIMEOUT_S = 0.5
# Triton needs seconds for the index of a large or remote repository; reading takes at most a tenth of the time.
_REST = 9.0
# While Triton refuses its index, only one round in this many requests it; the others read a config instead.
_REFUSED_ROUNDS = 8

READY = "READY"

SpotCheck = Callable[[], Awaitable[None]]


def _not_asked() -> FastAPITritonError:
    return TritonUnavailableError("The frontend has not read Triton's models yet. Try again.", retry_after_s=1.0)


def _is_away(failure: FastAPITritonError | None) -> bool:
    return isinstance(failure, TritonUnavailableError) and failure.code != ACCESS_DENIED


@dataclass(slots=True, eq=False)
class Model:
    """The last known state of a model.

    `statuses` are its versions in the index. `error` is the reason if it accepts no requests. `config` is None if it
    cannot be read; it is kept while Triton is away.
    """

    name: str
    # Whether it has a declared endpoint.
    is_declared: bool = False
    statuses: tuple[ModelStatus, ...] = ()
    config: ModelConfig | None = None
    error: FastAPITritonError | None = field(default_factory=_not_asked)
    # Whether the next round must check it, and the next request must read its config.
    is_due: bool = True
    is_stale: bool = True
    # Whether it had requests since its last check.
    is_used: bool = False
    # A different number means another model under the same name, even if its config is equal.
    generation: int = 0
    # When its config was last read, or failed to be; minus infinity until it was checked with these `statuses`.
    read_at: float = -math.inf
    num_checks: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def versions(self) -> list[str]:
        """The ready versions."""
        return [status.version for status in self.statuses if status.state == READY]

    @property
    def is_checked(self) -> bool:
        """Whether the model was checked with these `statuses`."""
        return self.read_at > -math.inf

    @property
    def is_dead(self) -> bool:
        """Whether Triton has loaded the model, but its stub process has died."""
        return self.error is not None and self.error.code == model_health.CODE

    @property
    def is_wanted(self) -> bool:
        """Whether the registry reads its config."""
        return self.is_declared or any(status.state == READY for status in self.statuses)


class ModelRegistry:
    """All models of a Triton, by name. A round begins at the latest `interval_s` after the last one ended."""

    def __init__(self, triton: TritonClient, *, interval_s: float) -> None:
        self._triton = triton
        self._interval_s = interval_s
        self._models: dict[str, Model] = {}
        # The error if the last round could not read the index.
        self.failure: FastAPITritonError | None = _not_asked()
        # Whether the index has ever been read.
        self.is_read = False
        self._index_s = 0.0
        self._subscribers: list[Callable[[], None]] = []
        self._is_changed = False
        self._wake = asyncio.Event()
        self._pause_s = 0.0
        self._spot_checks: list[SpotCheck] = [self._check_server, self._check_oldest]
        self._num_rounds = 0
        triton.subscribe(self._on_sign)

    @asynccontextmanager
    async def polling(self) -> AsyncGenerator[None, None]:
        """Poll Triton for the duration of the block."""
        task = BackgroundTask("model registry", consequence="New, removed and changed models may go unnoticed.")
        self._pause_s = 0.0
        async with task.repeating(self._poll_when_due):
            yield

    def subscribe(self, on_change: Callable[[], None]) -> None:
        """Call the function when Triton or its models have changed."""
        self._subscribers.append(on_change)

    def add_spot_check(self, check: SpotCheck) -> None:
        """Run the function in every fourth round. It may send Triton one request."""
        self._spot_checks = [self._check_server, check, self._check_server, self._check_oldest]

    def declare(self, name: str) -> None:
        """Note that an endpoint needs this model: it is checked even if the index lacks it or cannot be read."""
        self._models.setdefault(name, Model(name)).is_declared = True

    @property
    def models(self) -> list[Model]:
        """The models in Triton's index, by name."""
        return [self._models[name] for name in sorted(self._models) if self._models[name].statuses]

    def model(self, name: str) -> Model | None:
        """A model that is in the index, or declared."""
        return self._models.get(name)

    async def config(self, name: str) -> ModelConfig:
        """The config of such a model. It is not much older than a round if Triton responds at once.

        Raises:
            FastAPITritonError: the config cannot be read.
        """
        model = self._models[name]
        model.is_used = True
        config = self._current(model)
        if config is None:
            async with model.lock:  # concurrent requests read it once
                config = self._current(model) or await self._read_due_config(model)
            self._notify()
        return config

    async def require_ready(self, name: str) -> None:
        """Check a declared model now.

        Raises:
            FastAPITritonError: the model accepts no requests.
        """
        model = self._models[name]
        await self._check(model)
        self._notify()
        if model.error is not None:
            raise model.error.with_traceback(None)  # a copy, because an exception grows each time that it is raised

    def doubt(self, name: str) -> None:
        """The model's config may have changed: read it again before the next request."""
        if (model := self._models.get(name)) is not None:
            model.is_due = model.is_stale = True

    def forget(self, name: str) -> None:
        """Triton is gone, or unloaded the model. What comes back is another model, even if its config is equal."""
        if (model := self._models.get(name)) is not None:
            model.is_due = model.is_stale = True
            model.generation += 1

    async def poll(self) -> None:
        """One round.

        Raises:
            FastAPITritonError: the index cannot be read. The known state is kept.
        """
        failure = self.failure
        is_refused = failure is not None and failure.code == ACCESS_DENIED
        if is_refused and self._num_rounds % _REFUSED_ROUNDS:
            with suppress(FastAPITritonError):
                await self._check_oldest()
        else:
            failure = await self._read_index()
        await self._triton.check_processes()
        await self._check_all(self._due())
        await self._spot_check()
        self._notify()
        if failure is not None:
            raise failure.with_traceback(None)

    def refresh_soon(self) -> None:
        """Begin a round now that checks all models, but at most `MAX_REFRESHES`."""
        for model in self._models.values():
            model.is_used = True
        self._wake.set()

    def _on_sign(self, model: str) -> None:
        """The client reports a change of Triton, or of this model."""
        self.doubt(model)
        self._wake.set()

    async def _poll_when_due(self) -> float:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s):
                await self._wake.wait()
        self._wake.clear()
        if not self._subscribers:  # nothing depends on this model
            self._pause_s = self._interval_s
            return 0.0
        with suppress(FastAPITritonError):  # `failure` keeps it
            await self.poll()
        pause_s = self._interval_s
        if _is_away(self.failure):
            pause_s = min(pause_s, AWAY_INTERVAL_S)
        elif any(model.is_declared and model.error is not None for model in self._models.values()):
            pause_s = min(pause_s, UNREADY_INTERVAL_S)
        self._pause_s = max(pause_s, _REST * self._index_s)
        return 0.0

    async def _read_index(self) -> FastAPITritonError | None:
        started = time.monotonic()
        try:
            index = await self._triton.index()
        except FastAPITritonError as error:
            self._index_s = 0.0
            self._fail(error)
            return error
        self._index_s = time.monotonic() - started
        self._is_changed = self._is_changed or self.failure is not None
        self.failure, self.is_read = None, True
        found: dict[str, list[ModelStatus]] = {}
        for status in index:
            found.setdefault(status.name, []).append(status)
        for name in self._models.keys() | found.keys():
            self._see(self._models.setdefault(name, Model(name)), tuple(found.get(name, ())))
            if name not in found and not self._models[name].is_declared:
                del self._models[name]
        return None

    def _see(self, model: Model, statuses: tuple[ModelStatus, ...]) -> None:
        """Update the model's versions from the index."""
        if statuses == model.statuses:
            return
        self._is_changed = True
        model.is_due = model.is_stale = True
        for status in statuses:
            if status.state == "UNAVAILABLE" and status.reason not in ("", "unloaded"):
                logger.warning("model %s: Triton has not loaded it: %s", model.name, status.reason)
        model.statuses, model.read_at = statuses, -math.inf
        if not model.versions:
            model.config = None
            model.generation += 1

    def _due(self) -> list[Model]:
        """The models to check in this round: those that need it, and the least recently checked that had requests."""
        wanted = [model for model in self._models.values() if model.is_wanted]
        due = [model for model in wanted if model.is_due]
        return due + self._oldest(model for model in wanted if model.is_used and not model.is_due)

    @staticmethod
    def _oldest(models: Iterable[Model]) -> list[Model]:
        return sorted(models, key=lambda model: model.read_at)[:MAX_REFRESHES]

    async def _check_all(self, models: Iterable[Model]) -> None:
        limit = asyncio.Semaphore(MAX_CHECKS)

        async def check(model: Model) -> None:
            async with limit:
                await self._check(model)

        for unexpected in await asyncio.gather(*map(check, models), return_exceptions=True):
            if unexpected is not None:
                raise unexpected  # after the others were checked

    async def _check(self, model: Model) -> None:
        """Request the model's readiness and its config."""
        num_checks = model.num_checks
        async with model.lock:
            if model.num_checks > num_checks:
                return  # another check began after this one was requested
            model.num_checks += 1
            model.is_used = model.is_due = False
            try:
                is_ready = await self._triton.ready(model.name)
                await self._read_config(model)  # raises the reason if the model is not loaded
            except FastAPITritonError as error:
                self._set_error(model, error)
                return
            if is_ready:
                self._set_error(model, None)
            else:
                text = f"Triton reports the model {model.name} as not ready."
                self._set_error(model, ModelNotReadyError(text, retry_after_s=1.0))

    async def _read_config(self, model: Model) -> ModelConfig:
        try:
            config = await self._triton.config(model.name)
        except FastAPITritonError as error:
            self._set_error(model, error)
            raise
        model.read_at = time.monotonic()
        if config != model.config:
            model.config, self._is_changed = config, True
            model.generation += 1
        model.is_stale = False
        return config

    async def _read_due_config(self, model: Model) -> ModelConfig:
        """Read the config before a request. A config that is only old is used again if Triton does not respond soon."""
        known = None if model.is_stale else model.config
        if known is None:
            return await self._read_config(model)
        try:
            async with asyncio.timeout(REREAD_TIMEOUT_S):
                return await self._read_config(model)
        except TimeoutError:
            model.read_at = time.monotonic()
            return known

    def _current(self, model: Model) -> ModelConfig | None:
        """The model's config, or None if it has to be read again."""
        is_old = time.monotonic() - model.read_at > self._interval_s + GRACE_S
        return None if model.is_stale or is_old else model.config

    def _set_error(self, model: Model, error: FastAPITritonError | None) -> None:
        before, model.error = model.error, error
        model.read_at = time.monotonic()
        self._is_changed = self._is_changed or repr(error) != repr(before)
        if error is None:
            return
        # A config that cannot be read stays so until an operator fixes it.
        model.is_due = model.is_stale = not isinstance(error, ContractError)
        model.generation += 1
        if not isinstance(error, TritonUnavailableError | DeadlineExceededError):
            model.config = None

    def _fail(self, error: FastAPITritonError) -> None:
        if self.failure is None:
            reason = error.reason if isinstance(error, TritonUnavailableError) else error.detail
            logger.warning("Triton's list of models cannot be read: %s", reason)
        self._is_changed = self._is_changed or repr(error) != repr(self.failure)
        self.failure = error
        if _is_away(error):
            for model in self._models.values():
                model.is_due = model.is_stale = True
                model.generation += 1

    async def _spot_check(self) -> None:
        check = self._spot_checks[self._num_rounds % len(self._spot_checks)]
        self._num_rounds += 1
        with suppress(FastAPITritonError):  # the next index reports a Triton that is away
            await check()

    async def _check_server(self) -> None:
        """Request the readiness of the whole server: a current Triton reports dead stub processes there."""
        if not await self._triton.server_ready():
            await self._check_all(self._oldest(model for model in self._models.values() if model.is_wanted))

    async def _check_oldest(self) -> None:
        """Read the config that was read least recently."""
        for model in self._oldest(model for model in self._models.values() if model.is_wanted)[:1]:
            if model.error is not None:
                await self._check(model)
                return
            async with model.lock:
                await self._read_config(model)

    def _notify(self) -> None:
        if self._is_changed:
            self._is_changed = False
            for on_change in self._subscribers:
                on_change()
