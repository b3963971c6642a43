# SPDX-License-Identifier: Apache-2.0
"""Encodes the pictures that requests start from: pixels → latents."""

import numpy as np
import torch
from PIL import Image

from diffusion_engine.networks import Networks
from diffusion_engine.vae_decoder import LatentScale, vae_not_finite


class VAEEncoder:
    """Encodes pictures one at a time. For the engine's thread only."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    @torch.inference_mode()
    def encode(self, image: Image.Image, generator: torch.Generator) -> torch.Tensor:
        """An RGB picture → its latents in the steps' scale, (1, 4, h, w). They are a sample, drawn from the generator.

        Raises:
            RequestError: the VAE's output is not finite.
        """
        is_tiled = self._networks.memory.is_tiled(*image.size)
        vae = self._networks.tiled_vae if is_tiled else self._networks.vae
        pixels = torch.from_numpy(np.array(image)).to(self._networks.device).permute(2, 0, 1)[None]  # (1, 3, H, W)
        scaled = pixels.to(torch.float32).div(255).mul(2).sub(1).to(vae.dtype)  # -1 to 1
        latents = vae.encode(scaled).latent_dist.sample(generator)
        if not bool(torch.isfinite(latents).all()):
            raise vae_not_finite(vae.dtype)
        return LatentScale.of(vae).apply(latents.to(self._networks.dtype))

    def skip_sample(self, latents: torch.Tensor, generator: torch.Generator) -> None:
        """Draw the sample of a second picture of this size, and drop it."""
        torch.randn(latents.shape, generator=generator, dtype=self._networks.vae.dtype)
