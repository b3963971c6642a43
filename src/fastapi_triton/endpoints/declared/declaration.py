# SPDX-License-Identifier: Apache-2.0
"""An endpoint's declaration; compares it with its models' configs each time these change."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from fastapi_triton.core.errors import ContractError, FastAPITritonError, ModelNotReadyError, TritonUnavailableError
from fastapi_triton.endpoints.declared import contract
from fastapi_triton.triton.client import Unstreamable
from fastapi_triton.triton.error_mapping import REFUSED_BY_TRITON
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.model_registry import ModelRegistry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Configs:
    """The config of the declared model, and of the one that gets the requests: its stream model, or itself."""

    model: ModelConfig
    target: ModelConfig


@dataclass(frozen=True, slots=True)
class _Compared:
    """Configs, and the declaration's mismatches with them. `generations` are those of the models."""

    generations: tuple[int, ...]
    configs: Configs
    problems: tuple[str, ...]


class Declaration:
    """The fields of the two pydantic models are tensors of `model`, and of `stream_model` if there is one."""

    def __init__(
        self,
        path: str,
        *,
        model: str,
        stream_model: str | None,
        request: type[BaseModel],
        response: type[BaseModel],
        registry: ModelRegistry,
        unstreamable: Callable[[ModelConfig], Unstreamable],
    ) -> None:
        self.path = path
        self.model = model
        self.stream_model = stream_model
        self.request = request
        self.response = response
        self._registry = registry
        self.unstreamable = unstreamable
        self._compared: _Compared | None = None
        # The problems that were logged last. None: the declaration fitted, or was never compared.
        self._logged: tuple[str, ...] | None = None
        for name in self.models:
            registry.declare(name)
        registry.subscribe(self._update)

    @property
    def models(self) -> tuple[str, ...]:
        """The model, and its stream model."""
        return tuple(filter(None, (self.model, self.stream_model)))

    @property
    def last_configs(self) -> Configs | None:
        """The configs that were compared last. They are kept while Triton does not respond."""
        return self._compared.configs if self._compared is not None else None

    @property
    def error(self) -> FastAPITritonError | None:
        """Why its requests would fail: a model is not ready, or the declaration does not fit. None: no known reason."""
        for name in self.models:
            model = self._registry.model(name)
            if model is not None and model.error is not None:
                return model.error.with_traceback(None)
        return self._mismatch(self._compared.problems) if self._compared is not None else None

    @property
    def is_ready(self) -> bool:
        """Whether its models are ready and it fits their configs, as far as is known."""
        return self.error is None

    async def configs(self) -> Configs:
        """The configs of the models. Returns the same object until one changes.

        Raises:
            ContractError: the declaration does not fit them; the error lists every reason.
            FastAPITritonError: a config cannot be read.
        """
        model = await self._registry.config(self.model)
        target = await self._registry.config(self.stream_model) if self.stream_model else model
        compared = self._compare(model, target)
        if (error := self._mismatch(compared.problems)) is not None:
            raise error
        return compared.configs

    async def require_ready(self) -> None:
        """Check now that the models are ready and that the declaration fits.

        Raises:
            ContractError: the declaration does not fit their configs.
            FastAPITritonError: a model is not ready.
        """
        for name in self.models:
            await self._registry.require_ready(name)
        if self.error is not None:
            raise self.error

    def learn_from(self, error: FastAPITritonError) -> None:
        """Read the configs again before the next request, if this error may mean that they have changed."""
        for name in self.models:
            if isinstance(error, TritonUnavailableError | ModelNotReadyError):
                self._registry.forget(name)
            elif error.code == REFUSED_BY_TRITON:
                self._registry.doubt(name)

    def _update(self) -> None:
        """Compare again after a change in the registry."""
        known = [self._registry.model(name) for name in self.models]
        configs = [model.config for model in known if model is not None and model.config is not None]
        if len(configs) == len(self.models):
            self._compare(configs[0], configs[-1])

    def _compare(self, model: ModelConfig, target: ModelConfig) -> _Compared:
        models = [self._registry.model(name) for name in self.models]
        generations = tuple(model.generation for model in models if model is not None)
        if self._compared is not None and self._compared.generations == generations:
            return self._compared
        stream_config = target if self.stream_model else None
        problems = tuple(contract.mismatches(self.request, self.response, model, stream_config, self.unstreamable))
        self._compared = _Compared(generations, Configs(model, target), problems)
        self._log(problems)
        return self._compared

    def _mismatch(self, problems: tuple[str, ...]) -> ContractError | None:
        if not problems:
            return None
        return ContractError(
            f"This endpoint does not fit the config of {' and '.join(self.models)}: {'; '.join(problems)}.",
            mismatches=problems,
        )

    def _log(self, problems: tuple[str, ...]) -> None:
        """Log the problems once for each change."""
        names = " and ".join(self.models)
        if problems and problems != self._logged:
            logger.error("%s does not fit %s:\n  %s", self.path, names, "\n  ".join(problems))
        elif not problems and self._logged:
            logger.info("%s fits %s again", self.path, names)
        self._logged = problems or None
