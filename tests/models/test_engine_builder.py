# SPDX-License-Identifier: Apache-2.0
"""Building an engine: the config's defaults, the memory layout, the warm-up."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine_builder import build_engine
from diffusion_engine.networks import Networks
from diffusion_engine.optimization import use_channels_last
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT
from listening import Driver
from stock import StockPipeline

CONFIG = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu")
SMALL = {"width": 96, "height": 96}


def test_the_defaults_of_the_config_lie_over_the_checkpoints() -> None:
    engine = build_engine(replace(CONFIG, max_rows=4, defaults={"num_inference_steps": 3}))
    defaults = engine.describe()["defaults"]
    own = Capabilities.of_checkpoint(str(CHECKPOINT)).defaults
    assert (defaults["num_inference_steps"], defaults["guidance_scale"]) == (3, own.guidance_scale)
    with pytest.raises(ValueError, match="unknown defaults"):
        Capabilities.of_checkpoint(str(CHECKPOINT), defaults={"steps": 3})


def test_another_memory_layout_does_not_show(make_driver: Callable[..., Driver], stock: StockPipeline) -> None:
    pipeline = load_pipeline(CONFIG)
    use_channels_last(pipeline)
    driver = make_driver(networks=Networks.of_pipeline(pipeline))
    values = [{**SMALL, "seed": seed, "conditioning_scale": scale} for seed, scale in ((1, 1.0), (2, 0.5))]
    visits = [driver.join(**each) for each in values]
    driver.finish()
    for each, visit in zip(values, visits, strict=True):
        assert np.abs(visit.pixels() - stock.pixels(**each)).max() <= 1


def test_what_is_made_once_is_made_before_the_first_caller_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build_engine(replace(CONFIG, max_rows=4))

    def fail(*_: object) -> None:
        raise AssertionError("traced for a caller")

    monkeypatch.setattr("diffusion_engine.torchscript.trace", fail)
    driver = Driver(engine)
    visits = [driver.join(**SMALL), driver.join(**SMALL, image=None, guidance_scale=1.0)]
    driver.finish()
    assert all(visit.picture() for visit in visits)
    driver.stop()
