# SPDX-License-Identifier: Apache-2.0
"""A training example: objects, their positions and colours, the scribble and the captions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

import demo.kinds  # noqa: F401  fills KINDS
from demo import backgrounds
from demo.captions import Subject, caption
from demo.geometry import Part, bend, blob, box, curve, draw_waves, ellipse, line
from demo.kind import KINDS, Kind
from demo.nouns import NOUNS
from demo.painting import Painted, paint, put_on
from demo.palette import Colour, colour, distance, draw_colour, draw_contrasting, mix
from demo.pen import Pen, draw_pen, scribble

if TYPE_CHECKING:
    from demo.backgrounds import Background

Rng = np.random.Generator
Size = tuple[int, int]

FREE_SHARE = 0.20  # free drawings with an ordinary noun
PAIR_SHARE = 0.02  # small, because a network of this size mixes up the colours of two objects
LONE_STROKES = 0.2  # share of the free drawings: signatures, stick figures
SAYS_COLOUR = 0.78
SAYS_BACKGROUND = 0.72
DETAIL_LEVELS = 0.06  # of 1: smaller changes by a detail are invisible
LIGHT = -2.36  # always from the upper left, so that networks need not guess it


@dataclass(frozen=True, slots=True)
class Placed:
    """One object in the picture."""

    subject: Subject
    parts: tuple[Part, ...]  # in pixels
    unit: float  # pixels per unit of its own drawing


@dataclass(frozen=True, slots=True)
class Scene:
    size: Size
    objects: tuple[Placed, ...]
    background: Background
    says_background: bool
    picture: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool, where the objects are
    details: np.ndarray  # (H, W) bool, where eyes, windows, stripes and similar parts are visible

    def scribble(self, rng: Rng, *, pen: Pen | None = None) -> np.ndarray:
        """The scribble, (H, W) of 0 and 255. All objects are drawn with the same pen."""
        pen = pen or draw_pen(rng)
        drawn = [scribble(o.parts, pen, self.size, rng) for o in self.objects]
        return np.maximum.reduce(drawn)

    def caption(self, rng: Rng) -> str:
        return caption(
            tuple(o.subject for o in self.objects),
            self.background,
            says_background=self.says_background,
            rng=rng,
        )


def draw_scene(rng: Rng, size: Size = (128, 128), *, is_portrait: bool = False) -> Scene:
    """A random scene of the training distribution; a portrait shows one known kind, large, upright, in the middle."""
    count = 2 if rng.random() < PAIR_SHARE and not is_portrait else 1
    background_says = bool(rng.random() < SAYS_BACKGROUND)
    colours: list[Colour] = []
    objects: list[Placed] = []
    homes: tuple[str, ...] = ()
    for index in range(count):
        kind, noun, drawing = draw_thing(rng, free_share=0.0 if is_portrait else FREE_SHARE)
        says = bool(rng.random() < (SAYS_COLOUR if count == 1 else 0.92))
        natural = () if says and rng.random() < 0.7 else kind.colours if kind else ()
        tone = draw_colour(rng, among=natural, shaded=0.25 if says else 0.1)
        if colours:
            tone = draw_contrasting(rng, colours[0], among=natural if len(natural) > 1 else ())
        colours.append(tone)
        homes = homes or (kind.home if kind else ())
        if is_portrait:
            parts, unit = place_in_the_middle(drawing, size)
        else:
            half = index if count == 2 else None
            parts, unit = place(drawing, size, rng, half=half, turn=kind.turn if kind else 20.0)
        objects.append(Placed(Subject(noun, tone, says), parts, unit))
    background = draw_background(rng, size, colours, is_said=background_says, homes=homes)
    return compose(tuple(objects), background, size, says_background=background_says)


def compose(objects: tuple[Placed, ...], background: Background, size: Size, *, says_background: bool) -> Scene:
    picture = background.picture
    mask = np.zeros(size[::-1], dtype=bool)
    details = np.zeros_like(mask)
    for placed in objects:
        painted = paint(placed.parts, placed.subject.colour.rgb, size, unit=placed.unit, light=LIGHT)
        picture = put_on(picture, painted, unit=placed.unit, light=LIGHT)
        mask |= painted.alpha > 0.5
        details |= detail_mask(placed, painted, size)
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Scene(size, objects, background, says_background, pixels, mask, details)


def detail_mask(placed: Placed, painted: Painted, size: Size) -> np.ndarray:
    """(H, W) bool: where the object would look different without its details."""
    bare = tuple(part for part in placed.parts if not part.is_detail)
    if len(bare) == len(placed.parts):
        return np.zeros(size[::-1], dtype=bool)
    without = paint(bare, placed.subject.colour.rgb, size, unit=placed.unit, light=LIGHT)
    changed = np.abs(painted.colour - without.colour).max(-1) > DETAIL_LEVELS
    return changed & (painted.alpha > 0.5)


def draw_thing(rng: Rng, *, free_share: float = FREE_SHARE) -> tuple[Kind | None, str, list[Part]]:
    """A kind with its noun and drawing, or a free drawing with an ordinary noun."""
    if rng.random() < free_share:
        return None, str(rng.choice(NOUNS)).replace("-", " "), free_drawing(rng)
    kinds = list(KINDS.values())
    weights = np.array([k.weight for k in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    noun = kind.nouns[0] if rng.random() < 0.6 else str(rng.choice(kind.nouns))
    return kind, noun, kind.draw(rng)


def free_drawing(rng: Rng) -> list[Part]:
    """A free drawing: one to three outlines, perhaps with limbs or marks inside."""
    if rng.random() < LONE_STROKES:
        return lone_strokes(rng)
    parts = []
    if rng.random() < 0.22:
        for _ in range(int(rng.integers(1, 5))):
            angle = rng.uniform(0, 6.28)
            reach = rng.uniform(0.9, 1.3)
            end = (reach * np.cos(angle), reach * np.sin(angle))
            parts.append(
                Part(
                    line((0.3 * end[0], 0.3 * end[1]), end),
                    "body",
                    closed=False,
                    width=rng.uniform(0.09, 0.2),
                )
            )
    body = blob(rng)
    flat = rng.uniform(0.3, 0.5) if rng.random() < 0.2 else 1.0
    body *= [1, flat]
    parts.append(Part(body))
    if rng.random() < 0.3:
        parts.extend(
            Part(blob(rng) * rng.uniform(0.3, 0.6) + rng.uniform(-0.75, 0.75, 2))
            for _ in range(int(rng.integers(1, 3)))
        )
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.4, 0.25, 0.2, 0.15]))):
        x, y = rng.uniform(-0.38, 0.38, 2) * [1, flat]
        mark = rng.integers(4)
        if mark == 0:
            parts.append(
                Part(
                    line((x - 0.3, y), (x + 0.3, y + rng.uniform(-0.3, 0.3))),
                    None,
                    closed=False,
                    is_detail=True,
                )
            )
        elif mark == 1:
            parts.append(Part(box(x - 0.18, y - 0.18, x + 0.18, y + 0.18), "light", is_detail=True))
        elif mark == 2:
            parts.append(Part(curve((x - 0.3, y), (x, y + 0.2), (x + 0.3, y)), None, closed=False, is_detail=True))
        else:
            parts.append(Part(ellipse(x, y, rng.uniform(0.14, 0.24)), "light", is_detail=True))
    return parts


def lone_strokes(rng: Rng) -> list[Part]:
    """A signature or a scrawl. Strokes that enclose nothing become ropes."""
    if rng.random() < 0.5:
        count = int(rng.integers(7, 14))
        x = np.linspace(-1.15, 1.15, count) + rng.uniform(-0.08, 0.08, count)
        y = np.where(np.arange(count) % 2 == 0, 1, -1) * rng.uniform(0.08, 0.55, count)
        return [Part(curve(*zip(x, y, strict=True)), "body", closed=False, width=0.09)]
    strokes = []
    for _ in range(int(rng.integers(1, 5))):
        ends = rng.uniform(-0.95, 0.95, (int(rng.integers(2, 5)), 2))
        strokes.append(Part(curve(*map(tuple, ends)), "body", closed=False, width=0.1))
    return strokes


def place(
    drawing: list[Part], size: Size, rng: Rng, *, half: int | None, turn: float
) -> tuple[tuple[Part, ...], float]:
    """Turn, stretch, bend and move a drawing into the picture; `half` 0 is the left half, 1 the right."""
    width, height = size
    short = min(size)
    unit = short * (rng.uniform(0.28, 0.46) if half is None else rng.uniform(0.17, 0.24))
    if half is None and rng.random() < 0.45:
        unit = short * rng.uniform(0.36, 0.47)
    angle = np.radians(rng.uniform(-turn, turn))
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s], [s, c]]).T @ np.diag([rng.uniform(0.84, 1.16), 1.0])
    slack_x, slack_y = max(0.0, width / 2 - 1.02 * unit), max(0.0, height / 2 - 1.02 * unit)
    cx = width / 2 + rng.uniform(-1, 1) * slack_x
    cy = height / 2 + rng.uniform(-1, 1) * slack_y
    if half is not None:
        cx = width * (0.26 if half == 0 else 0.74) + rng.uniform(-0.02, 0.02) * width
        cy = height / 2 + rng.uniform(-0.6, 0.6) * slack_y
    waves = draw_waves(rng)
    amount = rng.uniform(0.0, 0.12)
    parts = tuple(replace(p, points=bend(p.points, waves, amount) @ matrix * unit + [cx, cy]) for p in drawing)
    return parts, float(unit)


def place_in_the_middle(drawing: list[Part], size: Size) -> tuple[tuple[Part, ...], float]:
    """Place a portrait, always in the same position, so that a prompt without a scribble makes one clear object."""
    unit = 0.4 * min(size)
    middle = np.array(size) / 2
    return tuple(replace(p, points=p.points * unit + middle) for p in drawing), unit


def draw_background(
    rng: Rng, size: Size, colours: list[Colour], *, is_said: bool, homes: tuple[str, ...]
) -> Background:
    """A background. If captions name it, it can be any; otherwise it is a usual scene of the object, or a pale wall."""
    if not is_said:
        if homes and rng.random() < 0.6:
            return backgrounds.scene(str(rng.choice(homes)), size, rng)
        if rng.random() < 0.25:
            return backgrounds.scene("sky" if rng.random() < 0.5 else "meadow", size, rng)
        among = ("white", "yellow", "cyan", "pink", "gray", "blue")
        return backgrounds.plain(pale(rng, among, colours), size)
    choice = rng.random()
    if choice < 0.5:
        wall = draw_contrasting(rng, colours[0])
        for _ in range(10):
            if all(c.name != wall.name and distance(c.rgb, wall.rgb) > 90 for c in colours):
                break
            wall = draw_contrasting(rng, colours[-1])
        return backgrounds.plain(wall, size)
    if choice < 0.62:
        return backgrounds.ground(size, rng, unlike=colours[0])
    names = list(backgrounds.SCENES)
    weights = np.array([1.0 if n in ("space", "forest", "beach", "road") else 1.6 for n in names])
    return backgrounds.scene(str(rng.choice(names, p=weights / weights.sum())), size, rng)


def pale(rng: Rng, among: tuple[str, ...], colours: list[Colour]) -> Colour:
    for _ in range(8):
        name = str(rng.choice(among))
        soft = Colour(name, "light", mix(colour(name).rgb, (255, 255, 255), 0.62))
        if all(distance(c.rgb, soft.rgb) > 90 for c in colours):
            return soft
    return Colour("gray", "", (150, 160, 176))
