# SPDX-License-Identifier: Apache-2.0
"""Inputs that have no effect on the picture are noted, not ignored in silence. Without torch."""

from typing import Any

import pytest
from diffusion_engine import unused_inputs
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.request_parser import parse_request

CAPABILITIES = Capabilities(name="any")


def notes(*, is_guided: bool = True, **values: Any) -> list[str]:
    request = parse_request({"seed": 0, **values}, CAPABILITIES)
    return unused_inputs.notes(request, CAPABILITIES.defaults, is_guided=is_guided)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("conditioning_scale", 0.5),
        ("control_guidance_start", 0.2),
        ("control_guidance_end", 0.8),
        ("invert", b"yes"),
    ],
)
def test_control_inputs_need_a_scribble(name: str, value: Any) -> None:
    assert notes(**{name: value}) == [f"`{name}` has no effect without `image`."]
    assert notes(**{name: value, "image": b"a picture"}) == []


def test_quality_needs_a_lossy_format() -> None:
    (note,) = notes(output_format=b"png", output_quality=50)
    assert "`output_quality`" in note
    assert notes(output_format=b"webp", output_quality=50) == []


def test_a_negative_prompt_needs_guidance() -> None:
    (note,) = notes(negative_prompt=b"blurry", is_guided=False)
    assert "`guidance_scale`" in note
    assert notes(negative_prompt=b"blurry") == []


def test_a_tag_of_a_lora_is_text() -> None:
    (note,) = notes(prompt=b"a house <lora:ink:0.8>")
    assert note == "<lora:ink:0.8> in the prompt is read as text. Name LoRAs in `loras`."
    assert notes(prompt=b"a house", loras=b"[]") == []


def test_the_defaults_need_no_note() -> None:
    defaults = CAPABILITIES.defaults
    values = {"conditioning_scale": defaults.conditioning_scale, "invert": b"auto", "negative_prompt": b""}
    assert notes(**values, output_format=b"png", output_quality=defaults.output_quality, is_guided=False) == []
