# SPDX-License-Identifier: Apache-2.0
"""The models in Triton that can do the work of a declared endpoint's model, such as those with another checkpoint."""

import logging

from fastapi_triton.core import paths
from fastapi_triton.core.errors import ModelNotReadyError
from fastapi_triton.endpoints.declared import contract
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.triton.model_config import ModelConfig

logger = logging.getLogger(__name__)


class SimilarModels:
    """Models that name a stream model in their parameter `stream_model`, where both fit the declaration.

    They join when Triton has loaded them. Each gets an endpoint without a route, with the fields of the declared one.
    """

    def __init__(self, endpoint: InferEndpoint) -> None:
        self._endpoint = endpoint
        self._found: dict[str, InferEndpoint] = {}
        # The reasons that were logged last why a model does not fit.
        self._logged: dict[str, list[str]] = {}
        self._registry = endpoint.services.registry
        self._registry.subscribe(self._add_loaded)

    @property
    def endpoints(self) -> list[InferEndpoint]:
        """Those that Triton has now."""
        return [endpoint for name, endpoint in self._found.items() if self._is_loaded(name)]

    def require_loaded(self, name: str) -> None:
        """Raise `ModelNotReadyError` if Triton has this model, but has not loaded it."""
        if self._registry.model(name) is not None and not self._is_loaded(name):
            raise ModelNotReadyError(f"Triton has not loaded the model {name}. Try again later.", retry_after_s=1.0)

    def _is_loaded(self, name: str) -> bool:
        model = self._registry.model(name)
        return model is not None and bool(model.versions)

    def _add_loaded(self) -> None:
        """Add the models that Triton has loaded since the last change."""
        for model in self._registry.models:
            is_known = model.name in self._found or model.is_declared
            if not is_known and model.config is not None and self._fits(model.config):
                self._found[model.name] = self._endpoint_of(model.config)

    def _fits(self, config: ModelConfig) -> bool:
        stream = self._registry.model(config.called_model) if config.called_model else None
        if stream is None or stream.config is None:
            return False
        declared = self._endpoint.declaration
        problems = contract.mismatches(
            declared.request, declared.response, config, stream.config, declared.unstreamable
        )
        if problems and problems != self._logged.get(config.name):
            reasons = "\n  ".join(problems)
            logger.info("%s cannot be used like %s:\n  %s", config.name, declared.model, reasons)
        self._logged[config.name] = problems
        return not problems

    def _endpoint_of(self, config: ModelConfig) -> InferEndpoint:
        declared = self._endpoint
        return InferEndpoint(
            f"{paths.MODELS}/{config.name}/infer",
            model=config.name,
            stream_model=config.called_model,
            request=declared.request_model,
            response=declared.response_model,
            services=declared.services,
        )
