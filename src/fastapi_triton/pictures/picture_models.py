# SPDX-License-Identifier: Apache-2.0
"""The models that the picture APIs offer: those of declared endpoints, and similar ones in Triton."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from fastapi_triton.admission.limiter import Admission
from fastapi_triton.core.errors import FastAPITritonError, shown
from fastapi_triton.core.suggestions import nearest
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.declared.similar_models import SimilarModels
from fastapi_triton.pictures.text_to_image import Capabilities, TextToImage

# One model that hangs must not delay the list of the others.
_DESCRIBE_TIMEOUT_S = 5.0


class PictureModels:
    """The models by name. The first is the default; its endpoint declares the fields of all of them.

    Without `similar`, only declared models are offered.
    """

    def __init__(self, endpoint: InferEndpoint, similar: SimilarModels | None) -> None:
        self.default = TextToImage(endpoint)
        self._declared = [self.default]
        self._similar = similar
        self._of_similar: dict[InferEndpoint, TextToImage] = {}

    def add(self, endpoint: InferEndpoint) -> None:
        """Add another declared endpoint, if it makes pictures from the same fields."""
        fields = self.default.endpoint.request_model.model_fields
        if TextToImage.fits(endpoint) and endpoint.request_model.model_fields.keys() == fields.keys():
            self._declared.append(TextToImage(endpoint))

    @property
    def listed(self) -> list[TextToImage]:
        """The declared models, and the similar ones that Triton has now."""
        endpoints = self._similar.endpoints if self._similar is not None else []
        for endpoint in endpoints:
            if endpoint not in self._of_similar:
                self._of_similar[endpoint] = TextToImage(endpoint)
        return self._declared + [self._of_similar[endpoint] for endpoint in endpoints]

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
        if (model := (await self.checkpoints()).get(name)) is not None:
            return model
        if self._similar is not None:
            self._similar.require_loaded(name)
        return None

    async def checkpoints(self) -> dict[str, TextToImage]:
        """The models by their checkpoints' names. Of equal names, the later models have their own.

        Raises:
            FastAPITritonError: the default model is not available. Others that are not are omitted.
        """
        await self.default.capabilities()
        found: dict[str, TextToImage] = {}
        for model, capabilities in await self.described():
            found[model.name if capabilities.name in found else capabilities.name] = model
        return found

    async def described(self) -> list[tuple[TextToImage, Capabilities]]:
        """The models that are available, with their descriptions. All are asked at once."""
        found = await asyncio.gather(*map(_described, self.listed))
        return [each for each in found if each is not None]


async def _described(model: TextToImage) -> tuple[TextToImage, Capabilities] | None:
    with suppress(FastAPITritonError, TimeoutError):
        async with asyncio.timeout(_DESCRIBE_TIMEOUT_S):
            return model, await model.capabilities()
    return None


def no_such(kind: str, name: object, known: Iterable[str]) -> str:
    """The detail of the error for an unknown name, with the nearest known one."""
    end = nearest(name if isinstance(name, str) else "", known)
    return f'There is no {kind} "{shown(name)}"{end}' + ("" if end.endswith("?") else ".")
