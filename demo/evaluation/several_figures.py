# SPDX-License-Identifier: Apache-2.0
"""Figures of cases of several objects and of many parts, and of the LoRAs."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from demo.evaluation import measures
from demo.evaluation.single_figures import Figures, Pictures, measure_colours, share
from demo.evaluation.visible_parts import inner, shows, visible_parts
from demo.palette import BASE, EYES, HAIRS, SKINS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.evaluation.case import Case
    from demo.evaluation.measures import Colours
    from demo.geometry import Part
    from demo.pixels import Mask, Pixels

PALETTES = (BASE, HAIRS, EYES, SKINS)  # of parts whose colour captions name
ALIKE = 14.0  # CIE Lab: colours that differ less are the same


def measure_several(cases: list[Case], pictures: Pictures) -> Figures:
    """Of each case: whether every object, and any object, has its own colour."""
    every, anyone, single = [], [], []
    by_arrangement: dict[str, list[bool]] = defaultdict(list)
    overlaps = []
    for case, picture in zip(cases, pictures, strict=True):
        right = list(colours_right(case, picture))
        every.append(all(right))
        anyone.append(any(right))
        single += right
        by_arrangement[case.labels.get("arrangement", "")].append(all(right))
        overlaps.append(measures.overlap(picture, case.scene.mask))
    figures: Figures = {
        "cases": len(cases),
        "all_colours_right": share(every),
        "at_least_one_right": share(anyone),
        "objects_right": share(single),
    }
    if all(case.scene.background.name == "plain" for case in cases):
        figures["iou_mean"] = round(float(np.mean(overlaps)), 3)
    return figures | {f"all_colours_right_{name}": share(v) for name, v in by_arrangement.items() if name}


def colours_right(case: Case, picture: Pixels) -> Iterator[bool]:
    """For each visible object whose colour the prompt names, whether it has that colour."""
    for index, placed in enumerate(case.scene.objects):
        tone, body = placed.subject.colour, own_colour_pixels(case, index)
        if placed.subject.says_colour and body.sum() > 40:
            yield measures.is_colour(measures.object_colour(picture, body), tone.name, tone.shade)


def own_colour_pixels(case: Case, index: int) -> Mask:
    """Where the object shows its own colour, not that of a trunk or a window."""
    placed = case.scene.objects[index]
    near = measures.differences(case.scene.picture, placed.subject.colour.rgb)
    pixels: Mask = (case.scene.owner == index) & (near < 25)
    return pixels


def measure_parts(cases: list[Case], pictures: Pictures) -> Figures:
    """The share of the drawn parts that show, by role, and of the named colours that are right."""
    shown: dict[str, list[bool]] = defaultdict(list)
    complete, chance, named = [], [], []
    for index, (case, picture) in enumerate(zip(cases, pictures, strict=True)):
        other = pictures[(index + 1) % len(pictures)]
        here = []
        for seen in visible_parts(case.scene):
            here.append(shows(picture, case.scene.picture, seen))
            chance.append(shows(other, case.scene.picture, seen))
            shown[seen.role].append(here[-1])
            right = has_named_colour(np.median(picture[inner(seen.pixels)], axis=0), seen.part)
            named += [right] if right is not None else []
        complete.append(all(here))
    every = [value for values in shown.values() for value in values]
    figures: Figures = {
        "parts": len(every),
        "visible": share(every),
        "visible_least": min((round(float(np.mean(values)), 3) for values in shown.values()), default=None),
        "visible_by_chance": share(chance),
        "all_parts_visible": share(complete),
        "object_colour_right": measure_own_colours(cases, pictures),
    }
    return (
        figures
        | {"named_parts_right": share(named)}
        | {f"visible_{role}": share(values) for role, values in sorted(shown.items())}
    )


def has_named_colour(found: Colours, part: Part) -> bool | None:
    """Whether the part has the colour that its caption names: "brown hair", "green eyes". None if it names none."""
    words = part.said.split()
    for palette in PALETTES:
        if wanted := next((rgb for name, rgb in palette.items() if rgb == part.fill and name in words), None):
            least = min(measures.contrast(found, rgb) for rgb in palette.values())
            return measures.contrast(found, wanted) <= max(least, ALIKE)
    return None


def measure_own_colours(cases: list[Case], pictures: Pictures) -> float | None:
    return share(
        [right for case, picture in zip(cases, pictures, strict=True) for right in colours_right(case, picture)]
    )


def measure_few_step(cases: list[Case], pictures: Pictures, *, usual: tuple[list[Case], Pictures]) -> Figures:
    """Outline and colour with the few-step LoRA, and how far they are behind the pictures of many steps."""

    def figures(some: list[Case], painted: Pictures) -> tuple[float, float]:
        found = [measures.overlap(p, c.scene.mask) for c, p in zip(some, painted, strict=True)]
        return float(np.mean(found)), measure_colours(some, painted)["object_colour_right"]

    (overlap, colour), (full_overlap, full_colour) = figures(cases, pictures), figures(*usual)
    return {
        "cases": len(cases),
        "iou_mean": round(overlap, 3),
        "object_colour_right": colour,
        "iou_behind": round(full_overlap - overlap, 3),
        "colour_behind": round(full_colour - colour, 3),
    }
