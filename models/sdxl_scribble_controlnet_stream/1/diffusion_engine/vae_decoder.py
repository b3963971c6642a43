# SPDX-License-Identifier: Apache-2.0
"""Decodes latents: pictures by the VAE, previews by a linear map or a tiny VAE."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from diffusion_engine.errors import RequestError
from diffusion_engine.networks import Networks
from diffusion_engine.request_state import RequestState
from diffusion_engine.vae_tiles import whole_or_tiled

logger = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]
# Returns a preview, on any thread.
MakePreview = Callable[[], Pixels]


class VAEDecoder:
    """Decodes pictures one at a time, because batches save a VAE no time. Safe to use from several threads."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._latent_to_rgb = None if networks.preview_vae else fit_latent_to_rgb(networks)  # (3, 5)

    def picture(self, state: RequestState) -> Pixels:
        """The finished picture of a request, (H, W, 3)."""
        return whole_or_tiled(
            self._networks, state, lambda is_tiled: self.decode(state.encoded.latents, is_tiled=is_tiled)
        )

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, *, is_tiled: bool = False) -> Pixels:
        """The picture of latents, (H, W, 3).

        Raises:
            RequestError: the latents or the VAE's output are not finite, which would give a black picture.
        """
        vae = self._networks.vae
        unscaled = LatentScale.of(vae).undo(latents.to(vae.dtype))
        decode = self._networks.tiled_vae.decode if is_tiled else self._networks.vae_decode
        image = decode(unscaled, return_dict=False)[0]  # (1, 3, H, W), -1 to 1
        if not bool(torch.isfinite(image).all()):
            is_vae = bool(torch.isfinite(unscaled).all())
            raise vae_not_finite(vae.dtype) if is_vae else not_finite("after the last step")
        return as_pixels(image)

    @torch.inference_mode()
    def are_finite(self, states: Sequence[RequestState]) -> list[bool]:
        """Whether each request's latents are finite. It checks their sum, which takes little time."""
        if not states:
            return []
        latents = torch.cat([state.encoded.latents for state in states])
        sums: list[float] = latents.flatten(1).sum(1, dtype=torch.float32).tolist()  # a sum in fp16 may overflow
        return [math.isfinite(each) for each in sums]

    @torch.inference_mode()
    def previews(self, predicted_clean: Sequence[torch.Tensor]) -> list[MakePreview]:
        """Previews from predicted latents (1, 4, h, w) of one size, to be made on another thread.

        The linear map gives (h, w, 3), one pixel for each latent cell. A tiny VAE, which runs at once, gives (H, W, 3).
        """
        if not predicted_clean:
            return []
        if self._latent_to_rgb is None:
            tiny = self._networks.preview_vae
            unscaled = [(each / tiny.config.scaling_factor).to(tiny.dtype) for each in predicted_clean]
            images = [tiny.decode(each, return_dict=False)[0].cpu() for each in unscaled]
            return [partial(as_pixels, image) for image in images]
        latents = torch.cat(list(predicted_clean)).float().cpu().numpy()  # (N, 4, h, w)
        return [partial(mapped, self._latent_to_rgb, each) for each in latents]


def mapped(latent_to_rgb: npt.NDArray[np.float32], latents: npt.NDArray[np.float32]) -> Pixels:
    """The colours of latents, (4, h, w) → (h, w, 3)."""
    rgb = latent_to_rgb[:, :-1] @ latents.reshape(len(latents), -1) + latent_to_rgb[:, -1:]  # (3, h w)
    pixels: Pixels = rgb.clip(0, 255).astype(np.uint8).reshape(3, *latents.shape[1:])
    return pixels.transpose(1, 2, 0)


@dataclass(frozen=True, slots=True)
class LatentScale:
    """The scaling between the VAE's latents and those of the steps, from the VAE's config."""

    factor: float
    mean: Sequence[float] | None  # by channel; most VAEs have no mean and no standard deviation
    std: Sequence[float] | None

    @classmethod
    def of(cls, vae: Any) -> Self:
        return cls(vae.config.scaling_factor, vae.config.get("latents_mean"), vae.config.get("latents_std"))

    def apply(self, latents: torch.Tensor) -> torch.Tensor:
        """The VAE's latents, (N, 4, h, w) → those of the steps."""
        if self.mean is None or self.std is None:
            return latents * self.factor
        return (latents - by_channel(self.mean, latents)) * self.factor / by_channel(self.std, latents)

    def undo(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of the steps, (N, 4, h, w) → the VAE's."""
        if self.mean is None or self.std is None:
            return latents / self.factor
        return latents * by_channel(self.std, latents) / self.factor + by_channel(self.mean, latents)


def by_channel(values: Sequence[float], latents: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=latents.dtype, device=latents.device).view(1, -1, 1, 1)


def as_pixels(image: torch.Tensor) -> Pixels:
    """(1, 3, H, W), -1 to 1 → (H, W, 3), 0 to 255."""
    scaled = (image[0].float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    pixels: Pixels = scaled.permute(1, 2, 0).cpu().numpy()
    return pixels


def not_finite(when: str) -> RequestError:
    return RequestError(
        "generation_failed",
        f"The networks returned numbers that are not finite {when}. Try another `seed` or a lower `guidance_scale`.",
    )


def vae_not_finite(dtype: torch.dtype) -> RequestError:
    """The error of a VAE that returns numbers that are not finite from finite latents. No other seed helps."""
    if dtype is torch.float16:
        return RequestError(
            "vae_overflow",
            "The VAE overflows in float16, with any `seed`. The operator must set the model's parameter `vae_dtype` to "
            "float32 or bfloat16, or `vae` to a VAE made for float16 (for SDXL madebyollin/sdxl-vae-fp16-fix), or "
            "`force_upcast` in the VAE's config.json.",
        )
    return RequestError(
        "vae_overflow",
        f"The VAE returned numbers that are not finite in {str(dtype).removeprefix('torch.')}, from finite latents. "
        "Its weights may be damaged. The operator must set the model's parameter `vae` to another VAE.",
    )


@torch.inference_mode()
def fit_latent_to_rgb(networks: Networks) -> npt.NDArray[np.float32]:
    """The linear map from a latent cell to its colour: (3, 5), the last column is the constant.

    It is fitted to the loaded VAE by least squares over a palette, so it works for every checkpoint.
    """
    vae, cell = networks.vae, 4 * networks.vae_scale_factor
    levels = torch.tensor([0.0, 85.0, 170.0, 255.0])
    colours = torch.cartesian_prod(levels, levels, levels)  # (64, 3)
    palette = colours.view(8, 8, 3).repeat_interleave(cell, 0).repeat_interleave(cell, 1)  # (H, W, 3)
    image = (palette.permute(2, 0, 1)[None] / 127.5 - 1).to(networks.device, vae.dtype)
    latents = LatentScale.of(vae).apply(vae.encode(image).latent_dist.mode().float())  # (1, 4, 32, 32)
    # The middle of each patch, because its border mixes with its neighbours.
    middles = latents[0, :, 1::4, 1::4].flatten(1).T.cpu()  # (64, 4)
    if not bool(middles.isfinite().all()):
        logger.warning("the VAE cannot encode in %s, so all previews are grey", vae.dtype)
        return np.array([[0.0, 0.0, 0.0, 0.0, 127.5]] * 3, dtype=np.float32)
    known = torch.cat([middles, torch.ones(len(middles), 1)], dim=1)  # (64, 5)
    fitted: npt.NDArray[np.float32] = torch.linalg.lstsq(known, colours).solution.T.contiguous().numpy()
    return fitted
