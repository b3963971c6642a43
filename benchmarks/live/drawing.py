# SPDX-License-Identifier: Apache-2.0
"""A person who draws on the page in live mode, with a stopwatch that starts when the pen is lifted."""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from playwright.sync_api import Page

PROMPT = "a red house in the snow"
# When the pen is lifted: the steps of the draft that runs. After it: when previews and the finished draft are painted.
_STOPWATCH = """() => {
  const frame = document.getElementById("frame");
  const picture = document.getElementById("picture");
  const progress = document.getElementById("progress");
  window.lifts = [];
  let lift = null;
  document.getElementById("scribble").addEventListener("pointerup", () => {
    lift = {at: performance.now(), isIdle: frame.dataset.state !== "preview" && !window.isDrafting,
            steps: progress.hasAttribute("value") ? progress.value : 0, preview: null, done: null};
    window.isDrafting = true;
    window.lifts.push(lift);
  }, true);
  new MutationObserver(async () => {
    const [mine, state] = [lift, frame.dataset.state];
    if (state === "done") window.isDrafting = false;
    await picture.decode().catch(() => {});
    requestAnimationFrame(() => setTimeout(() => {
      if (!mine) return;
      const ms = performance.now() - mine.at;
      if (state === "preview") mine.preview ??= ms;
      if (state === "done") mine.done ??= ms;
    }));
  }).observe(picture, {attributeFilter: ["src"]});
}"""


@dataclass(frozen=True)
class Lift:
    """What followed when the pen was lifted: milliseconds; None for what a later stroke superseded."""

    preview_ms: float | None
    done_ms: float | None
    superseded_steps: int | None  # steps of the draft before, as the page knew them; None if it was finished


class Artist:
    """Draws strokes in a circle around the middle of the canvas."""

    def __init__(self, page: Page, url: str, size: str) -> None:
        self._page = page
        page.add_init_script("localStorage.live = 'on'")
        page.goto(url)
        page.wait_for_selector("#status[data-state=ready]", timeout=300_000)
        page.click("#fold summary")
        page.select_option("#setting-size", size)
        page.click("#fold summary")
        page.evaluate("scrollTo(0, 0)")
        page.fill("#prompt", PROMPT)
        page.evaluate(_STOPWATCH)
        self._angles: Iterator[float] = itertools.accumulate(itertools.repeat(0.9))

    def stroke(self, *, until_lift_ms: float = 0) -> None:
        """Draw a stroke. The pen is lifted after this time."""
        box = self._page.locator("#scribble").bounding_box()
        if box is None:
            raise RuntimeError("the page has no canvas")
        angle = next(self._angles)
        for radius in (0.1, 0.2, 0.35):
            x, y = 0.5 + radius * math.cos(angle), 0.5 + radius * math.sin(angle)
            self._page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if radius == 0.1:
                self._page.mouse.down()
        self._page.wait_for_timeout(until_lift_ms)
        self._page.mouse.up()

    def until_drafted(self) -> None:
        self._page.wait_for_function("() => lifts.at(-1).done !== null", polling=20, timeout=120_000)

    def rest(self) -> None:
        """Let the drafts be, so that no picture is finished."""
        self._page.evaluate("document.getElementById('stop').click()")

    def lifts(self) -> list[Lift]:
        """Those since the last call."""
        found = self._page.evaluate("lifts.splice(0)")
        return [Lift(each["preview"], each["done"], None if each["isIdle"] else round(each["steps"])) for each in found]


def single_strokes(artist: Artist, rounds: int) -> list[Lift]:
    """Strokes of a person who waits for each draft. The first is for the caches."""
    for _ in range(rounds + 1):
        artist.stroke()
        artist.until_drafted()
    artist.rest()
    return artist.lifts()[1:]


def quick_strokes(artist: Artist, rounds: int, longest_ms: float) -> list[Lift]:
    """Pairs of strokes: the second one supersedes the draft of the first after a random time, or comes too late."""
    for _ in range(rounds):
        artist.stroke()
        artist.stroke(until_lift_ms=random.uniform(0, longest_ms))  # noqa: S311
        artist.until_drafted()
    artist.rest()
    return artist.lifts()
