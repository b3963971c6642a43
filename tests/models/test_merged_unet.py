# SPDX-License-Identifier: Apache-2.0
"""The copy of the UNet with adapters in its weights. That it is right when traced, the parity with PEFT shows."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.denoiser import Denoiser
from diffusion_engine.engine import Engine
from diffusion_engine.loras.layout import Layout
from diffusion_engine.loras.library import LoRALibrary
from diffusion_engine.loras.merged import MergedUNet
from diffusion_engine.networks import Networks
from diffusion_engine.optimization import optimized_networks
from diffusion_engine.request_state import RequestState
from diffusion_engine.row_limits import RowLimits
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT
from listening import Driver
from lora_files import save_demo_loras

SMALL = {"width": 96, "height": 96, "num_inference_steps": 20}
Join = Callable[..., RequestState]


class Counting:
    """A UNet that counts its passes."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self.passes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._unet, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.passes += 1
        return self._unet(*arguments, **options)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, pipeline: Any, capabilities: Capabilities) -> Engine:
    folder = tmp_path_factory.mktemp("loras")
    save_demo_loras(folder, pipeline)
    config = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", loras=(str(folder),), is_traced=False)
    pipeline = load_pipeline(config)
    library = LoRALibrary.of_config(config, pipeline, pipeline.device)
    networks = optimized_networks(config, pipeline, layout=library.layout)
    return Engine(networks, replace(capabilities, loras=library.known), RowLimits({}, default=40), library=library)


@pytest.fixture(scope="module")
def join(engine: Engine) -> Iterator[Join]:
    """Starts a request with adapters, and returns its state after its first step."""
    driver = Driver(engine)

    def start(**scales: float) -> RequestState:
        loras = [{"name": name, "scale": scale} for name, scale in scales.items()]
        submitted = driver.join(**SMALL, loras=json.dumps(loras).encode())
        driver.step()
        return submitted.state

    yield start
    driver.stop()


def merged_unet(dtype: str = "float32", *, has_equal_weights: bool = False) -> MergedUNet | None:
    """The copy of the demo checkpoint's UNet, if it has one."""
    config = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", dtype=dtype, is_traced=False)
    pipeline = load_pipeline(config)
    names = [f"mid_block.attentions.0.transformer_blocks.0.attn1.{name}" for name in ("to_k", "to_q")]
    if has_equal_weights:
        for name in names:
            torch.nn.init.zeros_(pipeline.unet.get_submodule(name).weight)
    return optimized_networks(config, pipeline, layout=Layout.of(pipeline.unet, names)).merged_unet


def test_adapters_are_not_merged_where_that_could_change_the_picture() -> None:
    assert merged_unet() is not None
    assert merged_unet("bfloat16") is None  # a small change of a weight is rounded away
    assert merged_unet(has_equal_weights=True) is None  # TorchScript keeps one constant for both


def predicted(networks: Networks, *states: RequestState) -> list[torch.Tensor]:
    return Denoiser(networks).predict(states)


def test_merged_adapters_give_the_numbers_of_adapted_layers(engine: Engine, join: Join) -> None:
    """Also if the adapters before were others, or had another scale; and the checkpoint's weights stay."""
    networks = engine._networks
    states = [
        join(convolutions=0.9),
        join(attention=0.5, kohya=-0.9),
        join(attention=1.0, kohya=-0.9),
        join(kohya=-0.9, attention=1.0),
        join(only_texts=1.0),
    ]
    for state in states:
        found, expected = (predicted(each, state)[0] for each in (networks, replace(networks, merged_unet=None)))
        assert torch.allclose(found, expected, atol=1e-4)
    plain = join()
    before = predicted(networks, plain)[0]
    predicted(networks, states[0])
    assert torch.equal(predicted(networks, plain)[0], before)


def test_merge_that_fails_halfway_is_made_again(engine: Engine, join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser, one, other = Denoiser(engine._networks), join(kohya=1.0), join(attention=1.0)
    expected = denoiser.predict([one])[0]
    addmm, calls = torch.addmm, iter(range(20))

    def fails_later(*arguments: Any, **options: Any) -> torch.Tensor:
        if next(calls, None) is None:
            raise torch.OutOfMemoryError
        return addmm(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "addmm", fails_later)
        with pytest.raises(torch.OutOfMemoryError):
            denoiser.predict([other])
    assert torch.equal(denoiser.predict([one])[0], expected)


def test_only_rows_with_the_same_adapters_are_merged(engine: Engine, join: Join) -> None:
    merged, adapted = Counting(engine._networks.merged_unet), Counting(engine._networks.adapted_unet)
    networks = replace(engine._networks, merged_unet=merged, adapted_unet=adapted, cpu_parallel_size=1)  # type: ignore[arg-type]
    one, same, other, plain = join(kohya=1.0), join(kohya=1.0), join(kohya=0.5), join()
    predicted(networks, one, same)
    predicted(networks, plain)
    assert (merged.passes, adapted.passes) == (1, 0)
    for states in ((one, other), (one, plain)):
        predicted(networks, *states)
    assert (merged.passes, adapted.passes) == (1, 2)
