# SPDX-License-Identifier: Apache-2.0
"""The evaluation's measures: ideal pictures reach the targets, and pictures with a mistake do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from demo import evaluate
from demo.card import table
from demo.evaluation.case import Case
from demo.evaluation.cases import first_cases
from demo.evaluation.parts import part_cases
from demo.evaluation.several import landscape_cases, pair_cases, triple_cases
from demo.evaluation.several_figures import measure_few_step, measure_parts, measure_several
from demo.evaluation.single import PENS, SCENES, outline_cases, scene_cases, shade_cases
from demo.evaluation.single_figures import share
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


def test_hair_of_another_colour_is_wrong():
    cases = part_cases("faces", 4, SIZE)
    dyed = []
    for case in cases:
        (face,) = case.scene.objects
        parts = tuple(replace(p, fill=(40, 200, 60)) if "hair" in p.said else p for p in face.parts)
        dyed.append(repainted(case, objects=(replace(face, parts=parts),)))
    assert (
        measure_parts(cases, ideal(cases))["named_parts_right"] > 0.9 > measure_parts(cases, dyed)["named_parts_right"]
    )


def test_a_figure_of_nothing_is_omitted_from_the_card():
    assert share([]) is None
    figures = {"shades": {"light_over_dark_by_25_levels": share([])}, "pairs": {"all_colours_right": 0.5}}
    text = table({**figures, "run": {"cases": 1, "every": 3, "steps": 6, "guidance_scale": 2.5}})
    assert "shades" not in text
    assert "| two objects, both in their own colours | 0.5 | ≥ 0.8 | **no** |" in text
    assert "1 pictures (the first of each group, one of 3)" in text


@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_part_of_the_cases_has_all_sorts(every: int):
    size = (64, 64)
    kept = first_cases(
        [*outline_cases(100, size), *shade_cases(14, size), *scene_cases(21, size), *pair_cases(40, size)], every
    )
    sorts = {(case.group, name, value) for case in kept for name, value in case.labels.items()}
    assert {("outline", "pen", str(pen)) for pen in PENS} <= sorts
    assert {("outline", "shape", shape) for shape in ("known", "unknown")} <= sorts
    assert {("pairs", "arrangement", name) for name in ("row", "column", "depth")} <= sorts
    if every < 5:  # a fifth of 21 scenes
        assert {("scenes", "scene", name) for name in SCENES} <= sorts
    pairs = Counter(case.labels["pair"] for case in kept if case.group == "shades")
    assert list(pairs.values()).count(2) >= len(pairs) - 1


def test_groups_are_drawn_with_those_that_they_are_compared_with(monkeypatch: pytest.MonkeyPatch):
    size = (64, 64)
    monkeypatch.setattr(evaluate, "all_cases", lambda _: [*outline_cases(6, size), *pair_cases(5, size)])
    few = evaluate.chosen_cases(evaluate.parse(["--only", "few step"]), 64, ["few_step", "neon"])
    styles = evaluate.chosen_cases(evaluate.parse(["--only", "styles"]), 64, ["few_step", "neon"])
    assert {case.group for case in few} == {"few step", "outline"}
    assert {case.group for case in styles} == {"styles", "pairs"}


@pytest.mark.parametrize("arguments", [("--only", "typo"), ("--every", "0"), ("--steps", "0"), ("--side", "x")])
def test_options_that_choose_nothing_are_rejected(arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        evaluate.parse(list(arguments))
    assert arguments[1] in capsys.readouterr().err


def test_a_preset_that_the_checkpoint_lacks_is_an_error_and_zero_guidance_is_used():
    painter = SimpleNamespace(serving={"presets": {"draft": {}, "quality": {"num_inference_steps": 6}}})
    with pytest.raises(evaluate.EvaluationError, match="draft, quality"):
        evaluate.chosen_preset(evaluate.parse(["--preset", "typo"]), painter)
    preset = evaluate.chosen_preset(evaluate.parse(["--guidance", "0"]), painter)
    assert (preset.steps, preset.guidance) == (6, 0.0)
