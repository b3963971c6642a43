# SPDX-License-Identifier: Apache-2.0
"""What makes the engine wait for a GPU. torch's `meta` device stands in for it: reading a value from there raises."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusion_engine.capabilities import SCHEDULERS, Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.denoiser import Denoiser
from diffusion_engine.encoder import Encoder
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedulers
from diffusion_engine.request_state import BatchKey, RequestState
from diffusion_engine.row_profiler import dummy_request
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the shapes of tensors that are copied from the CPU to the GPU while the CPU waits, and of the others."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waiting: list[tuple[int, ...]] = []
        self.queued: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        result = function(*arguments, **options)
        inputs = [each for each in tree_leaves((arguments, options)) if isinstance(each, torch.Tensor)]
        if isinstance(result, torch.Tensor) and result.is_meta and inputs and not any(each.is_meta for each in inputs):
            names = [argument.name for argument in function._schema.arguments]
            is_queued = {**dict(zip(names, arguments, strict=False)), **options}.get("non_blocking", False)
            (self.queued if is_queued else self.waiting).append(tuple(result.shape))
        return result


@pytest.fixture(scope="module")
def networks() -> Networks:
    pipeline = load_pipeline(EngineConfig(checkpoint=str(CHECKPOINT), device="cpu"))
    for part in (pipeline.unet, pipeline.controlnet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        part.to("meta")
    return Networks.of_pipeline(pipeline)


@pytest.fixture
def copies() -> Iterator[Copies]:
    with Copies() as mode:
        yield mode


def states_of(scheduler: str, capabilities: Capabilities) -> list[RequestState]:
    """A request with guidance and a scaled scribble, and one without either."""
    guided, plain = (dummy_request(BatchKey(96, 96), capabilities, has_scribble=has) for has in (True, False))
    guided.request = replace(guided.request, guidance_scale=5.0, conditioning_scale=0.5)
    for state in (guided, plain):
        state.request = replace(state.request, scheduler=scheduler, num_inference_steps=3)
    return [guided, plain]


QUEUE_NOISE = ("dpmpp_sde", "dpmpp_sde_karras")
DRAW_NOISE = ("euler_ancestral", "dpmpp_2m_sde", "dpmpp_2m_sde_karras", "dpmpp_2m_sde_exponential", "lcm", "tcd")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_pass_and_scheduler_step_never_wait_for_the_gpu(
    networks: Networks, capabilities: Capabilities, scheduler: str, copies: Copies
) -> None:
    """Only diffusers waits: to copy the noise that most schedulers draw in a step, and the coefficients of UniPC."""
    schedulers = NoiseSchedulers(networks.pipeline.scheduler.config)
    encoder, denoiser = Encoder(networks, schedulers), Denoiser(networks)
    states = states_of(scheduler, capabilities)
    for state in states:
        state.encoded = encoder.encode(state)
    copies.waiting.clear()
    copies.queued.clear()
    for _ in range(2):
        for state, predicted in zip(states, denoiser.predict(states), strict=True):
            schedulers.advance(state, predicted)
    noise = 4 * [(1, 4, 24, 24)]
    # Each row's request; first and last rows, guidance scales, control rows and their scales; timesteps of each pass.
    plan, timesteps = [(3,)] + 5 * [(2,)], 2 * [(2,)]
    assert sorted(copies.queued) == sorted(plan + timesteps + (noise if scheduler in QUEUE_NOISE else []))
    if scheduler == "unipc":
        assert max(map(math.prod, copies.waiting)) <= 4
    else:
        assert copies.waiting == (noise if scheduler in DRAW_NOISE else [])


def test_request_is_copied_to_the_gpu_without_waiting(
    networks: Networks, capabilities: Capabilities, copies: Copies
) -> None:
    schedulers = NoiseSchedulers(networks.pipeline.scheduler.config)
    state = states_of("euler", capabilities)[0]
    Encoder(networks, schedulers).encode(state)
    assert (96, 96, 3) in copies.queued  # the scribble, one byte for each colour
    assert (1, 77) in copies.queued  # the tokens
    assert copies.waiting == []
