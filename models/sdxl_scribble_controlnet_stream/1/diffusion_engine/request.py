# SPDX-License-Identifier: Apache-2.0
"""One picture that was asked for, and what a caller is told when it cannot be made. Plain data, no torch."""

import json
from dataclasses import dataclass, fields
from typing import Any, Self


class RequestError(Exception):
    """Why one request gets no picture: a stable code, the reason with what to do about it, and the tensor to blame."""

    def __init__(self, code: str, detail: str, *, field: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_after_s = retry_after_s

    def in_row(self, index: int, num_rows: int) -> Self:
        """The same refusal, telling which row of several it is about."""
        if num_rows == 1:
            return self
        detail = f"row {index} of 0 to {num_rows - 1}: {self.detail}"
        return type(self)(self.code, detail, field=self.field, retry_after_s=self.retry_after_s)

    def to_json(self) -> str:
        """The text a Triton client receives; a gateway reads `code`, never the prose."""
        body = {
            "code": self.code,
            "detail": self.detail,
            "field": self.field,
            "retry_after_s": self.retry_after_s,
        }
        return json.dumps({name: value for name, value in body.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionRequest:
    """One row of a Triton request, checked, with every default filled in but the size.

    The size may depend on the shape of the scribble, which is known only once its header has been read.
    """

    prompt: str
    image: bytes | None  # as it came: a picture file, base64 text, or a data URL; None: no scribble
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
    receipt: str  # what the picture file says of how it was made: full, no_prompt, none
    timeout_s: float | None
    reproducible: bool  # it shares no pass with other requests, so that they cannot change how its numbers round

    def used_parameters(self) -> dict[str, Any]:
        """What makes the picture, by the names of the inputs, without the prompts."""
        left_out = ("prompt", "negative_prompt", "image", "timeout_s")
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in left_out}
