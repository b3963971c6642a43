# SPDX-License-Identifier: Apache-2.0
"""The names of models in requests: this server's, with LoRAs, and OpenAI's own."""

from fastapi_triton.core.errors import FieldProblem, NotFoundError, shown
from fastapi_triton.pictures import loras
from fastapi_triton.pictures.picture_models import PictureModels, no_such
from fastapi_triton.pictures.text_to_image import TextToImage

DALL_E = "dall-e"
# Programs written for OpenAI name one of its models; they get this server's.
_OPENAI = ("gpt-image", "chatgpt-image", DALL_E)


async def choose_model(name: str | None, models: PictureModels) -> TextToImage:
    """The model with this name; the default for none, and for names of OpenAI's own models.

    Raises:
        NotFoundError: there is no such model.
        FastAPITritonError: it is not loaded yet.
    """
    if name is None or (models.named(name) is None and name.startswith(_OPENAI)):
        return models.default
    model = await models.find(loras.base_name(name))
    if model is None:
        raise _unknown_model(name, models)
    return model


async def listed_as(name: str, models: PictureModels) -> str | None:
    """The name in `/v1/models` of the model that requests with this name use; None if it is this name.

    Raises what `choose_model` raises, also for a LoRA that the model does not have.
    """
    model = await choose_model(name, models)
    for lora in loras.of_model_name(name):
        if lora["name"] not in loras.usable(await model.capabilities()):
            raise _unknown_model(name, models)
    return None if model.name == name else model.name


def replaced_notes(asked: str | None, model: TextToImage) -> list[str]:
    """A note if a request names one of OpenAI's models."""
    if asked is None or asked == model.name or not asked.startswith(_OPENAI):
        return []
    return [f"{shown(asked)} is not available; {model.name} is used instead."]


def _unknown_model(asked: str, models: PictureModels) -> NotFoundError:
    detail = no_such("model", asked, models.names)
    return NotFoundError(detail, code="model_not_found", problems=[FieldProblem("#/model", "model_not_found", detail)])
