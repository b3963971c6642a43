# SPDX-License-Identifier: Apache-2.0
"""Requests through the demo checkpoint on the CPU: what they ask for must show in the picture."""

import base64
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusion_engine.capabilities import SCHEDULERS
from diffusion_engine.noise_scheduler import make_noise_scheduler
from diffusion_engine.pipeline import GeneratedPicture, Interruption, ScribblePipeline, to_picture
from diffusion_engine.request import RequestError
from drawings import SCRIBBLES, as_file, circle, scribble_files
from PIL import Image
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


def pixels_of(generated: GeneratedPicture) -> npt.NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(generated.content)).convert("RGB")).astype(np.int16)


def difference(one: GeneratedPicture, other: GeneratedPicture) -> float:
    return float(np.abs(pixels_of(one) - pixels_of(other)).mean())


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(generate: Generate) -> None:
    assert generate(seed=5).content == generate(seed=5).content
    assert generate(seed=5).content != generate(seed=6).content


def test_a_drawn_seed_is_told_and_gives_the_picture_again(generate: Generate) -> None:
    drawn = generate(seed=-1)
    assert drawn.info["seed"] == drawn.seed
    assert generate(seed=drawn.seed).content == drawn.content


def test_the_colours_of_the_prompt_are_where_they_belong(generate: Generate) -> None:
    pixels = pixels_of(generate(prompt=b"a red circle on a blue background"))
    red, _, blue = pixels[54:74, 54:74].mean(axis=(0, 1))
    assert red > blue + 80
    red, _, blue = pixels[:12].mean(axis=(0, 1))
    assert blue > red + 80


def test_the_conditioning_scale_changes_the_picture(generate: Generate) -> None:
    assert difference(generate(conditioning_scale=0.0), generate(conditioning_scale=1.0)) > 5
    assert difference(generate(conditioning_scale=0.3), generate(conditioning_scale=1.0)) > 1


def test_at_scale_0_the_scribble_has_no_effect(generate: Generate) -> None:
    small = as_file(circle(pen=20))
    assert generate(conditioning_scale=0.0).content == generate(conditioning_scale=0.0, image=small).content


def test_the_control_window_is_honoured(generate: Generate) -> None:
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
    pixels = pixels_of(generate(scheduler=scheduler.encode(), num_inference_steps=8))
    red, _, blue = pixels[54:74, 54:74].mean(axis=(0, 1))
    assert red > blue + 60


def test_a_request_leaves_no_trace_in_the_schedulers(pipeline: ScribblePipeline, generate: Generate) -> None:
    before = dict(pipeline.networks.scheduler.config)
    first = generate(num_inference_steps=3)
    generate(scheduler=b"dpmpp_2m_karras", num_inference_steps=5)
    assert generate(num_inference_steps=3).content == first.content
    assert dict(pipeline.networks.scheduler.config) == before


def test_an_unknown_scheduler_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="no scheduler"):
        make_noise_scheduler("magic", {})


def test_an_empty_prompt_is_served(generate: Generate) -> None:
    assert generate(prompt=b"").content


def test_a_negative_prompt_changes_the_picture_and_an_empty_one_does_not(generate: Generate) -> None:
    assert generate(negative_prompt=b"").content == generate().content
    assert generate(negative_prompt=b"blue background").content != generate().content


def test_the_size_is_the_one_asked_for_or_has_the_scribbles_shape(generate: Generate) -> None:
    assert pixels_of(generate(width=96, height=96)).shape == (96, 96, 3)
    assert pixels_of(generate(image=as_file(circle((1600, 960))))).shape == (96, 160, 3)


def test_info_tells_what_was_used_and_what_was_done(generate: Generate) -> None:
    info = generate(scheduler=b"lcm", guidance_scale=2.0).info
    assert info["checkpoint"] == "demo_checkpoint"
    assert (info["num_inference_steps"], info["scheduler"], info["guidance_scale"]) == (4, "lcm", 2.0)
    assert (info["width"], info["height"]) == (128, 128)
    assert info["scribble"]["inverted"] is True
    assert info["timings_s"]["total"] >= info["timings_s"]["denoise_and_decode"] > 0


def test_a_deadline_is_noticed_between_steps(generate: Generate) -> None:
    interruption = Interruption.after(time.monotonic(), 0.05, lambda: False)
    started = time.monotonic()
    with pytest.raises(RequestError) as refusal:
        generate(interruption, num_inference_steps=50)
    assert refusal.value.code == "deadline_exceeded"
    assert time.monotonic() - started < 5


def test_a_caller_who_leaves_stops_the_work(generate: Generate) -> None:
    steps = iter(range(100))
    with pytest.raises(RequestError) as refusal:
        generate(Interruption(deadline=None, is_cancelled=lambda: next(steps) >= 3), num_inference_steps=50)
    assert refusal.value.code == "cancelled"
    assert next(steps) == 4


def test_numbers_that_are_not_finite_are_an_error_not_a_black_picture() -> None:
    pixels = torch.zeros(3, 8, 8)
    pixels[0, 0, 0] = torch.nan
    with pytest.raises(RequestError) as refusal:
        to_picture(pixels)
    assert refusal.value.code == "generation_failed"


def test_a_full_gpu_is_told_as_such(
    pipeline: ScribblePipeline, generate: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ScribblePipeline, "denoise", fail)
    with pytest.raises(RequestError) as refusal:
        generate()
    assert (refusal.value.code, refusal.value.retry_after_s) == ("out_of_memory", 5)


def test_warming_up_makes_a_picture(pipeline: ScribblePipeline) -> None:
    pipeline.warm_up()


def nearest_colour(pixels: npt.NDArray[Any], *, candidates: tuple[str, str]) -> npt.NDArray[Any]:
    """True where a pixel looks more like the first colour than like the second."""
    first, second = (np.abs(pixels - np.array(COLOURS[name])).sum(axis=2) for name in candidates)
    closer: npt.NDArray[Any] = first < second
    return closer


@pytest.mark.parametrize("drawing", scribble_files(), ids=lambda drawing: drawing["file"])
def test_every_kind_of_scribble_is_followed(generate: Generate, drawing: dict[str, Any]) -> None:
    generated = generate(
        prompt=drawing["prompt"].encode(),
        image=(SCRIBBLES / drawing["file"]).read_bytes(),
        seed=drawing["seed"],
        num_inference_steps=6,
    )
    pixels = pixels_of(generated)
    inside = inside_of(drawing, (pixels.shape[1], pixels.shape[0]))
    coloured = nearest_colour(pixels, candidates=(drawing["colour"], drawing["ground"]))
    assert (coloured & inside).sum() / (coloured | inside).sum() > 0.7


def test_an_empty_canvas_is_served_with_a_note(generate: Generate) -> None:
    generated = generate(image=(SCRIBBLES / "empty-canvas.png").read_bytes())
    assert any("no strokes" in note for note in generated.info["scribble"]["notes"])
