# SPDX-License-Identifier: Apache-2.0
"""Building an engine: the config's defaults, the memory layout, the warm-up."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine import Engine
from diffusion_engine.engine_builder import build_engine, warm_up
from diffusion_engine.loras.library import LoRALibrary
from diffusion_engine.networks import Networks
from diffusion_engine.optimization import optimized_networks, use_channels_last
from diffusion_engine.row_limits import RowLimits
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT
from listening import Driver, submit
from lora_files import save_demo_loras
from stock import StockPipeline
from torch._dynamo.utils import counters

CONFIG = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu")
SMALL = {"width": 96, "height": 96}


def test_defaults_of_the_config_override_the_checkpoints() -> None:
    engine = build_engine(replace(CONFIG, max_rows=4, is_traced=False, defaults={"num_inference_steps": 3}))
    defaults = engine.describe()["defaults"]
    own = Capabilities.of_checkpoint(str(CHECKPOINT)).defaults
    assert (defaults["num_inference_steps"], defaults["guidance_scale"]) == (3, own.guidance_scale)
    with pytest.raises(ValueError, match="unknown defaults"):
        Capabilities.of_checkpoint(str(CHECKPOINT), defaults={"steps": 3})


def test_memory_layout_does_not_change_pictures(make_driver: Callable[..., Driver], stock: StockPipeline) -> None:
    pipeline = load_pipeline(CONFIG)
    use_channels_last(pipeline)
    driver = make_driver(networks=Networks.of_pipeline(pipeline))
    values = [{**SMALL, "seed": seed, "conditioning_scale": scale} for seed, scale in ((1, 1.0), (2, 0.5))]
    submitted = [driver.join(**each) for each in values]
    driver.finish()
    for each, one in zip(values, submitted, strict=True):
        assert np.abs(one.pixels() - stock.pixels(**each)).max() <= 1


def test_networks_are_traced_before_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build_engine(replace(CONFIG, max_rows=4))

    def fail(*_: object) -> None:
        raise AssertionError("traced during a request")

    monkeypatch.setattr("diffusion_engine.torchscript.trace", fail)
    driver = Driver(engine)
    submitted = [driver.join(**SMALL), driver.join(**SMALL, image=None, guidance_scale=1.0)]
    driver.finish()
    submitted.append(driver.join(**SMALL, loras=b'[{"name": "neon"}]'))  # in the weights of a copy
    driver.finish()
    submitted += [driver.join(**SMALL, loras=b'[{"name": "neon"}]'), driver.join(**SMALL)]  # with adapters
    driver.finish()
    assert all(one.picture() for one in submitted)
    driver.stop()


def test_blocks_are_compiled_in_the_warm_up_for_all_rows_and_sizes(
    stock: StockPipeline, capabilities: Capabilities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warm-up runs on another thread than the engine. Their compiled code must be the same.

    A pass with LoRAs runs uncompiled.
    """
    # The backend `eager` traces and guards as any other, but generates no code, which would take a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    config = replace(CONFIG, is_compiled=True, loras=(str(tmp_path),))
    pipeline = load_pipeline(config)
    save_demo_loras(tmp_path, pipeline)
    library = LoRALibrary.of_config(config, pipeline, pipeline.device)
    networks = optimized_networks(config, pipeline, layout=library.layout)
    known = replace(capabilities, loras=library.known)
    engine = Engine(networks, known, RowLimits({}, default=8), library=library)
    warm_up(engine)
    num_graphs = counters["stats"]["unique_graphs"]
    assert num_graphs > 0
    values = [
        {**SMALL, "num_inference_steps": 1},
        {**SMALL, "num_inference_steps": 2},
        {**SMALL, "num_inference_steps": 3, "guidance_scale": 1.0},  # 5, 3 and 1 rows
        {"width": 192, "height": 128, "num_inference_steps": 1},
    ]
    with_lora = {**values[0], "loras": b'[{"name": "attention"}]'}
    engine.start()
    try:
        *pictures, adapted = [one.pixels() for one in [submit(engine, **each) for each in (*values, with_lora)]]
    finally:
        engine.stop()
    assert counters["stats"]["unique_graphs"] == num_graphs
    for each, picture in zip(values, pictures, strict=True):
        assert np.abs(picture - stock.pixels(**each)).max() <= 1
    assert np.abs(adapted - pictures[0]).max() > 1


def test_picture_of_the_default_size_is_decoded_in_the_warm_up(
    make_driver: Callable[..., Driver], networks: Networks, capabilities: Capabilities
) -> None:
    """A GPU with too little memory for it fails when the model loads, not at the end of each request."""

    def decode(latents: torch.Tensor, **options: object) -> None:
        factor = networks.vae_scale_factor
        assert latents.shape[-2:] == (capabilities.defaults.height // factor, capabilities.defaults.width // factor)
        raise torch.OutOfMemoryError("CUDA out of memory")

    driver = make_driver(networks=replace(networks, vae_decode=decode))
    with pytest.raises(torch.OutOfMemoryError):
        warm_up(driver.engine)
