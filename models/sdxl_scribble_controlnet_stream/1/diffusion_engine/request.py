# SPDX-License-Identifier: Apache-2.0
"""One request for a picture, as plain data. Imports no torch."""

from dataclasses import dataclass, fields
from typing import Any


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
    reproducible: bool  # shares no pass with other requests, which would change the rounding of its numbers

    def used_parameters(self) -> dict[str, Any]:
        """The parameters that determine the picture, by input name, without the prompts."""
        omitted = ("prompt", "negative_prompt", "image", "timeout_s")
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in omitted}
