# SPDX-License-Identifier: Apache-2.0
"""Things with thin parts: spokes, whiskers, strings, rungs, legs and antennae."""

from __future__ import annotations

import numpy as np

from demo.geometry import Part, Points, arc, curve, ellipse, flipped, line, polygon, smooth
from demo.kind import eyes, kind

Rng = np.random.Generator
BAR, WIRE = 0.1, 0.05


def tube(points: Points, fill: str = "body", *, width: float = BAR) -> Part:
    return Part(points, fill, closed=False, width=width)


def ring(x: float, y: float, radius: float, fill: str, *, width: float = BAR) -> Part:
    circle = ellipse(x, y, radius)
    return tube(np.concatenate([circle, circle[:2]]), fill, width=width)


def spoked_wheel(x: float, y: float, radius: float, count: int, turn: float = 0.0) -> list[Part]:
    angles = turn + np.arange(count) * 2 * np.pi / count
    ends = [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]
    return [*(tube(line((x, y), end), "metal", width=WIRE) for end in ends), ring(x, y, radius, "coal", width=0.09)]


@kind("bicycle", "bike", home=("road", "meadow"), weight=2.0, turn=3)
def bicycle(rng: Rng) -> list[Part]:
    side, count = rng.choice([-1, 1]), int(rng.choice([6, 8]))
    seat, pedal, steer = (-0.3, -0.2), (-0.05, 0.42), (0.42, -0.25)
    back, front = (-0.62, 0.42), (0.62, 0.42)
    parts = [
        *spoked_wheel(*back, 0.42, count),
        *spoked_wheel(*front, 0.42, count),
        tube(line(back, seat, steer, pedal, back)),
        tube(line(seat, pedal)),
        tube(line(front, (0.36, -0.48))),
        tube(line((0.36, -0.48), (0.62, -0.52)), "coal"),
        tube(line((-0.34, -0.3), seat)),
        Part(ellipse(-0.36, -0.34, 0.2, 0.08), "coal"),
    ]
    return [flipped(p, side) for p in parts]


@kind("cart", "wagon", "pram", home=("meadow", "road"), turn=3)
def cart(_rng: Rng) -> list[Part]:
    return [
        *spoked_wheel(-0.5, 0.5, 0.36, 6),
        *spoked_wheel(0.5, 0.5, 0.36, 6),
        Part(polygon((-0.9, -0.45), (0.9, -0.45), (0.7, 0.2), (-0.7, 0.2))),
        tube(line((0.85, -0.4), (1.15, -0.75))),
    ]


@kind("ferris wheel", "big wheel", turn=4, home=("sky",))
def ferris_wheel(_rng: Rng) -> list[Part]:
    angles = np.arange(8) * np.pi / 4 + 0.3
    spots = [(0.74 * np.cos(a), -0.15 + 0.74 * np.sin(a)) for a in angles]
    return [
        tube(line((0, -0.15), (-0.45, 1.0)), "metal"),
        tube(line((0, -0.15), (0.45, 1.0)), "metal"),
        *(tube(line((0, -0.15), spot), "metal", width=WIRE) for spot in spots),
        ring(0, -0.15, 0.74, "metal", width=0.08),
        *(Part(ellipse(x, y, 0.14)) for x, y in spots),
    ]


@kind("mouse", "rat", colours=("gray", "white", "brown"), weight=1.3, turn=6)
def mouse(rng: Rng) -> list[Part]:
    side = rng.choice([-1, 1])
    parts = [
        tube(curve((0.65, 0.35), (1.0, 0.3), (1.0, -0.1), (1.2, -0.3)), "rose", width=0.07),
        Part(smooth((-1.0, 0.25), (-0.55, -0.2), (0.2, -0.45), (0.8, 0.1), (0.75, 0.55), (-0.6, 0.55))),
        Part(ellipse(-0.3, -0.35, 0.27)),
        Part(ellipse(-0.3, -0.35, 0.14), "rose", is_detail=True),
        *eyes(rng, (-0.62, 0.08), size=0.12),
        Part(ellipse(-1.0, 0.24, 0.11), "ink"),
        *(tube(line((-0.86, 0.3), (-1.15, y)), "coal", width=WIRE) for y in (0.42, 0.6)),
    ]
    return [flipped(p, side) for p in parts]


@kind("tiger", "lion", "fox", "raccoon", colours=("orange", "yellow", "gray"), weight=1.2, turn=6)
def whiskered(rng: Rng) -> list[Part]:
    whiskers = [line((s * 0.4, 0.36), (s * 1.15, y)) for s in (-1, 1) for y in (0.2, 0.42, 0.64)]
    return [
        *(Part(ellipse(s * 0.62, -0.62, 0.26)) for s in (-1, 1)),
        Part(ellipse(0, 0, 0.86, 0.8)),
        *eyes(rng, (-0.34, -0.16), (0.34, -0.16), size=0.17),
        Part(polygon((-0.15, 0.18), (0.15, 0.18), (0, 0.36)), "ink", is_detail=True),
        Part(arc(0, 0.38, 0.24, 0.2, 10, 170), None, False, is_detail=True),
        *(tube(w, "coal", width=WIRE) for w in whiskers),
    ]


@kind("scissors", colours=("red", "gray"), turn=60)
def scissors(_rng: Rng) -> list[Part]:
    parts = []
    for s in (-1, 1):
        blade = polygon((s * 0.06, 0.1), (-s * 0.06, 0.1), (-s * 0.42, -1.0), (-s * 0.28, -0.95))
        parts += [Part(blade, "metal"), tube(line((0, 0.05), (s * 0.26, 0.4))), ring(s * 0.38, 0.68, 0.27, "body")]
    return parts


@kind("fishing rod", "fishing pole", colours=("brown",), home=("sea",), turn=5)
def fishing_rod(rng: Rng) -> list[Part]:
    side = rng.choice([-1, 1])
    hook = arc(0.82, 0.66, 0.13, 0.16, -20, 190)
    parts = [
        tube(curve((-1.0, 0.9), (0.0, -0.4), (0.82, -0.95))),
        tube(line((0.82, -0.95), (0.95, 0.62)), "ink", width=WIRE),
        tube(hook, "metal", width=0.07),
        Part(ellipse(-0.62, 0.42, 0.16), "tomato"),
    ]
    return [flipped(p, side) for p in parts]


@kind("ladder", "steps", colours=("brown", "yellow"), turn=12)
def ladder(rng: Rng) -> list[Part]:
    wide, count = rng.uniform(0.32, 0.42), int(rng.integers(4, 7))
    rungs = [line((-wide, y), (wide, y)) for y in np.linspace(-0.78, 0.78, count)]
    return [*(tube(r, width=0.08) for r in rungs), *(tube(line((s * wide, -1.05), (s * wide, 1.05))) for s in (-1, 1))]


@kind("railing", "thin fence", "rails", colours=("brown", "white", "black"), home=("meadow",), turn=3)
def railing(rng: Rng) -> list[Part]:
    count = int(rng.integers(4, 7))
    posts = [line((x, -0.6), (x, 0.6)) for x in np.linspace(-0.9, 0.9, count)]
    return [*(tube(line((-1.1, y), (1.1, y))) for y in (-0.3, 0.3)), *(tube(p) for p in posts)]


@kind("ant", "cricket", colours=("black", "brown", "red"), home=("meadow",), turn=8)
def ant(rng: Rng) -> list[Part]:
    legs = [
        line((x * 0.4, 0.05), (x * 0.55 + d, 0.3), (x * 0.6 + d, 0.75))
        for x, d in ((-0.6, -0.15), (0, 0.0), (0.6, 0.2))
    ]
    feelers = [curve((-0.78, -0.3), (-0.95, -0.6), (-0.8 - d, -0.85)) for d in (0.0, 0.32)]
    return [
        *(tube(p, width=WIRE) for p in [*legs, *feelers]),
        Part(ellipse(0.68, 0, 0.45, 0.34)),
        Part(ellipse(0.05, 0.02, 0.28, 0.22)),
        Part(ellipse(-0.62, -0.1, 0.36, 0.32)),
        *eyes(rng, (-0.72, -0.14), size=0.11),
    ]


@kind("dragonfly", "bee", "mosquito", colours=("yellow", "green", "cyan"), home=("meadow", "sky"), turn=20)
def bee(rng: Rng) -> list[Part]:
    feelers = [curve((-0.7, -0.25), (-0.85, -0.6), (-0.7 - d, -0.8)) for d in (0.0, 0.3)]
    stripes = [polygon((x - 0.09, -0.36), (x + 0.09, -0.36), (x + 0.09, 0.36), (x - 0.09, 0.36)) for x in (-0.1, 0.28)]
    return [
        *(tube(f, "ink", width=WIRE) for f in feelers),
        Part(ellipse(-0.05, -0.62, 0.24, 0.42, turn=-18), "glass"),
        Part(ellipse(0.4, -0.56, 0.22, 0.38, turn=24), "glass"),
        Part(ellipse(0, 0, 0.88, 0.46)),
        *(Part(s, "ink", is_detail=True) for s in stripes),
        *eyes(rng, (-0.58, -0.08), size=0.13),
    ]


@kind("octopus", "jellyfish", "squid", home=("sea",), turn=8)
def octopus(rng: Rng) -> list[Part]:
    arms = [
        curve((x * 0.7, 0.1), (x * 1.0 + 0.08, 0.5), (x * 1.1 - 0.08, 0.75), (x * 1.25 + 0.06, 1.05))
        for x in (-0.8, -0.4, 0.0, 0.4, 0.8)
    ]
    body = smooth((-0.7, 0.2), (-0.68, -0.5), (0, -0.98), (0.68, -0.5), (0.7, 0.2), (0, 0.3))
    return [*(tube(a) for a in arms), Part(body), *eyes(rng, (-0.27, -0.22), (0.27, -0.22), size=0.16)]


@kind("flag", "banner", turn=3, home=("sky",))
def flag(rng: Rng) -> list[Part]:
    swing = rng.uniform(-0.14, 0.14)
    cloth = smooth((-0.68, -0.9), (0, -0.9 + swing), (0.95, -0.82), (0.9, -0.1), (0, -0.12 + swing), (-0.68, -0.1))
    return [tube(line((-0.7, -1.0), (-0.7, 1.08)), "wood", width=0.08), Part(cloth)]


@kind("net", "racket", "tennis racket", colours=("red", "blue"), turn=45)
def racket(_rng: Rng) -> list[Part]:
    strings = [line((x, -0.42 - np.sqrt(0.26 - x * x)), (x, -0.42 + np.sqrt(0.26 - x * x))) for x in (-0.25, 0, 0.25)]
    strings += [line((-np.sqrt(0.26 - d * d), d - 0.42), (np.sqrt(0.26 - d * d), d - 0.42)) for d in (-0.25, 0, 0.25)]
    return [
        *(tube(s, "snow", width=WIRE) for s in strings),
        tube(line((0, 0.12), (0, 1.05)), width=0.14),
        ring(0, -0.42, 0.54, "body", width=0.12),
    ]


@kind("broom", "rake", "brush", colours=("yellow", "brown"), turn=30)
def broom(_rng: Rng) -> list[Part]:
    hairs = [line((x * 0.5, 0.35), (x, 1.0)) for x in (-0.5, -0.25, 0.0, 0.25, 0.5)]
    return [
        tube(line((0, -1.05), (0, 0.3)), "wood", width=0.09),
        *(tube(h, width=0.08) for h in hairs),
        Part(ellipse(0, 0.32, 0.32, 0.1)),
    ]


@kind("swing", "seesaw", colours=("red", "brown"), home=("meadow",), turn=2)
def swing(_rng: Rng) -> list[Part]:
    return [
        *(tube(line((s * 0.3, -0.85), (s * 0.3, 0.4)), "ink", width=WIRE) for s in (-1, 1)),
        *(tube(line((s * 0.7, -0.85), (s * 0.95, 1.0)), "wood") for s in (-1, 1)),
        tube(line((-0.85, -0.88), (0.85, -0.88)), "wood"),
        Part(polygon((-0.42, 0.36), (0.42, 0.36), (0.42, 0.52), (-0.42, 0.52))),
    ]


@kind("balloons", "bunch of balloons", home=("sky",), turn=6)
def balloons(rng: Rng) -> list[Part]:
    spots = [(-0.55, -0.35), (0.55, -0.35), (0.0, -0.62)]
    strings = [curve((x, y + 0.35), (x * 0.5, 0.4), (rng.uniform(-0.05, 0.05), 1.05)) for x, y in spots]
    return [*(tube(s, "ink", width=WIRE) for s in strings), *(Part(ellipse(x, y, 0.34, 0.42)) for x, y in spots)]


@kind("windmill", "wind turbine", colours=("white", "red"), home=("meadow", "sky"), turn=3)
def windmill(rng: Rng) -> list[Part]:
    turn = rng.uniform(0, np.pi / 2)
    sails = [line((0, -0.3), (0.72 * np.cos(a), -0.3 + 0.72 * np.sin(a))) for a in turn + np.arange(4) * np.pi / 2]
    return [
        Part(polygon((-0.24, -0.35), (0.24, -0.35), (0.42, 1.0), (-0.42, 1.0))),
        *(tube(s, "wood", width=0.12) for s in sails),
        Part(ellipse(0, -0.3, 0.12), "gold"),
    ]


@kind("key", "door key", "old key", name="thin key", colours=("yellow", "gray", "brown"), turn=60)
def thin_key(_rng: Rng) -> list[Part]:
    """A ring, a thin stem and two teeth."""
    return [
        tube(line((-0.3, 0), (1.0, 0))),
        tube(line((0.92, 0), (0.92, 0.34))),
        tube(line((0.62, 0), (0.62, 0.28))),
        ring(-0.62, 0, 0.34, "body", width=0.12),
    ]


@kind("kite", "kite with a string", name="kite on a string", home=("sky",), turn=8)
def kite_on_a_string(rng: Rng) -> list[Part]:
    side = rng.choice([-1, 1])
    string = curve((0.35, -0.1), (0.1, 0.35), (-0.45, 0.55), (-0.85, 1.05))
    parts = [
        tube(string, "ink", width=WIRE),
        Part(polygon((0.6, -1.05), (0.95, -0.45), (0.35, 0.0), (0.0, -0.6))),
        Part(line((0.6, -1.05), (0.35, 0.0)), None, False, is_detail=True),
        Part(line((0.0, -0.6), (0.95, -0.45)), None, False, is_detail=True),
    ]
    return [flipped(p, side) for p in parts]
