# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.live`: measure and print. README.md says what."""

import json
import shutil
import statistics
from collections.abc import Sequence
from typing import Annotated

import httpx2
import typer
from playwright.sync_api import sync_playwright

from benchmarks.common import machine
from benchmarks.common.measurement_lock import measurement
from benchmarks.live import drawing
from benchmarks.live.server import Server, running

# The milliseconds that a person may wait, by the picture's size.
MOST_MS = {"128x128": (150, 400), "256x256": (300, 800)}
_BETWEEN = "{:.0f} ({:.0f} to {:.0f})"


def spread(values: Sequence[float]) -> str:
    return _BETWEEN.format(statistics.median(values), min(values), max(values))


def wasted(lifts: Sequence[drawing.Lift], *, passes: int, steps: int) -> tuple[float, int]:
    """Passes for each superseded draft that ran after it was superseded, and the number of superseded drafts.

    Args:
        passes: those that the engine ran for all these drafts, each of which would have had `steps`.
    """
    superseded = [each.superseded_steps for each in lifts if each.superseded_steps is not None]
    finished = len(lifts) - len(superseded)
    return (passes - finished * steps - sum(superseded)) / max(1, len(superseded)), len(superseded)


def steps_of_draft(url: str) -> int:
    return int(httpx2.get(f"{url}/playground/model").json()["description"]["presets"]["draft"]["num_inference_steps"])


def measure(server: Server, size: str, rounds: int) -> dict[str, object]:
    steps = steps_of_draft(server.url)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        artist = drawing.Artist(page, server.url, size)
        lifts = drawing.single_strokes(artist, rounds)
        previews = [each.preview_ms for each in lifts if each.preview_ms is not None]
        done = [each.done_ms for each in lifts if each.done_ms is not None]
        before = server.passes(size)
        pairs = drawing.quick_strokes(artist, rounds, longest_ms=statistics.median(done))
        waste, num_superseded = wasted(pairs, passes=server.passes(size) - before, steps=steps)
        version = browser.version
        browser.close()
    return {
        "size": size,
        "chromium": version,
        "first_preview_ms": spread(previews) if previews else "none: the draft has one step",
        "draft_ms": spread(done),
        "at_most_ms": MOST_MS[size],
        "draft_steps": steps,
        "superseded": num_superseded,
        "wasted_steps_each": round(waste, 2),
    }


def main(rounds: Annotated[int, typer.Option(help="Strokes for each figure.")] = 20) -> None:
    """Start a server, and measure at 128 and 256 px."""
    with measurement(), running() as server:
        typer.echo(f"{machine.cpu_name()}, {machine.commit()}; medians of {rounds} strokes (least to most)")
        for size in MOST_MS:
            typer.echo(json.dumps(measure(server, size, rounds)))


if __name__ == "__main__":
    typer.run(main)
