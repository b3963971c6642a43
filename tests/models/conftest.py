# SPDX-License-Identifier: Apache-2.0
"""The demo checkpoint, loaded once, and one call that makes a picture with it."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from diffusion_engine.capabilities import Capabilities
from drawings import CHECKPOINT, VERSION_FOLDER, as_file, circle

# torch looks for the GPU language of that name, and would take the folder tests/triton for it.
sys.modules.setdefault("triton", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from diffusion_engine.pipeline import GeneratedPicture, Interruption, ScribblePipeline


@pytest.fixture(scope="session")
def capabilities() -> Capabilities:
    return Capabilities.of_checkpoint(str(CHECKPOINT))


@pytest.fixture(scope="session")
def pipeline(capabilities: Capabilities) -> "ScribblePipeline":
    from diffusion_engine.config import EngineConfig
    from diffusion_engine.pipeline import ScribblePipeline
    from diffusion_engine.weights import load_pipeline

    config = EngineConfig.read({}, {"SDXL_DEVICE": "cpu"}, version_folder=VERSION_FOLDER)
    return ScribblePipeline(load_pipeline(config), capabilities, max_pixels=config.max_pixels)


@pytest.fixture(scope="session")
def generate(pipeline: "ScribblePipeline") -> Callable[..., "GeneratedPicture"]:
    """One request by its tensors' names; few steps, because these tests look at behaviour, not at beauty."""
    from diffusion_engine.intake import read_request
    from diffusion_engine.pipeline import Interruption

    def run(interruption: "Interruption | None" = None, **values: Any) -> "GeneratedPicture":
        row = {
            "prompt": b"a red circle on a blue background",
            "image": as_file(circle()),
            "conditioning_scale": 1.0,
            "seed": 1,
            "num_inference_steps": 4,
            "output_format": b"png",
            **values,
        }
        prepared = pipeline.prepare(read_request(row, pipeline.capabilities))
        return pipeline.generate(prepared, interruption or Interruption(deadline=None, is_cancelled=lambda: False))

    return run
