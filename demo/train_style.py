# SPDX-License-Identifier: Apache-2.0
"""Train the LoRA of a style on scenes painted in it. Their captions do not name the style, so it suits any prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from benchmarks.common.measurement_lock import wait_for_measurements
from demo.batches import Scenes
from demo.dataset import style_folder
from demo.denoising import diffusion_loss
from demo.lora import add_lora, save_lora
from demo.progress import SAVE_EVERY_S, Progress
from demo.run import MEET_EVERY, Average, Clock, LossLog, learning_rate
from demo.train_diffusion import finished, use_plain_attention

if TYPE_CHECKING:
    from pathlib import Path

    from demo.team import Team

RANK = 8
PEAK_RATE, HOLD = 2e-3, 0.5


def train_style(team: Team, work: Path, init: Path | None, style: str, minutes: float, seed: int, out: Path) -> None:
    """Train and write `{style}.safetensors` into the folder `out`."""
    torch.manual_seed(seed)
    bundle = finished(work, init)
    parameters = add_lora(bundle, rank=RANK)
    use_plain_attention(bundle)
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    run = Progress(parameters, Average(parameters, 0.99), optimizer, Clock(minutes * 60))
    state = work / f"lora-{style}.pt"
    run.resume(state)
    scenes, alphas = Scenes(style_folder(work, style), bundle), bundle.scheduler.alphas_cumprod.clone()
    log, losses, saved_s = LossLog(work / f"lora-{style}-loss.jsonl"), list[float](), run.clock.spent_s
    bar = tqdm(total=100, desc=style, unit="%", disable=not team.is_first)
    progress = run.clock.tick()
    while progress < 1.0:
        wait_for_measurements()
        if run.step % MEET_EVERY == 0:
            progress = team.agree(run.clock.tick())
        batch = scenes.batch(np.random.default_rng([seed, 31, run.step, team.rank]), progress)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + run.step * team.size + team.rank)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(PEAK_RATE, step=run.step, progress=progress, warmup=50, hold=HOLD)
        loss = diffusion_loss(bundle, batch, alphas, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        run.step, run.samples = run.step + 1, run.samples + len(batch.latents) * team.size
        if run.step % MEET_EVERY == 0:
            team.average_weights(list(parameters))
            run.average.update(parameters, run.step // MEET_EVERY)
        losses.append(float(loss.detach()))
        if team.is_first and run.step % 25 == 0:
            bar.n = round(100 * progress)
            bar.set_postfix(step=run.step, loss=f"{np.mean(losses[-100:]):.4f}")
            log.write(step=run.step, samples=run.samples, seconds=run.clock.spent_s, loss=float(np.mean(losses[-100:])))
        if team.is_first and run.clock.spent_s - saved_s > SAVE_EVERY_S:
            saved_s = run.clock.spent_s
            run.save(state)
    bar.close()
    if team.is_first:
        run.save(state)
        parameters.load_state_dict(run.average.weights)
        save_lora(bundle, out / f"{style}.safetensors", {"modelspec.title": style.capitalize()})
