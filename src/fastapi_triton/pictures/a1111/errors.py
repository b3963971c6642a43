# SPDX-License-Identifier: Apache-2.0
"""Errors of A1111's paths: problem objects with A1111's field names. A1111's clients show their `detail` or `error`."""

import re

from starlette.responses import Response

from fastapi_triton.core import problem_details
from fastapi_triton.core.errors import FastAPITritonError, FieldProblem

_NAMES = {
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "conditioning_scale": "weight",
    "init_image": "init_images",
    "mask_selects": "inpainting_mask_invert",
    "strength": "denoising_strength",
    "loras": "prompt",
    "control_guidance_start": "guidance_start",
    "control_guidance_end": "guidance_end",
}
_ENDPOINT_NAMES = re.compile(rf"\b({'|'.join(_NAMES)})\b")


def response(error: FastAPITritonError) -> Response:
    """The response for an error."""
    error.detail = renamed(error.detail)
    error.problems = tuple(
        FieldProblem(renamed(each.pointer), each.code, renamed(each.detail)) for each in error.problems
    )
    return problem_details.response(error, error=type(error).__name__)


def renamed(text: str) -> str:
    """A text about the endpoint's fields, with A1111's names."""
    return _ENDPOINT_NAMES.sub(lambda found: _NAMES[found[1]], text)
