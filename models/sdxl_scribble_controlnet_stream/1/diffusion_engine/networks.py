# SPDX-License-Identifier: Apache-2.0
"""The loaded networks as the engine uses them: each with a fixed device and dtype, none changed while it runs."""

import copy
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from diffusion_engine.torchscript import TracedNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """Cut from a diffusers pipeline, whose weights they share."""

    pipeline: Any  # for its text encoding
    unet: Any
    controlnet: Any  # takes the scribble's embedding in place of the scribble
    control_embedding: Any  # the part that was cut out of it
    vae: Any  # for its settings, and to encode
    vae_decode: Any  # latents → ((N, 3, H, W), -1 to 1), with return_dict=False
    device: torch.device
    dtype: torch.dtype
    preview_vae: Any = None  # a tiny VAE for previews; None: they are a linear map of the latents
    row_buckets: tuple[int, ...] = ()  # a pass is padded to one of these row counts; empty: it is not
    cpu_parallel_size: int = 1  # parts of a pass that run at the same time on a CPU

    @classmethod
    def of_pipeline(
        cls, pipeline: Any, *, row_buckets: tuple[int, ...] = (), cpu_parallel_size: int = 1, is_traced: bool = False
    ) -> Self:
        """The pipeline itself stays as it was."""
        controlnet = pipeline.controlnet
        # Constant over all steps of a request, so it is computed once and not in every step.
        without_embedding = copy.copy(controlnet)
        without_embedding._modules = dict(controlnet._modules)
        without_embedding.controlnet_cond_embedding = nn.Identity()
        unet = pipeline.unet
        if is_traced:
            unet = TracedNetwork(unet, num_halvings=unet.num_upsamplers)
        return cls(
            pipeline=pipeline,
            unet=unet,
            controlnet=TracedNetwork(without_embedding) if is_traced else without_embedding,
            control_embedding=controlnet.controlnet_cond_embedding,
            vae=pipeline.vae,
            vae_decode=TracedNetwork(pipeline.vae, method="decode") if is_traced else pipeline.vae.decode,
            device=pipeline.device,
            dtype=pipeline.unet.dtype,
            row_buckets=row_buckets,
            cpu_parallel_size=cpu_parallel_size,
        )

    @property
    def is_guided_by_embedding(self) -> bool:
        """Whether the UNet takes the guidance scale as an input, as latent consistency models do."""
        return self.unet.config.time_cond_proj_dim is not None

    def padded_rows(self, num_rows: int) -> int:
        """How many rows a pass has in which so many matter."""
        return next((bucket for bucket in self.row_buckets if bucket >= num_rows), num_rows)

    @property
    def vae_scale_factor(self) -> int:
        """How many pixels a latent cell is wide."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))
