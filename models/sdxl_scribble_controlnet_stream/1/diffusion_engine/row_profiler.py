# SPDX-License-Identifier: Apache-2.0
"""Measures how long a pass takes on this machine, by size and number of rows, to choose the row limits."""

import logging
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.denoiser import Denoiser
from diffusion_engine.encoder import Encoder
from diffusion_engine.errors import is_out_of_memory
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedulers
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import BatchKey, NullListener, RequestState
from diffusion_engine.row_limits import RowLimits, cache_path, profiled

logger = logging.getLogger(__name__)

# How often a pass is timed. The fastest time counts, because other processes may have slowed down the others.
NUM_TIMED_PASSES = 3


def choose_row_limits(config: EngineConfig, networks: Networks, capabilities: Capabilities) -> RowLimits:
    """The configured limit, or else measured limits. The measurements are cached in a file for the next start."""
    if config.max_rows is not None:
        return RowLimits({}, default=config.max_rows)
    device = platform.processor()
    if networks.device.type == "cuda":
        properties = torch.cuda.get_device_properties(networks.device)
        device = f"{properties.name}, {properties.total_memory} bytes"  # a part of a GPU has the name of the whole
    how = (
        torch.get_num_threads(),
        networks.cpu_parallel_size,
        config.is_channels_last,
        config.is_traced,
        config.is_compiled,
    )
    facts = (config.checkpoint, capabilities.revision, device, networks.dtype, *how, torch.__version__)
    folder = profile_folder(config.profile_folder)
    cache_file = None if folder is None else cache_path(folder, *facts)
    default = (capabilities.defaults.width, capabilities.defaults.height)
    sizes = sorted(capabilities.sizes, key=lambda size: size != default)  # the default first
    timer = pass_timer(networks, capabilities)

    def measure(key: BatchKey, num_rows: int) -> float | None:
        try:
            return timer(key, num_rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            logger.info("%d rows at %dx%d need more memory than the GPU has", num_rows, key.width, key.height)
            return None

    return profiled(sizes, measure, budget_s=config.profile_budget_s, cache_file=cache_file)


def profile_folder(name: str) -> Path | None:
    """The folder of the cached profiles. None without a name, or if it has `~` and the user has no home folder."""
    try:
        return Path(name).expanduser() if name else None
    except RuntimeError:
        logger.warning(
            "profile_folder is %s, but this user has no home folder, so every start measures passes again; set "
            "profile_folder (or SDXL_PROFILE_FOLDER) to an absolute path, or max_rows (SDXL_MAX_ROWS) to a number",
            name,
        )
        return None


def pass_timer(networks: Networks, capabilities: Capabilities) -> Callable[[BatchKey, int], float]:
    """A function that measures how long one pass takes, by size and number of rows. It uses dummy requests."""
    encoder = Encoder(networks, NoiseSchedulers(networks.pipeline.scheduler.config))
    denoiser = Denoiser(networks)

    def measure(key: BatchKey, num_rows: int) -> float:
        states = [dummy_request(key, capabilities) for _ in range(num_rows)]
        for state in states:
            state.encoded = encoder.encode(state)
        denoiser.predict(states)  # not timed: the first pass of a shape is slower
        return min(_timed(denoiser, states, networks.device) for _ in range(NUM_TIMED_PASSES))

    return measure


def _timed(denoiser: Denoiser, states: list[RequestState], device: torch.device) -> float:
    started = time.perf_counter()
    denoiser.predict(states)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def dummy_request(key: BatchKey, capabilities: Capabilities, *, has_scribble: bool = True) -> RequestState:
    values = {"width": key.width, "height": key.height, "guidance_scale": 1.0, "seed": 0}
    image = Image.new("RGB", (key.width, key.height)) if has_scribble else None
    request = parse_request(values, capabilities)
    return RequestState(request=request, key=key, control_image=image, listener=NullListener(), arrived=0.0)
