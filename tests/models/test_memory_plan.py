# SPDX-License-Identifier: Apache-2.0
"""How an engine fits into its GPU's memory. No GPU is needed: the decision depends on sizes only."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusion_engine import memory_plan
from diffusion_engine.config import EngineConfig
from diffusion_engine.memory_plan import GIB, MemoryNeeds, MemoryPlan, memory_needs, plan_memory
from drawings import CHECKPOINT

SIZES = [(1024, 1024), (1216, 832), (512, 512)]
GPU = torch.device("cuda", 0)


def gib(number: float) -> int:
    return int(number * GIB)


# SDXL with its scribble ControlNet in float16, and its own VAE, which runs in float32.
SDXL = MemoryNeeds(
    texts=gib(1.52), denoiser=gib(7.11), vae=gib(0.31), a_pass=gib(0.44), decoding=gib(3.0), tiled_decoding=gib(0.8)
)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plan for SDXL on a GPU with this memory in GiB."""
    monkeypatch.setattr(memory_plan, "memory_needs", lambda *_: SDXL)

    def make(available: float, *, has_adapters: bool = False, **options: Any) -> MemoryPlan:
        monkeypatch.setattr(memory_plan, "total_memory", lambda _: gib(available))
        pipeline = SimpleNamespace(vae=SimpleNamespace(tile_sample_min_size=1024))
        config = EngineConfig(checkpoint="", **options)
        return plan_memory(config, pipeline, GPU, SIZES, has_adapters=has_adapters)

    return make


@pytest.mark.parametrize(
    ("available", "offload", "is_tiled"),
    [(23.6, "none", False), (15.6, "none", False), (11.6, "none", True), (9.8, "model", True), (7.8, "model", True)],
)
def test_plan_fits_the_gpu(plan: Any, available: float, offload: str, is_tiled: bool) -> None:
    """Tiles come first, since moving networks costs more time. If nothing fits, the engine tries the smallest plan."""
    found = plan(available).describe()
    assert (found["offload"], found["tiled_sizes"]) == (offload, ["1024x1024", "1216x832"] if is_tiled else [])
    assert (found["memory_gib"]["needed"] <= available) == (available > 8)


def test_operators_choice_holds(plan: Any) -> None:
    assert plan(80, offload="model").describe()["offload"] == "model"
    assert plan(8, offload="none").describe()["offload"] == "none"
    assert plan(80, vae_tiling=True).is_tiled(1024, 1024)
    assert not plan(80, vae_tiling=True).is_tiled(512, 512)  # it is one tile
    without_tiles = plan(11.6, vae_tiling=False)
    assert (without_tiles.is_offloaded, without_tiles.tiled_sizes) == (True, frozenset())


def test_adapters_count(plan: Any) -> None:
    assert plan(23.6, has_adapters=True, lora_memory_mb=3072).needed == plan(23.6).needed + gib(6)
    assert plan(11.6, has_adapters=True).is_offloaded
    assert not plan(11.6, has_adapters=True, lora_memory_mb=256).is_offloaded


def test_cpu_keeps_all_networks() -> None:
    pipeline, cpu = SimpleNamespace(vae=SimpleNamespace(tile_sample_min_size=128)), torch.device("cpu")
    assert plan_memory(EngineConfig(checkpoint=""), pipeline, cpu, SIZES) == MemoryPlan()
    with pytest.raises(ValueError, match="the device is a CPU"):
        plan_memory(EngineConfig(checkpoint="", offload="model"), pipeline, cpu, SIZES)


def test_needs_are_computed_from_the_loaded_networks(pipeline: Any) -> None:
    needs = memory_needs(pipeline, (256, 256))
    file = CHECKPOINT / "vae" / "diffusion_pytorch_model.safetensors"
    assert needs.vae == pytest.approx(2 * file.stat().st_size, rel=0.02)  # float32, from a file in float16
    decoded = 256 * 256 * 16 * 4  # the last layers have 16 channels
    assert 2 * decoded < needs.decoding < 8 * decoded
    assert needs.decoding / 4 < needs.tiled_decoding < needs.decoding / 2  # a tile has a quarter of the pixels
    assert 0 < needs.a_pass < memory_needs(pipeline, (512, 512)).a_pass / 3
    assert pipeline.device.type == "cpu"
