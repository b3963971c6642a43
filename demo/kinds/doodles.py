# SPDX-License-Identifier: Apache-2.0
"""Doodles: open strokes that enclose nothing, painted as ropes of the object's colour."""

from __future__ import annotations

from functools import partial

import numpy as np

from demo.geometry import Part, Points, arc, curve, ellipse, line
from demo.kind import kind

Rng = np.random.Generator
ROPE = 0.11

# Letters and digits as strokes on a grid of 3 x 5 points: "a" to "c" from left to right, 0 to 4 from top to bottom.
STROKES = """
    A a4b0c4 a3c3     B a4a0b0c1b2c3b4a4 a2b2   C c0b0a1a3b4c4   D a0b0c1c3b4a4a0   E c0a0a4c4 a2b2
    F c0a0a4 a2b2     G c0b0a1a3b4c4c2b2        H a0a4 c0c4 a2c2 I b0b4             J c0c3b4a3
    K a0a4 c0a2c4     L a0a4c4                  M a4a0b2c0c4     N a4a0c4c0         O b0a1a3b4c3c1b0
    P a4a0b0c1b2a2    R a4a0b0c1b2a2 b2c4       S c0b0a1c3b4a4   T a0c0 b0b4        U a0a3b4c3c0
    V a0b4c0          W a0a4b2c4c0              X a0c4 c0a4      Y a0b2c0 b2b4      Z a0c0a4c4
    1 a1b0b4          2 a1b0c1a4c4              3 a0b0c1b2c3b4a4 4 c3a3b0b4         5 c0a0a2b2c3b4a4
    7 a0c0a4
"""
ROUND = "CGJOSU238"  # drawn with curves as often as with corners


def rope(points: Points, *, width: float = ROPE) -> Part:
    return Part(points, "body", closed=False, width=width)


def glyphs() -> dict[str, list[str]]:
    """The strokes of every letter and digit."""
    found: dict[str, list[str]] = {}
    for word in STROKES.split():
        if len(word) == 1:
            found[word] = []
        else:
            found[list(found)[-1]].append(word)
    return found


def draw_glyph(rng: Rng, name: str, strokes: list[str]) -> list[Part]:
    is_round = name in ROUND and rng.random() < 0.6
    parts = []
    for stroke in strokes:
        spots = [
            ((ord(x) - ord("b")) * 0.6, (int(y) - 2) * 0.48) for x, y in zip(stroke[::2], stroke[1::2], strict=True)
        ]
        parts.append(rope(curve(*spots) if is_round else line(*spots), width=0.16))
    return parts


for _name, _strokes in glyphs().items():
    _nouns = (f"letter {_name}", f"capital {_name}") if _name.isalpha() else (f"number {_name}", f"digit {_name}")
    kind(*_nouns, weight=0.06, turn=6)(partial(draw_glyph, name=_name, strokes=_strokes))


@kind("spiral", "swirl", "curl", turn=180)
def spiral(rng: Rng) -> list[Part]:
    turns = rng.uniform(2.2, 3.2) * 2 * np.pi
    angle = np.linspace(0.8, turns, 110)
    radius = angle / turns * 0.98
    return [rope(np.stack([radius * np.cos(angle), rng.choice([-1, 1]) * radius * np.sin(angle)], axis=1))]


@kind("wave", "wavy line", "squiggle", turn=25)
def wave(rng: Rng) -> list[Part]:
    x = np.linspace(-1.1, 1.1, 70)
    phase, count = rng.uniform(0, 6.28), rng.uniform(1.5, 3.5)
    height = rng.uniform(0.2, 0.42)
    lines = int(rng.choice([1, 1, 2, 3]))
    return [
        rope(np.stack([x, height / lines * np.sin(count * np.pi * x + phase) + (i - (lines - 1) / 2) * 0.55], axis=1))
        for i in range(lines)
    ]


@kind("zigzag", "zigzag line", "scrawl", turn=40)
def zigzag(rng: Rng) -> list[Part]:
    count = int(rng.integers(4, 9))
    xs = np.linspace(-1.05, 1.05, count)
    ys = np.where(np.arange(count) % 2 == 0, 1, -1) * rng.uniform(0.25, 0.6, count)
    return [rope(line(*zip(xs, ys, strict=True)))]


@kind("drawn arrow", "line arrow", "pointer", turn=180)
def line_arrow(rng: Rng) -> list[Part]:
    bow = rng.uniform(-0.5, 0.5)
    return [
        rope(curve((-1.0, 0), (0, bow), (1.0, 0))),
        rope(line((0.62, -0.36 - 0.2 * bow), (1.0, 0), (0.62, 0.36 - 0.2 * bow))),
    ]


@kind("open heart", "heart line", "heart outline", turn=15)
def open_heart(_rng: Rng) -> list[Part]:
    t = np.linspace(0.1, 2 * np.pi - 0.1, 60)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    return [rope(np.stack([np.sin(t) ** 3, y], axis=1))]


@kind("grid", "net", "tic tac toe", turn=6)
def grid(rng: Rng) -> list[Part]:
    count = int(rng.integers(2, 5))
    at = (np.arange(count) - (count - 1) / 2) * 1.6 / max(count, 3)
    return [rope(line((x, -0.9), (x, 0.9))) for x in at] + [rope(line((-0.9, y), (0.9, y))) for y in at]


@kind("rays", "burst", "fireworks", "asterisk", turn=180, home=("night",))
def rays(rng: Rng) -> list[Part]:
    count, inner = int(rng.integers(6, 11)), rng.choice([0.0, 0.3])
    angles = np.arange(count) * 2 * np.pi / count
    return [rope(line((inner * np.cos(a), inner * np.sin(a)), (np.cos(a), np.sin(a)))) for a in angles]


@kind("loops", "looping line", "lasso", turn=20)
def loops(rng: Rng) -> list[Part]:
    t = np.linspace(-1.5, rng.choice([4, 6, 8]) * np.pi + 1.5, 130)
    x = np.linspace(-0.85, 0.85, 130) + 0.24 * np.cos(t)
    return [rope(np.stack([x, 0.42 * np.sin(t)], axis=1))]


@kind("hoop", "loop", "open circle", "circle line", turn=180)
def hoop(rng: Rng) -> list[Part]:
    return [rope(arc(0, 0, 0.95, rng.uniform(0.75, 0.95), 8, rng.uniform(300, 352)))]


@kind("knot", "infinity sign", "figure eight", turn=90)
def knot(_rng: Rng) -> list[Part]:
    t = np.linspace(0, 2 * np.pi, 90)
    return [rope(np.stack([np.cos(t), 0.9 * np.sin(t) * np.cos(t)], axis=1))]


@kind("check mark", "tick", "hook", turn=20)
def tick(_rng: Rng) -> list[Part]:
    return [rope(line((-0.8, 0.0), (-0.25, 0.7), (0.9, -0.8)), width=0.16)]


@kind("doodle", "line", "string", "thread", "scribble", turn=180, weight=2.0)
def doodle(rng: Rng) -> list[Part]:
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        ends = rng.uniform(-1.0, 1.0, (int(rng.integers(3, 7)), 2))
        parts.append(rope(curve(*map(tuple, ends))))
    return parts


@kind("smile line", "curve", "bow line", "arc", turn=180)
def bow(rng: Rng) -> list[Part]:
    return [rope(arc(0, -0.3, 1.0, rng.uniform(0.5, 0.9), 10, 170))]


@kind("dots", "bubbles", "row of rings", turn=30)
def rings(rng: Rng) -> list[Part]:
    count = int(rng.integers(2, 5))
    parts = []
    for x in np.linspace(-0.8, 0.8, count):
        ring = ellipse(x, rng.uniform(-0.3, 0.3), min(0.7 / count + 0.06, 0.34))
        parts.append(rope(np.concatenate([ring, ring[:2]])))
    return parts
