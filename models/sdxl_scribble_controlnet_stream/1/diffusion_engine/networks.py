# SPDX-License-Identifier: Apache-2.0
"""The loaded networks as the engine uses them. Their device and dtype are fixed, and nothing changes them."""

import copy
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import nn

from diffusion_engine.loras.layers import adapt
from diffusion_engine.loras.layout import Layout
from diffusion_engine.loras.merged import MergedUNet, are_distinct
from diffusion_engine.memory_plan import MemoryPlan, tile_size
from diffusion_engine.torchscript import TracedNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The networks of a diffusers pipeline, whose weights they share."""

    pipeline: Any  # for its text encoding
    unet: Any
    controlnet: Any  # takes the control embedding in place of the scribble
    control_embedding: Any  # the ControlNet's first layers: scribble → control embedding
    vae: Any  # for its settings, and to encode
    vae_decode: Any  # latents → ((N, 3, H, W), -1 to 1), with return_dict=False
    tiled_vae: Any  # the same VAE, for large pictures: it encodes and decodes in tiles
    device: torch.device
    dtype: torch.dtype
    adapted_unet: Any = None  # the UNet with an option `loras`; None: the engine has no adapters
    merged_unet: MergedUNet | None = None  # for rows with the same adapters; None: `adapted_unet` runs all
    preview_vae: Any = None  # a tiny VAE for previews; None: they are a linear map of the latents
    cpu_parallel_size: int = 1  # parts of a pass that run at the same time
    memory: MemoryPlan = field(default_factory=MemoryPlan)

    @classmethod
    def of_pipeline(
        cls,
        pipeline: Any,
        *,
        cpu_parallel_size: int = 1,
        is_traced: bool = False,
        merges_loras: bool = False,
        device: torch.device | None = None,
        memory: MemoryPlan | None = None,
        layout: Layout | None = None,
    ) -> Self:
        """Does not change the pipeline's outputs.

        Args:
            merges_loras: whether there is a copy of the UNet for passes whose rows have the same adapters, if possible.
            device: of the passes; None: the pipeline's.
            layout: the UNet's layers that can have adapters.
        """
        controlnet = pipeline.controlnet
        # The control embedding is the same in all steps of a request, so it is computed once.
        without_embedding = copy.copy(controlnet)
        without_embedding._modules = dict(controlnet._modules)
        without_embedding.controlnet_cond_embedding = nn.Identity()
        unet = pipeline.unet
        adapted_unet = merged_unet = None

        def optimized(network: Any) -> Any:
            return TracedNetwork(network, num_halvings=unet.num_upsamplers) if is_traced else network

        if layout and layout.inputs:
            adapted_unet = optimized(adapt(unet, layout))
            merged_unet = MergedUNet(unet, layout, optimized) if merges_loras and are_distinct(unet, layout) else None
        return cls(
            pipeline=pipeline,
            unet=optimized(unet),
            adapted_unet=adapted_unet,
            merged_unet=merged_unet,
            controlnet=TracedNetwork(without_embedding) if is_traced else without_embedding,
            control_embedding=controlnet.controlnet_cond_embedding,
            vae=pipeline.vae,
            vae_decode=TracedNetwork(pipeline.vae, method="decode") if is_traced else pipeline.vae.decode,
            tiled_vae=tiled(pipeline.vae),
            device=device or pipeline.device,
            dtype=pipeline.unet.dtype,
            cpu_parallel_size=cpu_parallel_size,
            memory=memory or MemoryPlan(),
        )

    @property
    def is_guided_by_embedding(self) -> bool:
        """Whether the UNet takes the guidance scale as an input, as latent consistency models do."""
        return self.unet.config.time_cond_proj_dim is not None

    @property
    def vae_scale_factor(self) -> int:
        """The width of a latent cell in pixels."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))


def tiled(vae: Any) -> Any:
    """The same VAE with diffusers' tiling, which overlaps tiles and blends their borders. Shares the weights."""
    copied = copy.copy(vae)
    copied.enable_tiling()
    copied.tile_sample_min_size = tile_size(vae)
    copied.tile_latent_min_size = tile_size(vae) // 2 ** (len(vae.config.block_out_channels) - 1)
    return copied
