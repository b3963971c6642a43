# SPDX-License-Identifier: Apache-2.0
"""The last stage: train the decoder to make sharp pictures from the UNet's softer latents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common.measurement_lock import wait_for_measurements
from demo.batches import Scenes
from demo.bundle import load_vae
from demo.dataset import CELL, LAYOUT, complete_shards, open_shard
from demo.denoising import predict
from demo.latents import latents_path
from demo.run import MEET_EVERY, Average, Clock, LossLog, learning_rate, save_atomically
from demo.train_diffusion import finished
from demo.train_vae import picture_loss, to_tensor

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import AutoencoderKL

    from demo.batches import Batch
    from demo.bundle import Bundle
    from demo.team import Team

PEAK_RATE = 6e-4
STRIDE = 83  # timesteps between the 12 steps of the default schedule
STARTS = (
    83,
    166,
    249,
    332,
    415,
    498,
)  # higher ones change the content of the picture, which then does not match its original
GUIDANCE = 3.0
OWN_SHARE = 0.7  # share of latents from the UNet; the others are the encoder's, with a little noise
CROP = 24  # latent cells
DETAIL_WEIGHT = 4.0  # as in training the UNet: a thin line is a few pixels, which a decoder drops first
SAVE_EVERY = 50


@torch.no_grad()
def draw_latents(team: Team, work: Path, init: Path | None, count: int, seed: int) -> None:
    """Store latents of pictures that the UNet has noised and denoised, as in the last steps of sampling."""
    path = work / f"polish-{team.rank}.npz"
    if path.exists():
        return
    bundle = finished(work, init)
    scenes = Scenes(work / "scenes", bundle, only=(128, 128))
    rng = np.random.default_rng([seed, 17, team.rank])
    latents, pictures, details = [], [], []
    for _ in tqdm(range(count // 8), desc="latents for the decoder", unit="batch", disable=not team.is_first):
        batch, originals = scenes.batch_with_pictures(rng)
        latents.append(resample(bundle, batch, int(rng.choice(STARTS)), rng).half().numpy())
        pictures.append(originals)
        details.append(batch.weights[:, 0].numpy() > 1)
    with path.with_suffix(".part").open("wb") as file:
        np.savez(
            file,
            latents=np.concatenate(latents),
            pictures=np.concatenate(pictures),
            details=np.concatenate(details),
        )
    path.with_suffix(".part").replace(path)


def resample(bundle: Bundle, batch: Batch, start: int, rng: np.random.Generator) -> torch.Tensor:
    """Noise latents (B, 4, h, w) to timestep `start`, and denoise them with guidance, scribble and prompt."""
    alphas = bundle.scheduler.alphas_cumprod
    count = len(batch.latents)
    with_prompt = replace(batch, control_scale=torch.ones(count, 1, 1, 1))
    without_prompt = replace(with_prompt, has_prompt=torch.zeros(count, 1, 1))
    noise = torch.from_numpy(rng.standard_normal(batch.latents.shape, dtype=np.float32))
    noisy = alphas[start].sqrt() * batch.latents + (1 - alphas[start]).sqrt() * noise
    for timestep in range(start, 0, -STRIDE):
        times = torch.full((count,), timestep)
        without = predict(bundle, without_prompt, noisy, times)
        velocity = without + GUIDANCE * (predict(bundle, with_prompt, noisy, times) - without)
        signal, spread = alphas[timestep].sqrt(), (1 - alphas[timestep]).sqrt()
        clean, noise = signal * noisy - spread * velocity, spread * noisy + signal * velocity
        after = alphas[timestep - STRIDE] if timestep > STRIDE else torch.ones(())
        noisy = after.sqrt() * clean + (1 - after).sqrt() * noise
    return noisy


def polish_decoder(team: Team, work: Path, vae_folder: Path, minutes: float, seed: int) -> None:
    torch.manual_seed(seed)
    vae = load_vae(vae_folder).train()
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    average = Average(vae, 0.99)
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    clock, step, state_path = Clock(minutes * 60), 0, work / "polish.pt"
    if state_path.exists():
        state = torch.load(state_path, weights_only=False)
        vae.load_state_dict(state["vae"])
        average.weights = state["average"]
        optimizer.load_state_dict(state["optimizer"])
        clock.spent_s, step = state["spent_s"], state["step"]
    own = [np.load(path) for path in sorted(work.glob("polish-*.npz"))]
    own_scenes = tuple(np.concatenate([part[name] for part in own]) for name in ("latents", "pictures", "details"))
    log, errors = LossLog(work / "polish-loss.jsonl"), []
    bar = tqdm(total=100, desc="decoder", unit="%", disable=not team.is_first)
    progress = clock.tick()
    while progress < 1.0:
        wait_for_measurements()
        if step % MEET_EVERY == 0:
            progress = team.agree(clock.tick())
        rng = np.random.default_rng([seed, 23, step, team.rank])
        if rng.random() < OWN_SHARE:
            latents, pictures, weights = crops(*own_scenes, rng)
        else:
            latents, pictures, weights = crops(*stored(work / "scenes", rng), rng)
            latents = latents + 0.06 * torch.randn_like(latents)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(PEAK_RATE, step=step, progress=progress, warmup=20)
        loss, error = picture_loss(vae.decode(latents / vae.config.scaling_factor).sample, pictures, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % MEET_EVERY == 0:
            team.average_weights(parameters)
        average.update(vae, step)
        step += 1
        errors.append(error)
        if team.is_first and step % 10 == 0:
            bar.n = round(100 * progress)
            decibels = -10 * np.log10(np.mean(errors[-40:]))
            bar.set_postfix(step=step, db=f"{decibels:.1f}")
            log.write(step=step, seconds=clock.spent_s, decibels=decibels)
        if team.is_first and step % SAVE_EVERY == 0:
            save(state_path, vae, average, optimizer, clock, step)
    if team.is_first:
        save(state_path, vae, average, optimizer, clock, step)
        vae.load_state_dict(average.weights)
        vae.save_pretrained(work / "vae-polished")
    bar.close()


def stored(folder: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    numbers = [
        n
        for n in complete_shards(folder)
        if latents_path(folder, n).exists() and LAYOUT[n % len(LAYOUT)][0] == (128, 128)
    ]
    number = int(rng.choice(numbers))
    shard = open_shard(folder, number)
    return np.load(latents_path(folder, number), mmap_mode="r"), shard.pictures, shard.details


def crops(
    latents: np.ndarray, pictures: np.ndarray, details: np.ndarray, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matching crops: latents (B, 4, CROP, CROP), pictures (B, 3, 4 CROP, 4 CROP) in -1..1, weights of their pixels."""
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


def save(path: Path, vae: AutoencoderKL, average: Average, optimizer: Any, clock: Clock, step: int) -> None:
    save_atomically(
        {
            "vae": vae.state_dict(),
            "average": average.weights,
            "optimizer": optimizer.state_dict(),
            "spent_s": clock.spent_s,
            "step": step,
        },
        path,
    )
