# SPDX-License-Identifier: Apache-2.0
"""LoRAs as the picture APIs name them: A1111's tags in a prompt, and the ends of OpenAI's model names."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from fastapi_triton.core.errors import invalid_field, shown
from fastapi_triton.pictures.picture_models import PictureModels
from fastapi_triton.pictures.text_to_image import Capabilities
from fastapi_triton.pictures.unserved_fields import MAX_NOTES

# The endpoint's field.
FIELD = "loras"
# `<lora:name>`, `<lora:name:0.8>`, `<lora:name:0.5:0.8>` and `<lora:name:te=0.5:unet=0.8>`. As in A1111, tags of other
# kinds are no text either.
# Without `<`, so that the time for a text of unfinished tags is proportional to its length.
_TAG = re.compile(r"<(\w+):([^<>]+)>")
_KINDS = ("lora", "lyco")
# The most tags in a prompt, and arguments in a tag. A1111 has three arguments.
_MAX_TAGS, _MAX_ARGUMENTS = 100, 8
# Between the parts of a model's name: `model:lora:0.8`.
_SEPARATOR = ":"


def without_tags(prompt: str, note: Callable[[str], None]) -> tuple[str, list[dict[str, Any]]]:
    """The prompt without A1111's tags, and the value of the field `loras` that they stand for.

    Raises:
        InvalidRequestError: a scale is not a number, or there are too many tags or arguments.
    """
    tags = list(islice(_TAG.finditer(prompt), _MAX_TAGS + 1))
    if not tags:
        return prompt, []
    if len(tags) > _MAX_TAGS:
        raise invalid_field("prompt", "too_long", f"`prompt` has more than {_MAX_TAGS} LoRA tags. Send fewer.")
    loras: list[dict[str, Any]] = []
    unknown_tags: list[str] = []
    unknown_keys: list[str] = []
    for tag in tags:
        name, *arguments = tag[2].split(":")
        if tag[1] in _KINDS and name.strip():
            loras.append(_of_tag(name, arguments, unknown_keys, note))
        else:
            unknown_tags.append(tag[0])
    if unknown_keys:
        note(f"Of LoRA tags, only te and unet are supported; ignored: {_listed(unknown_keys)}.")
    if unknown_tags:
        note(f"Only tags of LoRAs are supported; ignored: {_listed(unknown_tags)}.")
    return _TAG.sub("", prompt).strip(), loras


def _listed(texts: Iterable[str]) -> str:
    different = list(dict.fromkeys(texts))
    num_more = len(different) - MAX_NOTES
    end = f" and {num_more:,} more" if num_more > 0 else ""
    return ", ".join(map(shown, different[:MAX_NOTES])) + end


def note_unread_tags(negative_prompt: str, note: Callable[[str], None]) -> None:
    """As in A1111, tags in the negative prompt are text."""
    if found := _TAG.search(negative_prompt):
        note(f"{shown(found[0])} in the negative prompt is read as text. Send it in the prompt.")


def _of_tag(
    name: str, arguments: Sequence[str], unknown_keys: list[str], note: Callable[[str], None]
) -> dict[str, Any]:
    """The LoRA of a tag. As in A1111, arguments with a key do not count among those without."""
    if len(arguments) > _MAX_ARGUMENTS:
        detail = f"<lora:{shown(name)}> has {len(arguments):,} arguments; it must have at most {_MAX_ARGUMENTS}."
        raise invalid_field("prompt", "too_long", detail)
    scales = {"te": 1.0}
    keys = iter(("te", "unet", "dyn"))
    for argument in sorted(arguments, key=lambda each: "=" in each):
        key, separator, value = argument.partition("=")
        if not separator:
            key, value = next(keys, "a fourth argument"), argument
        if key in ("te", "unet"):
            scales[key] = _number("prompt", name, value)
        else:
            unknown_keys.append(key)
    scale = scales.get("unet", scales["te"])
    if scale != scales["te"]:
        note(f"<lora:{shown(name)}>: the text encoders have the UNet's scale, {scale:g}, too.")
    return {"name": name.strip(), "scale": scale}


def of_model_name(model: str) -> list[dict[str, Any]]:
    """The value of the field `loras` that the end of a model's name stands for.

    Raises:
        InvalidRequestError: the scale is not a number.
    """
    _, _, suffix = model.partition(_SEPARATOR)
    name, _, scale = suffix.partition(_SEPARATOR)
    if not name:
        return []
    return [{"name": name, "scale": _number("model", name, scale) if scale else 1.0}]


def base_name(model: str) -> str:
    """A model's name without its LoRA."""
    return model.partition(_SEPARATOR)[0]


async def model_names(models: PictureModels) -> list[tuple[str, str]]:
    """The names of models with a LoRA, each with the model's own. Models that are not available have none."""
    return [
        (f"{model.name}{_SEPARATOR}{name}", model.name)
        for model, capabilities in await models.described()
        for name in usable(capabilities)
    ]


def usable(capabilities: Capabilities) -> Iterator[str]:
    """The names of the LoRAs that requests can use."""
    return (lora["name"] for lora in capabilities.loras if not lora.get("unusable"))


def listed(capabilities: Capabilities) -> list[dict[str, Any]]:
    """The response of A1111's `/sdapi/v1/loras`."""
    words = {lora["name"]: lora.get("trigger_words", "") for lora in capabilities.loras}
    return [
        {
            "name": name,
            "alias": name,
            "path": f"loras/{name}.safetensors",
            "metadata": {"modelspec.trigger_phrase": words[name]} if words[name] else {},
        }
        for name in usable(capabilities)
    ]


def _number(field: str, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        detail = f"The scale of the LoRA {shown(name)} is {shown(text)}; it must be a number."
        raise invalid_field(field, "invalid_value", detail) from None
