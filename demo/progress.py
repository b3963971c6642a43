# SPDX-License-Identifier: Apache-2.0
"""The state of a training run, which is saved and resumed, and its reports: log, progress bar and sample sheets."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from demo.bundle import load_vae
from demo.run import LossLog, save_atomically
from demo.samples import sample_sheet

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from demo.bundle import Bundle
    from demo.run import Average, Clock

STATE = "diffusion.pt"
SAVE_EVERY_S, SHEET_EVERY_S = 150.0, 500.0


@dataclass(slots=True)
class Progress:
    """The state of a run, with everything needed to resume it."""

    networks: nn.Module  # or a LoRA's `ParameterList`
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


class Reports:
    """Output of the first member: progress bar, log, saved state and sample sheets."""

    def __init__(self, work: Path, bundle: Bundle, vae_folder: Path, run: Progress) -> None:
        self.work, self.bundle, self.vae_folder, self.run = work, bundle, vae_folder, run
        self.log, self.losses = LossLog(work / "diffusion-loss.jsonl"), deque[dict[str, float]](maxlen=100)
        self.saved_s = self.sheet_s = run.clock.spent_s
        self.resumed_at = run.step
        self.bar = tqdm(total=100, desc="diffusion", unit="%")

    def after_step(self, losses: dict[str, float], progress: float) -> None:
        run, now = self.run, self.run.clock.spent_s
        self.losses.append(losses)
        if run.step % 25 == 0:
            means = {name: float(np.mean([each[name] for each in self.losses])) for name in losses}
            self.bar.n = round(100 * progress)
            self.bar.set_postfix(means, step=run.step, samples=run.samples)
            self.log.write(step=run.step, samples=run.samples, seconds=now, **means)
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
