# SPDX-License-Identifier: Apache-2.0
"""Round things: the same circle, with the details of its noun."""

from __future__ import annotations

import numpy as np

from demo.geometry import Part, Points, arc, box, curve, ellipse, line, smooth, star
from demo.kind import eyes, kind, smile

Rng = np.random.Generator


def disk(rng: Rng) -> Points:
    return ellipse(0, 0, 1, rng.uniform(0.86, 1.0))


@kind("circle", "disc", "dot", weight=1.5, turn=180)
def circle(rng: Rng) -> list[Part]:
    return [Part(disk(rng))]


@kind("ball", "beach ball", "toy ball", weight=2.0, turn=15, home=("meadow", "beach"))
def ball(rng: Rng) -> list[Part]:
    return [
        Part(disk(rng)),
        Part(
            smooth((-0.34, -0.9), (0.34, -0.9), (0.2, 0), (0.34, 0.9), (-0.34, 0.9), (-0.2, 0)),
            "snow",
            is_detail=True,
        ),
        Part(ellipse(0, -0.02, 0.16), "body", is_detail=True, is_drawn=False),
    ]


@kind("orange", "tangerine", colours=("orange",), weight=2.0)
def orange(rng: Rng) -> list[Part]:
    pores = [
        Part(ellipse(x, y, 0.07), "dark", is_detail=True, has_ink=False, is_drawn=False)
        for x, y in (
            (-0.5, 0.1),
            (-0.15, 0.45),
            (0.35, 0.5),
            (0.55, 0.05),
            (0.1, 0.05),
            (-0.35, -0.35),
            (0.3, -0.35),
        )
    ]
    leaf = smooth((0, -0.9), (0.3, -1.25), (0.75, -1.2), (0.5, -0.92))
    return [Part(disk(rng)), *pores, Part(leaf, "leaf", is_drawn=bool(rng.random() < 0.6))]


@kind("sun", colours=("yellow", "orange"), home=("sky",), weight=2.2, turn=8)
def sun(rng: Rng) -> list[Part]:
    if rng.random() < 0.4:  # only the circle is drawn; the glow follows from the noun
        return [
            Part(disk(rng)),
            Part(ellipse(0, 0, 0.7), "light", is_detail=True, has_ink=False, is_drawn=False),
            Part(ellipse(0, 0, 0.4), "cream", is_detail=True, has_ink=False, is_drawn=False),
        ]
    count = int(rng.integers(8, 13))
    if rng.random() < 0.5:
        rays = [Part(star(count, rng.uniform(0.68, 0.78)), "flame")]
        return [*rays, Part(ellipse(0, 0, 0.62), "body", is_detail=True)]
    angles = np.arange(count) * 2 * np.pi / count
    rays = [
        Part(
            line((0.78 * np.cos(a), 0.78 * np.sin(a)), (1.1 * np.cos(a), 1.1 * np.sin(a))),
            "body",
            closed=False,
            width=0.1,
        )
        for a in angles
    ]
    has_rays = rng.random() < 0.6  # otherwise only the circle is drawn, and the rays follow from the noun
    return [Part(r.points, r.fill, closed=False, width=r.width, is_drawn=has_rays) for r in rays] + [
        Part(ellipse(0, 0, 0.62))
    ]


@kind("clock", "watch", "alarm clock", weight=2.2, turn=0)
def clock(rng: Rng) -> list[Part]:
    hour, minute = rng.uniform(0, 6.28, 2)
    is_bare = bool(rng.random() < 0.4)
    if is_bare:  # only the circle is drawn; the hands show ten past ten, as in shop windows
        hour, minute = np.radians(210.0), np.radians(-30.0)
    ticks = [
        Part(
            line((0.6 * np.cos(a), 0.6 * np.sin(a)), (0.74 * np.cos(a), 0.74 * np.sin(a))),
            None,
            closed=False,
            is_detail=True,
            is_drawn=False,
        )
        for a in np.arange(0, 6.28, np.pi / 2)
    ]
    hands = [
        Part(line((0, 0), (reach * np.cos(a), reach * np.sin(a))), None, False, is_detail=True, is_drawn=not is_bare)
        for a, reach in ((hour, 0.42), (minute, 0.62))
    ]
    dial = Part(ellipse(0, 0, 0.8, 0.76), "snow", is_detail=True, is_drawn=not is_bare)
    return [Part(disk(rng)), dial, *ticks, *hands]


@kind("smiley", "smiley face", "emoji", colours=("yellow",), weight=1.4, turn=8)
def smiley(rng: Rng) -> list[Part]:
    mood = smile(0, 0.15, rng.uniform(0.4, 0.55))
    return [Part(disk(rng)), *eyes(rng, (-0.36, -0.22), (0.36, -0.22), size=rng.uniform(0.16, 0.22)), mood]


@kind("cookie", "biscuit", colours=("brown", "orange"), turn=180)
def cookie(rng: Rng) -> list[Part]:
    chips = [(-0.4, -0.3), (0.3, -0.45), (0.05, 0.1), (-0.45, 0.4), (0.45, 0.35)]
    return [Part(disk(rng))] + [Part(ellipse(x, y, 0.15), "choco", is_detail=True) for x, y in chips]


@kind("pizza", colours=("yellow",), turn=180)
def pizza(rng: Rng) -> list[Part]:
    slices = [(-0.4, -0.35), (0.35, -0.4), (0.0, 0.2), (-0.45, 0.35), (0.5, 0.3)]
    return [
        Part(disk(rng), "wood"),
        Part(ellipse(0, 0, 0.82, 0.78), "body", is_detail=True, is_drawn=False),
    ] + [Part(ellipse(x, y, 0.2), "tomato", is_detail=True) for x, y in slices]


# More frequent than others, because a crescent's inside is not that of its outer circle.
@kind("moon", colours=("gray", "white", "yellow"), home=("night",), weight=4, turn=180)
def moon(rng: Rng) -> list[Part]:
    if rng.random() < 0.6:
        outer, inner = ellipse(0, 0, 1), ellipse(0.5, 0, 0.82, 0.84)
        edge = np.concatenate([outer[6:39], inner[33:10:-1]])
        return [Part(edge)]
    craters = [(-0.4, -0.3, 0.22), (0.35, -0.1, 0.16), (-0.05, 0.45, 0.2)]
    return [Part(disk(rng))] + [Part(ellipse(x, y, r), "dark", is_detail=True) for x, y, r in craters]


@kind("planet", "saturn", home=("space", "night"), turn=25)
def planet(_rng: Rng) -> list[Part]:
    return [
        Part(ellipse(0, 0, 1.25, 0.3), "gold"),
        Part(ellipse(0, -0.06, 0.72)),
        Part(arc(0, 0, 1.0, 0.26, 20, 160), "gold", closed=False, is_detail=True, width=0.09, is_drawn=False),
    ]


@kind("wheel", "tire", "tyre", colours=("black",), turn=180)
def wheel(rng: Rng) -> list[Part]:
    spokes = [
        Part(line((0, 0), (0.5 * np.cos(a), 0.5 * np.sin(a))), None, closed=False, is_detail=True)
        for a in np.arange(0, 6.28, np.pi / 3)
    ]
    return [Part(disk(rng)), Part(ellipse(0, 0, 0.55), "metal", is_detail=True), *spokes]


@kind("donut", "doughnut", "ring", colours=("pink", "brown"), turn=180)
def donut(rng: Rng) -> list[Part]:
    angles = rng.uniform(0, 6.28) + np.arange(6) * np.pi / 3
    sprinkles = [
        Part(
            ellipse(0.66 * np.cos(a), 0.66 * np.sin(a), 0.09),
            "snow",
            is_detail=True,
            has_ink=False,
            is_drawn=False,
        )
        for a in angles
    ]
    return [Part(disk(rng)), *sprinkles, Part(ellipse(0, 0, 0.32), "hole", is_detail=True)]


@kind("coin", "medal", colours=("yellow",), turn=10)
def coin(rng: Rng) -> list[Part]:
    return [
        Part(disk(rng)),
        Part(ellipse(0, 0, 0.78), "light", is_detail=True),
        Part(star(5, 0.24, outer=0.5), "dark", is_detail=True),
    ]


@kind("target", "dartboard", "bullseye")
def target(rng: Rng) -> list[Part]:
    return [
        Part(disk(rng)),
        Part(ellipse(0, 0, 0.68), "snow", is_detail=True),
        Part(ellipse(0, 0, 0.36), "body", is_detail=True),
    ]


@kind("pumpkin", colours=("orange",), home=("meadow", "night"), turn=6)
def pumpkin(rng: Rng) -> list[Part]:
    ribs = [
        Part(curve((x * 0.5, -0.78), (x, 0), (x * 0.5, 0.78)), None, closed=False, is_detail=True)
        for x in (-0.45, 0.45)
    ]
    grin = smooth((-0.5, 0.25), (0, 0.4), (0.5, 0.25), (0, 0.68))
    holes = [Part(grin, "choco", is_detail=True)] + [
        Part(star(3, 0.1, outer=0.22) + np.array([x, -0.1]), "choco", is_detail=True) for x in (-0.36, 0.36)
    ]
    has_face = rng.random() < 0.5
    stem = Part(box(-0.12, -1.08, 0.12, -0.75), "leaf")
    return [stem, Part(ellipse(0, 0, 1.05, 0.84)), *(holes if has_face else ribs)]


@kind("balloon", turn=15, home=("sky",), weight=1.2)
def balloon(rng: Rng) -> list[Part]:
    string = curve((0, 0.6), (rng.uniform(-0.2, 0.2), 0.9), (rng.uniform(-0.15, 0.15), 1.25))
    body = smooth((0, -1), (0.6, -0.7), (0.68, -0.15), (0.1, 0.55), (-0.1, 0.55), (-0.68, -0.15), (-0.6, -0.7))
    return [
        Part(string, "ink", closed=False, width=0.045),
        Part(body),
        Part(ellipse(-0.28, -0.5, 0.14, 0.22, turn=25), "light", is_detail=True, has_ink=False, is_drawn=False),
    ]


@kind("basketball", colours=("orange",), turn=60)
def basketball(_rng: Rng) -> list[Part]:
    seams = [
        line((0, -0.96), (0, 0.96)),
        line((-1, 0), (1, 0)),
        arc(-1.15, 0, 0.75, 0.75, -60, 60),
        arc(1.15, 0, 0.75, 0.75, 120, 240),
    ]
    return [Part(ellipse(0, 0, 1))] + [Part(seam, None, closed=False, is_detail=True) for seam in seams]


@kind("button", turn=45)
def button(rng: Rng) -> list[Part]:
    holes = [(-0.24, -0.24), (0.24, -0.24), (-0.24, 0.24), (0.24, 0.24)]
    return [Part(disk(rng)), Part(ellipse(0, 0, 0.72), "light", is_detail=True)] + [
        Part(ellipse(x, y, 0.14), "ink", is_detail=True) for x, y in holes
    ]


@kind("globe", "earth", "world", colours=("blue",), home=("space",))
def globe(_rng: Rng) -> list[Part]:
    lands = [
        smooth((-0.6, -0.5), (-0.1, -0.7), (0.0, -0.2), (-0.4, 0.1), (-0.7, -0.1)),
        smooth((0.1, 0.1), (0.6, -0.1), (0.65, 0.4), (0.3, 0.7), (0.05, 0.45)),
    ]
    return [Part(ellipse(0, 0, 1))] + [Part(land, "leaf", is_detail=True) for land in lands]
