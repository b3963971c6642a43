# SPDX-License-Identifier: Apache-2.0
"""Which pixels of the ideal picture show which part, and whether another picture shows the part there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from demo.evaluation import measures
from demo.painting import part_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.geometry import Part
    from demo.pixels import Mask, Pixels
    from demo.scenes import Placed, Scene

SMALLEST = 14  # pixels at 128 px of a part that can be judged
ALIKE = 10.0  # CIE Lab: parts that differ less from their surroundings are judged by their outline

CLEARLY = 0.6  # a part shows if its colour is this much nearer to the ideal part than to its surroundings


@dataclass(frozen=True, slots=True)
class VisiblePart:
    part: Part
    placed: Placed
    pixels: Mask  # where the part is in front
    around: Mask  # pixels next to it

    @property
    def role(self) -> str:
        """ "limb" for a stroke that is painted as a tube, "shape" for an outline, "line" and "spot" for details."""
        if self.part.is_detail:
            return "spot" if self.part.closed else "line"
        return "shape" if self.part.closed else "limb"


def visible_parts(scene: Scene) -> Iterator[VisiblePart]:
    """The drawn parts of all objects, except those that others hide."""
    least = SMALLEST * measures.scale_of(scene.mask.shape) ** 2
    for number, placed in enumerate(scene.objects):
        front = part_numbers(placed.parts, scene.size, unit=placed.unit)
        for index, part in enumerate(placed.parts):
            if not part.is_drawn or part.fill == "hole":
                continue
            pixels = (front == index + 1) & (scene.owner == number)
            if pixels.sum() >= least:
                scale = measures.scale_of(scene.mask.shape)
                around = measures.dilate(pixels, 4 * scale) & ~measures.dilate(pixels, scale)
                yield VisiblePart(part, placed, pixels, around)


def shows(picture: Pixels, ideal: Pixels, seen: VisiblePart) -> bool:
    """Whether the part's pixels are nearer in colour to the ideal part than to its surroundings."""
    core = inner(seen.pixels)
    wanted, other = np.median(ideal[core], axis=0), np.median(ideal[seen.around], axis=0)
    if measures.contrast(wanted, other) > ALIKE:
        found = np.median(picture[core], axis=0)
        return measures.contrast(found, wanted) < CLEARLY * measures.contrast(found, other)
    shape = seen.pixels.shape
    outline = measures.line_mask(seen.part.points, shape, 3 * measures.scale_of(shape), closed=seen.part.closed)
    return measures.shows_line(picture, outline, core)


def inner(pixels: Mask) -> Mask:
    """The pixels without the ink at the edge, if the part is wide enough."""
    core = measures.erode(pixels, measures.scale_of(pixels.shape))
    return core if core.sum() >= SMALLEST else pixels
