# SPDX-License-Identifier: Apache-2.0
"""What an endpoint declares of its models, and their configs, held against it for as long as Triton stays up."""

import logging
from dataclasses import dataclass

from pydantic import BaseModel

from fastapi_triton import contract
from fastapi_triton.errors import ContractError, FastAPITritonError, TritonUnavailableError
from fastapi_triton.model_config import ModelConfig
from fastapi_triton.triton.client import TritonClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Configs:
    """The config of the public model, and of the one that is asked: its streaming twin, or itself."""

    model: ModelConfig
    asked: ModelConfig


class Declaration:
    """The request's and the response's fields are tensors of `model`, and of `stream_model` where there is one."""

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
        self._held: Configs | None = None

    async def configs(self) -> Configs:
        """The configs, fetched and held against the declaration once for as long as Triton stays up.

        Raises:
            ContractError: they do not fit; every reason is listed.
            ModelNotReadyError, TritonUnavailableError: there is no config to be had.
        """
        if self._held is None:
            model = await self._triton.config(self.model)
            twin = await self._triton.config(self.stream_model) if self.stream_model else None
            self._require_fit(model, twin)
            self._held = Configs(model, twin or model)
        return self._held

    def forget(self) -> None:
        """Triton went away: what comes back may have other configs."""
        self._held = None

    async def require_ready(self) -> None:
        """Raise what a caller would meet now, if anything: a model is not ready, or the contract is broken."""
        for model in filter(None, (self.model, self.stream_model)):
            try:
                is_ready = await self._triton.ready(model)
            except FastAPITritonError:
                self.forget()
                raise
            if not is_ready:
                self.forget()
                # config() says in words why the model is not there
                await self._triton.config(model)
                raise TritonUnavailableError(f"Triton says that the model {model} is not ready.", retry_after_s=1.0)
        await self.configs()

    def _require_fit(self, model: ModelConfig, twin: ModelConfig | None) -> None:
        problems = contract.mismatches(self.request, self.response, model, twin)
        if problems:
            names = " and ".join(filter(None, (self.model, self.stream_model)))
            logger.error("%s does not fit %s:\n  %s", self.path, names, "\n  ".join(problems))
            raise ContractError(
                f"This endpoint does not fit the config of {names}: {'; '.join(problems)}.", mismatches=problems
            )
