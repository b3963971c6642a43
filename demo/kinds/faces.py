# SPDX-License-Identifier: Apache-2.0
"""Faces, whose eyes, hair, glasses and mood captions name. Every part is large enough to be drawn and seen."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from demo.geometry import Part, Points, arc, ellipse, line, petals, polygon, smooth
from demo.kind import kind
from demo.palette import BASE, EYES, HAIRS, RGB, SKINS, draw_name, mix

Rng = np.random.Generator
SAYS = 0.7  # share of the parts that captions name


@kind("face", "head", "person's face", weight=2.0, turn=6)
def face(rng: Rng) -> list[Part]:
    skin, said = draw_skin(rng)
    return portrait(rng, skin, said, hair=draw_hair(rng))


@kind("girl's face", "woman's face", "lady", weight=0.8, turn=6)
def girls_face(rng: Rng) -> list[Part]:
    skin, said = draw_skin(rng)
    return portrait(rng, skin, said, hair=str(rng.choice(("long", "plaits", "bun"))))


@kind("boy's face", "man's face", weight=0.8, turn=6)
def boys_face(rng: Rng) -> list[Part]:
    skin, said = draw_skin(rng)
    return portrait(rng, skin, said, hair=str(rng.choice(("short", "spiky", "curly"))), beard=bool(rng.random() < 0.35))


@kind("clown", "coloured face", "mask", weight=0.5, turn=6)
def clown(rng: Rng) -> list[Part]:
    """A face in any colour."""
    return portrait(rng, "body", "", hair=str(rng.choice(("curly", "none", "spiky"))))


@kind("teacher", "grandma", "grandpa", "portrait", name="bust", weight=0.6, turn=3)
def bust(rng: Rng) -> list[Part]:
    """A face over shoulders in a shirt, whose colour is the object's."""
    skin, said = draw_skin(rng)
    shoulders = smooth((-0.95, 1.3), (-0.85, 0.78), (-0.3, 0.52), (0.3, 0.52), (0.85, 0.78), (0.95, 1.3), (0, 1.4))
    shoulders[:, 1] = np.minimum(shoulders[:, 1], 1.1)
    neck = polygon((-0.17, 0.2), (0.17, 0.2), (0.2, 0.66), (-0.2, 0.66))
    head = [replace(p, points=p.points * 0.72 - [0, 0.3]) for p in portrait(rng, skin, said, hair=draw_hair(rng))]
    return [Part(shoulders), Part(neck, skin), *head]


def draw_hair(rng: Rng) -> str:
    return str(
        rng.choice(
            ("short", "long", "curly", "spiky", "none", "bun", "plaits"), p=(0.2, 0.2, 0.15, 0.15, 0.14, 0.08, 0.08)
        )
    )


def draw_skin(rng: Rng) -> tuple[RGB, str]:
    name = draw_name(rng, SKINS)
    return SKINS[name], f"{name} skin" if name != "light" and rng.random() < SAYS else ""


def portrait(rng: Rng, skin: RGB | str, said_skin: str, *, hair: str, beard: bool = False) -> list[Part]:
    """All parts of a face. `skin` is a colour or "body"."""
    round_ = rng.uniform(0.72, 0.84)
    hair_name = draw_name(rng, HAIRS if rng.random() < 0.7 else BASE)
    hair_rgb = HAIRS.get(hair_name) or BASE[hair_name]
    hair_said = f"{hair_name} hair" if rng.random() < SAYS else ""
    if not hair_said:
        hair_rgb = HAIRS["brown"]
    behind, above = haircut(rng, hair, round_)
    parts = [Part(p, hair_rgb, said=hair_said) for p in behind]
    if rng.random() < 0.6:
        parts += [Part(ellipse(s * round_, 0.08, 0.15, 0.2), skin) for s in (-1, 1)]
    parts.append(Part(ellipse(0, 0.05, round_, 0.92), skin, said=said_skin))
    if beard:
        chin = smooth(
            (-0.62, 0.35), (-0.3, 0.42), (0, 0.38), (0.3, 0.42), (0.62, 0.35), (0.42, 0.82), (0, 0.98), (-0.42, 0.82)
        )
        parts.append(Part(chin, hair_rgb, is_detail=True, said=f"a {hair_name} beard" if hair_said else "a beard"))
    parts += [Part(p, hair_rgb, said=hair_said) for p in above]
    if rng.random() < 0.12:
        parts += hat(rng, round_)
    return [*parts, *features(rng, skin, brows=hair_rgb)]


def haircut(rng: Rng, name: str, wide: float) -> tuple[list[Points], list[Points]]:
    """Outlines behind the head, and outlines over its top."""
    fringe = rng.uniform(-0.48, -0.4)
    w = wide + 0.05
    cap = smooth(
        (-w, -0.1),
        (-w * 0.95, -0.6),
        (-0.5, -0.98),
        (0, -1.06),
        (0.5, -0.98),
        (w * 0.95, -0.6),
        (w, -0.1),
        (w * 0.72, fringe),
        (0, fringe - 0.06),
        (-w * 0.72, fringe),
    )
    if name == "none":
        return [], []
    if name == "short":
        return [], [cap]
    if name == "spiky":
        xs = np.linspace(-w, w, 9)
        top = [(x, -0.62 - 0.5 * (1 - (x / w) ** 2) - (0.22 if i % 2 else 0)) for i, x in enumerate(xs)]
        return [], [polygon((-w, -0.2), *top, (w, -0.2), (w * 0.7, fringe), (-w * 0.7, fringe))]
    if name == "curly":
        cloud = petals(9, 0.14) * [w + 0.22, 0.68] + [0, -0.5]
        return [cloud], []
    if name == "bun":
        return [ellipse(0, -1.08, 0.3)], [cap]
    if name == "plaits":
        return [
            smooth((s * 0.7, -0.2), (s * 1.05, -0.05), (s * 1.1, 0.6), (s * 0.95, 1.0), (s * 0.82, 0.6))
            for s in (-1, 1)
        ], [cap]
    side = w + 0.16
    long = smooth(
        (-side, 0.95),
        (-side, -0.3),
        (-0.6, -1.0),
        (0, -1.12),
        (0.6, -1.0),
        (side, -0.3),
        (side, 0.95),
        (0.5, 1.05),
        (-0.5, 1.05),
    )
    return [long], [cap]


def hat(rng: Rng, wide: float) -> list[Part]:
    """A hat with a brim over the forehead."""
    name = draw_name(rng, BASE)
    said = f"{'an' if name[0] in 'aeiou' else 'a'} {name} hat"
    top = polygon((-0.55, -0.52), (-0.5, -1.2), (0.5, -1.2), (0.55, -0.52))
    brim = smooth((-wide - 0.25, -0.5), (0, -0.62), (wide + 0.25, -0.5), (0, -0.4))
    return [Part(top, BASE[name], said=said), Part(brim, BASE[name], said=said)]


def features(rng: Rng, skin: RGB | str, *, brows: RGB) -> list[Part]:
    """Eyes, brows, nose, mouth, and perhaps glasses and cheeks."""
    y, apart, size = rng.uniform(-0.18, -0.1), rng.uniform(0.34, 0.38), rng.uniform(0.2, 0.23)
    eye = draw_name(rng, EYES)
    says_eyes, shows_iris = rng.random() < SAYS, bool(rng.random() < 0.5)
    rgb = EYES[eye] if says_eyes else BASE["brown"]
    said = f"{eye} eyes" if says_eyes else ""
    parts: list[Part] = []
    for s in (-1, 1):
        parts += [
            Part(ellipse(s * apart, y, size, size * 0.86), "snow", is_detail=True),
            Part(ellipse(s * apart, y, size * 0.6), rgb, is_detail=True, is_drawn=shows_iris, said=said),
            Part(ellipse(s * apart, y, size * 0.26), "ink", is_detail=True, has_ink=False, is_drawn=False),
        ]
    if rng.random() < 0.6:
        tilt = rng.uniform(-0.08, 0.08)
        parts += [
            Part(
                line((s * (apart - 0.17), y - 0.3 + tilt), (s * (apart + 0.17), y - 0.3 - tilt)),
                brows,
                False,
                is_detail=True,
                width=0.1,
            )
            for s in (-1, 1)
        ]
    parts.append(nose(rng, skin))
    parts += mouth(rng)
    if rng.random() < 0.25:
        name = draw_name(rng, BASE)
        frame = partial(Part, fill=BASE[name], closed=False, is_detail=True, width=0.1, said=f"{name} glasses")
        for s in (-1, 1):
            ring = ellipse(s * apart, y, size * 1.45, size * 1.35)
            parts.append(frame(np.concatenate([ring, ring[:2]])))
        parts.append(frame(line((-0.1, y), (0.1, y))))
    elif rng.random() < 0.3:
        parts += [
            Part(ellipse(s * 0.5, 0.3, 0.15), (236, 96, 104), is_detail=True, has_ink=False, said="red cheeks")
            for s in (-1, 1)
        ]
    return parts


def nose(rng: Rng, skin: RGB | str) -> Part:
    choice = rng.integers(3)
    if choice == 0:
        return Part(
            ellipse(0, 0.16, 0.12, 0.1),
            mix(skin, (220, 90, 60), 0.35) if isinstance(skin, tuple) else "dark",
            is_detail=True,
        )
    path = line((0.02, -0.04), (0.13, 0.24), (-0.04, 0.25)) if choice == 1 else arc(0, 0.14, 0.12, 0.12, 20, 160)
    return Part(path, skin, closed=False, is_detail=True)


def mouth(rng: Rng) -> list[Part]:
    wide = rng.uniform(0.3, 0.42)
    mood = rng.choice(("smile", "sad", "open", "lips"), p=(0.5, 0.15, 0.2, 0.15))
    red = (206, 44, 58)
    if mood == "smile":
        return [Part(arc(0, 0.36, wide, 0.24, 10, 170), red, False, is_detail=True, width=0.13, said="a smile")]
    if mood == "sad":
        return [Part(arc(0, 0.68, wide, 0.22, 195, 345), red, False, is_detail=True, width=0.13, said="a sad mouth")]
    if mood == "open":
        return [Part(ellipse(0, 0.56, wide * 0.6, 0.22), (120, 24, 34), is_detail=True, said="an open mouth")]
    lips = smooth((-wide, 0.52), (-0.1, 0.41), (0, 0.45), (0.1, 0.41), (wide, 0.52), (0, 0.7))
    return [Part(lips, red, is_detail=True, said="red lips")]
