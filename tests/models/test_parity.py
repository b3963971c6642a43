# SPDX-License-Identifier: Apache-2.0
"""The engine's pictures equal diffusers' own: alone, and in a batch that changes with every step. CPU, fp32.

The stock pipeline is the reference. Colour values may differ by 1 of 255: another row count in a pass can change the
rounding of a value between two integers.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import StableDiffusionXLControlNetPipeline, UNet2DConditionModel
from diffusion_engine.capabilities import SCHEDULERS, Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.networks import Networks
from diffusion_engine.step_scheduler import Policy
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT, SCRIBBLES, pixels_of
from listening import Driver, Submitted
from stock import StockPipeline

Pixels = npt.NDArray[Any]
MakeDriver = Callable[..., Driver]

MOST = 1  # of 255, in any colour value

# The smallest size, so that the tests take seconds. Four other sizes follow.
BASE = {"width": 96, "height": 96, "num_inference_steps": 4}
CASES: dict[str, dict[str, Any]] = {
    # A seed for each, because some schedulers are equal in exact arithmetic: ddim and euler.
    **{f"{name}, guided": {"scheduler": name.encode(), "seed": 20 + i} for i, name in enumerate(SCHEDULERS)},
    **{
        f"{name}, unguided, window 0.3 to 1": {
            "scheduler": name.encode(),
            "num_inference_steps": 5,
            "guidance_scale": 1.0,
            "control_guidance_start": 0.3,
            "seed": 40 + i,
        }
        for i, name in enumerate(SCHEDULERS)
    },
    "ddim, eta": {"scheduler": b"ddim", "eta": 0.7, "seed": 12},
    "tcd, eta 0": {"scheduler": b"tcd", "eta": 0.0, "seed": 12},
    "heun, 1 step": {"scheduler": b"heun", "num_inference_steps": 1, "seed": 14},
    "dpmpp_sde, 1 step": {"scheduler": b"dpmpp_sde", "num_inference_steps": 1, "seed": 15},
    **{
        f"{name}, {spacing}": {"scheduler": name.encode(), "timestep_spacing": spacing.encode(), "seed": 13}
        for name, spacing in (
            ("ddim", "leading"),
            ("dpmpp_2m", "leading"),
            ("dpmpp_sde_karras", "linspace"),
            ("euler", "linspace"),
            ("heun", "leading"),
            ("unipc", "linspace"),
        )
    },
    "guidance 0": {"guidance_scale": 0.0, "seed": 4},
    "guidance 1.5": {"guidance_scale": 1.5},
    "guidance 7.5": {"guidance_scale": 7.5},
    "window 0 to 0.6": {"control_guidance_end": 0.6, "num_inference_steps": 5},
    "window 0.3 to 0.6": {"control_guidance_start": 0.3, "control_guidance_end": 0.6, "num_inference_steps": 6},
    "a window between two steps": {"control_guidance_start": 0.4, "control_guidance_end": 0.45},
    "scale 0": {"conditioning_scale": 0.0},
    "scale 0.5": {"conditioning_scale": 0.5},
    "scale 1.3": {"conditioning_scale": 1.3},
    "scale 2, unguided": {"conditioning_scale": 2.0, "guidance_scale": 1.0},
    "1 step": {"num_inference_steps": 1},
    "2 steps, dpmpp": {"num_inference_steps": 2, "scheduler": b"dpmpp_2m_karras"},
    "3 steps": {"num_inference_steps": 3, "seed": 2**63 - 1},
    "negative prompt": {"negative_prompt": b"blue background"},
    "negative prompt, unguided": {"negative_prompt": b"blue background", "guidance_scale": 1.0, "seed": 5},
    "empty prompt": {"prompt": b""},
    "another prompt": {"prompt": b"a yellow star on a green background", "seed": 6},
    "clip_skip": {"clip_skip": 1, "seed": 7},
    "no scribble": {"image": None, "seed": 8},
    "no scribble, ancestral, unguided": {
        "image": None,
        "scheduler": b"euler_ancestral",
        "guidance_scale": 1.0,
        "seed": 9,
    },
    "an empty scribble": {"image": (SCRIBBLES / "empty-canvas.png").read_bytes(), "seed": 10},
    "128x128": {"width": 128, "height": 128},
    "160x96": {"width": 160, "height": 96},
    "96x160, ancestral": {"width": 96, "height": 160, "scheduler": b"euler_ancestral"},
    "192x128, dpmpp": {"width": 192, "height": 128, "num_inference_steps": 3, "scheduler": b"dpmpp_2m_karras"},
    "much at once": {
        "prompt": b"an orange fish on a blue background",
        "negative_prompt": b"red",
        "image": (SCRIBBLES / "thick-marker.png").read_bytes(),
        "scheduler": b"euler_ancestral",
        "guidance_scale": 6.5,
        "conditioning_scale": 0.7,
        "control_guidance_start": 0.2,
        "control_guidance_end": 0.9,
        "num_inference_steps": 7,
        "seed": 11,
    },
}


def values_of(name: str) -> dict[str, Any]:
    return {**BASE, **CASES[name]}


@pytest.fixture(scope="module")
def stock_pixels(stock: StockPipeline) -> Callable[[str], Pixels]:
    """The stock pipeline's picture of each case, made once."""
    made: dict[str, Pixels] = {}

    def pixels(name: str) -> Pixels:
        if name not in made:
            made[name] = stock.pixels(**values_of(name))
        return made[name]

    return pixels


@pytest.fixture(scope="module")
def measured(record_testsuite_property: Callable[[str, object], None]) -> Iterator[list[int]]:
    """Records the largest difference of each picture. `pytest --junitxml` reports the largest of all."""
    differences: list[int] = []
    yield differences
    record_testsuite_property("largest_difference_to_stock_of_255", max(differences, default=0))
    record_testsuite_property("pictures_compared_to_stock", len(differences))
    record_testsuite_property("pictures_identical_to_stock", differences.count(0))


def largest_difference(one: Pixels, other: Pixels) -> int:
    assert one.shape == other.shape
    return int(np.abs(one - other).max())


@pytest.fixture(scope="module")
def lone_driver(make_engine: Callable[..., Any]) -> Iterator[Driver]:
    driver = Driver(make_engine())
    yield driver
    driver.stop()


@pytest.mark.parametrize("name", CASES)
def test_picture_of_a_single_request_equals_the_stock_pipelines(
    lone_driver: Driver,
    stock_pixels: Callable[[str], Pixels],
    name: str,
    measured: list[int],
) -> None:
    one = join(lone_driver, name)
    lone_driver.finish()
    difference = largest_difference(one.pixels(), stock_pixels(name))
    measured.append(difference)
    assert difference <= MOST


def test_cases_give_different_pictures(stock_pixels: Callable[[str], Pixels]) -> None:
    pictures = {name: stock_pixels(name).tobytes() for name in CASES}
    # A control window between two steps has the effect of a scale of 0.
    assert pictures.pop("a window between two steps") == pictures["scale 0"]
    same = [sorted(name for name in pictures if pictures[name] == each) for each in set(pictures.values())]
    assert [names for names in same if len(names) > 1] == []


def join(driver: Driver, name: str, **values: Any) -> Submitted:
    """Submit a case with previews, which must not change the picture."""
    return driver.join(preview_every=2, **{**values_of(name), **values})


@pytest.mark.parametrize(
    ("third", "options"),
    [(0, {"max_rows": 16}), (1, {"max_rows": 5}), (2, {"max_rows": 7, "policy": Policy.SHORTEST_REMAINING})],
    ids=["16 rows", "5 rows", "7 rows, shortest first"],
)
def test_picture_is_the_same_in_a_batch_that_changes_with_every_step(
    make_driver: MakeDriver,
    stock_pixels: Callable[[str], Pixels],
    third: int,
    options: dict[str, Any],
    measured: list[int],
) -> None:
    choose = random.Random(1)  # noqa: S311
    driver = make_driver(**options)
    waiting = choose.sample(list(CASES), len(CASES))[third::3]
    num_cases = len(waiting)
    submitted: dict[str, Submitted] = {}
    cancelled: list[Submitted] = []
    while waiting or driver.step():
        for _ in range(min(len(waiting), choose.choice((0, 1, 1, 2, 3)))):
            name = waiting.pop()
            submitted[name] = join(driver, name)
        if waiting and choose.random() < 0.4:  # a request that will be cancelled
            cancelled.append(join(driver, choose.choice(list(CASES)), seed=99, num_inference_steps=20))
        if cancelled and choose.random() < 0.6:
            choose.choice(cancelled).state.cancel()
        if waiting:
            driver.step()
        else:
            for each in cancelled:
                each.state.cancel()
    assert all(each.error().code == "cancelled" for each in cancelled)
    batches = {tuple(id(each) for each in states) for states in driver.passes if len(states) > 1}
    assert len(batches) > num_cases / 3

    differences = {name: largest_difference(one.pixels(), stock_pixels(name)) for name, one in submitted.items()}
    measured += differences.values()
    assert {name: difference for name, difference in differences.items() if difference > MOST} == {}


def test_vae_with_latents_mean_and_standard_deviation(capabilities: Capabilities, make_driver: MakeDriver) -> None:
    pipeline = load_pipeline(EngineConfig(checkpoint=str(CHECKPOINT), device="cpu"))
    repeats = pipeline.vae.config.latent_channels // 4
    mean, spread = [0.4, -0.3, 0.2, 0.1] * repeats, [0.8, 1.1, 0.9, 1.2] * repeats
    pipeline.vae.register_to_config(latents_mean=mean, latents_std=spread)
    driver = make_driver(networks=Networks.of_pipeline(pipeline))
    one = driver.join(preview_every=3, **BASE)
    driver.finish()
    picture = one.pixels()
    assert largest_difference(picture, StockPipeline(pipeline, capabilities).pixels(**BASE)) <= MOST
    # The linear map for previews was fitted to the same latents.
    preview = pixels_of(one.recorder.previews[3])
    assert np.abs(preview.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() < 30


def test_unet_that_takes_the_guidance_scale_as_input_gets_it(
    pipeline: Any, capabilities: Capabilities, make_driver: MakeDriver
) -> None:
    """Like latent consistency models. The test uses the demo's weights with a random projection."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config({**pipeline.unet.config, "time_cond_proj_dim": 64})
    missing, unexpected = unet.load_state_dict(pipeline.unet.state_dict(), strict=False)
    assert missing == ["time_embedding.cond_proj.weight"]
    assert unexpected == []
    taught = StableDiffusionXLControlNetPipeline(**{**pipeline.components, "unet": unet.eval()}, add_watermarker=False)
    taught.set_progress_bar_config(disable=True)
    taught.register_to_config(force_zeros_for_empty_prompt=pipeline.config.force_zeros_for_empty_prompt)

    driver = make_driver(networks=Networks.of_pipeline(taught))
    stock = StockPipeline(taught, capabilities)
    values = [{**BASE, "scheduler": b"lcm", "guidance_scale": scale} for scale in (1.0, 4.0, 8.0)]
    submitted = [driver.join(**each) for each in values]
    driver.finish()
    pictures = [one.pixels() for one in submitted]
    assert all(one.state.num_rows == 1 for one in submitted)
    assert largest_difference(pictures[0], pictures[2]) > 8
    for each, picture in zip(values, pictures, strict=True):
        assert largest_difference(picture, stock.pixels(**each)) <= MOST
