# SPDX-License-Identifier: Apache-2.0
"""What an endpoint declares of its models, and their configs, held against it at every change of theirs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import BaseModel

from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.core.errors import ContractError, FastAPITritonError, ModelNotReadyError, TritonUnavailableError
from fastapi_triton.endpoints.declared import contract
from fastapi_triton.triton.client import TritonClient
from fastapi_triton.triton.error_mapping import REFUSED_BY_TRITON
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.transport.circuit_breaker import AWAY_INTERVAL_S

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Configs:
    """The config of the public model, and of the one that is asked: its streaming twin, or itself."""

    model: ModelConfig
    asked: ModelConfig


@dataclass(frozen=True, slots=True)
class _Held:
    """Configs, and what does not fit them."""

    configs: Configs
    problems: tuple[str, ...]


class Declaration:
    """The fields of the two pydantic models are tensors of `model`, and of `stream_model` where there is one.

    A config that is held is looked at again by `refresh`: when somebody asks for readiness, every few seconds while
    the app runs, and before the next request after Triton went away or refused one. So a model that was reloaded with
    another config is noticed although Triton tells nobody.
    """

    def __init__(
        self,
        path: str,
        *,
        model: str,
        stream_model: str | None,
        request: type[BaseModel],
        response: type[BaseModel],
        triton: TritonClient,
    ) -> None:
        self.path = path
        self.model = model
        self.stream_model = stream_model
        self.request = request
        self.response = response
        self._triton = triton
        self._held: _Held | None = None
        # The last ones that were held; kept while Triton is away.
        self.last_configs: Configs | None = None
        self._is_doubtful = False
        # Whether the models took requests when they were asked last.
        self.is_ready = False
        # The problems that the log has been told of last; None: it fitted, or was never looked at.
        self._told: tuple[str, ...] | None = None
        self._refreshing = asyncio.Lock()

    @property
    def models(self) -> tuple[str, ...]:
        """The model, and its streaming twin."""
        return tuple(filter(None, (self.model, self.stream_model)))

    async def configs(self) -> Configs:
        """The configs that are held; the very same object for as long as nothing changes.

        Raises:
            ContractError: they do not fit; every reason is listed.
            ModelNotReadyError, TritonUnavailableError: there is no config to be had.
        """
        held = self._held
        if held is None or self._is_doubtful:
            async with self._refreshing:  # many requests at once ask Triton once
                held = self._held
                if held is None or self._is_doubtful:
                    held = await self._hold()
        if held.problems:
            names = " and ".join(self.models)
            raise ContractError(
                f"This endpoint does not fit the config of {names}: {'; '.join(held.problems)}.",
                mismatches=held.problems,
            )
        return held.configs

    def learn_from(self, error: FastAPITritonError) -> None:
        """Look at the configs again before the next request, where this one failed as it does when they changed."""
        if isinstance(error, TritonUnavailableError | ModelNotReadyError):
            self._forget()
        elif error.code == REFUSED_BY_TRITON:
            self._is_doubtful = True

    async def refresh(self) -> None:
        """Fetch the configs, and hold the declaration against them if they have changed.

        Raises:
            ModelNotReadyError, TritonUnavailableError: there is no config to be had.
        """
        async with self._refreshing:
            await self._hold()

    async def require_ready(self) -> None:
        """Raise what a caller would meet now, if anything: a model is not ready, or the contract is broken."""
        try:
            await self._require_ready()
        except FastAPITritonError:
            self.is_ready = False
            raise
        self.is_ready = True

    async def _require_ready(self) -> None:
        for model in self.models:
            try:
                is_ready = await self._triton.ready(model)
            except FastAPITritonError:
                self._forget()
                raise
            if not is_ready:
                self._forget()
                # config() says in words why the model is not there
                await self._triton.config(model)
                raise ModelNotReadyError(f"Triton says that the model {model} is not ready.", retry_after_s=1.0)
        await self.refresh()
        await self.configs()

    def _forget(self) -> None:
        """Triton went away, or unloaded a model: even with the same config, what comes back is another."""
        self._held = None

    async def _hold(self) -> _Held:
        try:
            model = await self._triton.config(self.model)
            twin = await self._triton.config(self.stream_model) if self.stream_model else None
        except FastAPITritonError:
            self._forget()
            raise
        self._is_doubtful = False
        configs = Configs(model, twin or model)
        held = self._held
        if held is None or held.configs != configs:
            self.last_configs = configs
            held = self._held = _Held(configs, tuple(contract.mismatches(self.request, self.response, model, twin)))
            self._tell(held.problems)
        return held

    def _tell(self, problems: tuple[str, ...]) -> None:
        """To the log, once for each change."""
        names = " and ".join(self.models)
        if problems and problems != self._told:
            logger.error("%s does not fit %s:\n  %s", self.path, names, "\n  ".join(problems))
        elif not problems and self._told:
            logger.info("%s fits %s again", self.path, names)
        self._told = problems or None


@asynccontextmanager
async def watched(declarations: Callable[[], Sequence[Declaration]], interval_s: float) -> AsyncIterator[None]:
    """Hold every declaration against its models' configs now and every few seconds: Triton tells of no change."""
    task = BackgroundTask("model configs", consequence="Changes of the models' configs may go unnoticed.")

    async def look() -> float:
        return await look_at(declarations(), interval_s)

    async with task.repeating(look):
        yield


async def look_at(declarations: Sequence[Declaration], interval_s: float) -> float:
    """Hold each declaration against its models' configs once. Returns the pause until the next time, in seconds.

    The pause is shorter while Triton is away, so that a returning Triton is noticed at once. An unexpected error of one
    declaration is raised after the others were looked at.
    """
    pause_s = interval_s
    unexpected: list[Exception] = []
    for declaration in declarations:
        try:
            await declaration.require_ready()
        except TritonUnavailableError:
            pause_s = min(interval_s, AWAY_INTERVAL_S)
        except FastAPITritonError:
            continue  # readiness and every request report it
        except Exception as error:  # noqa: BLE001  # raised below
            unexpected.append(error)
    if unexpected:
        raise unexpected[0]
    return pause_s
