# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import pytest
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.request import DiffusionRequest
from diffusion_engine.request_parser import parse_request

ROW: dict[str, Any] = {"prompt": b"a house", "image": b"\xff", "conditioning_scale": 1.0}


def read(capabilities: Capabilities, **values: Any) -> DiffusionRequest:
    return parse_request({**ROW, **values}, capabilities)


def test_omitted_fields_have_the_checkpoints_defaults(capabilities: Capabilities) -> None:
    request = read(capabilities, guidance_scale=None)
    defaults = capabilities.defaults
    taken = (request.num_inference_steps, request.guidance_scale, request.scheduler)
    assert taken == (defaults.num_inference_steps, defaults.guidance_scale, defaults.scheduler)
    assert (request.output_format, request.output_quality, request.invert) == ("webp", 90, "auto")
    assert (request.control_guidance_start, request.control_guidance_end) == (0.0, 1.0)
    assert (request.width, request.height, request.timeout_s, request.negative_prompt) == (None, None, None, "")


def test_given_fields_are_used(capabilities: Capabilities) -> None:
    request = read(capabilities, seed=7, num_inference_steps=3, scheduler=b" LCM ", output_format=b"PNG", invert=b"yes")
    assert (request.seed, request.num_inference_steps, request.scheduler) == (7, 3, "lcm")
    assert (request.output_format, request.invert) == ("png", "yes")


@pytest.mark.parametrize("seed", [None, -1])
def test_random_seed_is_exact_in_javascript(capabilities: Capabilities, seed: int | None) -> None:
    seeds = {read(capabilities, seed=seed).seed for _ in range(50)}
    assert len(seeds) == 50
    assert all(0 <= drawn < 2**53 for drawn in seeds)


def test_largest_seed_is_kept(capabilities: Capabilities) -> None:
    assert read(capabilities, seed=2**63 - 1).seed == 2**63 - 1


def test_all_inputs_are_optional(capabilities: Capabilities) -> None:
    request = parse_request({}, capabilities)
    assert (request.prompt, request.image, request.conditioning_scale) == ("", None, 1.0)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("conditioning_scale", 2.5, "out_of_range"),
        ("conditioning_scale", -0.1, "out_of_range"),
        ("conditioning_scale", float("nan"), "not_finite"),
        ("guidance_scale", float("inf"), "not_finite"),
        ("num_inference_steps", 0, "out_of_range"),
        ("num_inference_steps", 51, "out_of_range"),
        ("seed", -2, "out_of_range"),
        ("control_guidance_start", 1.0, "out_of_range"),
        ("control_guidance_end", 0.0, "out_of_range"),
        ("output_quality", 0, "out_of_range"),
        ("output_quality", 101, "out_of_range"),
        ("timeout_s", 0.0, "out_of_range"),
        ("timeout_s", float("nan"), "not_finite"),
        ("scheduler", b"plms", "unknown_scheduler"),
        ("eta", 0.0, "unsupported_parameter"),
        ("timestep_spacing", b"even", "unknown_option"),
        ("output_format", b"gif", "unknown_option"),
        ("invert", b"true", "unknown_option"),
        ("prompt", b"\xff\xfe", "invalid_text"),
        ("prompt", b"x" * 10_001, "out_of_range"),
    ],
)
def test_invalid_value_is_rejected_with_the_fields_name(
    capabilities: Capabilities, name: str, value: object, code: str
) -> None:
    with pytest.raises(RequestError, match=name.split("_")[0]) as rejection:
        read(capabilities, **{name: value})
    assert rejection.value.code == code
    assert rejection.value.field in (name, "control_guidance_start")


def test_unknown_scheduler_is_rejected_with_the_nearest_name(capabilities: Capabilities) -> None:
    with pytest.raises(RequestError, match=r"'dpmpp_2m_kerras' \(did you mean dpmpp_2m_karras\?\)"):
        read(capabilities, scheduler=b"dpmpp_2m_kerras")


def test_eta_is_for_ddim_and_tcd(capabilities: Capabilities) -> None:
    assert [read(capabilities, scheduler=name).eta for name in (b"ddim", b"tcd", b"euler")] == [0.0, 0.3, None]
    assert read(capabilities, scheduler=b"ddim", eta=1.0).eta == 1.0
    with pytest.raises(RequestError, match="must be from 0 to 1"):
        read(capabilities, scheduler=b"tcd", eta=1.1)
    with pytest.raises(RequestError, match=r"no effect with the scheduler heun.*use one of ddim, tcd"):
        read(capabilities, scheduler=b"heun", eta=0.5)


def test_distilled_schedulers_have_their_own_timesteps(tmp_path: Path) -> None:
    sdxl = Capabilities.of_checkpoint(str(tmp_path), defaults={"timestep_spacing": "trailing"})
    assert read(sdxl, scheduler=b"euler").timestep_spacing == "trailing"
    assert read(sdxl, scheduler=b"lcm", num_inference_steps=50).timestep_spacing is None
    with pytest.raises(RequestError, match="`timestep_spacing` has no effect with the scheduler tcd"):
        read(sdxl, scheduler=b"tcd", timestep_spacing=b"leading")
    with pytest.raises(RequestError, match="is 51; with the scheduler lcm it must be from 1 to 50"):
        read(sdxl, scheduler=b"lcm", num_inference_steps=51)


def test_empty_prompt_is_accepted(capabilities: Capabilities) -> None:
    assert read(capabilities, prompt=b"").prompt == ""
