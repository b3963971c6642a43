# SPDX-License-Identifier: Apache-2.0
"""Puts an engine together: weights, networks, what the checkpoint can do, and how many rows this machine bears."""

import platform
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.denoiser import Denoiser
from diffusion_engine.encoder import Encoder
from diffusion_engine.engine import Engine
from diffusion_engine.generation import BatchKey, Generation
from diffusion_engine.intake import read_request
from diffusion_engine.lanes import suitable_lanes
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedulers
from diffusion_engine.revision import revision_of
from diffusion_engine.row_limits import Measure, RowLimits, cache_path, profiled
from diffusion_engine.silence import Silence
from diffusion_engine.tuning import ROW_BUCKETS, compile_blocks, use_channels_last
from diffusion_engine.weights import load_pipeline

# A pass is timed so often, and the fastest counts: what is slower had company.
NUM_TIMED_PASSES = 3


def assemble(config: EngineConfig, *, gpu_index: int | None = None) -> Engine:
    """Load everything and measure; the engine is ready to be started."""
    pipeline = load_pipeline(config, gpu_index=gpu_index)
    revision = revision_of(pipeline)
    if config.is_channels_last or (config.is_channels_last is None and pipeline.device.type == "cuda"):
        use_channels_last(pipeline)
    if config.is_compiled:
        compile_blocks(pipeline)
    networks = Networks.of_pipeline(
        pipeline,
        row_buckets=ROW_BUCKETS if config.is_compiled else (),
        num_lanes=1 if config.is_compiled else suitable_lanes(pipeline.device),
    )
    capabilities = replace(Capabilities.of_checkpoint(config.checkpoint, defaults=config.defaults), revision=revision)
    return Engine(
        networks,
        capabilities,
        row_limits(config, networks, capabilities),
        max_requests=config.max_requests,
        max_pixels=config.max_pixels,
        policy=config.policy,
    )


def row_limits(config: EngineConfig, networks: Networks, capabilities: Capabilities) -> RowLimits:
    """As configured, else the knee of what is measured here; a profile is kept for the next start."""
    if config.max_rows is not None:
        return RowLimits({}, default=config.max_rows)
    device = torch.cuda.get_device_name(networks.device) if networks.device.type == "cuda" else platform.processor()
    facts = (config.checkpoint, device, networks.dtype, torch.get_num_threads(), networks.num_lanes, torch.__version__)
    cache_file = cache_path(Path(config.profile_folder).expanduser(), *facts) if config.profile_folder else None
    default = (capabilities.defaults.width, capabilities.defaults.height)
    sizes = sorted(capabilities.sizes, key=lambda size: size != default)  # the default first
    timer = pass_timer(networks, capabilities)
    return profiled(sizes, timer, budget_s=config.profile_budget_s, cache_file=cache_file)


def pass_timer(networks: Networks, capabilities: Capabilities) -> Measure:
    """Times one pass of so many rows at a size, on requests that mean nothing."""
    encoder = Encoder(
        networks, NoiseSchedulers(networks.pipeline.scheduler.config, capabilities.schedulers, networks.device)
    )
    denoiser = Denoiser(networks)

    def measure(key: BatchKey, num_rows: int) -> float:
        generations = [_meaningless(key, capabilities) for _ in range(num_rows)]
        for generation in generations:
            generation.encoded = encoder.encode(generation)
        denoiser.predict(generations)  # not timed: the first pass of a shape prepares much
        return min(_timed(denoiser, generations, networks.device) for _ in range(NUM_TIMED_PASSES))

    return measure


def _timed(denoiser: Denoiser, generations: list[Generation], device: torch.device) -> float:
    started = time.perf_counter()
    denoiser.predict(generations)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _meaningless(key: BatchKey, capabilities: Capabilities) -> Generation:
    values = {"width": key.width, "height": key.height, "guidance_scale": 1.0, "seed": 0}
    image = Image.new("RGB", (key.width, key.height))
    request = read_request(values, capabilities)
    return Generation(request=request, key=key, control_image=image, listener=Silence(), arrived=0.0)
