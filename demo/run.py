# SPDX-License-Identifier: Apache-2.0
"""Parts of every training run: priority, time budget, precision, learning-rate curve, saved state and log."""

from __future__ import annotations

import io
import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

# Steps after which the members of a team average their weights.
MEET_EVERY = 10


def save_atomically(state: Any, path: Path) -> None:
    """Save the state so that an interruption leaves the old one or the new one, complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, content = path.with_suffix(".part"), io.BytesIO()
    torch.save(state, content)  # to a file, it reports a full disk as a RuntimeError
    part.write_bytes(content.getbuffer())
    part.replace(path)


@dataclass(slots=True)
class Clock:
    """The budget of CPU time, as other work may take the cores. Spent seconds are kept when training is resumed."""

    budget_s: float
    spent_s: float = 0.0
    _since: float = field(default_factory=time.process_time)

    def tick(self) -> float:
        """The spent share of the budget, 0 to 1."""
        now = time.process_time()
        self.spent_s += now - self._since
        self._since = now
        return 1.0 if self.spent_s >= self.budget_s else self.spent_s / self.budget_s


def give_way() -> None:
    """Run at the lowest priority, beside other work."""
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    group = Path("/proc/self/autogroup")  # On Linux, the priority of a session's group counts first.
    if os.getsid(0) == os.getpid() and group.exists():
        group.write_text("19")


def mixed_precision() -> torch.autocast:
    """bf16 where the processor computes with it. Elsewhere it is thirty times slower than fp32, which is used then."""
    is_fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=is_fast)


def learning_rate(peak: float, *, step: int, progress: float, warmup: int = 200, hold: float = 0.0) -> float:
    """The rate: a warm-up by steps, the peak for `hold` of the time budget, then a cosine down to 2%."""
    fallen = max(0.0, progress - hold) / (1 - hold)
    return peak * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fallen)))


class Average:
    """An exponential moving average of weights, with a horizon that grows with the run."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        ours, theirs = list(self.weights.values()), list(module.state_dict().values())
        torch._foreach_lerp_(ours, theirs, 1 - decay)


class LossLog:
    """A log file with one line of JSON per entry."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def write(self, **values: float) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({k: round(v, 5) for k, v in values.items()}) + "\n")
