# SPDX-License-Identifier: Apache-2.0
"""Distil a LoRA that makes a picture in four steps without guidance, from the checkpoint's own guided steps.

The LoRA learns each step of a schedule of four (progressive distillation): the teacher, which is the checkpoint, takes
several guided steps from one noise level to the next, and the student must get there in one step without guidance.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from demo.batches import STROKE_WEIGHT
from demo.denoising import CLEAN, descend, noised, predict, step
from demo.run import mixed_precision
from demo.train_lora import Plan, train_lora

if TYPE_CHECKING:
    from pathlib import Path

    from demo.batches import Batch
    from demo.bundle import Bundle
    from demo.team import Team

NAME = "few_step"
RANK = 16
LAYERS = (
    r"conv_in|conv_out|.*\.(conv1|conv2|conv|conv_shortcut|proj_in|proj_out|to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj"
    r"|ff\.net\.2)"
)
PEAK_RATE = 1e-3
TIMESTEPS = (999, 749, 499, 249, CLEAN)  # diffusers' trailing spacing for four steps
TEACHER_STEPS = 2  # for one of the student's
GUIDANCE = 2.5


def train_few_step(team: Team, work: Path, init: Path | None, minutes: float, seed: int, out: Path) -> None:
    plan = Plan(NAME, RANK, LAYERS, PEAK_RATE, STROKE_WEIGHT, minutes, seed)
    train_lora(team, work, init, work / "scenes", plan, few_step_loss, out)


def few_step_loss(bundle: Bundle, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """Mean squared distance of the student's step from the teacher's steps, at one random step of the schedule."""
    batch = replace(batch, has_prompt=torch.ones_like(batch.has_prompt))
    alphas = torch.cat([bundle.scheduler.alphas_cumprod, torch.ones(1)])
    index = int(rng.integers(len(TIMESTEPS) - 1))
    start, end = TIMESTEPS[index], TIMESTEPS[index + 1]
    noise = torch.from_numpy(rng.standard_normal(batch.latents.shape, dtype=np.float32))
    noisy = noised(batch.latents, alphas[start], noise)
    with torch.no_grad():
        bundle.unet.disable_adapters()
        wanted = descend(bundle, batch, noisy, teacher_timesteps(start, end), GUIDANCE)
        bundle.unet.enable_adapters()
    with mixed_precision():
        velocity = predict(bundle, batch, noisy, torch.full((len(noisy),), start)).float()
    error = (step(noisy, velocity, alphas[start], alphas[end]) - wanted) ** 2
    return (error * batch.weights).mean() / batch.weights.mean()


def teacher_timesteps(start: int, end: int) -> list[int]:
    """Timesteps from `start` to `end`, at even distances."""
    inner = np.linspace(start, end, TEACHER_STEPS + 1).round().astype(int)[:-1]
    return [*inner.tolist(), end]
