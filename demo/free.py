# SPDX-License-Identifier: Apache-2.0
"""Free drawings: random outlines with marks inside, and strokes that enclose nothing. They have ordinary nouns."""

from __future__ import annotations

import numpy as np

from demo.geometry import Part, blob, box, curve, ellipse, line

Rng = np.random.Generator

LONE_STROKES = 0.2  # share of the free drawings: signatures, scrawls


def free_drawing(rng: Rng) -> list[Part]:
    """A free drawing: one to three outlines, perhaps with limbs or marks inside."""
    if rng.random() < LONE_STROKES:
        return lone_strokes(rng)
    parts = []
    if rng.random() < 0.22:
        for _ in range(int(rng.integers(1, 5))):
            angle = rng.uniform(0, 6.28)
            reach = rng.uniform(0.9, 1.3)
            end = (reach * np.cos(angle), reach * np.sin(angle))
            parts.append(
                Part(
                    line((0.3 * end[0], 0.3 * end[1]), end),
                    "body",
                    closed=False,
                    width=rng.uniform(0.09, 0.2),
                )
            )
    body = blob(rng)
    flat = rng.uniform(0.3, 0.5) if rng.random() < 0.2 else 1.0
    body *= [1, flat]
    parts.append(Part(body))
    if rng.random() < 0.3:
        parts.extend(
            Part(blob(rng) * rng.uniform(0.3, 0.6) + rng.uniform(-0.75, 0.75, 2))
            for _ in range(int(rng.integers(1, 3)))
        )
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.4, 0.25, 0.2, 0.15]))):
        x, y = rng.uniform(-0.38, 0.38, 2) * [1, flat]
        mark = rng.integers(4)
        if mark == 0:
            parts.append(
                Part(
                    line((x - 0.3, y), (x + 0.3, y + rng.uniform(-0.3, 0.3))),
                    None,
                    closed=False,
                    is_detail=True,
                )
            )
        elif mark == 1:
            parts.append(Part(box(x - 0.18, y - 0.18, x + 0.18, y + 0.18), "light", is_detail=True))
        elif mark == 2:
            parts.append(Part(curve((x - 0.3, y), (x, y + 0.2), (x + 0.3, y)), None, closed=False, is_detail=True))
        else:
            parts.append(Part(ellipse(x, y, rng.uniform(0.14, 0.24)), "light", is_detail=True))
    return parts


def lone_strokes(rng: Rng) -> list[Part]:
    """A signature or a scrawl. Strokes that enclose nothing become ropes."""
    if rng.random() < 0.5:
        count = int(rng.integers(7, 14))
        x = np.linspace(-1.15, 1.15, count) + rng.uniform(-0.08, 0.08, count)
        y = np.where(np.arange(count) % 2 == 0, 1, -1) * rng.uniform(0.08, 0.55, count)
        return [Part(curve(*zip(x, y, strict=True)), "body", closed=False, width=0.09)]
    strokes = []
    for _ in range(int(rng.integers(1, 5))):
        ends = rng.uniform(-0.95, 0.95, (int(rng.integers(2, 5)), 2))
        strokes.append(Part(curve(*map(tuple, ends)), "body", closed=False, width=0.1))
    return strokes
