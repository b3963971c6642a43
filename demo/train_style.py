# SPDX-License-Identifier: Apache-2.0
"""Train the LoRA of a style on scenes painted in it. Their captions do not name the style, so it suits any prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from demo.dataset import style_folder
from demo.denoising import diffusion_loss
from demo.lora import STYLE_LAYERS
from demo.train_lora import Plan, train_lora

if TYPE_CHECKING:
    from pathlib import Path

    from demo.team import Team

RANK = 8
PEAK_RATE = 2e-3
STROKE_WEIGHT = 0.0  # a style is everywhere, on paper most of all


def train_style(team: Team, work: Path, init: Path | None, style: str, minutes: float, seed: int, out: Path) -> None:
    plan = Plan(style, RANK, STYLE_LAYERS, PEAK_RATE, STROKE_WEIGHT, minutes, seed)
    train_lora(team, work, init, style_folder(work, style), plan, diffusion_loss, out)
