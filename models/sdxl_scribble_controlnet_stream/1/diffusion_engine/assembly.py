# SPDX-License-Identifier: Apache-2.0
"""Puts an engine together: weights, networks, what the checkpoint can do, and how many rows this machine bears."""

import logging
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from diffusion_engine.weights import load_pipeline, load_preview_vae

logger = logging.getLogger(__name__)

# Of a UNet; the demo checkpoint's has 4 million, SDXL's 2.6 billion.
MOST_TRACED_PARAMETERS = 100_000_000

# A pass is timed so often, and the fastest counts: what is slower had company.
NUM_TIMED_PASSES = 3


def assemble(config: EngineConfig, *, gpu_index: int | None = None) -> Engine:
    """Load everything and measure; the engine is ready to be started."""
    pipeline = load_pipeline(config, gpu_index=gpu_index)
    revision = revision_of(pipeline)
    networks = replace(tuned_networks(config, pipeline), preview_vae=load_preview_vae(config, pipeline))
    capabilities = replace(Capabilities.of_checkpoint(config.checkpoint, defaults=config.defaults), revision=revision)
    engine = Engine(
        networks,
        capabilities,
        row_limits(config, networks, capabilities),
        max_requests=config.max_requests,
        max_pixels=config.max_pixels,
        max_side=config.max_side,
        num_decoders=config.num_decoders,
        decode_timeout_s=config.decode_timeout_s,
        policy=config.policy,
    )
    warm_up(engine)
    return engine


def warm_up(engine: Engine) -> None:
    """One picture with a scribble and one without, so that the first caller does not wait for what is made once."""
    smallest = BatchKey(*min(engine.capabilities.sizes, key=lambda size: size[0] * size[1]))
    for has_scribble in (True, False):
        generation = _meaningless(smallest, engine.capabilities, has_scribble=has_scribble)
        generation.encoded = engine.encoder.encode(generation)
        for _ in range(2):  # a trace is made in the first pass and improved in the second
            engine.denoiser.predict([generation])
    engine.denoiser.forget()
    # Latents that any VAE can decode. A VAE that makes no picture of them must not load.
    engine.decoder.decode(torch.zeros_like(generation.encoded.latents))


def tuned_networks(config: EngineConfig, pipeline: Any) -> Networks:
    """The pipeline's networks as fast as the config lets them be. Their memory layout changes in the pipeline too."""
    if config.is_channels_last is not False:
        use_channels_last(pipeline)
    if config.is_compiled:
        compile_blocks(pipeline)
        return Networks.of_pipeline(pipeline, row_buckets=ROW_BUCKETS)
    return Networks.of_pipeline(
        pipeline,
        num_lanes=suitable_lanes(pipeline.device),
        is_traced=is_worth_tracing(pipeline) if config.is_traced is None else config.is_traced,
    )


def is_worth_tracing(pipeline: Any) -> bool:
    """Small networks on a CPU: in large ones the Python between layers is nothing, and a trace takes memory."""
    num_parameters = sum(parameter.numel() for parameter in pipeline.unet.parameters())
    return bool(pipeline.device.type == "cpu" and num_parameters < MOST_TRACED_PARAMETERS)


def row_limits(config: EngineConfig, networks: Networks, capabilities: Capabilities) -> RowLimits:
    """As configured, else the knee of what is measured here; a profile is kept for the next start."""
    if config.max_rows is not None:
        return RowLimits({}, default=config.max_rows)
    device = torch.cuda.get_device_name(networks.device) if networks.device.type == "cuda" else platform.processor()
    how = (torch.get_num_threads(), networks.num_lanes, config.is_channels_last, config.is_traced, config.is_compiled)
    facts = (config.checkpoint, device, networks.dtype, *how, torch.__version__)
    folder = profile_folder(config.profile_folder)
    cache_file = None if folder is None else cache_path(folder, *facts)
    default = (capabilities.defaults.width, capabilities.defaults.height)
    sizes = sorted(capabilities.sizes, key=lambda size: size != default)  # the default first
    timer = pass_timer(networks, capabilities)
    return profiled(sizes, timer, budget_s=config.profile_budget_s, cache_file=cache_file)


def profile_folder(name: str) -> Path | None:
    """Where profiles are kept; nowhere without a name, or for a user who has no home for `~` to stand for."""
    try:
        return Path(name).expanduser() if name else None
    except RuntimeError:
        logger.warning(
            "%s: there is no home folder, so rows are measured at every start; set profile_folder (or "
            "SDXL_PROFILE_FOLDER) to a folder without ~, or SDXL_MAX_ROWS to a number",
            name,
        )
        return None


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


def _meaningless(key: BatchKey, capabilities: Capabilities, *, has_scribble: bool = True) -> Generation:
    values = {"width": key.width, "height": key.height, "guidance_scale": 1.0, "seed": 0}
    image = Image.new("RGB", (key.width, key.height)) if has_scribble else None
    request = read_request(values, capabilities)
    return Generation(request=request, key=key, control_image=image, listener=Silence(), arrived=0.0)
