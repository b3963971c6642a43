# SPDX-License-Identifier: Apache-2.0
"""The evaluation's measures: ideal pictures reach the targets, and pictures with a mistake do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from demo.evaluation.case import Case
from demo.evaluation.parts import part_cases
from demo.evaluation.several import landscape_cases, pair_cases, triple_cases
from demo.evaluation.several_figures import measure_few_step, measure_parts, measure_several
from demo.evaluation.single import outline_cases
from demo.evaluation.visible_parts import shows, visible_parts
from demo.scenes import compose

SIZE = (128, 128)


def ideal(cases: list[Case]) -> list[np.ndarray]:
    return [case.scene.picture for case in cases]


def repainted(case: Case, **changes: object) -> np.ndarray:
    """The case's scene with other objects."""
    scene = replace(case.scene, **changes)
    return compose(scene.objects, scene.background, scene.size, says_background=True).picture


@pytest.mark.parametrize("draw_cases", [pair_cases, triple_cases, landscape_cases])
def test_painted_objects_have_their_own_colours(draw_cases: Callable[[int, tuple[int, int]], list[Case]]):
    cases = draw_cases(4, SIZE)
    assert measure_several(cases, ideal(cases))["objects_right"] > 0.9


def test_swapped_colours_are_wrong():
    cases = pair_cases(4, SIZE)
    swapped = []
    for case in cases:
        first, second = case.scene.objects
        objects = (
            replace(first, subject=replace(first.subject, colour=second.subject.colour)),
            replace(second, subject=replace(second.subject, colour=first.subject.colour)),
        )
        swapped.append(repainted(case, objects=objects))
    assert measure_several(cases, swapped)["all_colours_right"] == 0.0


@pytest.mark.parametrize("group", ["faces", "stick figures", "thin things", "doodles", "nested"])
def test_all_painted_parts_show(group: str):
    cases = part_cases(group, 4, SIZE)
    assert measure_parts(cases, ideal(cases))["visible"] > 0.9


def test_missing_limb_does_not_show():
    (case,) = part_cases("stick figures", 1, SIZE)
    (figure,) = case.scene.objects
    limb = next(seen for seen in visible_parts(case.scene) if seen.role == "limb")
    without = replace(figure, parts=tuple(part for part in figure.parts if part is not limb.part))
    picture = repainted(case, objects=(without,))
    assert shows(case.scene.picture, case.scene.picture, limb)
    assert not shows(picture, case.scene.picture, limb)


def test_few_step_pictures_are_compared_with_the_usual_ones():
    cases = outline_cases(4, SIZE)
    blank = [np.full_like(picture, 128) for picture in ideal(cases)]
    same = measure_few_step(cases, ideal(cases), usual=(cases, ideal(cases)))
    worse = measure_few_step(cases, blank, usual=(cases, ideal(cases)))
    assert same["iou_behind"] == same["colour_behind"] == 0
    assert worse["iou_behind"] > 0.3
