# SPDX-License-Identifier: Apache-2.0
"""All cases of the evaluation: unseen scribbles and prompts, with the expected content of their pictures."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from demo.evaluation.parts import part_cases
from demo.evaluation.several import landscape_cases, pair_cases, triple_cases
from demo.evaluation.single import (
    bad_cases,
    detail_cases,
    free_of_control_cases,
    ground_cases,
    noun_cases,
    outline_cases,
    scene_cases,
    seed_cases,
    shade_cases,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.evaluation.case import Case

FEW_STEP = "few_step"
FEW_STEP_CASES, STYLE_CASES = 60, 16
STYLED_GROUPS = ("pairs", "faces", "details", "nested", "landscapes")
# Groups whose figures compare their pictures with those of others.
COMPARED_WITH = {"few step": ("outline",), "styles": STYLED_GROUPS}


def all_cases(side: int = 256) -> list[Case]:
    """About 500 cases, square ones of `side` pixels and some of other sizes."""
    size = (side, side)
    return [
        *outline_cases(100, size),
        *detail_cases(54, size),
        *pair_cases(40, size),
        *triple_cases(30, size),
        *part_cases("faces", 25, size),
        *part_cases("stick figures", 20, size),
        *part_cases("thin things", 16, size),
        *part_cases("doodles", 20, size),
        *part_cases("nested", 24, size),
        *landscape_cases(12, size),
        *noun_cases(4, size),
        *shade_cases(14, size),
        *scene_cases(21, size),
        *ground_cases(12, size),
        *free_of_control_cases(8, size),
        *seed_cases(3, size),
        *bad_cases(20, size),
        *outline_cases(20, (128, 128), group="128 px"),
        *outline_cases(16, (192, 192), group="192 px"),
        *outline_cases(8, (256, 192), group="256x192 px"),
    ]


def first_cases(cases: Sequence[Case], every: int) -> list[Case]:
    """The first of each group, one of `every`. Groups repeat their sorts in turn, so every n-th would omit some."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    return [case for members in groups.values() for case in members[: math.ceil(len(members) / every)]]


def lora_cases(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """The cases that each LoRA paints as well: outlines for few steps, all sorts for a style."""
    outlines = [c for c in cases if c.group == "outline"][:FEW_STEP_CASES]
    found = [replace(c, group="few step", lora=FEW_STEP) for c in outlines if FEW_STEP in names]
    for name in names:
        if name != FEW_STEP:
            chosen = [c for c in cases if c.group in STYLED_GROUPS]
            every = max(1, len(chosen) // STYLE_CASES)
            found += [replace(c, group="styles", lora=name, labels={"style": name}) for c in chosen[::every]]
    return found
