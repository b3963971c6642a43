# SPDX-License-Identifier: Apache-2.0
"""An endpoint's declaration, compared with its models' configs whenever these change."""

import logging
from dataclasses import dataclass

from pydantic import BaseModel

from fastapi_triton.core.errors import ContractError, FastAPITritonError, ModelNotReadyError, TritonUnavailableError
from fastapi_triton.endpoints.declared import contract
from fastapi_triton.triton.error_mapping import REFUSED_BY_TRITON
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.model_registry import ModelRegistry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Configs:
    """The config of the public model, and of the one that gets the requests: its stream model, or itself."""

    model: ModelConfig
    asked: ModelConfig


@dataclass(frozen=True, slots=True)
class _Compared:
    """Configs, and what does not fit them; `generations` are those of the models."""

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
    ) -> None:
        self.path = path
        self.model = model
        self.stream_model = stream_model
        self.request = request
        self.response = response
        self._registry = registry
        self._compared: _Compared | None = None
        # The problems that were logged last; None: it fitted, or was never compared.
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
        """The configs that were compared last; kept while Triton is away."""
        return self._compared.configs if self._compared is not None else None

    @property
    def error(self) -> FastAPITritonError | None:
        """Why its requests fail, as far as is known: a model is not ready, or the declaration does not fit."""
        for name in self.models:
            model = self._registry.model(name)
            if model is not None and model.error is not None:
                return model.error.with_traceback(None)
        return self._mismatch(self._compared.problems) if self._compared is not None else None

    @property
    def is_ready(self) -> bool:
        """Whether its models take requests, as far as is known."""
        return self.error is None

    async def configs(self) -> Configs:
        """The configs that it fits; the very same object for as long as nothing changes.

        Raises:
            ContractError: it does not fit them; the error lists every reason.
            FastAPITritonError: a config cannot be read.
        """
        model = await self._registry.config(self.model)
        asked = await self._registry.config(self.stream_model) if self.stream_model else model
        compared = self._compare(model, asked)
        if (error := self._mismatch(compared.problems)) is not None:
            raise error
        return compared.configs

    async def require_ready(self) -> None:
        """Check the models now.

        Raises:
            ContractError: the declaration does not fit their configs.
            FastAPITritonError: a model takes no requests.
        """
        for name in self.models:
            await self._registry.require_ready(name)
        if self.error is not None:
            raise self.error

    def learn_from(self, error: FastAPITritonError) -> None:
        """Have the configs read again before the next request, if this one failed as it does when they changed."""
        for name in self.models:
            if isinstance(error, TritonUnavailableError | ModelNotReadyError):
                self._registry.forget(name)
            elif error.code == REFUSED_BY_TRITON:
                self._registry.doubt(name)

    def _update(self) -> None:
        """Something has changed in the registry."""
        known = [self._registry.model(name) for name in self.models]
        configs = [model.config for model in known if model is not None and model.config is not None]
        if len(configs) == len(self.models):
            self._compare(configs[0], configs[-1])

    def _compare(self, model: ModelConfig, asked: ModelConfig) -> _Compared:
        models = [self._registry.model(name) for name in self.models]
        generations = tuple(model.generation for model in models if model is not None)
        if self._compared is not None and self._compared.generations == generations:
            return self._compared
        stream_config = asked if self.stream_model else None
        problems = tuple(contract.mismatches(self.request, self.response, model, stream_config))
        self._compared = _Compared(generations, Configs(model, asked), problems)
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
        """Once for each change."""
        names = " and ".join(self.models)
        if problems and problems != self._logged:
            logger.error("%s does not fit %s:\n  %s", self.path, names, "\n  ".join(problems))
        elif not problems and self._logged:
            logger.info("%s fits %s again", self.path, names)
        self._logged = problems or None
