# SPDX-License-Identifier: Apache-2.0
"""The optimizer makes even steps in all directions of a matrix, and its saved state continues."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

SIDE = 12


def test_step_of_matrix_has_nearly_equal_singular_values() -> None:
    from demo.optimizer import orthogonal

    torch.manual_seed(0)
    values = torch.logspace(-1, 0, SIDE)
    uneven = torch.linalg.qr(torch.randn(SIDE, SIDE))[0] @ torch.diag(values) @ torch.randn(SIDE, SIDE).svd()[2]
    even = torch.linalg.svdvals(orthogonal(uneven))
    assert even.min() > 0.5
    assert even.max() < 1.4


def test_resumed_optimizer_makes_same_step_as_uninterrupted_one() -> None:
    from demo.optimizer import Optimizer

    def network() -> torch.nn.Module:
        torch.manual_seed(1)
        return torch.nn.Sequential(torch.nn.Conv2d(SIDE, SIDE, 3), torch.nn.Flatten(), torch.nn.Linear(SIDE, SIDE))

    def train(trained: torch.nn.Module, optimizer: Optimizer) -> None:
        optimizer.set_rate(1e-3)
        trained(torch.ones(1, SIDE, 3, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    whole, resumed = network(), network()
    first, second = Optimizer(whole.parameters()), Optimizer(resumed.parameters())
    train(whole, first)
    train(resumed, second)
    again = Optimizer(resumed.parameters())
    again.load_state_dict(second.state_dict())
    train(whole, first)
    train(resumed, again)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_step_evaluates_closure_with_gradients_and_returns_its_loss() -> None:
    from demo.optimizer import Optimizer

    weight = torch.nn.Parameter(torch.ones(SIDE, SIDE))
    optimizer = Optimizer([weight, torch.nn.Parameter(torch.ones(SIDE))], weight_decay=0.0)
    optimizer.set_rate(1e-3)

    def closure() -> float:
        loss = weight.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == SIDE * SIDE
    assert (weight < 1).all()
