# SPDX-License-Identifier: Apache-2.0
"""Things inside things, each with its own colour where captions say so."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from demo.geometry import Part, arc, curve, ellipse, line, petals, polygon, smooth
from demo.kind import KINDS, kind
from demo.palette import BASE, RGB, draw_name, mix

Rng = np.random.Generator
SAYS = 0.75
NATURAL = {"fish": "orange", "bird": "yellow", "flower": "red", "star": "yellow", "heart": "red", "egg": "white"}


def inside(
    rng: Rng, noun: str, middle: tuple[float, float], radius: float, *, where: str = "in it", is_detail: bool = True
) -> list[Part]:
    """The drawing of another kind, smaller, in a colour of its own that captions may say."""
    says = rng.random() < SAYS
    name = draw_name(rng, BASE) if says else NATURAL.get(noun, "red")
    article = "an" if name[0] in "aeiou" else "a"
    said = f"{article} {name} {noun} {where}" if says else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun} {where}"
    drawing = KINDS[noun].draw(rng)
    points = np.concatenate([p.points for p in drawing])
    low, high = points.min(0), points.max(0)
    scale = radius / float((high - low).max() / 2)
    moved = [
        replace(
            p,
            points=(p.points - (low + high) / 2) * scale + middle,
            fill=own_colour(p.fill, BASE[name]),
            width=p.width * scale,
            is_detail=p.is_detail or is_detail,
            said=said,
        )
        for p in drawing
    ]
    return [p for p in moved if not (p.is_detail and not p.is_drawn and radius < 0.3)]


def own_colour(fill: str | RGB | None, rgb: RGB) -> str | RGB | None:
    if fill in ("body", None):
        return rgb
    if fill == "dark":
        return mix(rgb, (0, 0, 0), 0.36)
    if fill == "light":
        return mix(rgb, (255, 255, 255), 0.5)
    return fill


@kind("bowl", "fishbowl", "fish tank", colours=("blue", "cyan"), weight=1.4, turn=3)
def fishbowl(rng: Rng) -> list[Part]:
    bowl = ellipse(0, 0.05, 1.0, 0.92)
    bowl[:, 1] = np.maximum(bowl[:, 1], -0.62)
    return [
        Part(bowl),
        Part(ellipse(0, -0.62, 0.72, 0.14), "light", is_detail=True),
        *inside(rng, "fish", (0, 0.18), 0.52),
    ]


@kind("cage", "birdcage", colours=("yellow", "gray", "black"), weight=1.2, turn=3)
def cage(rng: Rng) -> list[Part]:
    dome = smooth((-0.8, 0.9), (-0.8, -0.3), (-0.45, -0.85), (0, -1.0), (0.45, -0.85), (0.8, -0.3), (0.8, 0.9))
    bars = [curve((0, -0.98), (x * 0.8, -0.6), (x, -0.1), (x, 0.9)) for x in (-0.4, 0.0, 0.4)]
    return [
        Part(dome, "glass", has_ink=False, is_drawn=False),
        *inside(rng, "bird", (0, 0.2), 0.46),
        *(Part(b, "body", False, is_detail=True, width=0.05) for b in bars),
        Part(np.concatenate([dome, dome[:2]]), "body", False, width=0.1),
        Part(arc(0, -1.1, 0.12, 0.12, 0, 360), "body", False, width=0.06),
    ]


@kind("nest", "bird's nest", colours=("brown",), home=("forest", "sky"), turn=4)
def nest(rng: Rng) -> list[Part]:
    says = rng.random() < SAYS
    name = draw_name(rng, ("white", "blue", "brown", "pink", "green", "yellow")) if says else "white"
    count = int(rng.integers(1, 4))
    noun = ("an egg", "two eggs", "three eggs")[count - 1]
    words = noun.split()
    said = f"{'a' if count == 1 else words[0]} {name} {words[1]} in it" if says else f"{noun} in it"
    xs = {1: (0.0,), 2: (-0.3, 0.3), 3: (-0.5, 0.0, 0.5)}[count]
    eggs = [Part(ellipse(x, -0.12, 0.27, 0.38), BASE[name], said=said) for x in xs]
    bowl = smooth((-1.05, -0.08), (0, 0.08), (1.05, -0.08), (0.75, 0.62), (0, 0.85), (-0.75, 0.62))
    twigs = [curve((-0.7, y), (0, y + 0.16), (0.7, y)) for y in (0.22, 0.46)]
    return [*eggs, Part(bowl), *(Part(t, "dark", False, is_detail=True, width=0.06) for t in twigs)]


@kind("circle", "disc", "badge", "plate", name="badge", weight=1.2, turn=10)
def badge(rng: Rng) -> list[Part]:
    noun = draw_name(rng, ("star", "heart", "square", "triangle", "cross", "moon", "flower", "lightning"))
    return [Part(ellipse(0, 0, 1)), *inside(rng, noun, (0, 0.02), 0.5)]


@kind("box", "frame", "card", "square", name="frame", weight=1.2, turn=6)
def frame(rng: Rng) -> list[Part]:
    noun = draw_name(rng, ("star", "heart", "circle", "cat", "fish", "flower", "tree", "house", "apple", "smiley"))
    square = polygon((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))
    return [Part(square), *inside(rng, noun, (0, 0), 0.52)]


@kind("moon", "sun", "planet", name="moon with a face", colours=("yellow", "white"), home=("night",), turn=8)
def faced(_rng: Rng) -> list[Part]:
    feature = partial(Part, is_detail=True, said="a face")
    return [
        Part(ellipse(0, 0, 1)),
        *(feature(ellipse(s * 0.36, -0.22, 0.15, 0.18), "ink") for s in (-1, 1)),
        feature(arc(0, 0.16, 0.46, 0.38, 15, 165), "tomato", False, width=0.09),
        *(feature(ellipse(s * 0.58, 0.16, 0.14), "rose", has_ink=False, is_drawn=False) for s in (-1, 1)),
    ]


@kind("cake", "birthday cake", "tart", name="cake with candles", colours=("pink", "white", "brown"), turn=3)
def cake(rng: Rng) -> list[Part]:
    says, count = rng.random() < SAYS, int(rng.integers(1, 4))
    name = draw_name(rng, BASE) if says else "blue"
    words = ("candle", "candles", "candles")[count - 1]
    said = f"{('a', 'two', 'three')[count - 1]} {name} {words} on it" if says else ""
    candles: list[Part] = []
    for x in {1: (0.0,), 2: (-0.35, 0.35), 3: (-0.5, 0.0, 0.5)}[count]:
        candles += [
            Part(polygon((x - 0.1, -0.7), (x + 0.1, -0.7), (x + 0.1, -0.1), (x - 0.1, -0.1)), BASE[name], said=said),
            Part(smooth((x, -1.08), (x + 0.13, -0.86), (x, -0.7), (x - 0.13, -0.86)), "flame"),
        ]
    body = smooth((-0.9, -0.1), (0, -0.2), (0.9, -0.1), (0.9, 0.85), (0, 0.98), (-0.9, 0.85))
    cream = curve((-0.9, 0.22), (-0.45, 0.42), (0, 0.22), (0.45, 0.42), (0.9, 0.22))
    return [*candles, Part(body), Part(cream, "snow", False, is_detail=True, width=0.12)]


@kind("vase", "flower pot", "pot", name="vase with a flower", weight=1.4, turn=4)
def vase(rng: Rng) -> list[Part]:
    says = rng.random() < SAYS
    name = draw_name(rng, [n for n in BASE if n not in ("green", "black")]) if says else "red"
    said = f"{'an' if name[0] in 'aeiou' else 'a'} {name} flower in it" if says else "a flower in it"
    head = petals(int(rng.integers(5, 8)), 0.34) * 0.42 + [0, -0.62]
    pot = smooth((-0.36, 0.08), (0.36, 0.08), (0.5, 0.5), (0.34, 1.02), (-0.34, 1.02), (-0.5, 0.5))
    return [
        Part(line((0, -0.5), (0, 0.2)), "leaf", False, width=0.09),
        Part(smooth((0.0, 0.05), (0.2, -0.25), (0.48, -0.25), (0.28, 0.0)), "leaf"),
        Part(head, BASE[name], said=said),
        Part(ellipse(0, -0.62, 0.15), "gold", is_detail=True),
        Part(pot),
    ]


@kind("present", "gift", "parcel", name="present with a bow", weight=1.2, turn=5)
def present(rng: Rng) -> list[Part]:
    says = rng.random() < SAYS
    name = draw_name(rng, BASE) if says else "yellow"
    said = f"{'an' if name[0] in 'aeiou' else 'a'} {name} bow" if says else ""
    rgb = BASE[name]
    bows = [smooth((0, -0.5), (s * 0.25, -0.95), (s * 0.72, -0.95), (s * 0.55, -0.52)) for s in (-1, 1)]
    band = polygon((-0.16, -0.5), (0.16, -0.5), (0.16, 0.92), (-0.16, 0.92))
    across = polygon((-0.88, 0.06), (0.88, 0.06), (0.88, 0.34), (-0.88, 0.34))
    return [
        *(Part(b, rgb, said=said) for b in bows),
        Part(polygon((-0.88, -0.5), (0.88, -0.5), (0.88, 0.92), (-0.88, 0.92))),
        *(Part(b, rgb, is_detail=True, said=said) for b in (across, band)),
    ]


@kind("doghouse", "house", "hut", name="doghouse", home=("meadow",), turn=2)
def doghouse(rng: Rng) -> list[Part]:
    noun = draw_name(rng, ("cat", "dog", "bird", "flower", "heart"))
    return [
        Part(polygon((-0.8, -0.1), (0.8, -0.1), (0.8, 0.95), (-0.8, 0.95))),
        Part(polygon((-1.0, -0.08), (0, -0.95), (1.0, -0.08)), "roof"),
        Part(polygon((-0.48, 0.05), (0.48, 0.05), (0.48, 0.88), (-0.48, 0.88)), "glass", is_detail=True),
        *inside(rng, noun, (0, 0.47), 0.34),
    ]


@kind("basket", colours=("brown", "yellow"), turn=4)
def basket(rng: Rng) -> list[Part]:
    noun = draw_name(rng, ("apple", "egg", "ball", "cat", "pumpkin"))
    weave = [curve((-0.85, y), (0, y + 0.06), (0.85, y)) for y in (0.38, 0.62)]
    return [
        Part(arc(0, 0.12, 0.78, 1.0, 180, 360), "body", False, width=0.1),
        *inside(rng, noun, (0, -0.1), 0.42, is_detail=False),
        Part(polygon((-0.95, 0.12), (0.95, 0.12), (0.7, 0.95), (-0.7, 0.95))),
        *(Part(w, "dark", False, is_detail=True, width=0.06) for w in weave),
    ]


@kind("pond", "lake", "puddle", colours=("blue", "cyan"), home=("meadow",), turn=3)
def pond(rng: Rng) -> list[Part]:
    water = petals(7, 0.08) * [1.12, 0.72] + [0, 0.15]
    noun = draw_name(rng, ("fish", "bird", "boat", "frog", "turtle"))
    return [Part(water), *inside(rng, noun, (0, 0.1), 0.42)]
