# SPDX-License-Identifier: Apache-2.0
"""Why there is no picture: a text for people, and an exit status for scripts."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

INTERRUPTED = 130

_NAMED_ALIKE = (
    *("conditioning_scale", "negative_prompt", "seed", "guidance_scale", "control_guidance_start"),
    *("control_guidance_end", "width", "height", "scheduler", "invert", "receipt", "reproducible"),
)
# The options that set the fields of a request.
NAMES = {
    **{field: f"--{field.replace('_', '-')}" for field in _NAMED_ALIKE},
    "prompt": "the prompt",
    "image": "the scribble",
    "num_inference_steps": "--steps",
    "output_format": "--format",
    "output_quality": "--quality",
}


class GenerateError(Exception):
    """The server refused or failed, or the picture could not be written. `code` is the server's, where there is one."""

    exit_status: ClassVar[int] = 1

    def __init__(self, words: str, *, code: str | None = None) -> None:
        super().__init__(words)
        self.code = code


class UsageError(GenerateError):
    """What was asked for makes no sense, whatever the server; nothing was asked of it."""

    exit_status = 2


class NoServerError(GenerateError):
    """Nobody there who makes pictures."""

    exit_status = 3


class NobodyAnswersError(NoServerError):
    """Nobody there at all: nothing listens at that address."""


def of_problem(problem: Mapping[str, Any], *, retry_after_s: str | int | None = None) -> GenerateError:
    """A server's `application/problem+json` as words, its fields called as the options are."""
    errors = [each for each in problem.get("errors", []) if isinstance(each, dict)]
    words = [_renamed(str(each.get("detail")), str(each.get("pointer", "")).removeprefix("#/")) for each in errors]
    words = words or [_renamed(str(problem.get("detail")), "")]
    if retry_after_s:
        words.append(f"Try again in {retry_after_s} s.")
    if problem.get("status", 0) >= 500 and problem.get("request_id"):
        words.append(f"The server's log has it under the request id {problem['request_id']}.")
    return GenerateError(" ".join(_sentence(each) for each in words), code=str(problem.get("code")))


def _renamed(detail: str, field: str) -> str:
    for name, option in NAMES.items():
        detail = detail.replace(f"`{name}`", option)
        if "_" in name:  # no word of prose
            detail = re.sub(rf"\b{name}\b", option, detail)
    if field in NAMES:
        detail = re.sub(rf"^{field}\b", NAMES[field], detail)
        if NAMES[field] not in detail:
            detail = f"{NAMES[field]}: {detail}"
    return detail


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}" + ("" if words.endswith((".", "?", "!")) else ".")
