# SPDX-License-Identifier: Apache-2.0
"""Cases of several objects with colours of their own: pairs, triples and landscapes."""

from __future__ import annotations

from dataclasses import replace

from demo import backgrounds
from demo.arrangement import Slot, depth, group, row
from demo.captions import listed
from demo.evaluation.case import Case, Rng, Size, draw, phrase, plain_prompt, put, rng_of
from demo.evaluation.single import SOLID
from demo.landscapes import draw_landscape
from demo.palette import BASE, Colour, colour, distance
from demo.pen import Pen
from demo.scenes import Placed, Scene, compose, shows_colour

# In turn: mostly beside each other, as people draw.
PAIRS = ("row", "row", "row", "column", "depth")
TRIPLES = ("row", "row", "group")
PEN = Pen(2.0, 0.2, hides=True)
TONES = tuple(name for name in BASE if name not in ("white", "gray"))


def pair_cases(count: int, size: Size) -> list[Case]:
    return [several(index, 2, PAIRS[index % len(PAIRS)], size) for index in range(count)]


def triple_cases(count: int, size: Size) -> list[Case]:
    return [several(index, 3, TRIPLES[index % len(TRIPLES)], size) for index in range(count)]


def several(index: int, count: int, arrangement: str, size: Size) -> Case:
    """Objects of different kinds and colours before a white wall, named from left to right, or from the top."""
    rng = rng_of(6 + count, index, size)
    nouns = [str(n) for n in rng.choice(SOLID, count, replace=False)]
    tones = unlike_tones(rng, count)
    slots = slots_of(arrangement, rng, count, size)
    objects = [
        put(draw(noun, rng), noun, rng, size=size, tone=tone, slot=slot)
        for noun, tone, slot in zip(nouns, tones, slots, strict=True)
    ]
    background = backgrounds.plain(colour("white"), size)
    scene = compose(tuple(reversed(objects)), background, size, says_background=True, arrangement=arrangement)
    name = "pairs" if count == 2 else "triples"
    prompt = plain_prompt(scene)
    if arrangement == "depth":
        first, second = (phrase(o.subject) for o in objects)
        prompt = f"{first} in front of {second} on a white background"
    return Case(name, scene, scene.scribble(rng, pen=PEN), prompt, index, labels={"arrangement": arrangement})


def slots_of(arrangement: str, rng: Rng, count: int, size: Size) -> tuple[Slot, ...]:
    if arrangement == "depth":
        return depth(rng, count, size)
    if arrangement == "group":
        return group(rng, count, size)
    slots = row(rng, count, size)
    return tuple(Slot(s.y, s.x, s.radius) for s in slots) if arrangement == "column" else slots


def unlike_tones(rng: Rng, count: int) -> list[Colour]:
    """Unshaded colours of which no two look alike."""
    tones: list[Colour] = []
    while len(tones) < count:
        tone = colour(str(rng.choice(TONES)))
        if all(distance(tone.rgb, other.rgb) > 110 for other in tones):
            tones.append(tone)
    return tones


def landscape_cases(count: int, size: Size) -> list[Case]:
    """Landscapes in which the colour of everything with a colour of its own is said."""
    cases = []
    for index in range(count):
        rng = rng_of(11, index, size)
        scene = spoken_landscape(rng, size)
        things = listed([phrase(placed.subject) for placed in reversed(scene.objects)])
        prompt = f"{things} under a {scene.background.colours[0].name} sky"
        cases.append(Case("landscapes", scene, scene.scribble(rng, pen=PEN), prompt, index))
    return cases


def spoken_landscape(rng: Rng, size: Size) -> Scene:
    subjects, drawings, background, _ = draw_landscape(rng, size)
    objects = [
        Placed(replace(subject, says_colour=shows_colour(drawing)), drawing, 0.4 * min(size))
        for subject, drawing in zip(subjects, drawings, strict=True)
    ]
    return compose(tuple(reversed(objects)), background, size, says_background=True, arrangement="landscape")
