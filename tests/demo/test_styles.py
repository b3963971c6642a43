# SPDX-License-Identifier: Apache-2.0
"""Styles keep a scene's layout and colours, and each looks unlike the others."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from demo.palette import BASE
from demo.scenes import draw_scene
from demo.styles import STYLES, stylised
from demo.styles.recognition import PLAIN, StyleClassifier


def picture_of(seed: int, style: str, size: tuple[int, int] = (128, 128)) -> np.ndarray:
    return stylised(draw_scene(np.random.default_rng(seed), size), style, np.random.default_rng(7))


@pytest.mark.parametrize("style", STYLES)
def test_same_seed_paints_same_picture(style: str):
    assert (picture_of(1, style) == picture_of(1, style)).all()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(160, 96), (256, 256)])
def test_styled_pictures_have_size_of_scene(style: str, size: tuple[int, int]):
    assert picture_of(3, style, size).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("style", STYLES)
def test_objects_keep_their_hue(style: str):
    """The object's mean colour leans to the colour of the scene's object, and to no other base colour."""
    num_checked = 0
    for seed in range(250):
        scene = draw_scene(np.random.default_rng(seed), (128, 128))
        thing, area = scene.objects[0], scene.mask & ~scene.details
        tone = thing.subject.colour
        is_of_one_colour = {part.fill for part in thing.parts if not part.is_detail} == {"body"}
        is_single = len(scene.objects) == 1 and is_of_one_colour and area.any()
        if not is_single or tone.shade or tone.name not in ("red", "green", "blue"):
            continue
        mean = stylised(scene, style, np.random.default_rng(7))[area].mean(0)
        assert mean.argmax() == np.argmax(BASE[tone.name]), (seed, tone)
        num_checked += 1
    assert num_checked > 2


def test_neon_is_dark_and_paper_is_light():
    scene = draw_scene(np.random.default_rng(5), (128, 128))
    border = {style: stylised(scene, style, np.random.default_rng(7))[:2].mean() for style in STYLES}
    assert border["neon"] < 80 < 200 < border["watercolour"]


def test_classifier_tells_painted_styles_apart():
    classifier, right = StyleClassifier.of_painted((128, 128), examples=48), Counter[str]()
    for seed in range(12):
        scene = draw_scene(np.random.default_rng([990, seed]), (128, 128))
        right[PLAIN] += classifier.style(scene.picture) == PLAIN
        right.update(s for s in STYLES if classifier.style(stylised(scene, s, np.random.default_rng([8, seed]))) == s)
    assert min(right[style] for style in (PLAIN, *STYLES)) >= 11  # with few examples; `evaluate` learns from more
