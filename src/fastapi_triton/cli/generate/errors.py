# SPDX-License-Identifier: Apache-2.0
"""Errors of `generate`: a text for people, and an exit status for scripts."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

INTERRUPTED = 130

_SAME_NAMES = (
    *("conditioning_scale", "negative_prompt", "seed", "guidance_scale", "control_guidance_start"),
    *("control_guidance_end", "width", "height", "scheduler", "preset", "invert", "receipt", "reproducible"),
    *("prompt_syntax", "init_image", "strength", "mask", "cache"),
)
# Field of a request → option that sets it.
NAMES = {
    **{field: f"--{field.replace('_', '-')}" for field in _SAME_NAMES},
    "prompt": "the prompt",
    "image": "the scribble",
    "loras": "--lora",
    "num_inference_steps": "--steps",
    "output_format": "--format",
    "output_quality": "--quality",
}


class GenerateError(Exception):
    """The server rejected the request or failed, or a file could not be written. `code` is the server's, if any."""

    exit_status: ClassVar[int] = 1

    def __init__(self, text: str, *, code: str | None = None) -> None:
        super().__init__(text)
        self.code = code


class UsageError(GenerateError):
    """The options are invalid. No request was sent."""

    exit_status = 2


class NoServerError(GenerateError):
    """There is no server that makes pictures."""

    exit_status = 3


class NothingListensError(NoServerError):
    """Nothing listens at that address."""


def of_problem(problem: Mapping[str, Any], *, retry_after_s: str | int | None = None) -> GenerateError:
    """The error for a server's `application/problem+json`, with options instead of field names."""
    errors = [each for each in problem.get("errors", []) if isinstance(each, dict)]
    sentences = [_renamed(str(each.get("detail")), str(each.get("pointer", "")).removeprefix("#/")) for each in errors]
    sentences = sentences or [_renamed(str(problem.get("detail")), "")]
    if retry_after_s:
        sentences.append(f"Try again in {retry_after_s} s.")
    if problem.get("status", 0) >= 500 and problem.get("request_id"):
        sentences.append(f"Search the server's log for the request id {problem['request_id']}.")
    return GenerateError(" ".join(_sentence(each) for each in sentences), code=str(problem.get("code")))


def _renamed(detail: str, field: str) -> str:
    for name, option in NAMES.items():
        detail = detail.replace(f"`{name}`", option)
        if "_" in name:  # not a word of prose
            detail = re.sub(rf"\b{name}\b", option, detail)
    if field in NAMES:
        detail = re.sub(rf"^{field}\b", NAMES[field], detail)
        if NAMES[field] not in detail:
            detail = f"{NAMES[field]}: {detail}"
    return detail


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?", "!")) else ".")
