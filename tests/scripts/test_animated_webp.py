# SPDX-License-Identifier: Apache-2.0
"""The README's animation: frames at a steady rate, equal ones as one, and a limited size."""

import importlib.util
import io
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageDraw

from support.paths import ROOT


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


webp = script("animated_webp")
drawings = script("recorded_drawings")


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def noise(seed: int) -> bytes:
    return png(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 96, 3), "uint8")))


def test_equal_frames_become_one_and_the_newest_of_a_tick_stays() -> None:
    frames = [(5.0, b"a"), (5.01, b"b"), (5.11, b"b"), (5.31, b"c"), (5.39, b"d"), (5.5, b"a")]
    kept = webp.at_rate([webp.Frame(at, picture) for at, picture in frames], 10)
    assert [(frame.at, frame.picture) for frame in kept] == [(0, b"b"), (0.3, b"d"), (0.5, b"a")]


def test_the_animation_has_the_recorded_times_and_repeats_forever() -> None:
    frames = []
    for i, at in enumerate((10.0, 10.25, 11.0)):
        image = Image.new("RGB", (96, 64), "white")
        ImageDraw.Draw(image).rectangle((10, 10, 20 + 20 * i, 40), "red")
        frames.append(webp.Frame(at, png(image)))
    made = webp.fitting(frames, max_bytes=100_000, last_s=2, height=50)
    assert (made.frames_per_s, made.quality) == webp.CHOICES[0]
    with Image.open(io.BytesIO(made.file)) as animation:
        assert animation.size == (96, 50)
        assert animation.n_frames == 3
        assert animation.info["loop"] == 0
        durations = []
        for i in range(3):
            animation.seek(i)
            animation.load()
            durations.append(animation.info["duration"])
        assert durations == [250, 750, 2000]
        red, green, _ = animation.convert("RGB").getpixel((55, 20))
        assert red > 200 > 60 > green


def test_a_lower_quality_makes_it_fit_and_an_impossible_size_is_refused() -> None:
    frames = [webp.Frame(i / 40, noise(i)) for i in range(40)]
    best = webp.fitting(frames, max_bytes=10_000_000, last_s=1, height=64)
    small = webp.fitting(frames, max_bytes=len(best.file) // 3, last_s=1, height=64)
    assert len(small.file) <= len(best.file) // 3
    assert (small.frames_per_s, small.quality) < (best.frames_per_s, best.quality)
    with pytest.raises(ValueError, match="at most 1000 are allowed"):
        webp.fitting(frames, max_bytes=1000, last_s=1, height=64)


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_the_hand_stays_on_the_canvas_and_touches_every_corner(name: str) -> None:
    for part in drawings.DRAWINGS[name].parts:
        for stroke in part:
            moves = drawings.moves(stroke, speed=1, moves_per_s=40)
            assert all(0 < x < 1 and 0 < y < 1 for x, y in moves)
            for corner in [smooth[-1] for smooth in drawings.smooth_parts(stroke)]:
                assert min(np.hypot(x - corner[0], y - corner[1]) for x, y in moves) < 1e-6


def test_the_hand_is_slow_at_both_ends() -> None:
    xs = [x for x, _ in drawings.moves(((0, 0), (1, 0)), speed=1, moves_per_s=50)]
    steps = np.diff([0, *xs])
    assert steps[0] < steps[len(steps) // 2] / 4 > steps[-1]
    assert xs[-1] == pytest.approx(1)
