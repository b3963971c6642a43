# SPDX-License-Identifier: Apache-2.0
"""The figures of every group of cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from demo.evaluation import several_figures, single_figures
from demo.evaluation.cases import STYLED_GROUPS
from demo.styles.recognition import PLAIN, StyleClassifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.evaluation.case import Case
    from demo.evaluation.single_figures import Figures, Pictures

MEASURES: dict[str, Callable[[list[Case], Pictures], Figures]] = {
    "outline": single_figures.measure_outline,
    "details": single_figures.measure_details,
    "pairs": several_figures.measure_several,
    "triples": several_figures.measure_several,
    "faces": several_figures.measure_parts,
    "stick figures": several_figures.measure_parts,
    "thin things": several_figures.measure_parts,
    "doodles": several_figures.measure_parts,
    "nested": several_figures.measure_parts,
    "landscapes": several_figures.measure_several,
    "nouns": single_figures.measure_nouns,
    "shades": single_figures.measure_shades,
    "scenes": single_figures.measure_scenes,
    "ground": single_figures.measure_ground,
    "scale 0": single_figures.measure_free,
    "empty prompt": single_figures.measure_empty_prompt,
    "seeds": single_figures.measure_seeds,
    "bad drawings": single_figures.measure_bad,
    "128 px": single_figures.measure_outline,
    "192 px": single_figures.measure_outline,
    "256x192 px": single_figures.measure_outline,
}


def measure(cases: list[Case], pictures: Pictures) -> dict[str, Figures]:
    """The figures of the groups that the cases belong to."""
    groups: dict[str, tuple[list[Case], Pictures]] = {}
    for case, picture in zip(cases, pictures, strict=True):
        members, painted = groups.setdefault(case.group, ([], []))
        members.append(case)
        painted.append(picture)
    figures = {name: function(*groups[name]) for name, function in MEASURES.items() if name in groups}
    if "few step" in groups and "outline" in groups:
        seeds = {case.seed for case in groups["few step"][0]}
        usual = [(c, p) for c, p in zip(*groups["outline"], strict=True) if c.seed in seeds]
        figures["few step"] = several_figures.measure_few_step(
            *groups["few step"], usual=([c for c, _ in usual], [p for _, p in usual])
        )
    if "styles" in groups:
        plain = [groups[name][1] for name in STYLED_GROUPS if name in groups]
        figures["styles"] = measure_styles(*groups["styles"], plain=[picture for each in plain for picture in each])
    return figures


def measure_styles(cases: list[Case], pictures: Pictures, *, plain: Pictures) -> Figures:
    """The share of pictures that a classifier of painted pictures puts in their style, or in none if they are plain."""
    classifier = StyleClassifier.of_painted(cases[0].scene.size)
    right: dict[str, list[bool]] = {}
    named = [(case.labels["style"], picture) for case, picture in zip(cases, pictures, strict=True)]
    for style, picture in [*named, *((PLAIN, picture) for picture in plain)]:
        right.setdefault(style, []).append(classifier.style(picture) == style)
    by_style = {name: round(float(np.mean(values)), 3) for name, values in right.items()}
    # The mean of the styles' shares, because there are more plain pictures than others.
    return {"cases": len(named), "told_apart": round(float(np.mean(list(by_style.values()))), 3)} | {
        f"told_apart_{name}": value for name, value in by_style.items()
    }
