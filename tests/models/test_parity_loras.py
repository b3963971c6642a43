# SPDX-License-Identifier: Apache-2.0
"""Pictures with LoRAs equal those of diffusers with PEFT: alone, and beside requests with other LoRAs. CPU, fp32."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from diffusers import StableDiffusionXLControlNetPipeline
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine import Engine
from diffusion_engine.loras.library import LoRALibrary
from diffusion_engine.optimization import optimized_networks
from diffusion_engine.row_limits import RowLimits
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT
from listening import Driver
from lora_files import save_demo_loras
from stock import StockPipeline

Pixels = npt.NDArray[Any]

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # the point of this test

MOST = 1  # of 255, in any colour value

BASE = {"width": 96, "height": 96, "num_inference_steps": 2}
CASES: dict[str, tuple[dict[str, float], dict[str, Any]]] = {
    "no LoRA": ({}, {}),
    "attention": ({"attention": 1.0}, {}),
    "attention, half": ({"attention": 0.5}, {"guidance_scale": 1.0, "seed": 2}),
    "attention, negative": ({"attention": -0.7}, {"scheduler": b"euler_ancestral"}),
    "PEFT with alpha": ({"peft_alpha": 0.8}, {"seed": 3}),
    "diffusers, all linear layers": ({"diffusers": 0.6}, {}),
    "kohya": ({"kohya": 1.5}, {"image": None}),
    "convolutions": ({"convolutions": 0.9}, {}),
    "text encoders too": ({"texts": 1.0}, {"prompt": b"a yellow star", "negative_prompt": b"blue"}),
    "only text encoders": ({"only_texts": 1.2}, {}),
    "two": ({"attention": 0.5, "kohya": 0.9}, {"guidance_scale": 5.0}),
    "four of all kinds": (
        {"convolutions": 0.4, "diffusers": -0.3, "texts": 0.8, "attention": 0.2},
        {"width": 128, "height": 128, "seed": 4},
    ),
    "scale 0": ({"attention": 0.0, "texts": 0.0}, {}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pipeline: Any) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    save_demo_loras(folder, pipeline)
    return folder


@pytest.fixture(scope="module")
def stock_pixels(folder: Path, capabilities: Capabilities) -> Callable[[str], Pixels]:
    """The picture of diffusers with PEFT, made once."""
    pytest.importorskip("peft", reason="the extra dev has it only for Python 3.11")
    pipeline = load_pipeline(EngineConfig(checkpoint=str(CHECKPOINT), device="cpu"))
    adapted = StableDiffusionXLControlNetPipeline(**pipeline.components, add_watermarker=False)
    for file in folder.iterdir():
        adapted.load_lora_weights(str(file), adapter_name=file.stem)
    stock = StockPipeline(pipeline, capabilities)
    made: dict[str, Pixels] = {}

    def pixels(name: str) -> Pixels:
        scales, values = CASES[name]
        if name not in made:
            adapted.disable_lora()
            if scales:
                adapted.enable_lora()
                adapted.set_adapters(list(scales), list(scales.values()))
            made[name] = stock.pixels(**{**BASE, **values})
        return made[name]

    return pixels


@pytest.fixture(scope="module")
def engine(folder: Path, capabilities: Capabilities) -> Engine:
    """With traced networks, and two half passes at a time."""
    config = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", loras=(str(folder),), lora_memory_mb=16)
    pipeline = load_pipeline(config)
    library = LoRALibrary.of_config(config, pipeline, pipeline.device)
    networks = replace(optimized_networks(config, pipeline, layout=library.layout), cpu_parallel_size=2)
    known = replace(capabilities, loras=library.known)
    return Engine(networks, known, RowLimits({}, default=12), library=library)


def values_of(name: str) -> dict[str, Any]:
    scales, values = CASES[name]
    loras = [{"name": each, "scale": scale} for each, scale in scales.items()]
    return {**BASE, **values, "loras": json.dumps(loras).encode()}


def largest_difference(one: Pixels, other: Pixels) -> int:
    assert one.shape == other.shape
    return int(np.abs(one - other).max())


def test_pictures_equal_those_of_peft_alone_and_in_mixed_company(
    engine: Engine, stock_pixels: Callable[[str], Pixels]
) -> None:
    driver = Driver(engine)
    try:
        alone = {}
        for name in ("two", "text encoders too", "no LoRA"):
            alone[name] = driver.join(**values_of(name))
            driver.finish()
        choose = random.Random(1)  # noqa: S311
        waiting = list(CASES)
        choose.shuffle(waiting)
        mixed = []
        while waiting or driver.step():
            for _ in range(min(len(waiting), choose.choice((1, 2, 3)))):
                name = waiting.pop()
                mixed.append((name, driver.join(**values_of(name))))
            driver.step()
    finally:
        driver.stop()
    differences = {name: largest_difference(one.pixels(), stock_pixels(name)) for name, one in [*alone.items(), *mixed]}
    assert {name: difference for name, difference in differences.items() if difference > MOST} == {}


def test_cases_give_different_pictures(stock_pixels: Callable[[str], Pixels]) -> None:
    pictures = {name: stock_pixels(name).tobytes() for name in CASES}
    assert pictures.pop("scale 0") == pictures["no LoRA"]
    assert len(set(pictures.values())) == len(pictures)
