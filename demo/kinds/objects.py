# SPDX-License-Identifier: Apache-2.0
"""Things from around the house."""

from __future__ import annotations

import numpy as np

from demo.geometry import Part, arc, box, curve, ellipse, line, polygon, smooth, star
from demo.kind import kind

Rng = np.random.Generator


@kind("gift", "present", "parcel", weight=1.2, turn=6)
def gift(_rng: Rng) -> list[Part]:
    bows = [smooth((0, -0.6), (s * 0.2, -1.0), (s * 0.6, -1.0), (s * 0.4, -0.65)) for s in (-1, 1)]
    return [
        *(Part(b, "gold") for b in bows),
        Part(box(-0.85, -0.6, 0.85, 0.9)),
        Part(box(-0.17, -0.6, 0.17, 0.9), "gold", is_detail=True),
        Part(box(-0.85, 0.0, 0.85, 0.3), "gold", is_detail=True, is_drawn=False),
    ]


@kind("dice", "die", colours=("white", "red"), turn=20)
def dice(_rng: Rng) -> list[Part]:
    spots = [(-0.42, -0.42), (0.42, -0.42), (0, 0), (-0.42, 0.42), (0.42, 0.42)]
    return [Part(box(-0.85, -0.85, 0.85, 0.85))] + [Part(ellipse(x, y, 0.16), "ink", is_detail=True) for x, y in spots]


@kind("television", "tv", "screen", "monitor", "computer", colours=("black", "brown", "gray"), turn=2)
def television(_rng: Rng) -> list[Part]:
    return [
        Part(polygon((-0.3, 0.6), (0.3, 0.6), (0.5, 0.95), (-0.5, 0.95)), "metal"),
        Part(box(-1.05, -0.75, 1.05, 0.68)),
        Part(box(-0.85, -0.55, 0.85, 0.48), "sky", is_detail=True),
    ]


@kind("phone", "smartphone", "tablet", colours=("black", "white", "gray"), turn=20)
def phone(_rng: Rng) -> list[Part]:
    return [
        Part(box(-0.55, -1, 0.55, 1)),
        Part(box(-0.42, -0.8, 0.42, 0.62), "sky", is_detail=True),
        Part(ellipse(0, 0.81, 0.1), "snow", is_detail=True, is_drawn=False),
    ]


@kind("book", "notebook", turn=15)
def book(_rng: Rng) -> list[Part]:
    return [
        Part(box(-0.7, -0.95, 0.7, 0.95)),
        Part(box(-0.7, -0.95, -0.48, 0.95), "dark", is_detail=True),
        Part(box(-0.25, -0.6, 0.48, -0.2), "cream", is_detail=True),
    ]


@kind("lamp", "desk lamp", "lantern", colours=("yellow", "red"), home=("night",), turn=4)
def lamp(_rng: Rng) -> list[Part]:
    return [
        Part(line((0, -0.1), (0, 0.85)), "metal", closed=False, width=0.12),
        Part(ellipse(0, 0.88, 0.5, 0.15), "metal"),
        Part(polygon((-0.4, -1), (0.4, -1), (0.85, 0.05), (-0.85, 0.05))),
    ]


@kind("candle", colours=("white", "red"), home=("night",), turn=3)
def candle(_rng: Rng) -> list[Part]:
    return [
        Part(smooth((0, -1.1), (0.2, -0.65), (0, -0.42), (-0.2, -0.65)), "flame"),
        Part(box(-0.32, -0.4, 0.32, 1.0)),
    ]


@kind("umbrella", "parasol", weight=1.1, home=("beach",), turn=12)
def umbrella(_rng: Rng) -> list[Part]:
    handle = curve((0, -0.1), (0, 0.8), (0.15, 1.0), (0.32, 0.82))
    top = smooth(
        (-1.05, 0.05),
        (-0.75, -0.6),
        (0, -0.9),
        (0.75, -0.6),
        (1.05, 0.05),
        (0.55, -0.08),
        (0, 0.05),
        (-0.55, -0.08),
    )
    ribs = [curve((0, -0.88), (s * 0.35, -0.5), (s * 0.42, -0.05)) for s in (-1, 1)]
    return [
        Part(handle, "wood", closed=False, width=0.1),
        Part(top),
        *(Part(r, None, closed=False, is_detail=True) for r in ribs),
    ]


@kind("hat", "top hat", "cap", turn=10)
def hat(_rng: Rng) -> list[Part]:
    return [
        Part(ellipse(0, 0.5, 1.1, 0.28)),
        Part(smooth((-0.55, 0.5), (-0.6, -0.6), (0, -0.75), (0.6, -0.6), (0.55, 0.5))),
        Part(polygon((-0.57, 0.1), (0.57, 0.1), (0.56, 0.4), (-0.56, 0.4)), "ink", is_detail=True),
    ]


@kind("crown", colours=("yellow",), turn=6)
def crown(_rng: Rng) -> list[Part]:
    gems = [
        Part(ellipse(x, 0.4, 0.15), fill, is_detail=True) for x, fill in ((-0.5, "tomato"), (0, "sky"), (0.5, "tomato"))
    ]
    return [
        Part(polygon((-0.95, -0.6), (-0.45, 0.0), (0, -0.85), (0.45, 0.0), (0.95, -0.6), (0.8, 0.75), (-0.8, 0.75))),
        *gems,
    ]


@kind("shirt", "t-shirt", "sweater", turn=4)
def shirt(_rng: Rng) -> list[Part]:
    body = polygon(
        (-0.35, -0.8),
        (0.35, -0.8),
        (1.05, -0.4),
        (0.85, 0.05),
        (0.55, -0.1),
        (0.55, 0.9),
        (-0.55, 0.9),
        (-0.55, -0.1),
        (-0.85, 0.05),
        (-1.05, -0.4),
    )
    return [Part(body), Part(star(5, 0.13, outer=0.3) + np.array([0, 0.2]), "light", is_detail=True)]


@kind("shoe", "boot", "sneaker", turn=6)
def shoe(_rng: Rng) -> list[Part]:
    body = smooth((-0.85, -0.75), (-0.1, -0.75), (0.05, -0.1), (0.9, 0.15), (1.05, 0.6), (-0.85, 0.6))
    return [Part(body), Part(box(-0.9, 0.5, 1.08, 0.72), "snow")] + [
        Part(line((x, y), (x + 0.3, y - 0.2)), None, closed=False, is_detail=True)
        for x, y in ((-0.05, -0.1), (0.15, 0.05))
    ]


@kind("key", colours=("yellow", "gray"), turn=60)
def key(_rng: Rng) -> list[Part]:
    bit = polygon(
        (-0.2, -0.12),
        (1.1, -0.12),
        (1.1, 0.35),
        (0.88, 0.35),
        (0.88, 0.12),
        (0.65, 0.12),
        (0.65, 0.32),
        (0.45, 0.32),
        (0.45, 0.12),
        (-0.2, 0.12),
    )
    return [Part(bit), Part(ellipse(-0.6, 0, 0.45)), Part(ellipse(-0.6, 0, 0.2), "hole", is_detail=True)]


@kind("bell", colours=("yellow",), turn=15)
def bell(_rng: Rng) -> list[Part]:
    return [
        Part(ellipse(0, 0.75, 0.2), "dark"),
        Part(
            smooth(
                (0, -0.95),
                (0.45, -0.6),
                (0.55, 0.2),
                (0.95, 0.65),
                (-0.95, 0.65),
                (-0.55, 0.2),
                (-0.45, -0.6),
            )
        ),
        Part(curve((-0.62, 0.35), (0, 0.42), (0.62, 0.35)), None, closed=False, is_detail=True),
    ]


@kind("pencil", "crayon", "pen", colours=("yellow", "red", "blue"), turn=60)
def pencil(_rng: Rng) -> list[Part]:
    return [
        Part(polygon((0.55, -0.22), (1.15, 0), (0.55, 0.22)), "cream"),
        Part(box(-0.85, -0.22, 0.55, 0.22)),
        Part(box(-1.1, -0.22, -0.82, 0.22), "rose"),
        Part(line((-0.8, 0), (0.5, 0)), None, closed=False, is_detail=True),
    ]


@kind("chair", "stool", "table", colours=("brown", "red"), turn=2)
def chair(_rng: Rng) -> list[Part]:
    legs = [box(-0.6, 0.3, -0.42, 1.0), box(0.42, 0.3, 0.6, 1.0)]
    return [
        *(Part(x, "dark") for x in legs),
        Part(box(-0.6, -1.0, -0.36, 0.2), "dark"),
        Part(box(-0.65, 0.08, 0.65, 0.34)),
    ]


@kind("guitar", "violin", colours=("brown", "red", "orange"), turn=25)
def guitar(_rng: Rng) -> list[Part]:
    body = smooth(
        (0, -0.15),
        (0.42, -0.05),
        (0.34, 0.3),
        (0.6, 0.7),
        (0, 1.05),
        (-0.6, 0.7),
        (-0.34, 0.3),
        (-0.42, -0.05),
    )
    return [
        Part(box(-0.1, -1.1, 0.1, 0.1), "wood"),
        Part(body),
        Part(ellipse(0, 0.38, 0.2), "ink", is_detail=True),
    ]


@kind("kite", home=("sky",), turn=20)
def kite(_rng: Rng) -> list[Part]:
    tail = curve((0, 0.5), (0.25, 0.75), (-0.1, 0.95), (0.15, 1.2))
    bars = [line((0, -1), (0, 0.5)), line((-0.6, -0.35), (0.6, -0.35))]
    return [
        Part(tail, "ink", closed=False, width=0.045),
        Part(polygon((0, -1), (0.6, -0.35), (0, 0.5), (-0.6, -0.35))),
        *(Part(b, None, closed=False, is_detail=True) for b in bars),
    ]


@kind("vase", "pot", "jar", turn=4)
def vase(_rng: Rng) -> list[Part]:
    return [
        Part(
            smooth(
                (-0.35, -0.95),
                (0.35, -0.95),
                (0.28, -0.6),
                (0.72, 0.1),
                (0.4, 0.95),
                (-0.4, 0.95),
                (-0.72, 0.1),
                (-0.28, -0.6),
            )
        ),
        Part(curve((-0.65, 0.05), (0, 0.2), (0.65, 0.05)), "light", closed=False, is_detail=True, width=0.14),
    ]


@kind("eye", colours=("blue", "green", "brown"), turn=5)
def eye(_rng: Rng) -> list[Part]:
    lid = smooth((-1.1, 0), (-0.5, -0.5), (0.5, -0.5), (1.1, 0), (0.5, 0.5), (-0.5, 0.5))
    return [
        Part(lid, "snow"),
        Part(ellipse(0, 0, 0.42), "body", is_detail=True),
        Part(ellipse(0, 0, 0.2), "ink", is_detail=True),
    ]


@kind("glasses", "sunglasses", colours=("black", "red"), turn=6)
def glasses(_rng: Rng) -> list[Part]:
    parts = [Part(arc(0, 0.05, 0.25, 0.22, 200, 340), "body", closed=False, width=0.1)]
    for x in (-0.58, 0.58):
        parts += [Part(ellipse(x, 0, 0.5, 0.42)), Part(ellipse(x, 0, 0.34, 0.27), "glass", is_detail=True)]
    return parts
