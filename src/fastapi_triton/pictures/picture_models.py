# SPDX-License-Identifier: Apache-2.0
"""The models that the picture APIs offer: those of declared endpoints, and Triton's others with the same tensors."""

import logging
from collections.abc import Iterable
from contextlib import suppress

from fastapi_triton.admission.limiter import Admission
from fastapi_triton.core import paths
from fastapi_triton.core.errors import FastAPITritonError, ModelNotReadyError, shown
from fastapi_triton.core.suggestions import nearest
from fastapi_triton.endpoints.declared import contract
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.pictures.text_to_image import TextToImage
from fastapi_triton.triton.model_config import ModelConfig

logger = logging.getLogger(__name__)


class PictureModels:
    """The models by name. The first is the default; its endpoint declares the fields of all of them.

    With `finds_loaded`, a model of Triton joins when it is loaded: it names its stream model in the parameter
    `stream_model`, and both fit the declaration. It is listed while Triton has it.
    """

    def __init__(self, endpoint: InferEndpoint, *, finds_loaded: bool) -> None:
        self.default = TextToImage(endpoint)
        self._by_name = {self.default.name: self.default}
        # The reasons that were logged last why a model is not offered.
        self._logged: dict[str, list[str]] = {}
        self._registry = endpoint.services.registry
        if finds_loaded:
            self._registry.subscribe(self._add_loaded)

    def add(self, endpoint: InferEndpoint) -> None:
        """Add another declared endpoint, if it fits and takes the same fields."""
        fields = self.default.endpoint.request_model.model_fields
        if TextToImage.fits(endpoint) and endpoint.request_model.model_fields.keys() == fields.keys():
            self._by_name.setdefault(endpoint.model, TextToImage(endpoint))

    @property
    def listed(self) -> list[TextToImage]:
        """The default, and the others that Triton has."""
        return [model for model in self._by_name.values() if model is self.default or self._is_loaded(model.name)]

    @property
    def names(self) -> list[str]:
        return [model.name for model in self.listed]

    @property
    def least_busy(self) -> Admission:
        """The admission with the fewest requests: a request to any model is rejected if even this one is full."""
        return min((model.endpoint.admission for model in self.listed), key=lambda each: each.in_flight + each.waiting)

    def named(self, name: str) -> TextToImage | None:
        """The model with this name in Triton."""
        return next((model for model in self.listed if model.name == name), None)

    async def find(self, name: str) -> TextToImage | None:
        """The model with this name in Triton, or with a checkpoint of this name.

        Raises:
            FastAPITritonError: Triton has this model, but has not loaded it.
        """
        if (model := self.named(name)) is not None:
            return model
        for checkpoint, model in (await self.checkpoints()).items():
            if checkpoint == name:
                return model
        known = self._registry.model(name)
        if known is not None and not known.versions:
            raise ModelNotReadyError(f"Triton has not loaded the model {name}. Try again later.", retry_after_s=1.0)
        return None

    async def checkpoints(self) -> dict[str, TextToImage]:
        """The models by their checkpoints' names. Of equal names, the later models have their own.

        Raises:
            FastAPITritonError: the default model is not available. Others that are not are omitted.
        """
        found = {(await self.default.capabilities()).name: self.default}
        for model in self.listed[1:]:
            with suppress(FastAPITritonError):
                checkpoint = (await model.capabilities()).name
                found[model.name if checkpoint in found else checkpoint] = model
        return found

    def _is_loaded(self, name: str) -> bool:
        model = self._registry.model(name)
        return model is not None and bool(model.versions)

    def _add_loaded(self) -> None:
        """Add the models that Triton has loaded since the last change."""
        for model in self._registry.models:
            if model.config is not None and model.name not in self._by_name and self._fits(model.config):
                self._by_name[model.name] = TextToImage(self._endpoint(model.config))

    def _fits(self, config: ModelConfig) -> bool:
        stream = self._registry.model(config.called_model) if config.called_model else None
        if stream is None or stream.config is None:
            return False
        declared = self.default.endpoint.declaration
        problems = contract.mismatches(
            declared.request, declared.response, config, stream.config, declared.unstreamable
        )
        if problems and problems != self._logged.get(config.name):
            reasons = "\n  ".join(problems)
            logger.info(
                "the picture APIs do not offer %s, because it differs from %s:\n  %s",
                config.name,
                declared.model,
                reasons,
            )
        self._logged[config.name] = problems
        return not problems

    def _endpoint(self, config: ModelConfig) -> InferEndpoint:
        default = self.default.endpoint
        return InferEndpoint(
            f"{paths.MODELS}/{config.name}/infer",
            model=config.name,
            stream_model=config.called_model,
            request=default.request_model,
            response=default.response_model,
            services=default.services,
        )


def no_such(kind: str, name: object, known: Iterable[str]) -> str:
    """The detail of the error for an unknown name, with the nearest known one."""
    end = nearest(name if isinstance(name, str) else "", known)
    return f'There is no {kind} "{shown(name)}"{end}' + ("" if end.endswith("?") else ".")
