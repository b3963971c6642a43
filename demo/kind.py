# SPDX-License-Identifier: Apache-2.0
"""A kind of thing that can be drawn: its nouns, natural colours and surroundings, and its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from demo.geometry import Part, arc, ellipse

Draw = Callable[[np.random.Generator], list[Part]]


@dataclass(frozen=True, slots=True)
class Kind:
    nouns: tuple[str, ...]
    draw: Draw
    colours: tuple[str, ...]  # natural colours, used if the caption names none; empty: any
    home: tuple[str, ...]  # its usual scenes
    weight: float
    turn: float  # largest rotation in degrees
    family: str  # the module that draws it, such as "animals"


KINDS: dict[str, Kind] = {}


def kind(
    *nouns: str,
    colours: tuple[str, ...] = (),
    home: tuple[str, ...] = (),
    weight: float = 1.0,
    turn: float = 12.0,
    name: str = "",
) -> Callable[[Draw], Draw]:
    """Register the decorated function as the drawing of these nouns, under `name` or the first noun."""

    def register(draw: Draw) -> Draw:
        KINDS[name or nouns[0]] = Kind(nouns, draw, colours, home, weight, turn, draw.__module__.rpartition(".")[2])
        return draw

    return register


def eyes(rng: np.random.Generator, *places: tuple[float, float], size: float = 0.2) -> list[Part]:
    """Round white eyes with a pupil, large enough to survive in a latent of a quarter of the size."""
    parts = []
    look = rng.uniform(-0.3, 0.3) * size
    for x, y in places:
        parts.append(Part(ellipse(x, y, size), "snow", is_detail=True))
        parts.append(Part(ellipse(x + look, y, size * 0.5), "ink", is_detail=True, has_ink=False, is_drawn=False))
    return parts


def smile(x: float, y: float, width: float) -> Part:
    return Part(arc(x, y, width, width * 0.8, 20, 160), None, closed=False, is_detail=True)
