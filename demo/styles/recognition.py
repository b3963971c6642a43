# SPDX-License-Identifier: Apache-2.0
"""Classifies pictures as plain or in a style, by a few simple features. Evaluates the LoRAs' pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from demo.painting import blur
from demo.scenes import draw_scene
from demo.styles import STYLES, stylised
from demo.styles.texture import soften
from demo.styles.watercolour import PAPER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from demo.pixels import Pixels

PLAIN = "plain"
EXAMPLES = 160  # painted pictures of each style
ROUNDS, RATE, DECAY = 1500, 0.5, 1e-3
Features = npt.NDArray[np.float64]  # (F,)

SEED = 660_001  # of scenes that neither training nor evaluation draws


@dataclass(frozen=True, slots=True)
class StyleClassifier:
    """Logistic regression on the features of pictures."""

    styles: tuple[str, ...]
    mean: Features
    spread: Features
    weights: npt.NDArray[np.float64]  # (F + 1, S), with the bias last

    @classmethod
    def of_pictures(cls, pictures: Mapping[str, Sequence[Pixels]]) -> Self:
        rows = np.stack([features(picture) for each in pictures.values() for picture in each])
        numbers = np.repeat(range(len(pictures)), [len(each) for each in pictures.values()])
        targets = np.eye(len(pictures))[numbers]
        mean, spread = rows.mean(0), rows.std(0) + 1e-6
        inputs = np.column_stack([(rows - mean) / spread, np.ones(len(rows))])
        weights = np.zeros((inputs.shape[1], len(pictures)))
        for _ in range(ROUNDS):
            scores = np.exp(inputs @ weights)
            error = scores / scores.sum(1, keepdims=True) - targets
            weights -= RATE * (inputs.T @ error / len(inputs) + DECAY * weights)
        return cls(tuple(pictures), mean, spread, weights)

    @classmethod
    def of_painted(cls, size: tuple[int, int], *, examples: int = EXAMPLES) -> Self:
        """Learnt from pictures of one size that the painters make."""
        pictures: dict[str, list[Pixels]] = {style: [] for style in (PLAIN, *STYLES)}
        for index in range(examples):
            scene = draw_scene(np.random.default_rng([SEED, index]), size)
            pictures[PLAIN].append(scene.picture)
            for style in STYLES:
                pictures[style].append(stylised(scene, style, np.random.default_rng([SEED, index])))
        return cls.of_pictures(pictures)

    def style(self, picture: Pixels) -> str:
        scores = np.append((features(picture) - self.mean) / self.spread, 1.0) @ self.weights
        return self.styles[int(scores.argmax())]


def features(picture: Pixels) -> Features:
    """Features of a picture (H, W, 3): the border's colour, fine contrast where nothing is drawn, and its direction."""
    rgb = picture.astype(np.float32) / 255
    brightness, short = rgb.mean(-1), min(picture.shape[:2])
    edge = max(2, short // 50)
    inner = np.zeros(brightness.shape, dtype=bool)
    inner[edge:-edge, edge:-edge] = True
    border = rgb[~inner]
    smooth = soften(brightness, short * 0.0065)
    contrast = np.abs(smooth - soften(smooth, short * 0.02))
    slope_y, slope_x = np.gradient(smooth)
    # The direction of the grain in each neighbourhood, whatever its contrast.
    energy = blur(slope_x**2 + slope_y**2, short * 0.02) + 1e-5
    upright = blur(slope_x**2 - slope_y**2, short * 0.02) / energy
    diagonal = blur(2 * slope_x * slope_y, short * 0.02) / energy
    return np.array(
        [
            np.quantile(brightness, 0.25),
            np.abs(border - PAPER).mean(),
            border.std(0).mean(),
            *np.log(0.003 + np.quantile(contrast, (0.25, 0.5, 0.75))),
            upright.mean(),
            diagonal.mean(),
            np.hypot(upright, diagonal).mean(),
            np.quantile(diagonal, 0.1),
            np.quantile(diagonal, 0.9),
            np.quantile(upright, 0.1),
            *np.log(1e-5 + np.quantile(energy, (0.25, 0.5, 0.75))),
        ]
    )
