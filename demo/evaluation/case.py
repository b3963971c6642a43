# SPDX-License-Identifier: Apache-2.0
"""A case of the evaluation, and the parts that cases are made from: placed objects, walls and prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from demo import backgrounds
from demo.arrangement import Slot, place
from demo.captions import Subject, is_plural, listed
from demo.kind import KINDS
from demo.palette import Colour, colour, distance, draw_colour, draw_contrasting
from demo.scenes import Placed, Scene, compose, shows_colour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.geometry import Part
    from demo.pixels import Pixels

Rng = np.random.Generator
Size = tuple[int, int]

SEED = 770_001
WALLS = ("white", "yellow", "gray", "cyan", "pink", "blue", "green")


@dataclass(frozen=True, slots=True)
class Case:
    group: str
    scene: Scene  # painted by `scenes.py`: the ideal picture
    scribble: Pixels  # (H, W) of 0 and 255
    prompt: str
    seed: int
    scale: float = 1.0
    labels: dict[str, str] = field(default_factory=dict)
    lora: str = ""  # the checkpoint's LoRA that makes the picture


def rng_of(number: int, index: int, size: Size) -> Rng:
    """The random numbers of one case: `number` is its group's."""
    return np.random.default_rng([SEED, number, index, *size])


def stage(
    drawing: list[Part],
    noun: str,
    rng: Rng,
    *,
    size: Size,
    tone: Colour | None = None,
    wall: Colour | None = None,
    scenery: str = "",
    turn: float = 8.0,
) -> Scene:
    """One object, in its colour, before a plain wall or a scene."""
    placed = put(drawing, noun, rng, size=size, tone=tone or draw_colour(rng, shaded=0.2), turn=turn)
    if scenery:
        background = backgrounds.scene(scenery, size, rng)
    else:
        background = backgrounds.plain(wall or draw_contrasting(rng, placed.subject.colour), size)
    return compose((placed,), background, size, says_background=True)


def put(
    drawing: list[Part], noun: str, rng: Rng, *, size: Size, tone: Colour, slot: Slot | None = None, turn: float = 5.0
) -> Placed:
    """An object at its place, with what its prompt says about it."""
    extras = tuple(dict.fromkeys(part.said for part in drawing if part.said))
    parts, unit = place(drawing, size, rng, slot=slot, turn=turn)
    return Placed(Subject(noun, tone, shows_colour(drawing), extras), parts, unit)


def wall_unlike(rng: Rng, parts: Sequence[Part], tones: Sequence[Colour]) -> Colour:
    """A wall before which every part and every object's colour is visible."""
    seen = [t.rgb for t in tones] + [p.fill for p in parts if isinstance(p.fill, tuple)]
    walls = [colour(name) for name in WALLS]
    far = [w for w in walls if min((distance(w.rgb, rgb) for rgb in seen), default=255) > 90]
    return far[int(rng.integers(len(far)))] if far else max(walls, key=lambda w: min(distance(w.rgb, s) for s in seen))


def draw(name: str, rng: Rng) -> list[Part]:
    return KINDS[name].draw(rng)


def article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def say(tone: Colour) -> str:
    return f"{tone.shade} {tone.name}".strip()


def phrase(subject: Subject) -> str:
    """The object as the plainest caption says it: "a blue bowl with an orange fish in it"."""
    words = f"{say(subject.colour)} {subject.noun}" if subject.says_colour else subject.noun
    words = words if is_plural(subject.noun) or not subject.has_article else article(words)
    return f"{words} with {listed(subject.extras)}" if subject.extras else words


def plain_prompt(scene: Scene) -> str:
    """All objects in the order of captions, and the wall."""
    things = listed([phrase(placed.subject) for placed in reversed(scene.objects)])
    walls = scene.background.colours
    return f"{things} on {article(f'{say(walls[0])} background')}" if walls else things
