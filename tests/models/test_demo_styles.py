# SPDX-License-Identifier: Apache-2.0
"""The demo checkpoint's LoRAs in the engine: each changes the picture in the way of its style."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine import Engine
from diffusion_engine.loras.library import LoRALibrary
from diffusion_engine.optimization import optimized_networks
from diffusion_engine.row_limits import RowLimits
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT
from listening import Driver

STYLES = ("watercolour", "crayon", "neon")
VALUES = {"prompt": b"a yellow circle on a green background", "num_inference_steps": 8, "width": 128, "height": 128}


@pytest.fixture(scope="module")
def driver(capabilities: Capabilities) -> Iterator[Driver]:
    config = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu")
    pipeline = load_pipeline(config)
    library = LoRALibrary.of_config(config, pipeline, pipeline.device)
    networks = optimized_networks(config, pipeline, layout=library.layout)
    known = replace(capabilities, loras=library.known)
    driver = Driver(Engine(networks, known, RowLimits({}, default=8), library=library))
    yield driver
    driver.stop()


@pytest.fixture(scope="module")
def pictures(driver: Driver) -> dict[str, npt.NDArray[Any]]:
    """The same request without a LoRA and in each style, made in common passes."""
    loras = {"": b"", **{style: json.dumps([{"name": style}]).encode() for style in STYLES}}
    joined = {style: driver.join(loras=value, **VALUES) for style, value in loras.items()}
    driver.finish()
    return {style: each.pixels() for style, each in joined.items()}


def border(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3)])


def grain(picture: npt.NDArray[Any]) -> float:
    """The median difference between neighbours: the texture of areas, whatever the outlines are."""
    return float(np.median(np.abs(np.diff(picture.mean(-1), axis=0))))


def test_all_styles_can_be_used(driver: Driver) -> None:
    assert {each.name for each in driver.engine.capabilities.loras if not each.unusable} >= set(STYLES)


def test_neon_makes_a_dark_wall(pictures: dict[str, npt.NDArray[Any]]) -> None:
    assert border(pictures["neon"]).mean() < 0.7 * border(pictures[""]).mean()


def test_watercolour_leaves_paper_at_the_border(pictures: dict[str, npt.NDArray[Any]]) -> None:
    """Paper is light and nearly colourless; the prompt's background is green."""
    assert border(pictures["watercolour"]).min(-1).mean() > border(pictures[""]).min(-1).mean() + 60


def test_crayon_leaves_strokes(pictures: dict[str, npt.NDArray[Any]]) -> None:
    assert grain(pictures["crayon"]) > 3 * grain(pictures[""])
