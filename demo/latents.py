# SPDX-License-Identifier: Apache-2.0
"""The VAE's latents of every picture, stored beside the shards: the UNet trains on these."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import AutoencoderKL
from tqdm import tqdm

from demo.dataset import complete_shards, open_shard
from demo.train_vae import to_tensor

if TYPE_CHECKING:
    from pathlib import Path

PIXELS_AT_ONCE = 16 * 128 * 128


def latents_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.latents.npy"


@torch.no_grad()
def encode_shards(folder: Path, vae_folder: Path, *, limit: int | None = None) -> None:
    """Encode what is drawn and not yet encoded."""
    torch.set_num_threads(1)
    vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32).eval()
    missing = [n for n in complete_shards(folder)[:limit] if not latents_path(folder, n).exists()]
    for number in tqdm(missing, desc="latents", unit="shard"):
        pictures = open_shard(folder, number).pictures
        count = max(1, PIXELS_AT_ONCE // (pictures.shape[1] * pictures.shape[2]))
        pieces = [
            vae.encode(to_tensor(np.array(pictures[start : start + count]))).latent_dist.mean
            for start in range(0, len(pictures), count)
        ]
        latents = (torch.cat(pieces) * vae.config.scaling_factor).half().numpy()  # (N, 4, h, w)
        part = latents_path(folder, number).with_suffix(".part.npy")
        np.save(part, latents)
        part.replace(latents_path(folder, number))
