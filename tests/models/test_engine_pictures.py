# SPDX-License-Identifier: Apache-2.0
"""Requests with the demo checkpoint on the CPU: their fields must have an effect on the picture."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from diffusion_engine.capabilities import SCHEDULERS
from diffusion_engine.engine import Engine
from diffusion_engine.networks import Networks
from diffusion_engine.request_state import GeneratedPicture
from drawings import SCRIBBLES, as_file, circle, pixels_of, scribble_files
from listening import Submitted, submit
from test_scribble_files import inside_of

Generate = Callable[..., GeneratedPicture]
COLOURS = {
    "red": (210, 30, 30),
    "orange": (240, 135, 25),
    "yellow": (245, 215, 40),
    "green": (35, 145, 65),
    "blue": (40, 70, 205),
    "purple": (135, 60, 190),
    "white": (240, 238, 235),
}


def difference(one: GeneratedPicture, other: GeneratedPicture) -> float:
    return float(np.abs(pixels_of(one.content) - pixels_of(other.content)).mean())


def test_same_seed_gives_the_same_bytes_and_another_does_not(generate: Generate) -> None:
    assert generate(seed=5).content == generate(seed=5).content
    assert generate(seed=5).content != generate(seed=6).content


def test_random_seed_is_returned_and_repeats_the_picture(generate: Generate) -> None:
    drawn = generate(seed=-1)
    assert drawn.info["seed"] == drawn.seed
    assert generate(seed=drawn.seed).content == drawn.content


def test_picture_has_the_colours_of_the_prompt_inside_the_scribble(generate: Generate) -> None:
    pixels = pixels_of(generate(prompt=b"a red circle on a blue background").content)
    red, _, blue = pixels[54:74, 54:74].mean(axis=(0, 1))
    assert red > blue + 80
    red, _, blue = pixels[:12].mean(axis=(0, 1))
    assert blue > red + 80


def test_the_conditioning_scale_changes_the_picture(generate: Generate) -> None:
    assert difference(generate(conditioning_scale=0.0), generate(conditioning_scale=1.0)) > 5
    assert difference(generate(conditioning_scale=0.3), generate(conditioning_scale=1.0)) > 1


def test_at_scale_0_the_scribble_has_no_effect(generate: Generate) -> None:
    small = as_file(circle(pen=20))
    assert difference(generate(conditioning_scale=0.0), generate(conditioning_scale=0.0, image=small)) == 0


def test_control_window_changes_the_picture(generate: Generate) -> None:
    assert difference(generate(control_guidance_end=0.25), generate()) > 0.5


def test_dark_on_light_gives_the_same_picture_as_light_on_dark(generate: Generate) -> None:
    light = generate(image=as_file(circle(ink="white", ground="black")))
    assert generate(image=as_file(circle())).content == light.content


def test_base64_in_gives_base64_out_and_raw_bytes_raw_bytes(generate: Generate) -> None:
    raw = generate()
    text = generate(image=base64.b64encode(as_file(circle())))
    assert raw.content.startswith(b"\x89PNG")
    assert base64.b64decode(text.content, validate=True) == raw.content


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_follows_the_prompt(generate: Generate, scheduler: str) -> None:
    pixels = pixels_of(generate(scheduler=scheduler.encode(), num_inference_steps=8).content)
    red, _, blue = pixels[54:74, 54:74].mean(axis=(0, 1))
    assert red > blue + 60


def test_request_does_not_change_prepared_schedulers(networks: Networks, generate: Generate) -> None:
    before = dict(networks.pipeline.scheduler.config)
    first = generate(num_inference_steps=3)
    generate(scheduler=b"dpmpp_2m_karras", num_inference_steps=5)
    assert generate(num_inference_steps=3).content == first.content
    assert dict(networks.pipeline.scheduler.config) == before


def test_empty_prompt_is_accepted(generate: Generate) -> None:
    assert generate(prompt=b"").content


def test_a_negative_prompt_changes_the_picture_and_an_empty_one_does_not(generate: Generate) -> None:
    assert generate(negative_prompt=b"").content == generate().content
    assert generate(negative_prompt=b"blue background").content != generate().content


def test_size_is_as_requested_or_has_the_shape_of_the_scribble(generate: Generate) -> None:
    assert pixels_of(generate(width=96, height=96).content).shape == (96, 96, 3)
    assert pixels_of(generate(image=as_file(circle((1600, 960)))).content).shape == (96, 160, 3)


def test_info_has_the_used_parameters_and_the_processing_of_the_scribble(generate: Generate) -> None:
    info = generate(scheduler=b"lcm", guidance_scale=2.0).info
    assert info["checkpoint"] == "demo_checkpoint"
    assert (info["num_inference_steps"], info["scheduler"], info["guidance_scale"]) == (4, "lcm", 2.0)
    assert (info["width"], info["height"]) == (128, 128)
    assert info["scribble"]["inverted"] is True
    timings = info["timings_s"]
    assert timings.keys() == {"read", "wait", "encode", "denoise", "decode", "write", "total"}
    assert all(timings["total"] >= duration >= 0 for duration in timings.values())
    assert "a red circle" not in str(info)  # headers pass through logs, and prompts are private
    assert info["checkpoint_revision"] == ""  # for networks that were not built from a config
    assert info["engine"].keys() == {"version", "device", "dtype", "vae_dtype", "torch", "diffusers"}


def nearest_colour(pixels: npt.NDArray[Any], *, candidates: tuple[str, str]) -> npt.NDArray[Any]:
    """True where a pixel looks more like the first colour than like the second."""
    first, second = (np.abs(pixels - np.array(COLOURS[name])).sum(axis=2) for name in candidates)
    closer: npt.NDArray[Any] = first < second
    return closer


@pytest.fixture(scope="module")
def drawn(running_engine: Engine) -> dict[str, Submitted]:
    """The picture of every sample scribble, made at once, so that they share their steps."""
    return {
        drawing["file"]: submit(
            running_engine,
            prompt=drawing["prompt"].encode(),
            image=(SCRIBBLES / drawing["file"]).read_bytes(),
            seed=drawing["seed"],
            num_inference_steps=6,
        )
        for drawing in scribble_files()
    }


@pytest.mark.parametrize("drawing", scribble_files(), ids=lambda drawing: drawing["file"])
def test_picture_follows_every_kind_of_scribble(drawn: dict[str, Submitted], drawing: dict[str, Any]) -> None:
    pixels = drawn[drawing["file"]].pixels()
    inside = inside_of(drawing, (pixels.shape[1], pixels.shape[0]))
    coloured = nearest_colour(pixels, candidates=(drawing["colour"], drawing["ground"]))
    assert (coloured & inside).sum() / (coloured | inside).sum() > 0.7


def test_empty_scribble_gives_a_picture_with_a_note(generate: Generate) -> None:
    generated = generate(image=(SCRIBBLES / "empty-canvas.png").read_bytes())
    assert any("no strokes" in note for note in generated.info["scribble"]["notes"])


def test_without_scribble_only_the_prompt_counts_and_the_picture_is_base64(generate: Generate) -> None:
    generated = generate(image=None)
    pixels = pixels_of(base64.b64decode(generated.content, validate=True))
    assert pixels.shape == (128, 128, 3)
    red, _, blue = pixels[:12].mean(axis=(0, 1))
    assert blue > red + 80
    assert generated.info["scribble"] is None
