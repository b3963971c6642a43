# SPDX-License-Identifier: Apache-2.0
"""The error of numbers that are not finite names the network that returned them first."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusion_engine import non_finite
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine import Engine
from diffusion_engine.loras.library import LoRALibrary
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedule
from diffusion_engine.non_finite import CONTROLNET, LORAS, SCHEDULER, TEXTS, UNET, UNKNOWN
from diffusion_engine.optimization import optimized_networks
from diffusion_engine.request_state import RequestState, Status
from diffusion_engine.row_limits import RowLimits
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT
from listening import Driver, Submitted
from lora_files import prefixed, random_changes, save_peft
from torch.utils._pytree import tree_map

SMALL = {"width": 96, "height": 96, "num_inference_steps": 3}
UNETS = ("unet", "adapted_unet")
MakeDriver = Callable[..., Driver]


class OverflowsFrom:
    """A network that overflows in rows at this timestep or a later one."""

    def __init__(self, network: Any, first: float) -> None:
        self._network = network
        self._first = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        result = self._network(latents, timesteps, *arguments, **options)
        factors = torch.where(timesteps <= self._first, torch.inf, 1.0).view(-1, 1, 1, 1)
        return tree_map(lambda value: value * factors, result)


def broken_in_step_2(make_driver: MakeDriver, networks: Networks) -> tuple[Driver, Submitted]:
    driver = make_driver(networks=networks)
    one = driver.join(**SMALL)
    driver.step()
    return driver, one


def second_timestep(make_driver: MakeDriver) -> float:
    _, one = broken_in_step_2(make_driver, make_driver().engine._networks)
    return float(one.state.encoded.schedule.timesteps[1])


@pytest.mark.parametrize(("part", "cause"), [("unet", UNET), ("controlnet", CONTROLNET)])
def test_network_that_overflows_first_is_named(
    make_driver: MakeDriver, networks: Networks, part: str, cause: str
) -> None:
    """The ControlNet's numbers also make the UNet's not finite. Another request of the same pass goes on."""
    overflowing: Any = {part: OverflowsFrom(getattr(networks, part), second_timestep(make_driver))}
    driver, one = broken_in_step_2(make_driver, replace(networks, **overflowing))
    other = driver.join(**SMALL, seed=2)
    driver.step()
    assert one.error().code == "generation_failed"
    assert one.error().detail.startswith(f"{cause} returned numbers that are not finite in step 2 of 3, in float32.")
    assert other.state.status is not Status.FAILED


def test_network_is_named_too_if_the_request_is_cancelled_meanwhile(
    make_driver: MakeDriver, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = non_finite.first_not_finite

    def cancel_and_find(networks: Networks, state: RequestState) -> str:
        state.cancel()
        return find(networks, state)

    monkeypatch.setattr(non_finite, "first_not_finite", cancel_and_find)
    overflowing: Any = {"unet": OverflowsFrom(networks.unet, second_timestep(make_driver))}
    driver, one = broken_in_step_2(make_driver, replace(networks, **overflowing))
    driver.step()
    assert one.error().detail.startswith(UNET)


def test_texts_are_named_and_seeds_do_not_help(make_driver: MakeDriver, networks: Networks) -> None:
    driver, one = broken_in_step_2(make_driver, networks)
    with torch.inference_mode():
        one.state.encoded.texts[-1][1].tokens[0, 0, 0] = torch.nan
        driver.engine.denoiser.clear_cache()
    driver.step()
    assert one.error().detail.startswith(TEXTS)
    assert "No other `seed` helps" in one.error().detail


@pytest.mark.parametrize(
    ("size", "detail"), [(1e38, f"{LORAS} returned numbers that are not finite in step 1 of 3"), (1e-3, f"{UNET} ")]
)
def test_loras_are_named_if_the_unet_is_finite_without_them(
    capabilities: Capabilities, tmp_path: Path, size: float, detail: str
) -> None:
    """A request without them is not affected."""
    config = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", loras=(str(tmp_path),), is_traced=False)
    pipeline = load_pipeline(config)
    changes = random_changes(pipeline.unet, ("to_q",), rank=2, seed=1, size=size)
    save_peft(tmp_path / "own.safetensors", prefixed(changes, "unet"))
    library = LoRALibrary.of_config(config, pipeline, pipeline.device)
    networks = optimized_networks(config, pipeline, layout=library.layout)
    if size < 1:  # harmless; the UNet itself overflows
        networks = replace(networks, **{name: OverflowsFrom(getattr(networks, name), 2000) for name in UNETS})
    known = replace(capabilities, loras=library.known)
    driver = Driver(Engine(networks, known, RowLimits({}, default=8), library=library))
    try:
        one, other = driver.join(**SMALL, loras=b'[{"name": "own", "scale": 1}]'), driver.join(**SMALL, seed=2)
        driver.step()
        assert one.error().detail.startswith(detail)
        assert ("`loras`" in one.error().detail) == (size > 1)
        assert (other.state.status is Status.FAILED) == (size < 1)
    finally:
        driver.stop()


def test_scheduler_is_named_if_all_networks_were_finite(
    make_driver: MakeDriver, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, one = broken_in_step_2(make_driver, networks)
    step = NoiseSchedule.step

    def overflow(*arguments: Any) -> Any:
        result = step(*arguments)
        return replace(result, latents=result.latents * torch.inf)

    monkeypatch.setattr(NoiseSchedule, "step", overflow)
    driver.step()
    assert one.error().detail.startswith(SCHEDULER)


def test_cause_is_unknown_if_the_step_cannot_be_repeated(
    make_driver: MakeDriver, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, one = broken_in_step_2(make_driver, networks)

    def fail(*_: object) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("diffusion_engine.non_finite.first_not_finite", fail)
    with torch.inference_mode():
        one.state.encoded.latents[0, 0, 0, 0] = torch.inf
    driver.step()
    assert one.error().detail.startswith(UNKNOWN)
