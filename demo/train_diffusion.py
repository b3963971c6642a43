# SPDX-License-Identifier: Apache-2.0
"""Train text encoders, UNet and ControlNet together on stored latents, scribbles and captions."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from tqdm import tqdm

from demo import bundle as bundles
from demo.dataset import (
    CAPTIONS_PER_SCENE,
    LAYOUT,
    SCRIBBLES_PER_SCENE,
    Shard,
    cells,
    complete_shards,
    is_portrait,
    open_shard,
)
from demo.latents import latents_path
from demo.networks import TOKENS
from demo.run import MEET_EVERY, Average, Clock, LossLog, learning_rate, save_atomically
from demo.samples import sample_sheet
from demo.vocabulary import train_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from demo.bundle import Bundle
    from demo.team import Team

PIXELS_PER_BATCH = 8 * 128 * 128  # of one team member
STATE = "diffusion.pt"
SAVE_EVERY_S, SHEET_EVERY_S = 150.0, 400.0
DROPPED_PROMPTS = 0.10  # half as "", half as the zeros of SDXL's pipeline for a missing negative prompt
WITHOUT_CONTROL, WEAK_CONTROL = 0.02, 0.10
PORTRAITS_WITHOUT = 0.45  # share of portraits with control scale 0, and share with an empty canvas
# A detail is a few of a thousand cells, so with a plain mean the networks learn it last. Drawn thin lines, such as
# veins and whiskers, are the rarest, and only the scribble shows them.
DETAIL_WEIGHT, DRAWN_WEIGHT = 6.0, 10.0
# A scene's frequency: `BARE_SHARE`, plus its drawn details relative to the mean, at most `MOST_SHARE`.
BARE_SHARE, MOST_SHARE = 0.5, 4.0


@dataclass(frozen=True, slots=True)
class Batch:
    latents: torch.Tensor  # (B, 4, h, w)
    control: torch.Tensor  # (B, 3, H, W) in 0..1
    tokens: torch.Tensor  # (B, S)
    has_prompt: torch.Tensor  # (B, 1, 1), 0 where the embeddings are zeros
    control_scale: torch.Tensor  # (B, 1, 1, 1)
    time_ids: torch.Tensor  # (B, 6)
    weights: torch.Tensor  # (B, 1, h, w) of the cells in the loss


class Scenes:
    """All encoded shards, grouped by size, because a batch has one size."""

    def __init__(self, folder: Path, bundle: Bundle, *, only: tuple[int, int] | None = None) -> None:
        numbers = [
            n
            for n in complete_shards(folder)
            if latents_path(folder, n).exists() and only in (None, LAYOUT[n % len(LAYOUT)][0])
        ]
        self.shards = [open_shard(folder, n) for n in numbers]
        self.portraits = [is_portrait(n) for n in numbers]
        self.latents = [np.load(latents_path(folder, n)) for n in numbers]
        self.tokens = [
            bundle.tokenizer(
                [text for texts in shard.captions for text in texts],
                padding="max_length",
                max_length=TOKENS,
                truncation=True,
                return_tensors="pt",
            ).input_ids.view(-1, CAPTIONS_PER_SCENE, TOKENS)
            for shard in self.shards
        ]
        self.nothing = bundle.tokenizer("", padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids[0]
        self.shares = [drawn_shares(shard) for shard in self.shards]
        # Sizes are drawn by their share of scenes. Large ones take more than that share of time.
        self.weights = np.array([float(len(latents)) for latents in self.latents])
        self.weights /= self.weights.sum()

    def batch(self, rng: np.random.Generator) -> Batch:
        return self.batch_with_pictures(rng)[0]

    def batch_with_pictures(self, rng: np.random.Generator) -> tuple[Batch, np.ndarray]:
        number = int(rng.choice(len(self.shards), p=self.weights))
        shard, latents, tokens = self.shards[number], self.latents[number], self.tokens[number]
        height, width = shard.pictures.shape[1:3]
        count = max(1, PIXELS_PER_BATCH // (height * width))
        rows = rng.choice(len(latents), count, p=self.shares[number])
        control = np.stack([shard.scribble(i, int(rng.integers(SCRIBBLES_PER_SCENE))) for i in rows])
        scale = np.where(rng.random(count) < WEAK_CONTROL, rng.uniform(0.35, 1.25, count), 1.0)
        scale[rng.random(count) < (PORTRAITS_WITHOUT if self.portraits[number] else WITHOUT_CONTROL)] = 0.0
        control[rng.random(count) < (PORTRAITS_WITHOUT if self.portraits[number] else 0.0)] = 0
        ids = torch.stack([tokens[i, int(rng.integers(CAPTIONS_PER_SCENE))] for i in rows])
        drop = rng.random(count)
        ids[torch.from_numpy(drop < DROPPED_PROMPTS / 2)] = self.nothing
        zeroed = (drop >= DROPPED_PROMPTS / 2) & (drop < DROPPED_PROMPTS)
        batch = Batch(
            torch.from_numpy(latents[rows]).float(),
            torch.from_numpy(control).float()[:, None].expand(-1, 3, -1, -1),
            ids,
            torch.from_numpy(~zeroed).float()[:, None, None],
            torch.from_numpy(scale).float()[:, None, None, None],
            torch.tensor([[height, width, 0, 0, height, width]]).float().expand(count, -1),
            torch.from_numpy(cell_weights(shard.details[rows], control))[:, None],
        )
        return batch, shard.pictures[rows]


def drawn_shares(shard: Shard) -> np.ndarray:
    """(N,) frequencies of the scenes. Scenes with more drawn details are more frequent."""
    drawn = np.array([cells(shard.scribble(i, 0))[shard.details[i]].sum() for i in range(len(shard.details))])
    shares = BARE_SHARE + np.minimum(drawn / max(drawn.mean(), 1e-6), MOST_SHARE)
    return shares / shares.sum()


def cell_weights(details: np.ndarray, control: np.ndarray) -> np.ndarray:
    """(B, h, w) float32: the weight of each cell in the loss, for (B, h, w) details and (B, H, W) strokes."""
    return (1 + DETAIL_WEIGHT * details + DRAWN_WEIGHT * (details & cells(control))).astype(np.float32)


def diffusion_loss(bundle: Bundle, batch: Batch, alphas: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Weighted mean squared error of the velocity, at random timesteps."""
    count = len(batch.latents)
    timesteps = torch.randint(0, len(alphas), (count,), generator=generator)
    noise = torch.randn(batch.latents.shape, generator=generator)
    alpha = alphas[timesteps][:, None, None, None]
    signal, spread = alpha.sqrt(), (1 - alpha).sqrt()
    noisy = signal * batch.latents + spread * noise
    velocity = signal * noise - spread * batch.latents
    error = (predict(bundle, batch, noisy, timesteps) - velocity) ** 2
    return (error * batch.weights).mean() / batch.weights.mean()


def predict(bundle: Bundle, batch: Batch, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """The velocity (B, 4, h, w), computed as the pipeline does."""
    first = bundle.text_encoder(batch.tokens, output_hidden_states=True)
    second = bundle.text_encoder_2(batch.tokens, output_hidden_states=True)
    prompt = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1) * batch.has_prompt  # (B, S, D)
    added = {"text_embeds": second.text_embeds * batch.has_prompt[:, 0], "time_ids": batch.time_ids}
    shared: dict[str, Any] = {
        "encoder_hidden_states": prompt,
        "added_cond_kwargs": added,
        "return_dict": False,
    }
    down, middle = bundle.controlnet(noisy, timesteps, controlnet_cond=batch.control, **shared)
    (velocity,) = bundle.unet(
        noisy,
        timesteps,
        down_block_additional_residuals=[residual * batch.control_scale for residual in down],
        mid_block_additional_residual=middle * batch.control_scale,
        **shared,
    )
    return velocity


@dataclass(slots=True)
class Progress:
    """The state of a run, with everything needed to resume it."""

    networks: nn.ModuleDict
    average: Average
    optimizer: torch.optim.Optimizer
    clock: Clock
    step: int = 0
    samples: int = 0

    def resume(self, path: Path) -> None:
        if not path.exists():
            return
        state = torch.load(path, weights_only=False)
        self.networks.load_state_dict(state["networks"])
        self.average.weights = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.clock.spent_s, self.step, self.samples = state["spent_s"], state["step"], state["samples"]

    def save(self, path: Path) -> None:
        state = {
            "networks": self.networks.state_dict(),
            "average": self.average.weights,
            "optimizer": self.optimizer.state_dict(),
            "spent_s": self.clock.spent_s,
            "step": self.step,
            "samples": self.samples,
        }
        save_atomically(state, path)


def train_diffusion(
    team: Team, work: Path, init: Path | None, vae_folder: Path, minutes: float, peak: float, seed: int
) -> None:
    torch.manual_seed(seed)
    bundle = first_bundle(work, init)
    networks = bundle.trained()
    parameters = [p for p in networks.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=1e-3)
    run = Progress(networks, Average(networks, 0.995), optimizer, Clock(minutes * 60))
    run.resume(work / STATE)
    scenes = Scenes(work / "scenes", bundle)
    alphas = bundle.scheduler.alphas_cumprod.clone()
    reports = Reports(work, bundle, vae_folder, run) if team.is_first else None
    progress = run.clock.tick()
    while progress < 1.0:
        if run.step % MEET_EVERY == 0:
            progress = team.agree(run.clock.tick())
        batch = scenes.batch(np.random.default_rng([seed, run.step, team.rank]))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + run.step * team.size + team.rank)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(peak, step=run.step, progress=progress, warmup=100)
        loss = diffusion_loss(bundle, batch, alphas, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (run.step + 1) % MEET_EVERY == 0:
            team.average_weights(parameters)
        run.average.update(networks, run.step)
        run.step, run.samples = run.step + 1, run.samples + len(batch.latents) * team.size
        if reports:
            reports.after_step(float(loss.detach()), progress)
    if reports:
        reports.finish()


class Reports:
    """Output of the first member: progress bar, log, saved state and sample sheets."""

    def __init__(self, work: Path, bundle: Bundle, vae_folder: Path, run: Progress) -> None:
        self.work, self.bundle, self.vae_folder, self.run = work, bundle, vae_folder, run
        self.log, self.losses = LossLog(work / "diffusion-loss.jsonl"), deque[float](maxlen=200)
        self.saved_s = self.sheet_s = run.clock.spent_s
        self.resumed_at = run.step
        self.bar = tqdm(total=100, desc="diffusion", unit="%")

    def after_step(self, loss: float, progress: float) -> None:
        run, now = self.run, self.run.clock.spent_s
        self.losses.append(loss)
        if run.step % 25 == 0:
            mean = float(np.mean(self.losses))
            self.bar.n = round(100 * progress)
            self.bar.set_postfix(step=run.step, loss=f"{mean:.4f}", samples=run.samples)
            self.log.write(step=run.step, samples=run.samples, seconds=now, loss=mean)
        if now - self.saved_s > SAVE_EVERY_S:
            self.saved_s = now
            run.save(self.work / STATE)
        if now - self.sheet_s > SHEET_EVERY_S:
            self.sheet_s = now
            sheet = self.work / f"samples-{run.step:06d}.png"
            sample_sheet(averaged(self.bundle, run.average), load_vae(self.vae_folder), sheet)

    def finish(self) -> None:
        if self.run.step > self.resumed_at:
            self.run.save(self.work / STATE)
        self.bar.close()


def averaged(bundle: Bundle, average: Average) -> Bundle:
    """A copy with the averaged weights, which are evaluated and saved."""
    mean = copy.deepcopy(bundle)
    mean.trained().load_state_dict(average.weights)
    return mean


def finished(work: Path, init: Path | None) -> Bundle:
    """The averaged weights of the saved state."""
    bundle = first_bundle(work, init)
    state = torch.load(work / STATE, weights_only=False)
    bundle.trained().load_state_dict(state["average"])
    return bundle


def first_bundle(work: Path, init: Path | None) -> Bundle:
    return bundles.load(init) if init else bundles.start(train_tokenizer(work / "scenes", work / "tokenizer"))


def load_vae(folder: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).eval()
