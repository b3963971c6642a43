# SPDX-License-Identifier: Apache-2.0
"""Landscapes: a sky, hills, mountains, a sea or a road, drawn as open lines from edge to edge, with things on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from demo import backgrounds
from demo.captions import Subject
from demo.geometry import Part, Points, line
from demo.kind import KINDS
from demo.palette import distance, draw_colour

if TYPE_CHECKING:
    from demo.backgrounds import Background
    from demo.palette import Colour

Rng = np.random.Generator
Size = tuple[int, int]
# The pieces of a landscape, from front to back, which is the order of captions too.
Piece = tuple[Subject, tuple[Part, ...]]

SKIES = ("blue", "blue", "blue", "cyan", "pink", "orange", "purple", "gray", "yellow")
NATURAL = {
    "mountains": ("gray", "gray", "brown", "blue", "purple", "green"),
    "hills": ("green", "green", "yellow", "brown"),
    "sea": ("blue", "blue", "cyan", "green"),
    "road": ("gray", "gray", "black"),
}
LAYOUTS = {"mountains": 0.35, "hills": 0.3, "sea": 0.2, "road": 0.15}
ON_HILLS = (
    "house",
    "tree",
    "fir",
    "castle",
    "church",
    "fence",
    "tent",
    "flower",
    "rabbit",
    "windmill",
    "person",
    "horse",
    "cow",
    "sheep",
)
IN_SEA = ("fish", "whale", "turtle", "octopus")
ON_ROADS = ("car", "bus", "truck", "bicycle", "tree", "house")
IN_SKY = ("sun", "cloud", "bird", "rainbow", "hot air balloon", "moon", "kite")


def draw_landscape(rng: Rng, size: Size) -> tuple[list[Subject], list[tuple[Part, ...]], Background, bool]:
    """Subjects and their parts in pixels, from front to back, the sky, and whether captions name it."""
    says_sky = bool(rng.random() < 0.5)
    sky = draw_colour(rng, among=SKIES if says_sky else ("blue", "cyan"), shaded=0.0)
    layout = str(rng.choice(list(LAYOUTS), p=list(LAYOUTS.values())))
    pieces: list[Piece] = []
    used = [sky]
    level = rng.uniform(0.55, 0.72)
    if layout == "mountains":
        ground = ridge(rng, level, swing=0.02) if rng.random() < 0.5 else None
        if ground is not None:
            pieces.append(area(rng, ground, "hills", size, used, nouns=("grass", "meadow", "field")))
        pieces.append(mountains(rng, level, size, used))
        if rng.random() < 0.4:
            pieces.insert(0, thing(rng, ON_HILLS, (rng.uniform(0.2, 0.8), level + 0.12), 0.12, size, used))
    elif layout == "hills":
        spots = rng.permutation([0.24, 0.52, 0.78])[: int(rng.integers(1, 3))]
        names = rng.permutation(ON_HILLS)
        pieces += [
            thing(rng, (name,), (x, level - 0.03), rng.uniform(0.15, 0.2), size, used)
            for x, name in zip(sorted(spots), names, strict=False)
        ]
        pieces.append(area(rng, ridge(rng, level, swing=0.05), "hills", size, used, nouns=("hills", "hills", "grass")))
        if rng.random() < 0.3:
            pieces.append(mountains(rng, level, size, used))
    elif layout == "sea":
        among, depth = (("boat",), -0.08) if rng.random() < 0.7 else (IN_SEA, 0.2)
        spot = rng.uniform(0.25, 0.75), level + depth
        pieces.append(thing(rng, among, spot, rng.uniform(0.15, 0.22), size, used))
        pieces.append(area(rng, ridge(rng, level, swing=0.008), "sea", size, used, nouns=("sea", "water", "waves")))
        if rng.random() < 0.25:
            pieces.append(mountains(rng, level, size, used))
    else:
        if rng.random() < 0.6:
            pieces.append(thing(rng, ON_ROADS, (rng.uniform(0.15, 0.3), level + 0.02), 0.14, size, used))
        pieces.append(road(rng, level, size, used))
        pieces.append(area(rng, ridge(rng, level, swing=0.02), "hills", size, used, nouns=("grass", "meadow", "field")))
    spots = rng.permutation([0.2, 0.5, 0.8])[: int(rng.choice([0, 1, 2], p=[0.15, 0.65, 0.2]))]
    flying: list[str] = list(rng.permutation(IN_SKY))
    flying = ["sun", *(n for n in flying if n != "sun")] if rng.random() < 0.65 else flying
    for x, name in zip(spots, flying, strict=False):
        pieces.append(thing(rng, (name,), (x, rng.uniform(0.14, 0.22)), rng.uniform(0.1, 0.15), size, used))
    background = backgrounds.open_sky(sky, size)
    return [p[0] for p in pieces], [p[1] for p in pieces], background, says_sky


def tone(rng: Rng, natural: tuple[str, ...], used: list[Colour]) -> tuple[Colour, bool]:
    """A colour unlike the neighbours', and whether captions say it. If not, it is a usual one."""
    says = bool(rng.random() < 0.65)
    for attempt in range(14):
        free = attempt > 6 or (says and rng.random() < 0.35)
        found = draw_colour(rng, among=() if free else natural, shaded=0.15 if says else 0.0)
        if all(distance(found.rgb, u.rgb) > 80 and found.name != u.name for u in used[-3:]):
            break
    used.append(found)
    return found, says or free


def pixels(points: Points, size: Size) -> Points:
    width, height = size
    return points * [width, height]


def ridge(rng: Rng, level: float, *, swing: float) -> Points:
    """A wavy line from edge to edge, relative to the picture's size, closed below the picture."""
    x = np.linspace(-0.08, 1.08, 40)
    wave = np.sin(x * rng.uniform(2.5, 6.5) + rng.uniform(0, 6.28)) + 0.4 * np.sin(9 * x + rng.uniform(0, 6.28))
    edge = np.stack([x, level + swing * wave], axis=1)
    return np.concatenate([edge, below()])


def below() -> Points:
    return np.array([[1.08, 1.1], [-0.08, 1.1]])


def area(rng: Rng, outline: Points, natural: str, size: Size, used: list[Colour], *, nouns: tuple[str, ...]) -> Piece:
    found, says = tone(rng, NATURAL[natural], used)
    noun = str(rng.choice(nouns))
    subject = Subject(noun, found, says, has_article=noun in ("sea", "meadow", "field"))
    return subject, (Part(pixels(outline, size)),)


def mountains(rng: Rng, level: float, size: Size, used: list[Colour]) -> Piece:
    """A ridge with two or three peaks from edge to edge, perhaps with snow on them."""
    count = int(rng.integers(2, 5))
    xs = np.linspace(-0.12, 1.12, 2 * count + 1)
    xs[1:-1] += rng.uniform(-0.04, 0.04, 2 * count - 1)
    ys = np.where(np.arange(2 * count + 1) % 2 == 0, level - rng.uniform(-0.02, 0.1), 0.0)
    ys[1::2] = rng.uniform(0.2, 0.36, count)
    corners = np.stack([xs, ys], axis=1)
    edge = line(*map(tuple, corners))
    found, says = tone(rng, NATURAL["mountains"], used)
    parts = [Part(pixels(np.concatenate([edge, [[1.12, 1.1], [-0.12, 1.1]]]), size))]
    has_snow = rng.random() < 0.5
    for index in range(1, 2 * count, 2) if has_snow else ():
        peak, before, after = corners[index], corners[index - 1], corners[index + 1]
        left, right = peak + 0.32 * (before - peak), peak + 0.32 * (after - peak)
        dip = peak + 0.22 * ((before + after) / 2 - peak)
        parts.append(Part(pixels(np.array([peak, right, dip, left]), size), "snow", is_detail=True))
    extras = ("snow on top",) if has_snow else ()
    return Subject("mountains", found, says, extras, has_article=False), tuple(parts)


def road(rng: Rng, level: float, size: Size, used: list[Colour]) -> Piece:
    """Two lines that meet at the horizon, with a dashed line between."""
    top, bottom = rng.uniform(0.4, 0.6), rng.uniform(0.35, 0.65)
    wide = rng.uniform(0.18, 0.26)
    corners = np.array([[top - 0.03, level], [top + 0.03, level], [bottom + wide, 1.08], [bottom - wide, 1.08]])
    found, says = tone(rng, NATURAL["road"], used)
    dashes = []
    for near, far in ((0.95, 0.75), (0.58, 0.4)):
        ends = [[top + (bottom - top) * t, level + (1.08 - level) * t] for t in (near, far)]
        dashes.append(
            Part(line(*(tuple(pixels(np.array(e), size)) for e in ends)), "snow", False, is_detail=True, width=0.07)
        )
    dashes = [replace(d, is_drawn=bool(rng.random() < 0.7)) for d in dashes]
    return Subject("road", found, says), (Part(pixels(corners, size)), *dashes)


def thing(
    rng: Rng, names: tuple[str, ...], middle: tuple[float, float], radius: float, size: Size, used: list[Colour]
) -> Piece:
    """One kind at a place of the picture; `radius` is relative to the shorter side."""
    kind = KINDS[str(rng.choice(names))]
    drawing = kind.draw(rng)
    points = np.concatenate([p.points for p in drawing])
    low, high = points.min(0), points.max(0)
    unit = radius * min(size) / float((high - low).max() / 2)
    shift = pixels(np.array(middle), size) - unit * (low + high) / 2
    natural = kind.colours or ("red", "yellow", "white", "purple")
    found, says = tone(rng, natural, used)
    parts = tuple(
        replace(
            p,
            points=p.points * unit + shift,
            width=p.width * unit / (0.4 * min(size)),  # an object's own unit; landscapes have one for all
        )
        for p in drawing
    )
    extras = tuple(dict.fromkeys(p.said for p in drawing if p.said))
    noun = kind.nouns[0]
    return Subject(noun, found, says, extras), parts
