# SPDX-License-Identifier: Apache-2.0
"""Builds an engine from its config: weights, networks, capabilities, row limits."""

import copy
import logging
from dataclasses import replace
from typing import Any

import torch

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine import Engine
from diffusion_engine.loras.layout import Layout
from diffusion_engine.loras.library import LoRALibrary
from diffusion_engine.memory_plan import plan_memory
from diffusion_engine.networks import Networks
from diffusion_engine.optimization import optimized_networks
from diffusion_engine.request_parser import check_presets
from diffusion_engine.request_state import BatchKey
from diffusion_engine.row_profiler import choose_row_limits, dummy_request
from diffusion_engine.weights import choose_device, load_on_cpu, load_preview_vae, revision_of

logger = logging.getLogger(__name__)


def build_engine(config: EngineConfig, *, gpu_index: int | None = None) -> Engine:
    """Load the networks, measure the row limits, and warm up. The engine is not started yet."""
    device = choose_device(config.device, gpu_index=gpu_index)
    capabilities = Capabilities.of_checkpoint(config.checkpoint, defaults=config.defaults, presets=config.presets)
    pipeline = load_on_cpu(config, device)
    library = LoRALibrary.of_config(config, pipeline, device)
    capabilities = replace(capabilities, revision=revision_of(pipeline), loras=library.known)
    check_presets(capabilities)
    networks = place_networks(config, pipeline, device, capabilities, library.layout)
    engine = Engine(
        networks,
        capabilities,
        choose_row_limits(config, networks, capabilities),
        max_requests=config.max_requests,
        max_pixels=config.max_pixels,
        max_side=config.max_side,
        num_decoders=config.num_decoders,
        decode_timeout_s=config.decode_timeout_s,
        policy=config.policy,
        library=library,
    )
    warm_up(engine, library)
    usable = [lora.name for lora in capabilities.loras if not lora.unusable]
    for what, names in (("schedulers", capabilities.schedulers), ("presets", capabilities.presets), ("LoRAs", usable)):
        logger.info("%s of %s: %s", what, capabilities.name, ", ".join(names) or "none")
    return engine


def place_networks(
    config: EngineConfig,
    pipeline: Any,
    device: torch.device,
    capabilities: Capabilities,
    layout: Layout | None = None,
) -> Networks:
    """The networks of a pipeline on the CPU, optimized, and on their device as its memory allows."""
    has_adapters = bool(layout and layout.inputs)
    memory = plan_memory(config, pipeline, device, capabilities.sizes, has_adapters=has_adapters)
    if not memory.is_offloaded:
        pipeline.to(device)
    elif config.is_traced:
        raise ValueError("trace is yes, which needs all networks on the GPU, but offload is model; set trace to no")
    networks = optimized_networks(config, pipeline, device=device, memory=memory, layout=layout)
    if memory.is_offloaded:
        from diffusion_engine.offload import offload_networks  # not at the top: accelerate is needed only for this

        offload_networks(networks)
    return replace(networks, preview_vae=load_preview_vae(config, pipeline, device))


def warm_up(engine: Engine, library: LoRALibrary | None = None) -> None:
    """Run passes with and without a scribble and adapters, so that no request waits for traces, compilers or caches.

    A trace is made in the first pass, and on a GPU improved in the second. Compiled blocks have code for one row, and
    for more.
    """
    smallest = BatchKey(*min(engine.capabilities.sizes, key=lambda size: size[0] * size[1]))
    for has_scribble in (True, False):
        state = dummy_request(smallest, engine.capabilities, has_scribble=has_scribble)
        state.encoded = engine.encoder.encode(state)
        engine.denoiser.predict([state])
        engine.denoiser.predict([state, state])
        for adapters in library.without_effect() if library else ():
            adapted = copy.copy(state)
            adapted.encoded = replace(state.encoded, adapters=adapters)
            for states in ([adapted], [adapted, adapted], [adapted, state]):
                engine.denoiser.predict(states)
    engine.denoiser.clear_cache()
    # Any VAE can decode these latents. If this one cannot, or the GPU is too small for it, the model must not load.
    defaults = engine.capabilities.defaults
    state = dummy_request(BatchKey(defaults.width, defaults.height), engine.capabilities, has_scribble=False)
    engine.vae_decoder.decode(torch.zeros_like(engine.encoder.encode(state).latents))
    torch.cuda.empty_cache()  # the measured passes may have had more rows than later ones will have
