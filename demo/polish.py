# SPDX-License-Identifier: Apache-2.0
"""The last stage: the decoder learns to make sharp pictures of the UNet's own, softer latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from demo.dataset import LAYOUT, complete_shards, open_shard
from demo.latents import latents_path
from demo.run import Average, Clock, LossLog, learning_rate, save_atomically
from demo.train_diffusion import Scenes, load_vae, predict
from demo.train_vae import picture_loss, to_tensor

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import AutoencoderKL

    from demo.bundle import Bundle
    from demo.team import Team

PEAK_RATE = 6e-4
TIMESTEPS = (40, 330)  # where a dozen steps end: what is wrong there stays in the picture
OWN_SHARE = 0.6  # latents the UNet made; the others are the encoder's, with a little noise
CROP = 24  # latent cells
SAVE_EVERY = 50


@torch.no_grad()
def draw_latents(bundle: Bundle, work: Path, *, count: int, seed: int) -> None:
    """What the UNet makes of noisy latents in one step, stored with the pictures they should decode to."""
    path = work / "polish.npz"
    if path.exists():
        return
    scenes = Scenes(work / "scenes", bundle, only=(128, 128))
    alphas = bundle.scheduler.alphas_cumprod
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng([seed, 17])
    latents, pictures = [], []
    for _ in tqdm(range(count // 8), desc="latents to polish on", unit="batch"):
        batch, originals = scenes.batch_with_pictures(rng)
        timesteps = torch.randint(*TIMESTEPS, (len(batch.latents),), generator=generator)
        alpha = alphas[timesteps][:, None, None, None]
        noise = torch.randn(batch.latents.shape, generator=generator)
        noisy = alpha.sqrt() * batch.latents + (1 - alpha).sqrt() * noise
        velocity = predict(bundle, batch, noisy, timesteps)
        latents.append((alpha.sqrt() * noisy - (1 - alpha).sqrt() * velocity).half().numpy())
        pictures.append(originals)
    with path.with_suffix(".part").open("wb") as file:
        np.savez(file, latents=np.concatenate(latents), pictures=np.concatenate(pictures))
    path.with_suffix(".part").replace(path)


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
    own = np.load(work / "polish.npz")
    own_latents, own_pictures = own["latents"], own["pictures"]
    log, errors = LossLog(work / "polish-loss.jsonl"), []
    bar = tqdm(total=100, desc="decoder", unit="%", disable=not team.is_first)
    while (progress := team.agree(clock.tick())) < 1.0:
        rng = np.random.default_rng([seed, 23, step, team.rank])
        if rng.random() < OWN_SHARE:
            latents, pictures = crops(own_latents, own_pictures, rng)
        else:
            latents, pictures = crops(*stored(work / "scenes", rng), rng)
            latents = latents + 0.06 * torch.randn_like(latents)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(PEAK_RATE, step=step, progress=progress, warmup=20)
        loss, error = picture_loss(vae.decode(latents / vae.config.scaling_factor).sample, pictures)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        team.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
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


def stored(folder: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    numbers = [
        n
        for n in complete_shards(folder)
        if latents_path(folder, n).exists() and LAYOUT[n % len(LAYOUT)][0] == (128, 128)
    ]
    number = int(rng.choice(numbers))
    return np.load(latents_path(folder, number), mmap_mode="r"), open_shard(folder, number).pictures


def crops(latents: np.ndarray, pictures: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Matching crops: latents (B, 4, CROP, CROP), pictures (B, 3, 4 CROP, 4 CROP) in -1..1."""
    found: list[tuple[Any, Any]] = []
    for index in rng.integers(0, len(latents), 8):
        y, x = rng.integers(0, latents.shape[2] - CROP + 1, 2)
        picture = pictures[index, 4 * y : 4 * (y + CROP), 4 * x : 4 * (x + CROP)]
        found.append((latents[index, :, y : y + CROP, x : x + CROP], picture))
    first, second = zip(*found, strict=True)
    return torch.from_numpy(np.stack(first).astype(np.float32)), to_tensor(np.stack(second))


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
