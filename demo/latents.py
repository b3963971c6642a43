# SPDX-License-Identifier: Apache-2.0
"""The VAE's latents of every picture, stored next to the shards for the training of the UNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from benchmarks.common.measurement_lock import wait_for_measurements
from demo.bundle import load_vae
from demo.dataset import complete_shards, open_array, shard_path
from demo.run import mixed_precision
from demo.train_vae import to_tensor

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import AutoencoderKL

    from demo.pixels import Pixels
    from demo.team import Team

Latents = npt.NDArray[np.float16]  # (N, C, h, w), as stored

PIXELS_AT_ONCE = 16 * 128 * 128


def latents_path(folder: Path, number: int) -> Path:
    return shard_path(folder, number, "latents.npy")


@torch.no_grad()
def encode_shards(team: Team, folder: Path, vae_folder: Path) -> None:
    """Encode the pictures that are not encoded yet. Each member encodes its share."""
    vae = load_vae(vae_folder)
    own = complete_shards(folder)[team.rank :: team.size]
    missing = [n for n in own if not latents_path(folder, n).exists()]
    for number in tqdm(missing, desc="latents", unit="shard", disable=not team.is_first):
        pictures = open_array(folder, number, "pictures")
        count = max(1, PIXELS_AT_ONCE // (pictures.shape[1] * pictures.shape[2]))
        pieces = [encode(vae, pictures[start : start + count]) for start in range(0, len(pictures), count)]
        latents = (torch.cat(pieces) * vae.config.scaling_factor).half().numpy()  # (N, C, h, w)
        part = latents_path(folder, number).with_suffix(".part.npy")
        np.save(part, latents)
        part.replace(latents_path(folder, number))


def encode(vae: AutoencoderKL, pictures: Pixels) -> torch.Tensor:
    """The latents (B, C, h, w) of pictures (B, H, W, 3)."""
    wait_for_measurements()
    with mixed_precision():
        latents: torch.Tensor = vae.encode(to_tensor(np.array(pictures))).latent_dist.mean.float()
    return latents
