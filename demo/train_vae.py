# SPDX-License-Identifier: Apache-2.0
"""Train the VAE, which encodes pictures to latents of a quarter of their size and decodes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common.measurement_lock import wait_for_measurements
from demo.dataset import complete_shards, open_array
from demo.networks import build_vae
from demo.optimizer import Optimizer
from demo.progress import Progress
from demo.run import MEET_EVERY, Average, Clock, LossLog, learning_rate, mixed_precision
from demo.sheet import contact_sheet

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import AutoencoderKL

    from demo.pixels import Pixels
    from demo.team import Team

PEAK_RATE = 2e-3
# Noise on each standardised channel. The decoder learns to tolerate errors of the UNet, and no channel can hide
# information in a spread so small that only noise is left of it.
LATENT_NOISE = 0.05
STYLED_SHARE = 0.12  # of the batches, so that LoRAs of styles find latents for their pictures
STATE, SAVE_EVERY = "vae.pt", 100


def train_vae(team: Team, work: Path, minutes: float, seed: int) -> None:
    torch.manual_seed(seed)
    vae = build_vae()
    parameters = list(vae.parameters())
    optimizer = Optimizer(parameters, weight_decay=1e-4)
    run = Progress(vae, Average(vae, 0.995), optimizer, Clock(minutes * 60))
    run.resume(work / STATE)
    log = LossLog(work / "vae-loss.jsonl")
    bar = tqdm(total=100, desc="vae", unit="%", disable=not team.is_first)
    progress = team.agree(run.clock.tick())
    while progress < 1.0:
        wait_for_measurements()
        if run.step % MEET_EVERY == 0:
            progress = team.agree(run.clock.tick())
        rng = np.random.default_rng([seed, run.step, team.rank])
        pictures = draw_batch(work / "scenes", rng, crop=64 if progress < 0.6 else 128)
        optimizer.set_rate(learning_rate(PEAK_RATE, step=run.step, progress=progress, warmup=50))
        with mixed_precision():
            loss, error = losses(vae, pictures)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        run.step, run.samples = run.step + 1, run.samples + len(pictures) * team.size
        if run.step % MEET_EVERY == 0:
            team.average_weights(parameters)
        run.average.update(vae, run.step)
        if team.is_first and run.step % 10 == 0:
            decibels = -10 * np.log10(error)
            bar.n = round(100 * progress)
            bar.set_postfix(step=run.step, db=f"{decibels:.1f}")
            log.write(step=run.step, loss=float(loss.detach()), decibels=decibels)
        if team.is_first and run.step % SAVE_EVERY == 0:
            run.save(work / STATE)
    if team.is_first:
        run.save(work / STATE)
        finish(vae, run.average, work)
    bar.close()


def draw_batch(folder: Path, rng: np.random.Generator, *, crop: int) -> torch.Tensor:
    """Crops of pictures of one shard: (B, 3, crop, crop) in -1..1, with the same number of pixels for any crop."""
    number = int(rng.choice(complete_shards(folder)))
    is_styled = rng.random() < STYLED_SHARE
    pictures = open_array(folder, number, "styled" if is_styled else "pictures")
    count = 24 * 64 * 64 // (crop * crop)
    crops = []
    for index in rng.integers(0, len(pictures), count):
        y, x = rng.integers(0, pictures.shape[1] - crop + 1), rng.integers(0, pictures.shape[2] - crop + 1)
        crops.append(pictures[index, y : y + crop, x : x + crop])
    return to_tensor(np.stack(crops))


def to_tensor(pictures: Pixels) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, 3, H, W)


def losses(vae: AutoencoderKL, pictures: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The training loss, and the mean squared error with pictures in 0..1."""
    latents = vae.encode(pictures).latent_dist.mean.float()  # (B, C, h, w)
    noise = LATENT_NOISE * latents.std((0, 2, 3), keepdim=True) * torch.randn_like(latents)
    decoded = vae.decode(latents + noise).sample.float()
    return picture_loss(decoded, pictures)


def picture_loss(
    decoded: torch.Tensor, pictures: torch.Tensor, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, float]:
    """The loss of colours and of differences between neighbours, which make edges sharp. `weights` are (B, 1, H, W)."""
    difference = decoded - pictures  # (B, 3, H, W)
    error = float(difference.detach().square().mean()) / 4
    if weights is not None:  # inside each term, so that a pixel's edges have its weight
        difference = difference * weights
    edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
    return difference.abs().mean() + difference.square().mean() + 0.5 * edges, error


@torch.no_grad()
def finish(vae: AutoencoderKL, average: Average, work: Path) -> None:
    """Standardise the latents, save in diffusers' format, and draw originals over reconstructions."""
    vae.load_state_dict(average.weights)
    vae.eval()
    folder = work / "scenes"
    pictures = to_tensor(np.array(open_array(folder, complete_shards(folder)[0], "pictures")[:192]))
    standardise(vae, vae.encode(pictures).latent_dist.mean)
    decoded = vae.decode(vae.encode(pictures[:32]).latent_dist.mean).sample.clamp(-1, 1)
    rows = torch.cat([pictures[:32], decoded], dim=2).add(1).mul(127.5).byte().permute(0, 2, 3, 1).numpy()
    error = float((decoded - pictures[:32]).square().mean()) / 4
    label = f"{-10 * np.log10(error):.1f} dB"
    contact_sheet(
        [(None, row[half : half + 128], label) for row in rows for half in (0, 128)],
        work / "vae.png",
        columns=12,
    )
    vae.save_pretrained(work / "vae")


@torch.no_grad()
def standardise(vae: AutoencoderKL, latents: torch.Tensor) -> None:
    """Fold each latent channel's mean and spread into the 1x1 convolutions, so that the scaling factor is 1."""
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))  # (C,)
    channels = len(mean)
    encoder, decoder = vae.quant_conv, vae.post_quant_conv
    encoder.weight[:channels] /= spread[:, None, None, None]
    encoder.bias[:channels] = (encoder.bias[:channels] - mean) / spread
    encoder.bias[channels:] -= 2 * spread.log()
    decoder.bias += decoder.weight[:, :, 0, 0] @ mean
    decoder.weight *= spread[None, :, None, None]
