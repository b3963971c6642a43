# SPDX-License-Identifier: Apache-2.0
"""People: stick figures with limbs as strokes, and figures in clothes."""

from __future__ import annotations

from functools import partial

import numpy as np

from demo.geometry import Part, arc, ellipse, line, polygon, smooth
from demo.kind import kind
from demo.palette import BASE, HAIRS, SKINS, draw_name

Rng = np.random.Generator
LIMB = 0.13


@kind("person", "stick figure", "man", "boy", "stick man", "child", weight=2.4, turn=5)
def person(rng: Rng) -> list[Part]:
    """A stick figure: one head and five strokes, painted as limbs in the object's colour."""
    hip, neck = rng.uniform(0.2, 0.34), -0.42
    return [*limbs(rng, hip=hip), Part(line((0, neck), (0, hip)), "body", False, width=LIMB), *head(rng, hair=0.35)]


@kind("dancer", "runner", "jumping person", "football player", weight=0.8, turn=12)
def dancer(rng: Rng) -> list[Part]:
    """A stick figure with bent arms and legs."""
    parts = []
    for s in (-1, 1):
        elbow = (s * rng.uniform(0.35, 0.5), rng.uniform(-0.3, 0.1))
        hand = (s * rng.uniform(0.5, 0.8), rng.uniform(-0.75, 0.3))
        knee = (s * rng.uniform(0.2, 0.42), rng.uniform(0.5, 0.62))
        foot = (s * rng.uniform(0.2, 0.62), rng.uniform(0.85, 1.08))
        parts += [Part(line((0, -0.22), elbow, hand), "body", False, width=LIMB)]
        parts += [Part(line((0, 0.26), knee, foot), "body", False, width=LIMB)]
    return [*parts, Part(line((0, -0.42), (0, 0.26)), "body", False, width=LIMB), *head(rng, hair=0.3)]


@kind("girl", "woman", "princess", "doll", "mother", weight=1.4, turn=4)
def girl(rng: Rng) -> list[Part]:
    """A figure with a dress in the object's colour over thin legs."""
    legs = [Part(line((s * 0.16, 0.55), (s * 0.2, 1.08)), "skin", False, width=0.11) for s in (-1, 1)]
    dress = polygon((-0.12, -0.4), (0.12, -0.4), (0.58, 0.68), (-0.58, 0.68))
    return [*arms(rng, "skin"), *legs, Part(dress), *head(rng, hair=0.9, is_long=True)]


@kind("man", "father", "king", "worker", "baby", weight=1.0, turn=4)
def man(rng: Rng) -> list[Part]:
    """A figure with a shirt in the object's colour and trousers."""
    legs = [Part(line((s * 0.15, 0.3), (s * 0.24, 1.08)), (52, 60, 110), False, width=0.2) for s in (-1, 1)]
    shirt = smooth((-0.34, -0.36), (0.34, -0.36), (0.34, 0.34), (-0.34, 0.34))
    return [*legs, *arms(rng, "body", width=0.17), Part(shirt), *head(rng, hair=0.7)]


def limbs(rng: Rng, *, hip: float) -> list[Part]:
    stride = rng.uniform(0.22, 0.5)
    legs = [Part(line((0, hip), (s * stride, 1.05)), "body", False, width=LIMB) for s in (-1, 1)]
    return [*legs, *arms(rng, "body")]


def arms(rng: Rng, fill: str, *, width: float = LIMB) -> list[Part]:
    reach, level = rng.uniform(0.45, 0.68), rng.uniform(-0.28, -0.12)
    both = rng.choice((0, 1, 2))  # one straight line, arms up, or each its own way
    if both == 0:
        return [Part(line((-reach, level), (reach, level)), fill, False, width=width)]
    lift = rng.uniform(-0.8, -0.4) if both == 1 else rng.uniform(-0.5, 0.25)
    other = lift if both == 1 else rng.uniform(-0.6, 0.25)
    return [Part(line((s * reach, y), (0, level)), fill, False, width=width) for s, y in ((-1, lift), (1, other))]


def head(rng: Rng, *, hair: float, is_long: bool = False) -> list[Part]:
    """A round head with eyes and a smile, and hair as often as `hair` says."""
    skin = SKINS[draw_name(rng, SKINS)] if rng.random() < 0.3 else SKINS["light"]
    r, y = rng.uniform(0.36, 0.4), -0.78
    parts: list[Part] = []
    name = draw_name(rng, HAIRS)
    has_hair, says = rng.random() < hair, rng.random() < 0.6
    lock = partial(Part, fill=HAIRS[name if says else "brown"], said=f"{name} hair" if says else "")
    if has_hair and is_long:
        side, low = r + 0.1, y + 1.15 * r
        left, right = [(-side, low), (-side, y - 0.08)], [(side, y - 0.08), (side, low)]
        parts.append(lock(smooth(*left, (0, y - 1.3 * r), *right, (0, y + r))))
    parts.append(Part(ellipse(0, y, r, r * 1.04), skin))
    if has_hair:
        top = smooth((-1, -0.12), (-0.8, -0.94), (0, -1.25), (0.8, -0.94), (1, -0.12), (0, -0.5))
        parts.append(lock(top * r + [0, y]))
    if rng.random() < 0.15:
        hat = draw_name(rng, BASE)
        said = f"{'an' if hat[0] in 'aeiou' else 'a'} {hat} hat"
        cone = polygon((-r - 0.1, y - 0.5 * r), (0, y - 1.75 * r), (r + 0.1, y - 0.5 * r))
        parts.append(Part(cone, BASE[hat], said=said))
    shown = bool(rng.random() < 0.6)
    eyes = [
        Part(ellipse(s * 0.16, y - 0.06, 0.085), "ink", is_detail=True, has_ink=False, is_drawn=shown) for s in (-1, 1)
    ]
    smile = Part(arc(0, y + 0.06, 0.2, 0.16, 15, 165), "tomato", False, is_detail=True, is_drawn=shown, width=0.1)
    return [*parts, *eyes, smile]
