# SPDX-License-Identifier: Apache-2.0
"""With offloading, text encoders and VAE are on the GPU only while they run. A CPU stands in for the GPU."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusion_engine import engine_builder
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine_builder import place_networks
from diffusion_engine.memory_plan import MemoryPlan
from diffusion_engine.offload import Offload
from diffusion_engine.weights import load_on_cpu
from drawings import CHECKPOINT
from listening import Driver
from stock import StockPipeline
from torch import nn

CPU = torch.device("cpu")
CONFIG = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", is_traced=False)
SMALL = {"width": 96, "height": 96, "num_inference_steps": 2}


class Mover:
    """A network that records where it is."""

    def __init__(self, *, is_too_large: bool = False) -> None:
        self.device = "cpu"
        self.is_too_large = is_too_large

    def to(self, device: torch.device | str) -> None:
        if str(device) != "cpu" and self.is_too_large:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.device = str(device)


def test_at_most_one_group_is_on_the_gpu() -> None:
    texts, vae = [Mover(), Mover()], [Mover()]
    offload = Offload(torch.device("cuda", 0))
    places = []
    for group in (texts, texts, vae, (), texts):
        offload.admit(group)
        places.append((*(each.device for each in texts), vae[0].device))
    gpu = "cuda:0"
    in_texts = (gpu, gpu, "cpu")
    assert places == [in_texts, in_texts, ("cpu", "cpu", gpu), ("cpu", "cpu", "cpu"), in_texts]


def test_group_that_was_moved_in_part_leaves_or_moves_again() -> None:
    texts = [Mover(), Mover(is_too_large=True)]
    offload = Offload(torch.device("cuda", 0))
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            offload.admit(texts)
    offload.admit(())
    assert texts[0].device == "cpu"
    texts[1].is_too_large = False
    offload.admit(texts)
    assert texts[1].device == "cuda:0"


def test_networks_move_before_they_run_and_pictures_stay_the_same(
    make_driver: Callable[..., Driver],
    stock: StockPipeline,
    capabilities: Capabilities,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admitted: list[str] = []
    monkeypatch.setattr(engine_builder, "plan_memory", lambda *_, **__: MemoryPlan(is_offloaded=True))
    admit = Offload.admit

    def noted(self: Offload, group: Sequence[nn.Module]) -> None:
        name = "+".join(type(network).__name__ for network in group) or "UNet and ControlNet"
        if admitted[-1:] != [name]:
            admitted.append(name)
        admit(self, group)

    monkeypatch.setattr(Offload, "admit", noted)
    networks = place_networks(CONFIG, load_on_cpu(CONFIG, CPU), CPU, capabilities)
    driver = make_driver(networks=networks)
    assert driver.engine.describe()["engine"]["offload"] == "model"
    admitted.clear()
    values = [{**SMALL, "seed": 1}, {**SMALL, "seed": 2, "num_inference_steps": 3, "prompt": b"a blue star"}]
    submitted = [driver.join(**each) for each in values]
    driver.finish()
    texts, passes, vae = "CLIPTextModel+CLIPTextModelWithProjection", "UNet and ControlNet", "AutoencoderKL"
    assert admitted == [texts, passes, vae, passes, vae]
    for each, one in zip(values, submitted, strict=True):
        assert np.abs(one.pixels() - stock.pixels(**each)).max() <= 1


def test_traced_networks_cannot_move(capabilities: Capabilities, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_builder, "plan_memory", lambda *_, **__: MemoryPlan(is_offloaded=True))
    config: Any = replace(CONFIG, is_traced=True)
    with pytest.raises(ValueError, match="set trace to no"):
        place_networks(config, load_on_cpu(config, CPU), CPU, capabilities)
