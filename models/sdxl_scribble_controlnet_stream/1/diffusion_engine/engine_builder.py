# SPDX-License-Identifier: Apache-2.0
"""Builds an engine from its config: weights, networks, capabilities, row limits."""

from dataclasses import replace

import torch

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine import Engine
from diffusion_engine.optimization import optimized_networks
from diffusion_engine.request_state import BatchKey
from diffusion_engine.row_profiler import choose_row_limits, dummy_request
from diffusion_engine.weights import load_pipeline, load_preview_vae, revision_of


def build_engine(config: EngineConfig, *, gpu_index: int | None = None) -> Engine:
    """Load the networks, measure the row limits, and warm up. The engine is not started yet."""
    pipeline = load_pipeline(config, gpu_index=gpu_index)
    revision = revision_of(pipeline)
    networks = replace(optimized_networks(config, pipeline), preview_vae=load_preview_vae(config, pipeline))
    capabilities = replace(Capabilities.of_checkpoint(config.checkpoint, defaults=config.defaults), revision=revision)
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
    )
    warm_up(engine)
    return engine


def warm_up(engine: Engine) -> None:
    """Run passes with and without a scribble, so that the first request does not wait for traces, compilers or caches.

    A trace is made in the first pass and improved in the second. Compiled blocks have code for one row, and for more.
    """
    smallest = BatchKey(*min(engine.capabilities.sizes, key=lambda size: size[0] * size[1]))
    for has_scribble in (True, False):
        state = dummy_request(smallest, engine.capabilities, has_scribble=has_scribble)
        state.encoded = engine.encoder.encode(state)
        for num_rows in (1, 2):
            engine.denoiser.predict(num_rows * [state])
    engine.denoiser.clear_cache()
    # Any VAE can decode these latents. If this one cannot, or the GPU is too small for it, the model must not load.
    defaults = engine.capabilities.defaults
    state = dummy_request(BatchKey(defaults.width, defaults.height), engine.capabilities, has_scribble=False)
    engine.vae_decoder.decode(torch.zeros_like(engine.encoder.encode(state).latents))
    torch.cuda.empty_cache()  # the measured passes may have had more rows than later ones will have
