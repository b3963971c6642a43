# SPDX-License-Identifier: Apache-2.0
"""Food and drink."""

from __future__ import annotations

import numpy as np

from demo.geometry import Part, arc, box, curve, ellipse, line, petals, polygon, smooth
from demo.kind import kind

Rng = np.random.Generator


@kind("apple", colours=("red", "green", "yellow"), weight=1.5, turn=8)
def apple(rng: Rng) -> list[Part]:
    body = smooth(
        (0, -0.6),
        (0.5, -0.78),
        (0.95, -0.3),
        (0.75, 0.6),
        (0.3, 0.9),
        (0, 0.8),
        (-0.3, 0.9),
        (-0.75, 0.6),
        (-0.95, -0.3),
        (-0.5, -0.78),
    )
    stalk = curve((0, -0.6), (0.05, -0.9), (0.16, -1.1))
    leaf = smooth((0.1, -0.85), (0.35, -1.15), (0.75, -1.1), (0.5, -0.85))
    return [
        Part(stalk, "wood", closed=False, width=0.09),
        Part(leaf, "leaf", is_drawn=bool(rng.random() < 0.75)),
        Part(body),
    ]


@kind("pear", colours=("green", "yellow"), turn=8)
def pear(_rng: Rng) -> list[Part]:
    body = smooth(
        (0, -0.75),
        (0.32, -0.5),
        (0.4, -0.1),
        (0.78, 0.45),
        (0.4, 0.95),
        (-0.4, 0.95),
        (-0.78, 0.45),
        (-0.4, -0.1),
        (-0.32, -0.5),
    )
    return [Part(line((0, -0.7), (0.1, -1.1)), "wood", closed=False, width=0.09), Part(body)]


@kind("cherry", "cherries", "berry", colours=("red",), turn=10)
def cherry(_rng: Rng) -> list[Part]:
    stalks = [curve((x, 0.3), (x * 0.7, -0.4), (0.05, -1)) for x in (-0.5, 0.5)]
    return [
        *(Part(s, "leaf", closed=False, width=0.08) for s in stalks),
        Part(ellipse(-0.5, 0.5, 0.46)),
        Part(ellipse(0.5, 0.5, 0.46)),
    ]


@kind("strawberry", colours=("red",), turn=10)
def strawberry(_rng: Rng) -> list[Part]:
    body = smooth((-0.7, -0.5), (0, -0.68), (0.7, -0.5), (0.65, 0.15), (0, 1), (-0.65, 0.15))
    seeds = [(-0.3, -0.1), (0.3, -0.1), (0, 0.2), (-0.15, 0.55), (0.2, 0.5)]
    top = polygon(
        (-0.7, -0.75),
        (-0.25, -0.6),
        (0, -1.05),
        (0.25, -0.6),
        (0.7, -0.75),
        (0.3, -0.35),
        (0, -0.25),
        (-0.3, -0.35),
    )
    return [
        Part(body),
        *(Part(ellipse(x, y, 0.08), "gold", is_detail=True, is_drawn=False) for x, y in seeds),
        Part(top, "leaf"),
    ]


@kind("banana", colours=("yellow",), turn=40)
def banana(_rng: Rng) -> list[Part]:
    body = smooth(
        (-1, -0.35),
        (-0.85, -0.42),
        (-0.5, 0.05),
        (0.1, 0.22),
        (0.7, -0.05),
        (1.0, -0.45),
        (1.05, -0.2),
        (0.65, 0.45),
        (0, 0.68),
        (-0.65, 0.4),
    )
    return [
        Part(body),
        Part(curve((-0.7, 0.05), (0, 0.45), (0.85, -0.05)), None, closed=False, is_detail=True),
    ]


@kind("lemon", colours=("yellow", "green"), turn=30)
def lemon(_rng: Rng) -> list[Part]:
    return [
        Part(
            smooth(
                (-1.05, 0),
                (-0.75, -0.3),
                (0, -0.62),
                (0.75, -0.3),
                (1.05, 0),
                (0.75, 0.3),
                (0, 0.62),
                (-0.75, 0.3),
            )
        )
    ]


@kind("carrot", colours=("orange",), turn=40)
def carrot(_rng: Rng) -> list[Part]:
    leaves = [smooth((0, -0.5), (x - 0.12, -0.85), (x, -1.15), (x + 0.12, -0.85)) for x in (-0.3, 0.0, 0.3)]
    rings = [line((-0.25, -0.2), (0.05, -0.17)), line((0.22, 0.1), (-0.05, 0.13))]
    return [
        *(Part(x, "leaf") for x in leaves),
        Part(smooth((-0.42, -0.45), (0, -0.58), (0.42, -0.45), (0.22, 0.4), (0, 1.05), (-0.22, 0.4))),
        *(Part(r, None, closed=False, is_detail=True) for r in rings),
    ]


@kind("watermelon", "melon", colours=("red",), turn=15)
def watermelon(_rng: Rng) -> list[Part]:
    rind, flesh = ellipse(0, -0.45, 1.05, 1.15), ellipse(0, -0.45, 0.86, 0.92)
    for half in (rind, flesh):
        half[:, 1] = np.maximum(half[:, 1], -0.45)
    seeds = [(-0.42, -0.15), (0.0, -0.1), (0.42, -0.15), (-0.2, 0.15), (0.2, 0.15)]
    return [Part(rind, "leaf"), Part(flesh, "body", is_detail=True)] + [
        Part(ellipse(x, y, 0.07, 0.1), "ink", is_detail=True, has_ink=False, is_drawn=False) for x, y in seeds
    ]


@kind(
    "ice cream",
    "icecream",
    "ice cream cone",
    colours=("pink", "white", "brown"),
    home=("beach",),
    weight=1.3,
    turn=8,
)
def ice_cream(_rng: Rng) -> list[Part]:
    cone = polygon((-0.48, -0.05), (0.48, -0.05), (0, 1.1))
    waffle = [line((-0.25, 0.05), (0.2, 0.6)), line((0.25, 0.05), (-0.2, 0.6))]
    return [
        Part(cone, (222, 160, 84)),
        *(Part(w, None, closed=False, is_detail=True) for w in waffle),
        Part(ellipse(0, -0.42, 0.58, 0.52)),
    ]


@kind("cake", "birthday cake", "pie", colours=("pink", "white", "brown"), weight=1.1, turn=3)
def cake(_rng: Rng) -> list[Part]:
    icing = smooth(
        (-0.9, -0.3),
        (0.9, -0.3),
        (0.85, 0.1),
        (0.5, 0.0),
        (0.2, 0.2),
        (-0.2, 0.0),
        (-0.55, 0.2),
        (-0.85, 0.05),
    )
    candles = [Part(box(x - 0.07, -0.75, x + 0.07, -0.25), "sky") for x in (-0.45, 0, 0.45)]
    flames = [Part(ellipse(x, -0.9, 0.09, 0.14), "flame", is_drawn=False) for x in (-0.45, 0, 0.45)]
    return [*candles, *flames, Part(box(-0.9, -0.3, 0.9, 0.85)), Part(icing, "snow", is_detail=True)]


@kind("cupcake", "muffin", colours=("pink", "brown", "white"), turn=4)
def cupcake(_rng: Rng) -> list[Part]:
    top = petals(7, 0.15) * [0.85, 0.55] + [0, -0.25]
    folds = [line((x, 0.25), (x * 0.8, 0.9)) for x in (-0.25, 0.25)]
    return [
        Part(polygon((-0.7, 0.1), (0.7, 0.1), (0.5, 0.95), (-0.5, 0.95)), "cream"),
        Part(top),
        Part(ellipse(0, -0.78, 0.17), "tomato"),
        *(Part(f, None, closed=False, is_detail=True) for f in folds),
    ]


@kind("bread", "loaf", "toast", colours=("brown", "orange"), turn=5)
def bread(_rng: Rng) -> list[Part]:
    body = smooth(
        (-0.85, 0.8),
        (-0.8, -0.1),
        (-0.9, -0.5),
        (-0.4, -0.8),
        (0.4, -0.8),
        (0.9, -0.5),
        (0.8, -0.1),
        (0.85, 0.8),
    )
    return [Part(body), Part(body * 0.78 + [0, 0.03], "cream", is_detail=True)]


@kind("cheese", colours=("yellow",), turn=6)
def cheese(_rng: Rng) -> list[Part]:
    holes = [(-0.3, 0.3, 0.16), (0.3, 0.45, 0.14), (0.5, 0.05, 0.13)]
    return [Part(polygon((-1, 0.1), (0.9, -0.6), (1, -0.1), (1, 0.75), (-1, 0.75)))] + [
        Part(ellipse(x, y, r), "dark", is_detail=True) for x, y, r in holes
    ]


@kind("cup", "mug", "coffee", "tea cup", weight=1.3, turn=4)
def cup(_rng: Rng) -> list[Part]:
    handle = arc(0.6, 0.05, 0.42, 0.4, -80, 80)
    return [
        Part(handle, "body", closed=False, width=0.14),
        Part(smooth((-0.75, -0.6), (0.62, -0.6), (0.55, 0.7), (0, 0.8), (-0.68, 0.7))),
        Part(ellipse(-0.06, -0.58, 0.64, 0.15), "choco", is_detail=True),
    ]


@kind("bottle", "wine bottle", colours=("green", "brown", "blue"), turn=8)
def bottle(_rng: Rng) -> list[Part]:
    body = polygon(
        (-0.16, -1.05),
        (0.16, -1.05),
        (0.16, -0.5),
        (0.42, -0.2),
        (0.42, 1.0),
        (-0.42, 1.0),
        (-0.42, -0.2),
        (-0.16, -0.5),
    )
    return [Part(body), Part(box(-0.42, 0.15, 0.42, 0.62), "cream", is_detail=True)]


@kind("lollipop", "candy", "sweet", turn=12)
def lollipop(_rng: Rng) -> list[Part]:
    turns = np.linspace(0.4, 4.2 * np.pi, 44)
    swirl = np.stack([turns * 0.038 * np.cos(turns), -0.4 + turns * 0.038 * np.sin(turns)], axis=1)
    return [
        Part(line((0, 0.1), (0, 1.1)), "snow", closed=False, width=0.1),
        Part(ellipse(0, -0.4, 0.62)),
        Part(swirl, "snow", closed=False, is_detail=True, width=0.1),
    ]
