# SPDX-License-Identifier: Apache-2.0
"""Notes about the inputs of a valid request that have no effect on its picture. Imports no torch."""

import re

from diffusion_engine.capabilities import Defaults
from diffusion_engine.request import DiffusionRequest

# How A1111 names LoRAs. Its API reads them from the prompt; here they are a field.
_LORA_TAG = re.compile(r"<lora:[^<>]*>")


def notes(request: DiffusionRequest, defaults: Defaults, *, is_guided: bool) -> list[str]:
    """A note for each input that the request sets and that has no effect beside its other inputs."""
    found = []
    if request.image is None:
        neutral = {
            "conditioning_scale": defaults.conditioning_scale,
            "control_guidance_start": 0.0,
            "control_guidance_end": 1.0,
            "invert": "auto",
        }
        names = [name for name, value in neutral.items() if getattr(request, name) != value]
        found += [f"`{name}` has no effect without `image`." for name in names]
    if request.output_format == "png" and request.output_quality != defaults.output_quality:
        found.append("`output_quality` has no effect on PNG, which is lossless.")
    if request.negative_prompt and not is_guided:
        found.append("`negative_prompt` has no effect without guidance: set `guidance_scale` above 1.")
    if tag := _LORA_TAG.search(request.prompt):
        found.append(f"{tag[0][:100]} in the prompt is read as text. Name LoRAs in `loras`.")
    return found
