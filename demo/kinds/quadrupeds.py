# SPDX-License-Identifier: Apache-2.0
"""Whole animals on four legs, seen from the side."""

from __future__ import annotations

import numpy as np

from demo.geometry import Part, Points, curve, ellipse, flipped, line, petals, polygon, smooth
from demo.kind import kind

Rng = np.random.Generator


def animal(rng: Rng, *, head: list[Part], body: Points, legs: float = 0.14, foot: float = 0.95) -> list[Part]:
    """Four legs behind a body and in front of it the head, looking to either side."""
    xs = (-0.45, -0.22, 0.38, 0.62)
    hips = body[:, 1].mean()
    limbs = [Part(line((x, hips), (x + rng.uniform(-0.05, 0.05), foot)), "body", False, width=legs) for x in xs]
    side = rng.choice([-1, 1])
    return [flipped(p, side) for p in (*limbs, Part(body), *head)]


def dot_eye(x: float, y: float) -> Part:
    return Part(ellipse(x, y, 0.075), "ink", is_detail=True, has_ink=False)


def tail(*corners: tuple[float, float], fill: str = "body", width: float = 0.1) -> Part:
    return Part(curve(*corners), fill, False, width=width)


@kind("cat", "kitten", "tomcat", name="whole cat", colours=("orange", "gray", "black", "white"), weight=1.2, turn=4)
def whole_cat(rng: Rng) -> list[Part]:
    ears = [polygon((x - 0.16, -0.55), (x, -0.98), (x + 0.16, -0.58)) for x in (-0.92, -0.5)]
    whiskers = [line((x, -0.25), (x + d, y)) for x, d in ((-0.82, -0.32), (-0.6, 0.32)) for y in (-0.32, -0.16)]
    head = [
        tail((0.7, 0.0), (1.05, -0.1), (0.95, -0.6), (1.15, -0.8)),
        *(Part(e) for e in ears),
        Part(ellipse(-0.71, -0.35, 0.4, 0.36)),
        dot_eye(-0.86, -0.42),
        dot_eye(-0.56, -0.42),
        Part(ellipse(-0.71, -0.26, 0.07, 0.05), "rose", is_detail=True),
        *(Part(w, "coal", False, width=0.04) for w in whiskers),
    ]
    return animal(rng, head=head, body=ellipse(0.1, 0.15, 0.72, 0.38))


@kind("dog", "puppy", "hound", name="whole dog", colours=("brown", "white", "black"), weight=1.2, turn=4)
def whole_dog(rng: Rng) -> list[Part]:
    head = [
        tail((0.7, 0.0), (0.98, -0.2), (1.05, -0.55)),
        Part(smooth((-0.5, -0.75), (-0.35, -0.4), (-0.55, -0.15), (-0.98, -0.12), (-1.15, -0.3), (-0.95, -0.6))),
        Part(smooth((-0.62, -0.72), (-0.36, -0.7), (-0.28, -0.2), (-0.48, -0.18)), "dark"),
        dot_eye(-0.78, -0.48),
        Part(ellipse(-1.12, -0.32, 0.1, 0.08), "ink"),
    ]
    return animal(rng, head=head, body=ellipse(0.1, 0.12, 0.72, 0.34))


@kind("horse", "pony", "donkey", "unicorn", colours=("brown", "white", "black"), home=("meadow",), weight=1.4, turn=3)
def horse(rng: Rng) -> list[Part]:
    neck = smooth((-0.7, 0.0), (-0.85, -0.6), (-1.15, -0.45), (-1.2, -0.65), (-0.75, -1.05), (-0.45, -0.7), (-0.2, 0.0))
    mane = smooth((-0.72, -1.0), (-0.4, -0.78), (-0.18, -0.1), (-0.38, -0.3), (-0.62, -0.75))
    head = [
        tail((0.72, 0.0), (1.0, 0.2), (0.98, 0.6), fill="dark", width=0.14),
        Part(neck),
        Part(mane, "dark"),
        dot_eye(-0.84, -0.76),
    ]
    return animal(rng, head=head, body=ellipse(0.1, 0.1, 0.72, 0.34), legs=0.13, foot=1.05)


@kind("cow", "bull", colours=("white", "brown"), home=("meadow",), weight=1.2, turn=3)
def cow(rng: Rng) -> list[Part]:
    head = [
        tail((0.74, -0.1), (0.95, 0.2), (0.9, 0.5), width=0.06),
        *(Part(ellipse(x, y, 0.16, 0.12), "coal", is_detail=True) for x, y in ((-0.05, 0.0), (0.42, 0.22))),
        *(
            Part(
                curve((-0.72 + s * 0.14, -0.66), (-0.72 + s * 0.26, -0.85), (-0.72 + s * 0.2, -1.0)),
                "cream",
                False,
                width=0.08,
            )
            for s in (-1, 1)
        ),
        Part(ellipse(-0.74, -0.4, 0.32, 0.32)),
        Part(ellipse(-0.78, -0.22, 0.26, 0.16), "rose", is_detail=True),
        dot_eye(-0.84, -0.48),
        dot_eye(-0.6, -0.48),
    ]
    return animal(rng, head=head, body=ellipse(0.15, 0.08, 0.74, 0.4))


@kind("sheep", "lamb", "goat", colours=("white", "black"), home=("meadow",), weight=1.2, turn=3)
def sheep(rng: Rng) -> list[Part]:
    head = [
        Part(ellipse(-0.72, -0.25, 0.27, 0.34), "coal"),
        Part(ellipse(-0.78, -0.3, 0.08), "snow", is_detail=True, is_drawn=False),
    ]
    wool = petals(9, 0.12) * [0.82, 0.56] + [0.12, -0.02]
    return animal(rng, head=head, body=wool, legs=0.11, foot=0.92)


@kind("elephant", "mammoth", colours=("gray", "blue"), home=("desert", "meadow"), weight=1.2, turn=3)
def elephant(rng: Rng) -> list[Part]:
    head = [
        tail((0.76, -0.15), (0.98, 0.1), (0.95, 0.35), width=0.06),
        tail((-0.85, -0.2), (-1.1, 0.2), (-1.02, 0.6), (-1.18, 0.7), width=0.2),
        Part(ellipse(-0.66, -0.35, 0.42, 0.4)),
        Part(smooth((-0.62, -0.62), (-0.25, -0.78), (-0.08, -0.4), (-0.25, -0.02), (-0.5, -0.1)), "dark"),
        dot_eye(-0.84, -0.42),
    ]
    return animal(rng, head=head, body=ellipse(0.12, 0.0, 0.78, 0.52), legs=0.22, foot=0.92)


@kind("giraffe", "llama", "camel", colours=("yellow", "orange"), home=("desert", "meadow"), turn=3)
def giraffe(rng: Rng) -> list[Part]:
    neck = polygon((-0.62, 0.3), (-0.62, -0.75), (-0.42, -0.75), (-0.2, 0.25))
    spots = [
        Part(ellipse(x, y, 0.1), "wood", is_detail=True)
        for x, y in ((-0.46, -0.35), (-0.4, 0.0), (0.0, 0.34), (0.35, 0.28))
    ]
    head = [
        Part(neck),
        *(Part(line((x, -0.9), (x + 0.02, -1.12)), "wood", False, width=0.06) for x in (-0.6, -0.46)),
        Part(ellipse(-0.66, -0.82, 0.28, 0.17)),
        dot_eye(-0.68, -0.86),
        *spots,
        tail((0.66, 0.25), (0.85, 0.4), (0.82, 0.65), width=0.06),
    ]
    return animal(rng, head=head, body=ellipse(0.1, 0.32, 0.64, 0.27), legs=0.11, foot=1.12)


@kind("dinosaur", "dragon", "crocodile", colours=("green", "purple"), home=("forest", "desert"), weight=1.3, turn=4)
def dinosaur(rng: Rng) -> list[Part]:
    back = smooth(
        (-1.1, -0.5),
        (-0.8, -0.85),
        (-0.45, -0.6),
        (-0.2, -0.1),
        (0.4, -0.15),
        (1.2, 0.5),
        (0.6, 0.4),
        (-0.35, 0.45),
        (-0.68, -0.3),
        (-1.0, -0.25),
    )
    spikes = [
        polygon((x - 0.13, y), (x + 0.02, y - 0.28), (x + 0.15, y + 0.06))
        for x, y in ((-0.14, -0.06), (0.18, -0.12), (0.5, 0.0))
    ]
    legs = [Part(line((x, 0.25), (x - 0.03, 0.85)), "body", False, width=0.18) for x in (-0.22, 0.34)]
    side = rng.choice([-1, 1])
    parts = [
        *(Part(s, "flame") for s in spikes),
        *legs,
        Part(back),
        dot_eye(-0.82, -0.62),
        Part(curve((-1.05, -0.42), (-0.85, -0.4), (-0.7, -0.46)), None, False, is_detail=True),
    ]
    return [flipped(p, side) for p in parts]


@kind("hedgehog", "porcupine", colours=("brown",), home=("forest", "meadow"), turn=3)
def hedgehog(rng: Rng) -> list[Part]:
    angles = np.linspace(np.pi * 1.0, np.pi * 2.0, 15)
    radius = np.where(np.arange(15) % 2 == 0, 0.78, 1.0)
    spines = polygon(*zip(0.15 + radius * np.cos(angles), 0.45 + radius * 0.95 * np.sin(angles), strict=True))
    snout = smooth((-0.5, -0.15), (-0.75, 0.05), (-1.12, 0.36), (-0.8, 0.5), (-0.35, 0.5))
    side = rng.choice([-1, 1])
    parts = [
        *(Part(ellipse(x, 0.55, 0.13, 0.1), "cream") for x in (-0.4, 0.1, 0.6)),
        Part(spines),
        Part(snout, "cream"),
        Part(ellipse(-1.1, 0.34, 0.09), "ink"),
        dot_eye(-0.72, 0.2),
    ]
    return [flipped(p, side) for p in parts]
