# SPDX-License-Identifier: Apache-2.0
"""One request for a picture, as plain data. Imports no torch."""

from dataclasses import MISSING, dataclass, fields
from typing import Any

# Of the field `loras`, a JSON text.
MAX_LORAS_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRA:
    """An adapter that a request names, and how much it counts."""

    name: str
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionRequest:
    """One row of a Triton request: checked, with all defaults but the size.

    The size may depend on the shape of the scribble, which is unknown until its header has been read.
    """

    prompt: str
    image: bytes | None  # as received: a picture file, base64 text, or a data URL; None: no scribble
    conditioning_scale: float
    negative_prompt: str
    seed: int
    num_inference_steps: int
    guidance_scale: float
    control_guidance_start: float
    control_guidance_end: float
    width: int | None
    height: int | None
    scheduler: str
    output_format: str
    output_quality: int
    invert: str
    receipt: str  # what the picture file records: full, no_prompt, none
    timeout_s: float | None
    is_batch: bool  # waits for interactive requests, within bounds
    reproducible: bool  # shares no pass with other requests, which would change the rounding of its numbers
    preset: str = ""  # the name of the preset that supplied defaults; empty: none
    loras: tuple[LoRA, ...] = ()
    prompt_syntax: str = "plain"  # plain, or a1111 for weights in brackets
    clip_skip: int | None = None  # layers of the text encoders that are skipped at the end, as in diffusers
    init_image: bytes | None = None  # the picture to start from, as `image`
    strength: float | None = None  # the part of the steps that changes the initial picture, 0 to 1
    mask: bytes | None = None  # a picture; the part that `mask_selects` is painted anew
    mask_selects: str = "white"  # white, black, transparent
    mask_blur: float = 0.0  # the standard deviation, in pixels of the result, of the blur of the mask's border
    cache: float = 0.0  # how readily steps reuse earlier predictions, 0 (never) to 1
    eta: float | None = None  # noise that each step adds, for schedulers that have this parameter
    timestep_spacing: str | None = None  # None: the checkpoint's

    def used_parameters(self) -> dict[str, Any]:
        """The parameters that determine the picture, by input name, without the prompts."""
        omitted = ("prompt", "negative_prompt", "image", "init_image", "mask", "timeout_s", "is_batch")
        used = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in omitted}
        return {name: value for name, value in used.items() if name not in OPTIONAL or value != OPTIONAL[name]}


# The features that most requests do not use, with the values that mean so. A receipt has only the others.
OPTIONAL = {item.name: item.default for item in fields(DiffusionRequest) if item.default is not MISSING}
