# SPDX-License-Identifier: Apache-2.0
"""The timesteps that are trained, and the few-step LoRA's, which are those of the sampler that uses it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")


def velocity_of(noisy: torch.Tensor, timestep: float) -> torch.Tensor:
    """Any smooth function in place of the networks."""
    return torch.sin(3 * noisy) * (1 + timestep / 1000)


def test_steps_and_timesteps_are_those_of_eulers_sampler() -> None:
    from demo.denoising import step
    from demo.networks import build_scheduler
    from demo.train_few_step import TIMESTEPS

    scheduler = build_scheduler()
    scheduler.set_timesteps(len(TIMESTEPS) - 1)
    assert scheduler.timesteps.tolist() == list(TIMESTEPS[:-1])
    alphas = torch.cat([scheduler.alphas_cumprod, torch.ones(1)])
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    sampled = noisy / alphas[TIMESTEPS[0]].sqrt()
    for timestep, (before, after) in zip(scheduler.timesteps, pairwise(TIMESTEPS), strict=True):
        velocity = velocity_of(scheduler.scale_model_input(sampled, timestep), float(timestep))
        sampled = scheduler.step(velocity, timestep, sampled).prev_sample
        noisy = step(noisy, velocity_of(noisy, before), alphas[before], alphas[after])
    assert torch.allclose(noisy, sampled, atol=1e-3)


def test_teacher_goes_from_one_step_of_the_student_to_the_next() -> None:
    from demo.denoising import CLEAN
    from demo.train_few_step import teacher_timesteps

    assert teacher_timesteps(999, 749) == [999, 874, 749]
    assert teacher_timesteps(249, CLEAN) == [249, 124, CLEAN]


def test_a_share_of_the_timesteps_is_of_the_noisiest_only() -> None:
    from demo.denoising import NOISY, draw_timesteps

    every, half, all_noisy = (draw_timesteps(np.random.default_rng(1), 4000, 1000, share) for share in (0.0, 0.5, 1.0))
    assert (every.min(), every.max()) == (0, 999)
    assert (all_noisy.min(), all_noisy.max()) == (round(1000 * NOISY), 999)
    assert (every >= 1000 * NOISY).mean() == pytest.approx(1 - NOISY, abs=0.03)
    assert (half >= 1000 * NOISY).mean() == pytest.approx(1 - NOISY / 2, abs=0.03)
