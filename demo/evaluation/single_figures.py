# SPDX-License-Identifier: Apache-2.0
"""Figures of cases of one object."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from demo.backgrounds import scene as paint_scene
from demo.evaluation import measures
from demo.evaluation.single import SCENES
from demo.pixels import Pixels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from demo.evaluation.case import Case
    from demo.pixels import Mask

Pictures = list[Pixels]
Figures = dict[str, Any]


def share(values: Sequence[bool]) -> float | None:
    """The share that is true, or None if nothing was judged, which is not the same as 0."""
    return round(float(np.mean(values)), 3) if values else None


def measure_outline(cases: list[Case], pictures: Pictures) -> Figures:
    overlaps = np.array([measures.overlap(p, c.scene.mask) for c, p in zip(cases, pictures, strict=True)])
    figures: Figures = {
        "cases": len(cases),
        "iou_mean": round(float(overlaps.mean()), 3),
        "iou_5th_percentile": round(float(np.percentile(overlaps, 5)), 3),
    }
    for label in ("shape", "pen", "style"):
        for value in sorted({c.labels.get(label, "") for c in cases} - {""}):
            chosen = [o for o, c in zip(overlaps, cases, strict=True) if c.labels[label] == value]
            figures[f"iou_{label}_{value}"] = round(float(np.mean(chosen)), 3)
    return figures | measure_colours(cases, pictures)


def measure_colours(cases: list[Case], pictures: Pictures) -> Figures:
    things, walls = [], []
    for case, picture in zip(cases, pictures, strict=True):
        tone, wall = case.scene.objects[0].subject.colour, case.scene.background.colours[0]
        things.append(measures.is_colour(measures.object_colour(picture, case.scene.mask), tone.name, tone.shade))
        walls.append(measures.is_colour(measures.background_colour(picture, case.scene.mask), wall.name, wall.shade))
    return {"object_colour_right": share(things), "background_colour_right": share(walls)}


def measure_details(cases: list[Case], pictures: Pictures) -> Figures:
    shown: dict[str, list[bool]] = defaultdict(list)
    chance: list[bool] = []
    for index, (case, picture) in enumerate(zip(cases, pictures, strict=True)):
        other = pictures[(index + 1) % len(pictures)]  # the same lines, measured on another picture
        for line, calm in detail_lines(case):
            shown[case.labels["noun"]].append(measures.shows_line(picture, line, calm))
            chance.append(measures.shows_line(other, line, calm))
    every = [value for values in shown.values() for value in values]
    by_noun = {f"visible_{noun}": share(values) for noun, values in sorted(shown.items())}
    return {"details": len(every), "visible": share(every), "visible_by_chance": share(chance)} | by_noun


def detail_lines(case: Case) -> Iterator[tuple[Mask, Mask]]:
    """For each drawn detail, the pixels of its line, and a plain part of the object to compare with."""
    shape, scale = case.scribble.shape, measures.scale_of(case.scribble.shape)
    drawn = measures.dilate(case.scribble > 0, 4 * scale)
    calm = measures.erode(case.scene.mask, 4 * scale) & ~drawn
    for part in case.scene.objects[0].parts:
        if part.is_detail and part.is_drawn:
            line = measures.line_mask(part.points, shape, 3 * scale, closed=part.closed) & case.scene.mask
            if line.sum() > 8:
                yield line, calm


def measure_nouns(cases: list[Case], pictures: Pictures) -> Figures:
    figures: Figures = {}
    for tone in ("", "red "):
        chosen = [(c, p) for c, p in zip(cases, pictures, strict=True) if c.labels["tone"] == tone]
        found: dict[str, list[float]] = defaultdict(list)
        for (a, first), (b, second) in combinations(chosen, 2):
            if a.labels["circle"] == b.labels["circle"]:
                pair = f"{a.labels['noun']}_{b.labels['noun']}"
                found[pair].append(measures.difference(first, second, a.scene.mask))
        name = "same_colour" if tone else "no_colour_said"
        figures[f"levels_between_nouns_{name}"] = {pair: round(float(np.mean(v)), 1) for pair, v in found.items()}
        figures[f"pairs_over_12_levels_{name}"] = share([value > 12 for values in found.values() for value in values])
    return figures


def measure_shades(cases: list[Case], pictures: Pictures) -> Figures:
    pairs: dict[str, dict[str, float]] = defaultdict(dict)
    for case, picture in zip(cases, pictures, strict=True):
        value = measures.luminance(measures.object_colour(picture, case.scene.mask))
        pairs[case.labels["pair"]][case.labels["shade"]] = value
    return {"light_over_dark_by_25_levels": share([p["light"] - p["dark"] > 25 for p in pairs.values() if len(p) == 2])}


def measure_scenes(cases: list[Case], pictures: Pictures) -> Figures:
    rng, size = np.random.default_rng(5), cases[0].scene.size
    nothing = np.zeros(size[::-1], dtype=bool)
    examples = {
        name: [measures.grid((paint_scene(name, size, rng).picture * 255).astype(np.uint8), nothing) for _ in range(30)]
        for name in (*SCENES, "sky")
    }
    right: dict[str, list[bool]] = defaultdict(list)
    for case, picture in zip(cases, pictures, strict=True):
        name = measures.nearest(measures.grid(picture, case.scene.mask), examples)
        right[case.labels["scene"]].append(name == case.labels["scene"])
    total = [value for values in right.values() for value in values]
    return {"recognised": share(total)} | {f"recognised_{name}": share(values) for name, values in right.items()}


def measure_ground(cases: list[Case], pictures: Pictures) -> Figures:
    right = []
    for case, picture in zip(cases, pictures, strict=True):
        far = measures.outside(case.scene.mask)
        high, low = len(picture) * 3 // 16, len(picture) * 5 // 32
        top, bottom = picture[:high][far[:high]], picture[-low:][far[-low:]]
        sky = measures.is_colour(np.median(top, axis=0), case.labels["sky"], "")
        right.append(sky and measures.is_colour(np.median(bottom, axis=0), case.labels["ground"], ""))
    return {"sky_and_ground_colours_right": share(right)}


def measure_free(cases: list[Case], pictures: Pictures) -> Figures:
    """Without control: the picture has an object of the prompted colour, neither a speck nor the whole picture."""
    made = []
    for case, picture in zip(cases, pictures, strict=True):
        area = float((measures.differences(picture, case.scene.objects[0].subject.colour.rgb) < 38).mean())
        made.append(0.03 < area < 0.75)
    return {"makes_an_object": share(made)}


def measure_seeds(cases: list[Case], pictures: Pictures) -> Figures:
    found: dict[str, list[float]] = defaultdict(list)
    for (a, first), (b, second) in combinations(zip(cases, pictures, strict=True), 2):
        if a.labels["scene"] == b.labels["scene"]:
            found["full_prompt" if "meadow" in a.prompt else "short_prompt"].append(measures.difference(first, second))
    return {f"levels_between_seeds_{name}": round(float(np.mean(values)), 1) for name, values in found.items()}


def measure_empty_prompt(cases: list[Case], pictures: Pictures) -> Figures:
    return {name: value for name, value in measure_outline(cases, pictures).items() if "colour" not in name}


def measure_bad(cases: list[Case], pictures: Pictures) -> Figures:
    """The prompted colour appears where something was drawn, or anywhere on an empty canvas."""
    right: dict[str, list[bool]] = defaultdict(list)
    for case, picture in zip(cases, pictures, strict=True):
        where = case.scene.mask if case.scribble.any() else np.ones_like(case.scene.mask)
        near = measures.differences(picture, case.scene.objects[0].subject.colour.rgb)
        right[case.labels["style"]].append(bool((near[where] < 38).mean() > (0.3 if case.scribble.any() else 0.02)))
    total = [value for values in right.values() for value in values]
    return {"in_the_spirit": share(total)} | {f"in_the_spirit_{style}": share(v) for style, v in right.items()}
