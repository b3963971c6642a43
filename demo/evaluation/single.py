# SPDX-License-Identifier: Apache-2.0
"""Cases of one object: outlines, colours, details, nouns, backgrounds, seeds and bad drawings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from demo import backgrounds
from demo.evaluation.case import Case, Size, article, draw, plain_prompt, rng_of, stage
from demo.free import free_drawing, lone_strokes
from demo.geometry import Part, blob, ellipse
from demo.palette import SHADED, colour, draw_colour
from demo.pen import Pen

# Kinds whose whole outline has the prompted colour, so that shape and colour can be measured separately.
SOLID = (
    "circle",
    "square",
    "triangle",
    "heart",
    "star",
    "cloud",
    "egg",
    "leaf",
    "hexagon",
    "cross",
    "arrow",
    "cat",
    "bear",
    "smiley",
    "diamond",
    "drop",
    "lightning",
    "monster",
    "frog",
    "ghost",
    "balloon",
    "banana",
    "moon",
    "pear",
)
DETAILED = (
    "cat",
    "house",
    "car",
    "fish",
    "smiley",
    "leaf",
    "clock",
    "owl",
    "monster",
    "bus",
    "castle",
    "robot",
    "frog",
    "rocket",
    "television",
    "basketball",
    "wheel",
    "door",
)
NOUNS_OF_A_CIRCLE = ("orange", "ball", "sun", "clock")
SCENES = ("night", "sea", "snow", "meadow", "desert", "sunset")
PENS = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0)


def outline_cases(count: int, size: Size, *, group: str = "outline") -> list[Case]:
    """Known and unknown shapes, pens from thin to thick, a third with gaps."""
    cases = []
    for index in range(count):
        rng = rng_of(1, index, size)
        if index % 3 == 0:
            drawing, noun = (
                [Part(blob(rng))],
                str(rng.choice(["potato", "stone", "shape", "island", "pillow", "bag"])),
            )
        else:
            noun = SOLID[index % len(SOLID)]
            drawing = draw(noun, rng)
        scene = stage(drawing, noun, rng, size=size)
        pen = Pen(PENS[index % len(PENS)], 0.3, "gaps" if index % 4 == 1 else "clean")
        shape = "unknown" if index % 3 == 0 else "known"
        labels = {"pen": str(pen.width), "shape": shape, "style": pen.style}
        cases.append(Case(group, scene, scene.scribble(rng, pen=pen), plain_prompt(scene), index, labels=labels))
    return cases


def detail_cases(count: int, size: Size) -> list[Case]:
    cases = []
    for index in range(count):
        rng = rng_of(2, index, size)
        noun = DETAILED[index % len(DETAILED)]
        scene = stage(draw(noun, rng), noun, rng, size=size, tone=draw_colour(rng, shaded=0.0), turn=4)
        pen = Pen(float(rng.choice([1.5, 2, 3])), 0.3)
        cases.append(
            Case(
                "details",
                scene,
                scene.scribble(rng, pen=pen),
                plain_prompt(scene),
                index,
                labels={"noun": noun},
            )
        )
    return cases


def noun_cases(circles: int, size: Size) -> list[Case]:
    """One circle with four nouns: without a colour, and all of them red."""
    cases = []
    for index in range(circles):
        rng = rng_of(3, index, size)
        scene = stage([Part(ellipse(0, 0, 1))], "circle", rng, size=size, tone=colour("red"), wall=colour("gray"))
        scribble = scene.scribble(rng, pen=Pen(2.0, 0.3))
        for tone in ("", "red "):
            for noun in NOUNS_OF_A_CIRCLE:
                prompt = f"{article(tone + noun)} on a gray background"
                cases.append(
                    Case(
                        "nouns",
                        scene,
                        scribble,
                        prompt,
                        index,
                        labels={"noun": noun, "tone": tone, "circle": str(index)},
                    )
                )
    return cases


def shade_cases(count: int, size: Size) -> list[Case]:
    cases = []
    names = [n for n in SHADED if n not in ("orange", "brown")]
    for index in range(count):
        rng = rng_of(4, index, size)
        name = names[index % len(names)]
        wall = colour("white" if index % 2 else "yellow")
        scene = stage(draw("heart", rng), "heart", rng, size=size, tone=colour(name), wall=wall)
        scribble = scene.scribble(rng, pen=Pen(2.0, 0.3))
        for shade in ("light", "dark"):
            prompt = f"a {shade} {name} heart on {article(f'{wall.name} background')}"
            cases.append(Case("shades", scene, scribble, prompt, index, labels={"shade": shade, "pair": str(index)}))
    return cases


def scene_cases(count: int, size: Size) -> list[Case]:
    cases = []
    for index in range(count):
        rng = rng_of(5, index, size)
        where = SCENES[index % len(SCENES)]
        noun = str(rng.choice(["house", "car", "tree", "cat", "star", "heart", "boat", "flower"]))
        scene = stage(
            draw(noun, rng),
            noun,
            rng,
            size=size,
            scenery=where,
            tone=draw_colour(rng, among=("red", "yellow", "purple", "pink")),
        )
        phrase = backgrounds.PHRASES[where][index // len(SCENES) % 2]
        prompt = f"{article(f'{scene.objects[0].subject.colour.name} {noun}')} {phrase}"
        cases.append(
            Case(
                "scenes",
                scene,
                scene.scribble(rng, pen=Pen(2.0, 0.3)),
                prompt,
                index,
                labels={"scene": where},
            )
        )
    return cases


def ground_cases(count: int, size: Size) -> list[Case]:
    cases = []
    for index in range(count):
        rng = rng_of(6, index, size)
        sky = ("blue", "orange", "pink", "gray")[index % 4]
        ground = ("green", "brown", "yellow", "white")[index // 4 % 4]
        scene = stage(draw("star", rng), "star", rng, size=size, tone=colour("red"))
        prompt = f"a red star on {ground} ground under {article(f'{sky} sky')}"
        cases.append(
            Case(
                "ground",
                scene,
                scene.scribble(rng, pen=Pen(2.0, 0.3)),
                prompt,
                index,
                labels={"sky": sky, "ground": ground},
            )
        )
    return cases


def free_of_control_cases(count: int, size: Size) -> list[Case]:
    """The prompt alone, and the scribble alone."""
    cases = []
    for case in outline_cases(count, size, group="scale 0"):
        cases.append(replace(case, scale=0.0))
        cases.append(replace(case, group="empty prompt", prompt=""))
    return cases


def seed_cases(count: int, size: Size) -> list[Case]:
    """One scribble, a full prompt and a short one, four seeds each."""
    cases: list[Case] = []
    for index in range(count):
        rng = rng_of(8, index, size)
        noun = ("house", "cat", "flower", "car")[index % 4]
        scene = stage(draw(noun, rng), noun, rng, size=size, tone=colour("red"), scenery="meadow", turn=2)
        scribble = scene.scribble(rng, pen=Pen(2.0, 0.3))
        for prompt in (f"a red {noun} in a meadow", f"a {noun}"):
            labels = {"scene": f"{index} {prompt}"}
            cases.extend(Case("seeds", scene, scribble, prompt, seed, labels=labels) for seed in range(4))
    return cases


def bad_cases(count: int, size: Size) -> list[Case]:
    """Drawings as people really make them."""
    cases = []
    for index in range(count):
        rng = rng_of(9, index, size)
        style = (
            "coarse",
            "open",
            "filled",
            "scrawled",
            "stick",
            "signature",
            "empty",
            "doodle",
            "double",
            "tiny",
        )[index % 10]
        noun = str(rng.choice(["cat", "house", "apple", "fish", "heart", "tree"]))
        drawing = draw(noun, rng)
        if style == "stick":
            noun, drawing = "person", draw("person", rng)
        elif style == "signature":
            noun, drawing = "signature", lone_strokes(rng)
        elif style == "doodle":
            noun, drawing = "dragon", free_drawing(rng)
        tone = draw_colour(rng, among=("red", "blue", "green", "purple", "orange"), shaded=0)
        scene = stage(drawing, noun, rng, size=size, tone=tone, wall=colour("white" if index % 2 else "yellow"))
        pen = Pen(3.0, 0.8, style if style in ("coarse", "open", "filled", "scrawled", "double") else "clean")
        scribble = scene.scribble(rng, pen=pen)
        if style == "empty":
            scribble = np.zeros_like(scribble)
        cases.append(Case("bad drawings", scene, scribble, plain_prompt(scene), index, labels={"style": style}))
    return cases
