# SPDX-License-Identifier: Apache-2.0
"""The scene generator: the same for a seed, every kind drawable, picture as in its mask and caption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from demo.evaluation.measures import iou, object_region
from demo.kind import KINDS
from demo.palette import BASE, WORDS
from demo.pen import STYLES, Pen
from demo.scenes import Scene, draw_scene

SIZES = [(128, 128), (160, 128), (96, 192), (256, 256)]


def scene_of(*seed: int, size: tuple[int, int] = (128, 128)):
    rng = np.random.default_rng(seed)
    return draw_scene(rng, size), rng


def test_same_seed_draws_same_picture_scribble_and_caption():
    (first, rng_a), (second, rng_b) = scene_of(1, 2), scene_of(1, 2)
    assert (first.picture == second.picture).all()
    assert (first.scribble(rng_a) == second.scribble(rng_b)).all()
    assert first.caption(rng_a) == second.caption(rng_b)


@pytest.mark.parametrize("size", SIZES)
def test_pictures_and_scribbles_have_requested_size(size: tuple[int, int]):
    scene, rng = scene_of(3, size=size)
    assert scene.picture.shape == (size[1], size[0], 3)
    assert scene.scribble(rng).shape == (size[1], size[0])


@pytest.mark.parametrize("style", STYLES)
def test_scribbles_are_black_and_white_in_every_style(style: str):
    scene, rng = scene_of(4)
    assert set(np.unique(scene.scribble(rng, pen=Pen(3.0, 0.5, style)))) == {0, 255}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_stays_near_its_unit_square(name: str):
    for seed in range(8):
        parts = KINDS[name].draw(np.random.default_rng(seed))
        assert any(not part.is_detail for part in parts)
        assert max(np.abs(part.points).max() for part in parts) < 1.5


def test_caption_names_colour_only_if_scene_says_so():
    words = {word for choices in WORDS.values() for word in choices} | set(BASE)
    said = 0
    for index in range(300):
        scene, rng = scene_of(5, index, size=(48, 48))
        subject, caption = scene.objects[0].subject, scene.caption(rng).text.lower()
        if len(scene.objects) > 1 or subject.extras or subject.noun in words:
            continue
        if subject.says_colour:
            said += 1
            assert any(word in caption for word in WORDS[subject.colour.name])
        elif not scene.says_background:
            assert not words & set(caption.replace(",", " ").replace(".", " ").split())
    assert said > 50


def test_measured_region_of_drawn_picture_is_its_mask():
    found = []
    for index in range(40):
        scene, _ = scene_of(6, index)
        if scene.background.name == "plain" and len(scene.objects) == 1:
            found.append(iou(object_region(scene.picture, scene.mask), scene.mask))
    assert np.median(found) > 0.95


def scenes_of(name: str, count: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Scene, np.random.Generator]]:
    monkeypatch.setattr("demo.scenes.SCENES", {name: 1.0})
    return [scene_of(7, index, size=(96, 96)) for index in range(count)]


@pytest.mark.parametrize(("name", "count"), [("two", 2), ("three", 3)])
def test_several_objects_are_all_visible_and_unlike_in_colour(name: str, count: int, monkeypatch: pytest.MonkeyPatch):
    for scene, _ in scenes_of(name, 25, monkeypatch):
        assert len(scene.objects) == count
        assert set(np.unique(scene.owner)) == {-1, *range(count)}
        colours = {o.subject.colour.name for o in scene.objects if o.subject.says_colour}
        subjects = {o.subject for o in scene.objects if o.subject.says_colour}
        assert len(colours) == len(subjects)


def test_objects_are_named_from_left_to_right_or_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("demo.captions.SHUFFLED", 0.0)
    for scene, _ in scenes_of("two", 40, monkeypatch):
        axis = {"row": 1, "column": 0}.get(scene.arrangement)
        if axis is not None:
            first, second = (np.argwhere(scene.owner == index)[:, axis].mean() for index in (1, 0))
            assert first < second


def test_object_in_front_covers_lines_of_object_behind(monkeypatch: pytest.MonkeyPatch):
    scene = next(s for s, _ in scenes_of("two", 60, monkeypatch) if s.arrangement == "depth")
    pen = Pen(2.0, 0.0, "clean", details=0.0)
    covered = scene.scribble(np.random.default_rng(1), pen=replace(pen, hides=True))
    open_ = scene.scribble(np.random.default_rng(1), pen=pen)
    assert (covered > 0).sum() < (open_ > 0).sum()


def test_thing_inside_has_the_colour_that_the_caption_says():
    for seed in range(12):
        drawing = KINDS["bowl"].draw(np.random.default_rng(seed))
        (said,) = {part.said for part in drawing if part.said}
        name = next((word for word in BASE if f" {word} " in said), "orange")  # a fish of no said colour is orange
        assert BASE[name] in [part.fill for part in drawing if part.said]


def test_landscape_has_lines_from_edge_to_edge(monkeypatch: pytest.MonkeyPatch):
    for scene, rng in scenes_of("landscape", 10, monkeypatch):
        scribble = scene.scribble(rng, pen=Pen(2.0, 0.2))
        assert scribble[:, :3].any()
        assert scribble[:, -3:].any()
        assert scene.mask[-3:].all()
