# SPDX-License-Identifier: Apache-2.0
"""The evaluation's cases: unseen scribbles and prompts, with the expected content of their pictures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from demo import backgrounds
from demo.arrangement import Slot, place
from demo.captions import Subject
from demo.free import free_drawing, lone_strokes
from demo.geometry import Part, blob, ellipse
from demo.kind import KINDS
from demo.palette import BASE, SHADED, Colour, colour, draw_colour, draw_contrasting
from demo.pen import Pen
from demo.scenes import Placed, Scene, compose

Rng = np.random.Generator
Size = tuple[int, int]

SEED = 770_001
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
SEVEN_SCENES = ("night", "sea", "snow", "meadow", "desert", "sunset")
PENS = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0)


@dataclass(frozen=True, slots=True)
class Case:
    group: str
    scene: Scene  # painted by `scenes.py`: the ideal picture
    scribble: np.ndarray  # (H, W) of 0 and 255
    prompt: str
    seed: int
    scale: float = 1.0
    labels: dict[str, str] = field(default_factory=dict)


def stage(
    drawing: list[Part],
    noun: str,
    rng: Rng,
    *,
    size: Size = (128, 128),
    tone: Colour | None = None,
    wall: Colour | None = None,
    scenery: str = "",
    turn: float = 8.0,
) -> Scene:
    tone = tone or draw_colour(rng, shaded=0.2)
    parts, unit = place(drawing, size, rng, slot=None, turn=turn)
    background = (
        backgrounds.scene(scenery, size, rng)
        if scenery
        else backgrounds.plain(wall or draw_contrasting(rng, tone), size)
    )
    return compose((Placed(Subject(noun, tone, True), parts, unit),), background, size, says_background=True)


def article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def say(tone: Colour) -> str:
    return f"{tone.shade} {tone.name}".strip()


def plain_prompt(scene: Scene) -> str:
    subject = scene.objects[0].subject
    wall = scene.background.colours[0]
    return f"{article(f'{say(subject.colour)} {subject.noun}')} on {article(f'{say(wall)} background')}"


def outline_cases(count: int, *, size: Size = (128, 128), group: str = "outline") -> list[Case]:
    """Known and unknown shapes, pens from thin to thick, a third with gaps."""
    cases = []
    for index in range(count):
        rng = np.random.default_rng([SEED, 1, index, *size])
        if index % 3 == 0:
            drawing, noun = (
                [Part(blob(rng))],
                str(rng.choice(["potato", "stone", "shape", "island", "pillow", "bag"])),
            )
        else:
            noun = SOLID[index % len(SOLID)]
            drawing = KINDS[noun].draw(rng)
        scene = stage(drawing, noun, rng, size=size)
        pen = Pen(PENS[index % len(PENS)], 0.3, "gaps" if index % 4 == 1 else "clean")
        shape = "unknown" if index % 3 == 0 else "known"
        labels = {"pen": str(pen.width), "shape": shape, "style": pen.style}
        cases.append(Case(group, scene, scene.scribble(rng, pen=pen), plain_prompt(scene), index, labels=labels))
    return cases


def detail_cases(count: int) -> list[Case]:
    cases = []
    for index in range(count):
        rng = np.random.default_rng([SEED, 2, index])
        noun = DETAILED[index % len(DETAILED)]
        scene = stage(KINDS[noun].draw(rng), noun, rng, tone=draw_colour(rng, shaded=0.0), turn=4)
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


def noun_cases() -> list[Case]:
    """One circle with four nouns: without a colour, and all of them red."""
    cases = []
    for index in range(8):
        rng = np.random.default_rng([SEED, 3, index])
        scene = stage([Part(ellipse(0, 0, 1))], "circle", rng, tone=colour("red"), wall=colour("gray"))
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


def shade_cases(count: int) -> list[Case]:
    cases = []
    names = [n for n in SHADED if n not in ("orange", "brown")]
    for index in range(count):
        rng = np.random.default_rng([SEED, 4, index])
        name = names[index % len(names)]
        wall = colour("white" if index % 2 else "yellow")
        scene = stage(KINDS["heart"].draw(rng), "heart", rng, tone=colour(name), wall=wall)
        scribble = scene.scribble(rng, pen=Pen(2.0, 0.3))
        for shade in ("light", "dark"):
            prompt = f"a {shade} {name} heart on {article(f'{wall.name} background')}"
            cases.append(Case("shades", scene, scribble, prompt, index, labels={"shade": shade, "pair": str(index)}))
    return cases


def scene_cases(count: int) -> list[Case]:
    cases = []
    for index in range(count):
        rng = np.random.default_rng([SEED, 5, index])
        where = SEVEN_SCENES[index % len(SEVEN_SCENES)]
        noun = str(rng.choice(["house", "car", "tree", "cat", "star", "heart", "boat", "flower"]))
        scene = stage(
            KINDS[noun].draw(rng),
            noun,
            rng,
            scenery=where,
            tone=draw_colour(rng, among=("red", "yellow", "purple", "pink")),
        )
        phrase = backgrounds.PHRASES[where][index // len(SEVEN_SCENES) % 2]
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


def ground_cases(count: int) -> list[Case]:
    cases = []
    for index in range(count):
        rng = np.random.default_rng([SEED, 6, index])
        sky = ("blue", "orange", "pink", "gray")[index % 4]
        ground = ("green", "brown", "yellow", "white")[index // 4 % 4]
        scene = stage(KINDS["star"].draw(rng), "star", rng, tone=colour("red"))
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


def pair_cases(count: int) -> list[Case]:
    """Two objects, named from left to right."""
    cases = []
    for index in range(count):
        rng = np.random.default_rng([SEED, 7, index])
        nouns = rng.choice(["circle", "heart", "star", "cat", "square", "leaf", "egg", "cloud"], 2, replace=False)
        first = draw_colour(rng, among=tuple(n for n in BASE if n not in ("white", "gray")), shaded=0)
        second = draw_contrasting(rng, first, among=tuple(n for n in BASE if n not in ("white", "gray")))
        second = colour(second.name)
        objects = []
        for half, (noun, tone) in enumerate(zip(nouns, (first, second), strict=True)):
            parts, unit = place(
                KINDS[str(noun)].draw(rng), (128, 128), rng, slot=Slot(0.26 + 0.48 * half, 0.5, 0.22), turn=5
            )
            objects.append(Placed(Subject(str(noun), tone, True), parts, unit))
        background = backgrounds.plain(colour("white"), (128, 128))
        scene = compose(tuple(reversed(objects)), background, (128, 128), says_background=True)
        things = " and ".join(article(f"{t.name} {n}") for n, t in zip(nouns, (first, second), strict=True))
        cases.append(
            Case(
                "pairs",
                scene,
                scene.scribble(rng, pen=Pen(2.0, 0.2)),
                f"{things} on a white background",
                index,
            )
        )
    return cases


def free_of_control_cases(count: int) -> list[Case]:
    """The prompt alone, and the scribble alone."""
    cases = []
    for case in outline_cases(count, group="scale 0"):
        cases.append(replace(case, scale=0.0))
        cases.append(replace(case, group="empty prompt", prompt=""))
    return cases


def seed_cases(count: int) -> list[Case]:
    """One scribble, a full prompt and a short one, four seeds each."""
    cases = []
    for index in range(count):
        rng = np.random.default_rng([SEED, 8, index])
        noun = ("house", "cat", "flower", "car")[index % 4]
        scene = stage(KINDS[noun].draw(rng), noun, rng, tone=colour("red"), scenery="meadow", turn=2)
        scribble = scene.scribble(rng, pen=Pen(2.0, 0.3))
        for prompt in (f"a red {noun} in a meadow", f"a {noun}"):
            labels = {"scene": f"{index} {prompt}"}
            cases.extend(Case("seeds", scene, scribble, prompt, seed, labels=labels) for seed in range(4))
    return cases


def bad_cases() -> list[Case]:
    """Drawings as people really make them."""
    cases = []
    for index in range(30):
        rng = np.random.default_rng([SEED, 9, index])
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
        drawing = KINDS[noun].draw(rng)
        if style == "stick":
            noun, drawing = "person", KINDS["person"].draw(rng)
        elif style == "signature":
            noun, drawing = "signature", lone_strokes(rng)
        elif style == "doodle":
            noun, drawing = "dragon", free_drawing(rng)
        tone = draw_colour(rng, among=("red", "blue", "green", "purple", "orange"), shaded=0)
        scene = stage(drawing, noun, rng, tone=tone, wall=colour("white" if index % 2 else "yellow"))
        pen = Pen(3.0, 0.8, style if style in ("coarse", "open", "filled", "scrawled", "double") else "clean")
        scribble = scene.scribble(rng, pen=pen)
        if style == "empty":
            scribble = np.zeros_like(scribble)
        cases.append(Case("bad drawings", scene, scribble, plain_prompt(scene), index, labels={"style": style}))
    return cases


def all_cases() -> list[Case]:
    """All cases, about 400."""
    return [
        *outline_cases(120),
        *detail_cases(36),
        *noun_cases(),
        *shade_cases(14),
        *scene_cases(36),
        *ground_cases(16),
        *pair_cases(20),
        *free_of_control_cases(12),
        *seed_cases(4),
        *bad_cases(),
        *outline_cases(8, size=(256, 256), group="256 px"),
        *outline_cases(8, size=(192, 128), group="192x128 px"),
    ]
