# SPDX-License-Identifier: Apache-2.0
"""Random batches of stored latents, scribbles and captions, for the training of the UNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from benchmarks.common.measurement_lock import wait_for_measurements
from demo.dataset import (
    CAPTIONS_PER_SCENE,
    LAYOUT,
    SCRIBBLES_PER_SCENE,
    Shard,
    cells,
    complete_shards,
    is_portrait,
    open_shard,
)
from demo.latents import latents_path
from demo.networks import TOKENS
from demo.phrases import UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    from transformers import CLIPTokenizer

    from demo.bundle import Bundle
    from demo.latents import Latents
    from demo.pixels import Mask, Pixels

PIXELS_PER_BATCH = 16 * 128 * 128  # of one team member
SMALL = 160 * 128  # pixels of a picture, up to which it counts as small
# The share of batches with large pictures, at these shares of the training. Small ones are learned four times as fast.
LARGE_AT, LARGE_SHARE = (0.3, 0.6, 0.85, 0.92), (0.1, 0.4, 0.4, 0.8)
DROPPED_PROMPTS = 0.10  # half as "", half as the zeros of SDXL's pipeline for a missing negative prompt
WITHOUT_CONTROL, WEAK_CONTROL = 0.02, 0.10
PORTRAITS_WITHOUT = 0.45  # share of portraits with control scale 0, and share with an empty canvas
# A drawn line is a few of a thousand cells, so with a plain mean the networks learn it last. Drawn details, such as
# eyes, count once more. Weights depend on what is drawn, which the networks see. If they depended on the picture, on
# all of its details for example, then the best prediction would no longer be the mean, and smooth areas would be full
# of details that are not there.
STROKE_WEIGHT = 4.0
# A scene's frequency: `BARE_SHARE`, plus its drawn details relative to the mean, at most `MOST_SHARE`.
BARE_SHARE, MOST_SHARE = 0.5, 4.0


@dataclass(frozen=True, slots=True)
class Batch:
    latents: torch.Tensor  # (B, C, h, w)
    control: torch.Tensor  # (B, 3, H, W) in 0..1
    tokens: torch.Tensor  # (B, S)
    has_prompt: torch.Tensor  # (B, 1, 1), 0 where the embeddings are zeros
    control_scale: torch.Tensor  # (B, 1, 1, 1)
    time_ids: torch.Tensor  # (B, 6)
    weights: torch.Tensor  # (B, 1, h, w) of the cells in the loss
    labels: torch.Tensor  # (B, S) of the tokens' phrases, and `regions` (B, h, w) with the same labels: see `phrases`
    regions: torch.Tensor


class Scenes:
    """All encoded shards, grouped by size, because a batch has one size."""

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        *,
        only: Sequence[tuple[int, int]] = (),
        pixels_per_batch: int = PIXELS_PER_BATCH,
        stroke_weight: float = STROKE_WEIGHT,
    ) -> None:
        self.pixels_per_batch, self.stroke_weight = pixels_per_batch, stroke_weight
        numbers = [
            n
            for n in complete_shards(folder)
            if latents_path(folder, n).exists() and (not only or LAYOUT[n % len(LAYOUT)][0] in only)
        ]
        self.shards = [open_shard(folder, n) for n in numbers]
        self.portraits = [is_portrait(n) for n in numbers]
        self.latents: list[Latents] = [np.load(latents_path(folder, n)) for n in numbers]
        self.tokens, self.labels = zip(*(tokenized(shard, bundle.tokenizer) for shard in self.shards), strict=True)
        self.nothing = bundle.tokenizer("", padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids[0]
        self.shares = [drawn_shares(shard) for shard in self.shards]
        self.pixels = np.array([shard.pictures[..., 0].size for shard in self.shards], float)
        self.is_large = np.array([shard.pictures[0, ..., 0].size > SMALL for shard in self.shards])

    def batch(self, rng: np.random.Generator, progress: float = 1.0) -> Batch:
        """A batch of one size. The share of large pictures grows with the training's `progress`."""
        number, rows = self._draw(rng, progress)
        return self._batch(number, rows, rng)

    def batch_with_pictures(self, rng: np.random.Generator) -> tuple[Batch, Pixels, Mask]:
        """A batch, its pictures, and the cells of the latents that hold a detail."""
        number, rows = self._draw(rng, 1.0)
        shard = self.shards[number]
        return self._batch(number, rows, rng), shard.pictures[rows], shard.details[rows]

    def _draw(self, rng: np.random.Generator, progress: float) -> tuple[int, npt.NDArray[np.int64]]:
        """A shard and some of its scenes."""
        number = int(rng.choice(len(self.shards), p=self.shard_shares(progress)))
        height, width = self.shards[number].pictures.shape[1:3]
        count = max(1, self.pixels_per_batch // (height * width))
        return number, rng.choice(len(self.latents[number]), count, p=self.shares[number])

    def _batch(self, number: int, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Batch:
        shard, latents, tokens = self.shards[number], self.latents[number], self.tokens[number]
        height, width = shard.pictures.shape[1:3]
        count = len(rows)
        control = np.stack([shard.scribble(i, int(rng.integers(SCRIBBLES_PER_SCENE))) for i in rows])
        scale = np.where(rng.random(count) < WEAK_CONTROL, rng.uniform(0.35, 1.25, count), 1.0)
        scale[rng.random(count) < (PORTRAITS_WITHOUT if self.portraits[number] else WITHOUT_CONTROL)] = 0.0
        control[rng.random(count) < (PORTRAITS_WITHOUT if self.portraits[number] else 0.0)] = 0
        wordings = rng.integers(CAPTIONS_PER_SCENE, size=count)
        ids, labels = tokens[rows, wordings], self.labels[number][rows, wordings]
        drop = rng.random(count)
        ids[torch.from_numpy(drop < DROPPED_PROMPTS / 2)] = self.nothing
        zeroed = (drop >= DROPPED_PROMPTS / 2) & (drop < DROPPED_PROMPTS)
        is_unseen = (scale == 0) | ~control.any((1, 2))
        labels[torch.from_numpy((drop < DROPPED_PROMPTS) | is_unseen)] = UNLABELLED
        return Batch(
            torch.from_numpy(latents[rows]).float(),
            torch.from_numpy(control).float()[:, None].expand(-1, 3, -1, -1),
            ids,
            torch.from_numpy(~zeroed).float()[:, None, None],
            torch.from_numpy(scale).float()[:, None, None, None],
            torch.tensor([[height, width, 0, 0, height, width]]).float().expand(count, -1),
            cell_weights(control, shard.details[rows], self.stroke_weight),
            labels,
            torch.from_numpy(shard.regions[rows]),
        )

    def shard_shares(self, progress: float) -> npt.NDArray[np.float64]:
        """(shards,) frequencies of the shards."""
        large = float(np.interp(progress, LARGE_AT, LARGE_SHARE)) if self.is_large.any() else 0.0
        large = 1.0 if self.is_large.all() else large
        shares = np.zeros_like(self.pixels)
        for group, share in ((self.is_large, large), (~self.is_large, 1 - large)):
            shares[group] = share * self.pixels[group] / self.pixels[group].sum()
        return shares


def tokenized(shard: Shard, tokenizer: CLIPTokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, CAPTIONS_PER_SCENE, TOKENS) tokens, and the labels of their phrases."""
    wait_for_measurements()
    captions = [caption for captions in shard.captions for caption in captions]
    encoded = tokenizer(
        [caption.text for caption in captions],
        padding="max_length",
        max_length=TOKENS,
        truncation=True,
        return_tensors="pt",
        return_offsets_mapping=True,
    )
    starts, ends = encoded.offset_mapping.numpy().transpose(2, 0, 1)
    labels = np.full(starts.shape, UNLABELLED, np.uint8)
    for row, caption in enumerate(captions):
        for phrase in caption.phrases:  # an inner one is later
            is_inside = (starts[row] >= phrase.start) & (ends[row] <= phrase.end) & (ends[row] > starts[row])
            labels[row, is_inside] = phrase.label
    shape = (-1, CAPTIONS_PER_SCENE, TOKENS)
    return encoded.input_ids.view(shape), torch.from_numpy(labels).view(shape)


def drawn_shares(shard: Shard) -> npt.NDArray[np.float64]:
    """(N,) frequencies of the scenes. Scenes with more drawn details are more frequent."""
    wait_for_measurements()
    drawn = np.array([cells(shard.scribble(i, 0))[shard.details[i]].sum() for i in range(len(shard.details))])
    shares = BARE_SHARE + np.minimum(drawn / max(drawn.mean(), 1e-6), MOST_SHARE)
    frequencies: npt.NDArray[np.float64] = shares / shares.sum()
    return frequencies


def cell_weights(control: Pixels, details: Mask, stroke_weight: float) -> torch.Tensor:
    """(B, 1, h, w): the weight of each cell in the loss, for (B, H, W) strokes and the (B, h, w) cells of details."""
    strokes = torch.from_numpy(cells(control)).float()[:, None]
    drawn_details = max_pool2d(strokes, 3, stride=1, padding=1) * torch.from_numpy(details)[:, None]
    return 1 + stroke_weight * (strokes + drawn_details)
