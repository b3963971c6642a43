# SPDX-License-Identifier: Apache-2.0
"""Jobs and seeded traces of them, which are the same for every peer. Does not import torch."""

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from PIL import Image, ImageDraw

UNIFORM_STEPS = (8,)
MIXED_STEPS = (4, 8, 20, 50)
CANCELLED_SHARE = 0.2

COLOURS = ("red", "blue", "green", "yellow", "white", "black", "orange", "purple")
THINGS = ("house", "tree", "boat", "cloud", "car", "fish", "sun", "flower")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request of a client. Times are seconds after the trace's start."""

    index: int
    arrival: float
    num_steps: int
    leaves_after: float | None = None  # seconds from arrival to the client's disconnect; None: it stays
    trace: int = 0
    options: Mapping[str, bytes | float] = field(default_factory=dict)  # more inputs of the request, for engines

    @property
    def leaves_at(self) -> float:
        return float("inf") if self.leaves_after is None else self.arrival + self.leaves_after

    @property
    def stays(self) -> bool:
        return self.leaves_after is None

    @property
    def prompt(self) -> str:
        """A unique text, in this trace and all others, so that no peer gains from a cache."""
        colour, thing = COLOURS[self.index % 8], THINGS[self.index // 8 % 8]
        return f"a {colour} {thing}, number {self.index} of {self.trace}"

    def paced(self, pace: float) -> Self:
        """The same job on a machine that currently takes `pace` times as long."""
        leaves_after = None if self.leaves_after is None else self.leaves_after * pace
        return replace(self, arrival=self.arrival * pace, leaves_after=leaves_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTime:
    """The stock pipeline's time for a request alone, with all cores."""

    fixed_s: float
    per_step_s: float

    def of(self, num_steps: int) -> float:
        return self.fixed_s + num_steps * self.per_step_s

    def mean(self, step_counts: Sequence[int]) -> float:
        return sum(map(self.of, step_counts)) / len(step_counts)


def make_trace(
    step_counts: Sequence[int], service: ServiceTime, *, num_jobs: int, load: float | None, seed: int
) -> list[Job]:
    """Poisson arrivals at `load` times the capacity of one request at a time; None: all at once.

    Several step counts are equally frequent, and a fifth of their clients disconnect after a random part of the time
    that their picture would take alone.
    """
    draw = random.Random(f"{seed}, {step_counts}, {load}")  # noqa: S311
    steps = [step_counts[index % len(step_counts)] for index in range(num_jobs)]
    draw.shuffle(steps)
    num_leaving = round(CANCELLED_SHARE * num_jobs) if len(step_counts) > 1 else 0
    leaving = set(draw.sample(range(num_jobs), num_leaving))
    trace = draw.randrange(10**9)
    arrival, jobs = 0.0, []
    for index, num_steps in enumerate(steps):
        if load is not None:
            arrival += draw.expovariate(load / service.mean(step_counts))
        leaves_after = draw.random() * service.of(num_steps) if index in leaving else None
        jobs.append(Job(index=index, arrival=arrival, num_steps=num_steps, leaves_after=leaves_after, trace=trace))
    return jobs


def scribble_file(index: int) -> bytes:
    """A PNG with black strokes on white: a house, a circle or a triangle at a random position."""
    draw = random.Random(index)  # noqa: S311
    picture = Image.new("RGB", (256, 256), "white")
    pen = ImageDraw.Draw(picture)
    left, top, size = draw.randrange(20, 90), draw.randrange(60, 110), draw.randrange(80, 130)
    if index % 3 == 0:
        pen.rectangle((left, top, left + size, top + size), outline="black", width=5)
    if index % 3 < 2:
        pen.line((left, top, left + size // 2, top - 50, left + size, top, left, top), fill="black", width=5)
    else:
        pen.ellipse((left, top, left + size, top + size), outline="black", width=5)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
