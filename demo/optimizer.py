# SPDX-License-Identifier: Apache-2.0
"""The optimizer of the VAE: Muon for matrices and convolutions, AdamW for the rest.

Muon makes all singular values of a step equal, so that a matrix learns in all directions at the same pace. The VAE
needs a third of the steps that it needs with AdamW alone. The UNet gains nothing, and its steps would take longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

SMALLEST_SIDE = 8  # of a matrix for Muon
MOMENTUM = 0.95
MUON_RATE = 10.0  # relative to the rate of AdamW
# Keller Jordan's coefficients of the Newton-Schulz iteration, which needs only five rounds.
ROUNDS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)


class Optimizer(torch.optim.Optimizer):
    """Its groups have a `scale`, by which the rate is multiplied."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, weight_decay: float = 1e-3) -> None:
        everything = list(parameters)
        matrices = [p for p in everything if is_matrix(p)]
        others = [p for p in everything if not is_matrix(p)]
        self.adam = torch.optim.AdamW(others, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)
        groups = [{"params": matrices, "scale": MUON_RATE}, {"params": others, "scale": 1.0}]
        super().__init__([group for group in groups if group["params"]], {"lr": 0.0})
        self.weight_decay = weight_decay

    def set_rate(self, rate: float) -> None:
        for group in (*self.param_groups, *self.adam.param_groups):
            group["lr"] = rate * group.get("scale", 1.0)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        with torch.enable_grad():
            loss = closure() if closure else None
        self.adam.step()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and is_matrix(parameter):
                    self._step(parameter, parameter.grad, group["lr"])
        return loss

    def _step(self, parameter: nn.Parameter, gradient: torch.Tensor, rate: float) -> None:
        momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        momentum.lerp_(gradient, 1 - MOMENTUM)
        rows = len(parameter)
        scale = max(1.0, rows / (parameter.numel() // rows)) ** 0.5
        parameter.mul_(1 - rate * self.weight_decay)
        parameter.add_(orthogonal(gradient.lerp(momentum, MOMENTUM)), alpha=-rate * scale)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": super().state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["muon"])
        self.adam.load_state_dict(state_dict["adam"])


def is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and min(len(parameter), parameter.numel() // len(parameter)) >= SMALLEST_SIDE


def orthogonal(gradient: torch.Tensor) -> torch.Tensor:
    """The nearest matrix with singular values near 1, by Newton-Schulz; a convolution is a matrix of its kernels."""
    x: torch.Tensor = gradient.reshape(len(gradient), -1).bfloat16()
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / (x.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if is_tall else x).reshape(gradient.shape).to(gradient.dtype)
