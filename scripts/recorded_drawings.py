# SPDX-License-Identifier: Apache-2.0
"""The drawings that `record_page` draws, and how a hand moves along them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]
Path = Sequence[Point]  # of a drawing: as parts of the canvas's width and height

CORNER_S = 0.12  # how much longer a path takes for each of its smooth parts
_SHARP_DEGREES = 40


@dataclass(frozen=True)
class Drawing:
    """`parts` are strokes. After each part, the hand waits for its draft."""

    prompt: str
    parts: tuple[tuple[Path, ...], ...]


def arc(center: Point, radius: Point, from_degrees: float, to_degrees: float) -> Path:
    """Part of an ellipse. 0 degrees is on the right, 90 at the bottom."""
    angles = [math.radians(from_degrees + (to_degrees - from_degrees) * i / 40) for i in range(41)]
    return [(center[0] + radius[0] * math.cos(each), center[1] + radius[1] * math.sin(each)) for each in angles]


def circle(x: float, y: float, radius: float) -> Path:
    """A circle by hand, which is closed at the top."""
    return arc((x, y), (radius, radius * 0.98), -92, 274)


def curve(*points: Point) -> Path:
    """A smooth path through these points: a Catmull-Rom spline."""
    ends = (points[0], *points, points[-1])
    path = [points[0]]
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for i in range(1, 11):
            t = i / 10
            path.append((_spline(a[0], b[0], c[0], d[0], t), _spline(a[1], b[1], c[1], d[1], t)))
    return path


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


DRAWINGS = {
    "house": Drawing(
        "a red house in the snow",
        (
            (((0.16, 0.47), (0.5, 0.13), (0.84, 0.473), (0.16, 0.47)),),
            (((0.23, 0.475), (0.236, 0.887), (0.772, 0.882), (0.77, 0.475)),),
            (((0.55, 0.882), (0.552, 0.635), (0.68, 0.632), (0.683, 0.882)),),
            (((0.31, 0.575), (0.44, 0.572), (0.443, 0.712), (0.312, 0.715), (0.31, 0.573)),),
        ),
    ),
    "face": Drawing(
        "a smiling face with red hair and green eyes",
        (
            (arc((0.5, 0.57), (0.295, 0.315), -92, 270),),
            (
                (
                    *curve((0.13, 0.915), (0.1, 0.7), (0.14, 0.3), (0.28, 0.1), (0.5, 0.045)),
                    *curve((0.5, 0.045), (0.72, 0.1), (0.86, 0.3), (0.9, 0.7), (0.87, 0.915)),
                    (0.13, 0.915),
                ),
                curve((0.19, 0.46), (0.28, 0.32), (0.5, 0.3), (0.72, 0.32), (0.81, 0.46)),
            ),
            (circle(0.365, 0.47, 0.06), circle(0.365, 0.472, 0.034)),
            (circle(0.635, 0.468, 0.06), circle(0.635, 0.47, 0.034)),
            (curve((0.455, 0.57), (0.5, 0.605), (0.545, 0.57)), curve((0.385, 0.67), (0.5, 0.74), (0.615, 0.67))),
        ),
    ),
}


def length(path: Path) -> float:
    return sum(math.dist(a, b) for a, b in pairwise(path))


def smooth_parts(path: Path) -> Iterator[Path]:
    """Split a path at its corners."""
    begin = 0
    for i in range(1, len(path) - 1):
        (ax, ay), (bx, by), (cx, cy) = path[i - 1 : i + 2]
        turn = math.degrees(math.atan2(cy - by, cx - bx) - math.atan2(by - ay, bx - ax))
        if abs((turn + 180) % 360 - 180) > _SHARP_DEGREES:
            yield path[begin : i + 1]
            begin = i
    yield path[begin:]


def along(path: Path, share: float) -> Point:
    """The point after this share of the path's length."""
    left = share * length(path)
    for a, b in pairwise(path):
        part = math.dist(a, b)
        if part >= left and part > 0:
            return a[0] + (b[0] - a[0]) * left / part, a[1] + (b[1] - a[1]) * left / part
        left -= part
    return path[-1]


def moves(path: Path, *, speed: float, moves_per_s: float) -> list[Point]:
    """Where a hand is at each tick: it is slow at both ends and at corners. `speed` is the path's unit per second."""
    points: list[Point] = []
    for part in smooth_parts(path):
        count = max(1, round((length(part) / speed + CORNER_S) * moves_per_s))
        shares = [i / count for i in range(1, count + 1)]
        points += [along(part, share * share * (3 - 2 * share)) for share in shares]
    return points
