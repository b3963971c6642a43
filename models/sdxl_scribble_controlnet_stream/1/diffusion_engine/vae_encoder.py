# SPDX-License-Identifier: Apache-2.0
"""Encodes the pictures that requests start from: pixels → latents."""

from typing import Any

import numpy as np
import torch

from diffusion_engine.networks import Networks
from diffusion_engine.request_state import RequestState
from diffusion_engine.vae_decoder import LatentScale, vae_not_finite
from diffusion_engine.vae_tiles import whole_or_tiled


class VAEEncoder:
    """Encodes pictures one at a time. For the engine's thread only."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    @torch.inference_mode()
    def initial_latents(self, state: RequestState, generator: torch.Generator) -> torch.Tensor:
        """The latents of the request's initial picture in the steps' scale, (1, 4, h, w): a sample from the generator.

        Raises:
            RequestError: the VAE's output is not finite.
        """
        whole, tiled = self._networks.vae, self._networks.tiled_vae
        return whole_or_tiled(
            self._networks, state, lambda is_tiled: self._encode(tiled if is_tiled else whole, state, generator)
        )

    def skip_sample(self, latents: torch.Tensor, generator: torch.Generator) -> None:
        """Draw the sample of a second picture of this size, and drop it."""
        torch.randn(latents.shape, generator=generator, dtype=self._networks.vae.dtype)

    def _encode(self, vae: Any, state: RequestState, generator: torch.Generator) -> torch.Tensor:
        dtype = self._networks.vae.dtype
        # Copied as bytes, and converted on the device.
        pixels = torch.from_numpy(np.array(state.at_made_size(state.init_image))).to(self._networks.device)  # (H, W, 3)
        scaled = pixels.permute(2, 0, 1)[None].to(torch.float32).div(255).mul(2).sub(1)  # (1, 3, H, W), -1 to 1
        latents = vae.encode(scaled.to(dtype)).latent_dist.sample(generator)
        if not bool(torch.isfinite(latents).all()):
            raise vae_not_finite(dtype)
        return LatentScale.of(self._networks.vae).apply(latents.to(self._networks.dtype))
