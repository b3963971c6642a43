# SPDX-License-Identifier: Apache-2.0
"""Styles: the same scene as a watercolour, in wax crayon, or as a neon sign. Each has a LoRA of the checkpoint.

| module | purpose |
| --- | --- |
| `crayon` | grainy wax strokes on paper, with thick outlines |
| `layers` | flat fills and outlines of a scene's objects, which all styles start from |
| `neon` | glowing tubes on a dark wall |
| `recognition` | a classifier of the styles |
| `texture` | smooth noise, paper and hatching |
| `watercolour` | transparent washes that pool at their edges |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from demo.styles.crayon import paint_crayon
from demo.styles.neon import paint_neon
from demo.styles.watercolour import paint_watercolour

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.pixels import Pixels, Values
    from demo.scenes import Scene

STYLES: dict[str, Callable[[Scene, np.random.Generator], Values]] = {
    "watercolour": paint_watercolour,
    "crayon": paint_crayon,
    "neon": paint_neon,
}


def stylised(scene: Scene, style: str, rng: np.random.Generator) -> Pixels:
    """The scene's picture in a style, (H, W, 3). Objects, their positions and colours are the same."""
    picture = STYLES[style](scene, rng)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
