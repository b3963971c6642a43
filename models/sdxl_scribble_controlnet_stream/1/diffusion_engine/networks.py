# SPDX-License-Identifier: Apache-2.0
"""The loaded networks as the engine uses them: each with a fixed device and dtype, none changed while it runs."""

import copy
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """Cut from a diffusers pipeline, whose weights they share."""

    pipeline: Any  # for its text encoding
    unet: Any
    controlnet: Any  # takes the scribble's embedding in place of the scribble
    control_embedding: Any  # the part that was cut out of it
    vae: Any
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of_pipeline(cls, pipeline: Any) -> Self:
        """The pipeline itself stays as it was."""
        controlnet = pipeline.controlnet
        # Constant over all steps of a request, so it is computed once and not in every step.
        without_embedding = copy.copy(controlnet)
        without_embedding._modules = dict(controlnet._modules)
        without_embedding.controlnet_cond_embedding = nn.Identity()
        return cls(
            pipeline=pipeline,
            unet=pipeline.unet,
            controlnet=without_embedding,
            control_embedding=controlnet.controlnet_cond_embedding,
            vae=pipeline.vae,
            device=pipeline.device,
            dtype=pipeline.unet.dtype,
        )

    @property
    def vae_scale_factor(self) -> int:
        """How many pixels a latent cell is wide."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))
