# SPDX-License-Identifier: Apache-2.0
"""The networks' prediction, computed as the pipeline does, and the loss that trains them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.common.measurement_lock import wait_for_measurements
from demo.run import mixed_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from demo.batches import Batch
    from demo.bundle import Bundle


NOISY = 0.6  # share of the schedule from which on a picture of 256 px is so noisy that colours and places are decided
CLEAN = -1  # the "timestep" without noise


def diffusion_loss(bundle: Bundle, batch: Batch, rng: np.random.Generator, *, noisy_share: float = 0.0) -> torch.Tensor:
    """Weighted mean squared error of the velocity, at random timesteps: `noisy_share` of them above `NOISY`."""
    alphas: torch.Tensor = bundle.scheduler.alphas_cumprod
    timesteps = torch.from_numpy(draw_timesteps(rng, len(batch.latents), len(alphas), noisy_share))
    noise = torch.from_numpy(rng.standard_normal(batch.latents.shape, dtype=np.float32))
    alpha = alphas[timesteps][:, None, None, None]
    signal, spread = alpha.sqrt(), (1 - alpha).sqrt()
    noisy = signal * batch.latents + spread * noise
    velocity = signal * noise - spread * batch.latents
    with mixed_precision():
        predicted = predict(bundle, batch, noisy, timesteps)
    error = (predicted.float() - velocity) ** 2
    return (error * batch.weights).mean() / batch.weights.mean()


def draw_timesteps(rng: np.random.Generator, count: int, total: int, noisy_share: float) -> npt.NDArray[np.int64]:
    """(count,) timesteps below `total`: any, but `noisy_share` of them only from `NOISY` on."""
    lowest = np.where(rng.random(count) < noisy_share, round(NOISY * total), 0)
    return rng.integers(lowest, total)


def predict(bundle: Bundle, batch: Batch, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """The velocity (B, C, h, w), computed as the pipeline does."""
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
    velocity: torch.Tensor
    (velocity,) = bundle.unet(
        noisy,
        timesteps,
        down_block_additional_residuals=[residual * batch.control_scale for residual in down],
        mid_block_additional_residual=middle * batch.control_scale,
        **shared,
    )
    return velocity


def guided(bundle: Bundle, batch: Batch, noisy: torch.Tensor, timestep: int, guidance: float) -> torch.Tensor:
    """The velocity of all rows at one timestep, with guidance away from the picture without a prompt."""
    times = torch.full((len(noisy),), timestep)
    without_prompt = replace(batch, has_prompt=torch.zeros_like(batch.has_prompt))
    with mixed_precision():
        without = predict(bundle, without_prompt, noisy, times).float()
        return without + guidance * (predict(bundle, batch, noisy, times).float() - without)


def step(noisy: torch.Tensor, velocity: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """A deterministic step, as Euler's, from the cumulative alpha `before` to `after`; 1 is without noise."""
    clean = before.sqrt() * noisy - (1 - before).sqrt() * velocity
    noise = (1 - before).sqrt() * noisy + before.sqrt() * velocity
    return after.sqrt() * clean + (1 - after).sqrt() * noise


def descend(
    bundle: Bundle, batch: Batch, noisy: torch.Tensor, timesteps: Sequence[int], guidance: float
) -> torch.Tensor:
    """Guided steps through falling `timesteps`, of which the last can be `CLEAN`."""
    alphas = torch.cat([bundle.scheduler.alphas_cumprod, torch.ones(1)])  # CLEAN is the last
    for before, after in pairwise(timesteps):
        wait_for_measurements()
        noisy = step(noisy, guided(bundle, batch, noisy, before, guidance), alphas[before], alphas[after])
    return noisy


def noised(latents: torch.Tensor, alpha: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
