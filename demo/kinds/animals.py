# SPDX-License-Identifier: Apache-2.0
"""Animals and creatures."""

from __future__ import annotations

import numpy as np

from demo.geometry import Pair, Part, arc, blob, box, curve, ellipse, flipped, line, polygon, smooth
from demo.kind import eyes, kind, smile

Rng = np.random.Generator


@kind("cat", "kitten", colours=("orange", "gray", "black", "white"), weight=2.0, turn=8)
def cat(rng: Rng) -> list[Part]:
    head = smooth(
        (-0.85, -0.95),
        (-0.4, -0.62),
        (0.4, -0.62),
        (0.85, -0.95),
        (0.92, 0),
        (0.6, 0.7),
        (0, 0.9),
        (-0.6, 0.7),
        (-0.92, 0),
    )
    if rng.random() < 0.5:
        head = polygon(
            (-0.85, -1.05),
            (-0.35, -0.62),
            (0.35, -0.62),
            (0.85, -1.05),
            (0.95, 0.1),
            (0.5, 0.75),
            (0, 0.88),
            (-0.5, 0.75),
            (-0.95, 0.1),
        )
    whiskers = [line((s * 0.35, 0.4), (s * 0.8, y)) for s in (-1, 1) for y in (0.28, 0.52)]
    nose = polygon((-0.14, 0.22), (0.14, 0.22), (0, 0.4))
    return [
        Part(head),
        *eyes(rng, (-0.38, -0.1), (0.38, -0.1), size=rng.uniform(0.17, 0.22)),
        Part(nose, "rose", is_detail=True),
    ] + [Part(w, None, closed=False, is_detail=True) for w in whiskers]


@kind("dog", "puppy", colours=("brown", "white", "black", "gray"), weight=1.4, turn=8)
def dog(rng: Rng) -> list[Part]:
    ears = [smooth((s * 0.55, -0.8), (s * 0.98, -0.75), (s * 1.12, 0.1), (s * 0.8, 0.2)) for s in (-1, 1)]
    muzzle = ellipse(0, 0.38, 0.42, 0.34)
    return [
        Part(
            smooth(
                (-0.6, -0.75),
                (0, -0.9),
                (0.6, -0.75),
                (0.82, 0),
                (0.5, 0.75),
                (0, 0.9),
                (-0.5, 0.75),
                (-0.82, 0),
            )
        ),
        *(Part(ear, "dark") for ear in ears),
        Part(muzzle, "light", is_detail=True),
        *eyes(rng, (-0.32, -0.25), (0.32, -0.25), size=0.17),
        Part(ellipse(0, 0.22, 0.17, 0.12), "ink", is_detail=True),
    ]


@kind("fish", "goldfish", colours=("orange", "red", "blue", "yellow"), home=("sea",), weight=1.8, turn=15)
def fish(rng: Rng) -> list[Part]:
    side = rng.choice([-1, 1])
    parts = [
        Part(polygon((0.55, 0), (1.15, -0.5), (1.0, 0), (1.15, 0.5)), "dark"),
        Part(smooth((-1, 0), (-0.5, -0.5), (0.1, -0.5), (0.68, 0), (0.1, 0.5), (-0.5, 0.5))),
        Part(arc(-0.7, 0, 0.42, 0.42, -55, 55), None, closed=False, is_detail=True),
        *eyes(rng, (-0.62, -0.12), size=0.16),
    ]
    return [flipped(p, side) for p in parts]


@kind("bird", "chick", "duck", "parrot", colours=("yellow", "blue", "red"), home=("sky", "meadow"), weight=1.5)
def bird(rng: Rng) -> list[Part]:
    side = rng.choice([-1, 1])
    parts = [
        Part(polygon((-0.9, -0.5), (-1.25, -0.32), (-0.85, -0.22)), "flame"),
        Part(
            smooth(
                (-0.9, -0.45),
                (-0.55, -0.85),
                (-0.15, -0.6),
                (0.1, -0.15),
                (0.95, -0.35),
                (0.75, 0.4),
                (0.1, 0.7),
                (-0.55, 0.45),
            )
        ),
        Part(smooth((-0.1, 0.05), (0.5, -0.02), (0.55, 0.3), (0.1, 0.4)), "dark", is_detail=True),
        *eyes(rng, (-0.58, -0.42), size=0.15),
    ]
    return [flipped(p, side) for p in parts]


@kind("butterfly", home=("meadow", "sky"), weight=1.3, turn=20)
def butterfly(_rng: Rng) -> list[Part]:
    parts = []
    for s in (-1, 1):
        parts += [
            Part(smooth((s * 0.08, -0.1), (s * 0.45, -0.9), (s * 1.05, -0.75), (s * 0.9, -0.1), (s * 0.4, 0.05))),
            Part(smooth((s * 0.08, 0.05), (s * 0.6, 0.05), (s * 0.85, 0.5), (s * 0.5, 0.9), (s * 0.15, 0.5))),
            Part(ellipse(s * 0.62, -0.45, 0.18), "light", is_detail=True),
            Part(ellipse(s * 0.5, 0.48, 0.14), "light", is_detail=True),
        ]
    feelers = [curve((s * 0.04, -0.6), (s * 0.12, -0.95), (s * 0.32, -1.1)) for s in (-1, 1)]
    return [
        *parts,
        *(Part(f, "ink", closed=False, width=0.05) for f in feelers),
        Part(ellipse(0, 0, 0.12, 0.7), "ink"),
    ]


@kind("snail", colours=("brown", "pink"), home=("meadow",))
def snail(rng: Rng) -> list[Part]:
    side = rng.choice([-1, 1])
    foot = smooth((-1.1, 0.1), (-0.85, -0.1), (-0.6, 0.4), (0.9, 0.45), (1.15, 0.75), (-0.9, 0.78))
    turns = np.linspace(0, 3.4 * np.pi, 40)
    spiral = np.stack([0.2 + turns * 0.05 * np.cos(turns), -0.05 + turns * 0.05 * np.sin(turns)], axis=1)
    parts = [
        Part(foot, "cream"),
        Part(ellipse(0.2, -0.05, 0.68)),
        Part(spiral, None, closed=False, is_detail=True),
    ]
    return [flipped(p, side) for p in [*parts, *eyes(rng, (-0.9, 0.08), size=0.13)]]


@kind("turtle", "tortoise", colours=("green",), home=("beach", "sea"))
def turtle(rng: Rng) -> list[Part]:
    side = rng.choice([-1, 1])
    shell = ellipse(0, 0, 0.85, 0.75)
    shell[:, 1] = np.minimum(shell[:, 1], 0.3)
    parts = [
        Part(ellipse(-0.95, 0.05, 0.28, 0.24), "light"),
        Part(box(-0.6, 0.2, -0.3, 0.6), "light"),
        Part(box(0.3, 0.2, 0.6, 0.6), "light"),
        Part(shell),
        Part(polygon((-0.25, -0.35), (0.25, -0.35), (0.4, 0.02), (-0.4, 0.02)), "dark", is_detail=True),
        *eyes(rng, (-1.02, 0.0), size=0.12),
    ]
    return [flipped(p, side) for p in parts]


@kind("bear", "teddy bear", "teddy", "panda", colours=("brown", "white"), weight=1.2, turn=8)
def bear(rng: Rng) -> list[Part]:
    return [
        *(Part(ellipse(s * 0.68, -0.68, 0.3)) for s in (-1, 1)),
        Part(ellipse(0, 0, 0.95, 0.88)),
        *eyes(rng, (-0.36, -0.2), (0.36, -0.2), size=0.15),
        Part(ellipse(0, 0.35, 0.38, 0.3), "light", is_detail=True),
        Part(ellipse(0, 0.22, 0.15, 0.11), "ink", is_detail=True),
    ]


@kind("rabbit", "bunny", "hare", colours=("white", "gray", "brown"), home=("meadow",), weight=1.2, turn=8)
def rabbit(rng: Rng) -> list[Part]:
    parts = [Part(ellipse(s * 0.34, -0.72, 0.2, 0.5, turn=s * 8)) for s in (-1, 1)]
    parts += [Part(ellipse(s * 0.34, -0.72, 0.1, 0.34, turn=s * 8), "rose", is_detail=True) for s in (-1, 1)]
    return [
        *parts,
        Part(ellipse(0, 0.3, 0.72, 0.66)),
        *eyes(rng, (-0.28, 0.15), (0.28, 0.15), size=0.15),
        Part(polygon((-0.12, 0.42), (0.12, 0.42), (0, 0.56)), "rose", is_detail=True),
    ]


@kind("pig", "piglet", colours=("pink",), turn=8)
def pig(rng: Rng) -> list[Part]:
    ears = [polygon((s * 0.35, -0.75), (s * 0.85, -1.0), (s * 0.8, -0.45)) for s in (-1, 1)]
    return [
        *(Part(e, "dark") for e in ears),
        Part(ellipse(0, 0, 0.98, 0.88)),
        *eyes(rng, (-0.4, -0.22), (0.4, -0.22), size=0.15),
        Part(ellipse(0, 0.25, 0.36, 0.27), "dark", is_detail=True),
        *(Part(ellipse(s * 0.14, 0.25, 0.08, 0.11), "ink", is_detail=True, is_drawn=False) for s in (-1, 1)),
    ]


@kind("owl", colours=("brown", "gray"), home=("night", "forest"), turn=5)
def owl(rng: Rng) -> list[Part]:
    body = smooth((-0.6, -1), (0, -0.8), (0.6, -1), (0.72, -0.2), (0.55, 0.8), (0, 1), (-0.55, 0.8), (-0.72, -0.2))
    return [
        Part(body),
        Part(ellipse(0, 0.5, 0.36, 0.4), "light", is_detail=True),
        *eyes(rng, (-0.3, -0.4), (0.3, -0.4), size=0.25),
        Part(polygon((-0.12, -0.2), (0.12, -0.2), (0, 0.05)), "flame", is_detail=True),
    ]


@kind("frog", "toad", colours=("green",), home=("meadow",), turn=5)
def frog(rng: Rng) -> list[Part]:
    return [
        *(Part(ellipse(s * 0.5, -0.6, 0.32)) for s in (-1, 1)),
        Part(ellipse(0, 0.1, 1, 0.72)),
        *eyes(rng, (-0.5, -0.6), (0.5, -0.6), size=0.19),
        smile(0, 0.12, 0.55),
    ]


@kind("whale", "dolphin", "shark", colours=("blue", "gray"), home=("sea",), weight=1.2)
def whale(rng: Rng) -> list[Part]:
    side = rng.choice([-1, 1])
    body = smooth(
        (-1.05, 0.1),
        (-0.8, -0.4),
        (-0.1, -0.55),
        (0.6, -0.2),
        (0.85, -0.3),
        (1.1, -0.7),
        (1.15, -0.2),
        (0.8, 0.3),
        (0, 0.6),
        (-0.8, 0.5),
    )
    belly = smooth((-0.95, 0.28), (-0.3, 0.3), (0.3, 0.42), (-0.3, 0.58), (-0.8, 0.48))
    return [
        flipped(p, side)
        for p in (Part(body), Part(belly, "snow", is_detail=True), *eyes(rng, (-0.62, -0.05), size=0.14))
    ]


@kind("ladybug", "beetle", "bug", colours=("red",), home=("meadow",), turn=180)
def ladybug(_rng: Rng) -> list[Part]:
    spots = [(-0.42, -0.15), (0.42, -0.15), (-0.38, 0.4), (0.38, 0.4)]
    return [
        Part(ellipse(0, -0.72, 0.42, 0.32), "ink"),
        Part(ellipse(0, 0.1, 0.85, 0.82)),
        Part(line((0, -0.6), (0, 0.9)), None, closed=False, is_detail=True),
    ] + [Part(ellipse(x, y, 0.17), "ink", is_detail=True) for x, y in spots]


@kind("spider", colours=("black", "brown"), turn=180)
def spider(rng: Rng) -> list[Part]:
    legs = [curve((0, 0), (s * 0.7, y * 0.9 - 0.25), (s * 1.05, y)) for s in (-1, 1) for y in (-0.75, -0.2, 0.35, 0.85)]
    return [
        *(Part(leg, "body", closed=False, width=0.09) for leg in legs),
        Part(ellipse(0, 0.05, 0.5, 0.55)),
        *eyes(rng, (-0.18, -0.15), (0.18, -0.15), size=0.13),
    ]


@kind("monster", "alien", "creature", weight=1.8, turn=8)
def monster(rng: Rng) -> list[Part]:
    rows: list[list[Pair]] = [[(0, -0.2)], [(-0.27, -0.2), (0.27, -0.2)], [(-0.4, -0.1), (0, -0.35), (0.4, -0.1)]]
    places = rows[rng.integers(3)]
    return [
        Part(blob(rng) * 1.05),
        *eyes(rng, *places, size=rng.uniform(0.17, 0.24)),
        smile(0, 0.15, rng.uniform(0.25, 0.4)),
    ]


@kind("ghost", colours=("white",), home=("night",), turn=6)
def ghost(_rng: Rng) -> list[Part]:
    body = smooth(
        (-0.7, -0.3),
        (-0.4, -0.92),
        (0.4, -0.92),
        (0.7, -0.3),
        (0.75, 0.9),
        (0.38, 0.68),
        (0, 0.95),
        (-0.38, 0.68),
        (-0.75, 0.9),
    )
    return [
        Part(body),
        *(Part(ellipse(s * 0.27, -0.3, 0.14, 0.2), "ink", is_detail=True) for s in (-1, 1)),
        Part(ellipse(0, 0.15, 0.15, 0.18), "ink", is_detail=True),
    ]


@kind("robot", colours=("gray", "blue", "red"), turn=4)
def robot(rng: Rng) -> list[Part]:
    return [
        Part(box(-0.05, -1.1, 0.05, -0.8), "metal", is_drawn=False),
        Part(box(-0.55, -0.85, 0.55, -0.05)),
        Part(box(-0.7, 0.05, 0.7, 1.0), "dark"),
        *eyes(rng, (-0.24, -0.5), (0.24, -0.5), size=0.15),
        Part(box(-0.28, -0.27, 0.28, -0.15), "ink", is_detail=True),
        Part(box(-0.36, 0.3, 0.36, 0.7), "lamp", is_detail=True),
    ]


@kind("snowman", colours=("white",), home=("snow",), weight=1.2, turn=3)
def snowman(rng: Rng) -> list[Part]:
    parts = [Part(ellipse(0, 0.55, 0.62, 0.55)), Part(ellipse(0, -0.35, 0.44))]
    if rng.random() < 0.6:
        parts += [Part(box(-0.3, -1.15, 0.3, -0.72), "coal"), Part(box(-0.5, -0.78, 0.5, -0.66), "coal")]
    dots = [(0, 0.35, 0.08), (0, 0.65, 0.08), (-0.16, -0.42, 0.08), (0.16, -0.42, 0.08)]
    return [
        *parts,
        *(Part(ellipse(x, y, r), "ink", is_detail=True, is_drawn=False) for x, y, r in dots),
        Part(polygon((0, -0.3), (0.4, -0.22), (0, -0.16)), "flame", is_detail=True),
    ]
