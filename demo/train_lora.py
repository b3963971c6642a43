# SPDX-License-Identifier: Apache-2.0
"""Train a LoRA of the trained checkpoint. Its other weights stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from benchmarks.common.measurement_lock import wait_for_measurements
from demo.attention import use_training_attention
from demo.batches import PIXELS_PER_BATCH, Scenes
from demo.lora import add_lora, load_lora, save_lora
from demo.progress import SAVE_EVERY_S, Progress
from demo.run import MEET_EVERY, Average, Clock, LossLog, learning_rate
from demo.train_diffusion import finished

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo.batches import Batch
    from demo.bundle import Bundle
    from demo.team import Team

    LossOf = Callable[[Bundle, Batch, np.random.Generator], torch.Tensor]

BATCH = PIXELS_PER_BATCH // 2
HOLD = 0.5
LARGE_AT = 0.5  # the training's progress whose sizes of pictures are used, see `batches`


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained, and for how long. The LoRA's file has its name."""

    name: str
    rank: int
    layers: str  # a regular expression
    peak_rate: float
    stroke_weight: float  # in the loss, see `batches`
    minutes: float
    seed: int


def train_lora(team: Team, work: Path, init: Path | None, scenes: Path, plan: Plan, loss_of: LossOf, out: Path) -> None:
    """Train and write `{plan.name}.safetensors` into the folder `out`. Starts from the LoRA of that name in `init`."""
    torch.manual_seed(plan.seed)
    bundle = finished(work, init)
    parameters = add_lora(bundle, rank=plan.rank, layers=plan.layers)
    if init and (present := init / "loras" / f"{plan.name}.safetensors").exists():
        load_lora(bundle, present)
    use_training_attention(bundle)
    bundle.trained().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(parameters, lr=plan.peak_rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    run = Progress(parameters, Average(parameters, 0.98), optimizer, Clock(plan.minutes * 60))
    state = work / f"lora-{plan.name}.pt"
    run.resume(state)
    batches = Scenes(scenes, bundle, pixels_per_batch=BATCH, stroke_weight=plan.stroke_weight)
    log, losses, saved_s = LossLog(work / f"lora-{plan.name}-loss.jsonl"), list[float](), run.clock.spent_s
    bar = tqdm(total=100, desc=plan.name, unit="%", disable=not team.is_first)
    progress = team.agree(run.clock.tick())
    while progress < 1.0:
        wait_for_measurements()
        if run.step % MEET_EVERY == 0:
            progress = team.agree(run.clock.tick())
        rng = np.random.default_rng([plan.seed, 31, run.step, team.rank])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan.peak_rate, step=run.step, progress=progress, warmup=50, hold=HOLD)
        batch = batches.batch(rng, LARGE_AT)
        loss = loss_of(bundle, batch, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        run.step, run.samples = run.step + 1, run.samples + len(batch.latents) * team.size
        if run.step % MEET_EVERY == 0:
            team.average_weights(list(parameters))
            run.average.update(parameters, run.step // MEET_EVERY)
        losses = [*losses[-99:], float(loss.detach())]
        if team.is_first and run.step % 10 == 0:
            bar.n = round(100 * progress)
            bar.set_postfix(step=run.step, loss=f"{np.mean(losses):.4f}")
            log.write(step=run.step, samples=run.samples, seconds=run.clock.spent_s, loss=float(np.mean(losses)))
        if team.is_first and run.clock.spent_s - saved_s > SAVE_EVERY_S:
            saved_s = run.clock.spent_s
            run.save(state)
    bar.close()
    if team.is_first:
        run.save(state)
        parameters.load_state_dict(run.average.weights)
        save_lora(bundle, out / f"{plan.name}.safetensors", {"modelspec.title": plan.name.replace("_", " ").title()})
