# SPDX-License-Identifier: Apache-2.0
"""Requests with long and weighted prompts: what is recorded, noted and refused."""

from typing import Any

import pytest
from diffusion_engine.capabilities import MAX_PROMPT_CHUNKS
from diffusion_engine.errors import RequestError
from diffusion_engine.request_state import Status
from listening import Driver

SMALL = {"width": 96, "height": 96, "num_inference_steps": 1}
A1111 = {**SMALL, "prompt_syntax": b"a1111"}


def finished(driver: Driver, **values: Any) -> dict[str, Any]:
    one = driver.join(**values)
    driver.finish()
    info: dict[str, Any] = one.picture().info
    return info


def refused(driver: Driver, **values: Any) -> RequestError:
    """The error of a request, which must not disturb another one that starts with it."""
    one, other = driver.join(**values), driver.join(**SMALL, prompt=b"a red circle, " * 40)
    driver.finish()
    assert other.state.status is Status.FINISHED
    error: RequestError = one.error()
    return error


def test_receipt_has_syntax_and_clip_skip_unless_they_are_the_defaults(driver: Driver) -> None:
    info = finished(driver, **A1111, clip_skip=1)
    assert (info["prompt_syntax"], info["clip_skip"]) == ("a1111", 1)
    assert not {"prompt_syntax", "clip_skip"} & finished(driver, **SMALL, prompt_syntax=b"plain", clip_skip=0).keys()


def test_long_prompt_is_read_to_its_end_without_a_note(driver: Driver) -> None:
    prompts = [b"a red circle on a white background, " * 15 + end for end in (b"a blue star", b"a green star")]
    submitted = [driver.join(**SMALL, prompt=prompt) for prompt in prompts]
    driver.finish()
    assert submitted[0].pixels().tolist() != submitted[1].pixels().tolist()
    assert submitted[0].picture().info["notes"] == []


def test_and_is_noted(driver: Driver) -> None:
    (note,) = finished(driver, **A1111, prompt=b"a cat AND a dog")["notes"]
    assert note == "AND in the prompt is read as a word: a picture has one prompt."
    assert finished(driver, **SMALL, prompt=b"a cat AND a dog")["notes"] == []


@pytest.mark.parametrize(
    ("values", "field", "detail"),
    [
        ({"prompt": b"red " * 75 * (MAX_PROMPT_CHUNKS + 1)}, "prompt", "has 17 chunks of 75 tokens; at most 16 are"),
        ({"negative_prompt": b"red BREAK " * MAX_PROMPT_CHUNKS + b"red"}, "negative_prompt", "has 17 chunks"),
        ({"prompt": b"a (red:100.1) circle"}, "prompt", "the weight 100.1; at most 100 is allowed"),
        ({"negative_prompt": b"((red:-99))"}, "negative_prompt", "the weight -108.9"),
        ({"prompt": b"(red:" + b"9" * 400 + b")"}, "prompt", "the weight inf"),
        ({"prompt": b"[a|b]" * 101}, "prompt", "has 101 parts that change"),
        (
            {"prompt": b"[a|b|c|d|e|f|g] " + b"red " * 750, "num_inference_steps": 7},
            "prompt",
            "between 7 texts, which have more than 64 chunks",
        ),
        ({"clip_skip": 3}, "clip_skip", "`clip_skip` is 3; at most 2 layers of this checkpoint's text encoders"),
        (
            {"prompt": b"[%b]" % b"|".join(b"%d" % each for each in range(20)), "num_inference_steps": 20},
            "prompt",
            "changes between 20 texts; at most 16 are allowed",
        ),
    ],
    ids=[
        "chunks",
        "sections",
        "weight",
        "nested weights",
        "infinite weight",
        "changes",
        "chunks of texts",
        "clip_skip",
        "texts",
    ],
)
def test_prompt_beyond_a_limit_is_refused(driver: Driver, values: dict[str, Any], field: str, detail: str) -> None:
    error = refused(driver, **{**A1111, **values})
    assert (error.code, error.field) == ("out_of_range", field)
    assert detail in error.detail


def test_unknown_syntax_is_refused(driver: Driver) -> None:
    with pytest.raises(RequestError, match="it must be one of plain, a1111") as caught:
        driver.join(**SMALL, prompt_syntax=b"compel")
    assert caught.value.field == "prompt_syntax"
