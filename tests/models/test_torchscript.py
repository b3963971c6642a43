# SPDX-License-Identifier: Apache-2.0
"""Traced networks return the same numbers, in every batch and at every size."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.denoiser import Denoiser
from diffusion_engine.networks import Networks
from diffusion_engine.optimization import is_small_on_cpu
from diffusion_engine.torchscript import TracedNetwork
from listening import Driver
from torch import nn

MakeDriver = Callable[..., Driver]


def test_engines_on_a_cpu_run_traced_networks(networks: Networks) -> None:
    for network in (networks.unet, networks.controlnet, networks.vae_decode):
        assert isinstance(network, TracedNetwork)


def test_traced_pass_equals_an_untraced_one_at_every_size_and_row_count(
    make_driver: MakeDriver, networks: Networks, capabilities: Capabilities
) -> None:
    traced = Networks.of_pipeline(networks.pipeline, is_traced=True)
    plain = Networks.of_pipeline(networks.pipeline)
    denoiser = Denoiser(traced)
    for width, height in [size for size in capabilities.sizes if size[0] * size[1] < 128 * 160]:
        driver = make_driver(networks=plain, max_rows=16)
        size = {"width": width, "height": height, "num_inference_steps": 2}
        driver.join(**size, image=None, guidance_scale=1.0)
        driver.join(**size, conditioning_scale=0.4)
        driver.step()
        states = list(driver.engine.step_scheduler)
        for batch in (states, states[:1]):
            expected = Denoiser(plain).predict(batch)
            for mine, other in zip(denoiser.predict(batch), expected, strict=True):
                assert torch.allclose(mine, other, atol=1e-5)
        latents = states[0].encoded.latents
        with torch.inference_mode():
            (mine,), (other,) = (each.vae_decode(latents, return_dict=False) for each in (traced, plain))
        assert torch.allclose(mine, other, atol=1e-5)


class Doubling(nn.Module):
    """Counts how often its Python code runs. Tracing and the check after it run it twice."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, first: torch.Tensor, *, more: dict[str, torch.Tensor], times: int, extra: Any = None) -> Any:
        self.calls.append(len(first))
        result = times * first + more["bias"]
        return result if extra is None else result + extra[0]


def test_python_of_a_traced_network_runs_only_for_new_signatures() -> None:
    network = Doubling()
    traced = TracedNetwork(network)
    ones = torch.ones(2, 4, 8, 8)
    for rows in (2, 1, 2):
        result = traced(ones[:rows], more={"bias": ones[:rows]}, times=2)
        assert torch.equal(result, 3 * ones[:rows])
    assert network.calls == [2, 4]
    assert torch.equal(traced(ones, more={"bias": ones}, times=3), 4 * ones)
    assert torch.equal(traced(ones, more={"bias": ones}, times=2, extra=[ones]), 4 * ones)
    assert network.calls == [2, 4] * 3


def test_latents_that_cannot_be_halved_evenly_are_not_traced() -> None:
    network = Doubling()
    traced = TracedNetwork(network, num_halvings=2)
    for _ in range(3):
        traced(torch.ones(1, 4, 8, 6), more={"bias": torch.ones(1)}, times=2)
    assert network.calls == [1, 1, 1]


class Undecided(nn.Module):
    """A network that depends on the number of rows in Python, which a trace does not record."""

    def forward(self, first: torch.Tensor) -> torch.Tensor:
        return first if len(first) == 1 else 2 * first


class Forbidding(nn.Module):
    """A network that reads numbers in a way that cannot be traced."""

    def forward(self, first: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("not while tracing")
        return first + 1


def test_network_that_a_trace_would_change_runs_untraced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        undecided, forbidding = TracedNetwork(Undecided()), TracedNetwork(Forbidding())
        one = torch.ones(1, 4, 8, 8)
        assert [float(undecided(each).max()) for each in (one, torch.cat([one, one]))] == [1.0, 2.0]
        assert float(forbidding(one).max()) == 2.0
    assert "Undecided returns other numbers when traced" in caplog.text
    assert "Forbidding cannot be traced" in caplog.text


def test_two_threads_trace_the_same_network_once() -> None:
    network = Doubling()
    traced = TracedNetwork(network)
    ones, meeting = torch.ones(2, 4, 8, 8), threading.Barrier(2, timeout=60)

    def run() -> None:
        meeting.wait()
        traced(ones, more={"bias": ones}, times=2)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert network.calls == [2, 4]


def test_traced_network_has_the_attributes_of_the_network(networks: Networks) -> None:
    assert networks.unet.config.in_channels == 4
    assert replace(networks, cpu_parallel_size=1).vae_decode.config.scaling_factor == networks.vae.config.scaling_factor


@pytest.mark.parametrize(
    ("side", "device", "is_small"), [(100, "cpu", True), (20_000, "cpu", False), (100, "cuda", False)]
)
def test_only_small_networks_on_a_cpu_are_traced_by_default(side: int, device: str, is_small: bool) -> None:
    unet = nn.Linear(side, side, device="meta")  # parameters without data
    assert is_small_on_cpu(SimpleNamespace(unet=unet), torch.device(device)) is is_small
