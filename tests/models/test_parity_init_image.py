# SPDX-License-Identifier: Apache-2.0
"""Pictures that start from another picture, with and without a mask, equal those of diffusers' own pipelines."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import StableDiffusionXLControlNetImg2ImgPipeline, StableDiffusionXLControlNetInpaintPipeline
from diffusion_engine.capabilities import SCHEDULERS, Capabilities
from diffusion_engine.memory_plan import MemoryPlan
from diffusion_engine.networks import Networks
from diffusion_engine.preprocessing import preprocess
from diffusion_engine.request import DiffusionRequest
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import NullListener, RequestState
from drawings import as_file, row
from listening import Driver
from PIL import Image, ImageDraw
from stock import stock_scheduler

Pixels = npt.NDArray[Any]
MOST = 1  # of 255, in any colour value


def scene(size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A picture with colours, edges and a gradient."""
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((size[0] // 8, size[1] // 3, size[0] // 2, size[1] - 10), fill="orange")
    draw.ellipse((size[0] // 2, 8, size[0] - 8, size[1] // 2), fill="blue")
    return picture


def mask(size: tuple[int, int] = (96, 96)) -> Image.Image:
    """An ellipse whose border crosses latent cells, with a soft part."""
    picture = Image.new("L", size)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((19, 13, size[0] - 21, size[1] - 18), fill=255)
    draw.rectangle((0, 40, 10, 50), fill=120)
    draw.rectangle((0, 60, 10, 70), fill=140)
    return picture


BASE = {"width": 96, "height": 96, "num_inference_steps": 4, "init_image": as_file(scene())}
WITH_MASK = {**BASE, "mask": as_file(mask())}
CASES: dict[str, dict[str, Any]] = {
    **{f"{name}, mask, 0.7": {**WITH_MASK, "scheduler": name.encode(), "strength": 0.7} for name in SCHEDULERS},
    "ancestral, 0.6": {**BASE, "scheduler": b"euler_ancestral", "strength": 0.6},
    "dpmpp, 0.6": {**BASE, "scheduler": b"dpmpp_2m_karras", "strength": 0.6},
    "ancestral, mask from noise": {**WITH_MASK, "scheduler": b"euler_ancestral", "seed": 2},
    "lcm, mask from noise": {**WITH_MASK, "scheduler": b"lcm", "seed": 2},
    "strength 1": {**BASE, "strength": 1.0},
    "default strength, no scribble": {**BASE, "image": None, "seed": 4},
    "one step, unguided": {**BASE, "strength": 0.25, "guidance_scale": 1.0},
    "mask, one step": {**WITH_MASK, "strength": 0.25, "scheduler": b"euler_ancestral"},
    "mask, unguided, no scribble": {**WITH_MASK, "guidance_scale": 1.0, "image": None},
    "window 0.3 to 0.8 of the steps made": {
        **BASE,
        "num_inference_steps": 8,
        "strength": 0.7,
        "control_guidance_start": 0.3,
        "control_guidance_end": 0.8,
    },
    "160x96": {
        **WITH_MASK,
        "width": 160,
        "init_image": as_file(scene((160, 96)), "JPEG"),
        "mask": as_file(mask((160, 96))),
        "strength": 0.8,
    },
}


class StockPipelines:
    """diffusers' pipelines, with the engine's preprocessing and weights."""

    def __init__(self, pipeline: Any, capabilities: Capabilities) -> None:
        self._pipeline = pipeline
        self._capabilities = capabilities
        self._made: dict[str, Pixels] = {}

    def pixels(self, name: str) -> Pixels:
        """The picture of a case, (H, W, 3), made once. Outside of the mask it has the initial picture's pixels."""
        if name not in self._made:
            self._made[name] = self.made(CASES[name])
        return self._made[name]

    def made(self, values: dict[str, Any]) -> Pixels:
        state = RequestState(
            request=parse_request(row(**values), self._capabilities), listener=NullListener(), arrived=0.0
        )
        preprocess(state, self._capabilities, max_pixels=50_000_000)
        request = state.request
        has_scribble = state.control_image is not None
        of_mask = {} if state.mask is None else {"mask_image": state.mask}
        images = self._with_scheduler(request, has_mask=bool(of_mask))(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt or None,
            image=state.init_image,
            control_image=state.control_image if has_scribble else Image.new("RGB", state.init_image.size),
            width=request.width,
            height=request.height,
            strength=values.get("strength", 1.0 if of_mask else 0.8),
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            controlnet_conditioning_scale=request.conditioning_scale if has_scribble else 0.0,
            control_guidance_start=request.control_guidance_start,
            control_guidance_end=request.control_guidance_end,
            eta=request.eta or 0.0,
            generator=torch.Generator("cpu").manual_seed(request.seed),
            output_type="pt",
            **of_mask,
        ).images
        pixels = (images[0].float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        if of_mask:
            pixels = np.asarray(Image.composite(Image.fromarray(pixels), state.init_image, state.mask))
        return pixels.astype(np.int16)

    def _with_scheduler(self, request: DiffusionRequest, *, has_mask: bool) -> Any:
        kind = StableDiffusionXLControlNetInpaintPipeline if has_mask else StableDiffusionXLControlNetImg2ImgPipeline
        pipeline = kind(
            **{**self._pipeline.components, "scheduler": stock_scheduler(request, self._pipeline.scheduler.config)},
            force_zeros_for_empty_prompt=self._pipeline.config.force_zeros_for_empty_prompt,
            add_watermarker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


@pytest.fixture(scope="module")
def stocks(pipeline: Any, capabilities: Capabilities) -> StockPipelines:
    return StockPipelines(pipeline, capabilities)


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
    lone_driver: Driver, stocks: StockPipelines, name: str
) -> None:
    one = lone_driver.join(**CASES[name])
    lone_driver.finish()
    assert largest_difference(one.pixels(), stocks.pixels(name)) <= MOST


def test_picture_is_the_same_in_mixed_company(
    make_driver: Callable[..., Driver], stocks: StockPipelines, stock: Any
) -> None:
    """Requests with and without a picture, and with a mask, join and leave with every step."""
    choose = random.Random(1)  # noqa: S311
    driver = make_driver(max_rows=9)
    waiting = choose.sample(list(CASES), 16)
    ordinary = {"width": 96, "height": 96, "seed": 3}
    submitted, others = {}, []
    while waiting or driver.step():
        for _ in range(min(len(waiting), choose.choice((0, 1, 2, 3)))):
            name = waiting.pop()
            submitted[name] = driver.join(preview_every=2, **CASES[name])
        if waiting:
            others.append(driver.join(**ordinary))
            driver.step()
    assert max(len(states) for states in driver.passes) > 3
    differences = {name: largest_difference(one.pixels(), stocks.pixels(name)) for name, one in submitted.items()}
    assert {name: difference for name, difference in differences.items() if difference > MOST} == {}
    expected = stock.pixels(**ordinary)
    assert max(largest_difference(each.pixels(), expected) for each in others) <= MOST


def test_large_pictures_are_encoded_in_tiles_as_by_diffusers(
    make_driver: Callable[..., Driver], networks: Networks, stocks: StockPipelines, pipeline: Any
) -> None:
    """By plan, and if memory runs out, except for a reproducible request."""

    class WithoutMemory:
        def encode(self, picture: torch.Tensor) -> Any:
            if picture.shape[-1] < size[0]:
                return networks.vae.encode(picture)
            raise torch.OutOfMemoryError("CUDA out of memory")

        def __getattr__(self, name: str) -> Any:
            return getattr(networks.vae, name)

    size = (192, 192)
    values = {"width": 192, "height": 192, "num_inference_steps": 2, "init_image": as_file(scene(size))}
    planned = make_driver(networks=replace(networks, memory=MemoryPlan(tiled_sizes=frozenset({size}))))
    tiled = planned.join(**values)
    planned.finish()
    pipeline.vae.enable_tiling()
    expected = stocks.made(values)
    pipeline.vae.disable_tiling()
    assert largest_difference(tiled.pixels(), expected) <= MOST
    assert largest_difference(tiled.pixels(), stocks.made(values)) > MOST  # tiles do change pixels
    short_of_memory = make_driver(networks=replace(networks, vae=WithoutMemory()))
    retried, failed = (short_of_memory.join(**values, reproducible=each) for each in (False, True))
    short_of_memory.finish()
    assert failed.error().code == "out_of_memory"
    assert retried.picture().info["vae_tiling"] is True
    assert "the VAE ran in tiles" in retried.picture().info["notes"][0]
