# SPDX-License-Identifier: Apache-2.0
"""Train text encoders, UNet and ControlNet together on stored latents, scribbles and captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from benchmarks.common.measurement_lock import wait_for_measurements
from demo import bundle as bundles
from demo.attention import use_training_attention
from demo.batches import Scenes
from demo.denoising import diffusion_loss
from demo.grounding import Grounding
from demo.progress import STATE, Progress, Reports
from demo.run import MEET_EVERY, Average, Clock, learning_rate
from demo.vocabulary import train_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from demo.bundle import Bundle
    from demo.team import Team

HOLD = 0.6  # share of the training at the peak rate. A later run with more minutes returns to it.
NOISY_SHARE = 0.5  # Which object has which colour is decided in a few of the steps, the noisiest ones.
GROUNDING = 0.03  # weight of its loss
SMALL_LEARNED = 0.8  # a checkpoint to start from skips this share of the training, which is mostly small pictures


def train_diffusion(
    team: Team, work: Path, init: Path | None, vae_folder: Path, minutes: float, peak: float, seed: int
) -> None:
    torch.manual_seed(seed)
    bundle = first_bundle(work, init)
    use_training_attention(bundle)
    grounding = Grounding(bundle)
    networks = bundle.trained()
    networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = [p for p in networks.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    run = Progress(networks, Average(networks, 0.985), optimizer, Clock(minutes * 60))
    run.resume(work / STATE)
    scenes = Scenes(work / "scenes", bundle)
    reports = Reports(work, bundle, vae_folder, run) if team.is_first else None
    progress = team.agree(run.clock.tick())
    while progress < 1.0:
        wait_for_measurements()
        if run.step % MEET_EVERY == 0:
            progress = team.agree(run.clock.tick())
        rng = np.random.default_rng([seed, run.step, team.rank])
        batch = scenes.batch(rng, SMALL_LEARNED + (1 - SMALL_LEARNED) * progress if init else progress)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(peak, step=run.step, progress=progress, warmup=100, hold=HOLD)
        grounding.watch(batch)
        loss = diffusion_loss(bundle, batch, rng, noisy_share=NOISY_SHARE)
        bound = grounding.loss()
        optimizer.zero_grad(set_to_none=True)
        (loss + GROUNDING * bound).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        run.step, run.samples = run.step + 1, run.samples + len(batch.latents) * team.size
        if run.step % MEET_EVERY == 0:
            team.average_weights(parameters)
            if reports:
                run.average.update(networks, run.step // MEET_EVERY)
        if reports:
            reports.after_step({"loss": float(loss.detach()), "grounding": float(bound.detach())}, progress)
    if reports:
        reports.finish()


def finished(work: Path, init: Path | None) -> Bundle:
    """The averaged weights of the saved state."""
    bundle = first_bundle(work, init)
    state = torch.load(work / STATE, weights_only=False)
    bundle.trained().load_state_dict(state["average"])
    return bundle


def first_bundle(work: Path, init: Path | None) -> Bundle:
    return bundles.load(init) if init else bundles.start(train_tokenizer(work / "scenes", work / "tokenizer"))
