# SPDX-License-Identifier: Apache-2.0
"""The last stage: train the decoder to make sharp pictures from the UNet's softer latents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from benchmarks.common.measurement_lock import wait_for_measurements
from demo.batches import Scenes
from demo.bundle import load_vae
from demo.dataset import CELL, LAYOUT, complete_shards, open_array, style_folder
from demo.denoising import CLEAN, descend, noised
from demo.latents import Latents, latents_path
from demo.pixels import Mask, Pixels
from demo.progress import Progress
from demo.run import MEET_EVERY, Average, Clock, LossLog, learning_rate, mixed_precision
from demo.styles import STYLES
from demo.train_diffusion import finished
from demo.train_vae import LATENT_NOISE, picture_loss, to_tensor

if TYPE_CHECKING:
    from pathlib import Path

    from demo.batches import Batch
    from demo.bundle import Bundle
    from demo.team import Team

Element = TypeVar("Element", bound=np.generic)
Stored = tuple[Latents, Pixels, Mask]  # latents, their pictures, and the cells that hold a detail

PEAK_RATE = 6e-4
STRIDE = 83  # timesteps between the 12 steps of the default schedule
STARTS = range(83, 499, 83)  # from higher ones, the picture's content changes and does not match its original
GUIDANCE = 3.0
SIZES = ((128, 128), (256, 256))
OWN_SHARE = 0.7  # share of latents from the UNet; the others are the encoder's, with a little noise
PLAIN_SHARE = 0.5  # share of the encoder's latents whose pictures are plain; the others have a style
CROP = 16  # latent cells
DETAIL_WEIGHT = 4.0  # A thin line is a few pixels, which a decoder drops first.
STATE, SAVE_EVERY = "polish.pt", 50


@torch.no_grad()
def draw_latents(team: Team, work: Path, init: Path | None, count: int, seed: int) -> None:
    """Store latents of pictures that the UNet has noised and denoised, as in the last steps of sampling."""
    path = work / f"polish-{team.rank}.npz"
    if path.exists():
        return
    bundle = finished(work, init)
    scenes = Scenes(work / "scenes", bundle, only=SIZES)
    rng = np.random.default_rng([seed, 17, team.rank])
    found: list[Stored] = []
    drawn = 0
    while drawn < count:
        batch, originals, details = scenes.batch_with_pictures(rng)
        latents = resample(bundle, batch, int(rng.choice(STARTS)), rng).half().numpy().transpose(0, 2, 3, 1)
        found.append((tiles(latents, CROP), tiles(originals, CELL * CROP), tiles(details, CROP)))
        drawn += len(originals)
    all_latents, pictures, all_details = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    with path.with_suffix(".part").open("wb") as file:
        np.savez(file, latents=all_latents.transpose(0, 3, 1, 2), pictures=pictures, details=all_details)
    path.with_suffix(".part").replace(path)


def tiles(arrays: npt.NDArray[Element], side: int) -> npt.NDArray[Element]:
    """(B, H, W, …) cut into (N, side, side, …), so that pictures of several sizes fit into one array."""
    rows = [np.split(row, arrays.shape[2] // side, 2) for row in np.split(arrays, arrays.shape[1] // side, 1)]
    return np.concatenate([tile for row in rows for tile in row])


def resample(bundle: Bundle, batch: Batch, start: int, rng: np.random.Generator) -> torch.Tensor:
    """Noise latents (B, C, h, w) to timestep `start`, and denoise them with guidance, scribble and prompt."""
    batch = replace(batch, control_scale=torch.ones_like(batch.control_scale))
    noise = torch.from_numpy(rng.standard_normal(batch.latents.shape, dtype=np.float32))
    noisy = noised(batch.latents, bundle.scheduler.alphas_cumprod[start], noise)
    return descend(bundle, batch, noisy, [*range(start, 0, -STRIDE), CLEAN], GUIDANCE)


def polish_decoder(team: Team, work: Path, vae_folder: Path, minutes: float, seed: int) -> None:
    torch.manual_seed(seed)
    vae = load_vae(vae_folder).train()
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    run = Progress(vae, Average(vae, 0.99), optimizer, Clock(minutes * 60))
    run.resume(work / STATE)
    own_scenes = drawn(work)
    log, errors = LossLog(work / "polish-loss.jsonl"), []
    bar = tqdm(total=100, desc="decoder", unit="%", disable=not team.is_first)
    progress = team.agree(run.clock.tick())
    while progress < 1.0:
        wait_for_measurements()
        if run.step % MEET_EVERY == 0:
            progress = team.agree(run.clock.tick())
        rng = np.random.default_rng([seed, 23, run.step, team.rank])
        if rng.random() < OWN_SHARE:
            latents, pictures, weights = crops(*own_scenes, rng)
        else:
            is_plain = rng.random() < PLAIN_SHARE
            folder = work / "scenes" if is_plain else style_folder(work, str(rng.choice(list(STYLES))))
            latents, pictures, weights = crops(*stored(folder, rng), rng)
            latents = latents + LATENT_NOISE * torch.randn_like(latents)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(PEAK_RATE, step=run.step, progress=progress, warmup=20)
        with mixed_precision():
            decoded = vae.decode(latents / vae.config.scaling_factor).sample
        loss, error = picture_loss(decoded.float(), pictures, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        run.step, run.samples = run.step + 1, run.samples + len(latents) * team.size
        if run.step % MEET_EVERY == 0:
            team.average_weights(parameters)
        run.average.update(vae, run.step)
        errors.append(error)
        if team.is_first and run.step % 10 == 0:
            bar.n = round(100 * progress)
            decibels = -10 * np.log10(np.mean(errors[-40:]))
            bar.set_postfix(step=run.step, db=f"{decibels:.1f}")
            log.write(step=run.step, seconds=run.clock.spent_s, decibels=decibels)
        if team.is_first and run.step % SAVE_EVERY == 0:
            run.save(work / STATE)
    if team.is_first:
        run.save(work / STATE)
        vae.load_state_dict(run.average.weights)
        vae.save_pretrained(work / "vae-polished")
    bar.close()


def drawn(work: Path) -> Stored:
    """The latents, pictures and details that all members have drawn."""
    own = [np.load(path) for path in sorted(work.glob("polish-*.npz"))]
    latents, pictures, details = (
        np.concatenate([part[name] for part in own]) for name in ("latents", "pictures", "details")
    )
    return latents, pictures, details


def stored(folder: Path, rng: np.random.Generator) -> Stored:
    """The latents, pictures and details of a random shard of the folder."""
    numbers = [
        n for n in complete_shards(folder) if latents_path(folder, n).exists() and LAYOUT[n % len(LAYOUT)][0] in SIZES
    ]
    number = int(rng.choice(numbers))
    pictures, details = (open_array(folder, number, what) for what in ("pictures", "details"))
    return np.load(latents_path(folder, number), mmap_mode="r"), pictures, details


def crops(
    latents: Latents, pictures: Pixels, details: Mask, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Crops: latents (B, C, CROP, CROP), pictures (B, 3, CELL CROP, CELL CROP) in -1..1, weights of their pixels."""
    found: list[tuple[Any, Any, Any]] = []
    for index in rng.integers(0, len(latents), 8):
        y, x = rng.integers(0, latents.shape[2] - CROP + 1, 2)
        picture = pictures[index, CELL * y : CELL * (y + CROP), CELL * x : CELL * (x + CROP)]
        found.append(
            (latents[index, :, y : y + CROP, x : x + CROP], picture, details[index, y : y + CROP, x : x + CROP])
        )
    first, second, third = zip(*found, strict=True)
    weights = torch.from_numpy(1 + DETAIL_WEIGHT * np.stack(third).astype(np.float32))[:, None]  # (B, 1, CROP, CROP)
    weights = torch.nn.functional.interpolate(weights / weights.mean(), scale_factor=CELL)
    return torch.from_numpy(np.stack(first).astype(np.float32)), to_tensor(np.stack(second)), weights
