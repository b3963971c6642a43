# SPDX-License-Identifier: Apache-2.0
"""The checkpoints by A1111's names: their list, and the one that a client has chosen."""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi_triton.core.context import current_caller
from fastapi_triton.pictures.a1111.controlnet import unsupported
from fastapi_triton.pictures.a1111.saved_values import plain
from fastapi_triton.pictures.a1111.tasks import TaskOwner
from fastapi_triton.pictures.picture_models import PictureModels, no_such
from fastapi_triton.pictures.text_to_image import TextToImage

# The option and the override setting that name a checkpoint.
OPTION = "sd_model_checkpoint"
# Choices that are kept, of all clients.
_MAX_CHOICES = 1000


def wanted(settings: Mapping[str, Any]) -> Any:
    """The checkpoint that options or override settings name; None if they name none."""
    name = settings.get(OPTION)
    return None if plain(name) in (None, "") else name


@dataclass(frozen=True, slots=True)
class _Choice:
    model: str  # its name: the model may be loaded again
    caller: str


class Checkpoints:
    """The models as checkpoints. In A1111, `POST /options` changes the server's checkpoint; here, only the client's."""

    def __init__(self, models: PictureModels) -> None:
        self.models = models
        self._chosen: OrderedDict[TaskOwner, _Choice] = OrderedDict()  # the last used at the end

    def current(self, client: TaskOwner) -> TextToImage:
        """The model that this client has chosen; else the default."""
        return self.models.named(self._choice(client)) or self.models.default

    async def title(self, client: TaskOwner) -> str:
        """The name of the client's current checkpoint in `listed`: several models may have equal checkpoints."""
        model = self.current(client)
        return next((name for name, each in (await self.models.checkpoints()).items() if each is model), model.name)

    def missing(self, client: TaskOwner, settings: Mapping[str, Any]) -> str | None:
        """The model that this client has chosen, if Triton has it no more and the request names no other."""
        name = self._choice(client)
        return name if name and wanted(settings) is None and self.models.named(name) is None else None

    def _choice(self, client: TaskOwner) -> str:
        """A choice without a cookie is the address's."""
        for each in (client, replace(client, session=None)):
            if each in self._chosen:
                self._chosen.move_to_end(each)
                return self._chosen[each].model
        return ""

    async def choose(self, client: TaskOwner, name: Any) -> None:
        """Serve this client's later requests with another model. Raises what `named` raises."""
        self._chosen[client] = _Choice((await self.named(name)).name, current_caller.get().name)
        self._chosen.move_to_end(client)
        if len(self._chosen) > _MAX_CHOICES:
            self._drop_one()

    def _drop_one(self) -> None:
        """Drop the oldest choice of the caller with the most: a caller can invent cookies, but has one name."""
        counts = Counter(choice.caller for choice in self._chosen.values())
        (largest, _), *_ = counts.most_common(1)
        del self._chosen[next(client for client, choice in self._chosen.items() if choice.caller == largest)]

    async def of_request(self, client: TaskOwner, settings: Mapping[str, Any]) -> TextToImage:
        """The model of a request: that of its override settings, else the client's. Raises what `named` raises."""
        name = wanted(settings)
        return self.current(client) if name is None else await self.named(name)

    async def named(self, name: Any) -> TextToImage:
        """The model with this checkpoint.

        Raises:
            InvalidRequestError: there is no such checkpoint.
            FastAPITritonError: its model is not loaded yet.
        """
        # A1111's names may end with a hash: "name [0123abcd]".
        found = await self.models.find(name.partition(" [")[0]) if isinstance(name, str) else None
        if found is None:
            names = await self.models.checkpoints()
            raise unsupported(OPTION, no_such("checkpoint", name, names))
        return found

    async def listed(self) -> list[dict[str, Any]]:
        """The response of `/sdapi/v1/sd-models`."""
        return [
            {"title": name, "model_name": name, "hash": None, "sha256": None, "filename": name, "config": None}
            for name in await self.models.checkpoints()
        ]
