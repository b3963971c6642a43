# SPDX-License-Identifier: Apache-2.0
"""Measure the time until the page shows the first preview, and the engine's time for two steps.

Run `python -m benchmarks.first_preview` while `make run` is running. It measures both alternately on the same server.
The page's time is from the click on Draw to the painted preview, in a real Chromium. The engine's time is the sum of
the timings that it returns with a picture of two steps, without decoding and writing the picture.
"""

import io
import shutil
import statistics
from typing import Any

import httpx2
import typer
from PIL import Image, ImageDraw
from playwright.sync_api import Page, sync_playwright

from benchmarks.common.measurement_lock import measurement

app = typer.Typer(add_completion=False)

_BEFORE_THE_FIRST_PREVIEW = ("read", "wait", "encode", "denoise")
_PROMPT = "a red house in the snow"
_SIDE = 128  # of the picture
_MOST_MS = 300.0
# From the click on Draw until the first preview is decoded and its frame is about to be shown.
_STOPWATCH = """() => {
  document.getElementById("draw").addEventListener("click", () => { window.began = performance.now(); }, true);
  const frame = document.getElementById("frame");
  window.nextPreview = () => new Promise(resolve => {
    new MutationObserver(async (_, observer) => {
      if (frame.dataset.state !== "preview") return;
      observer.disconnect();
      await document.getElementById("picture").decode();
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - window.began)));
    }).observe(frame, {attributeFilter: ["data-state"]});
  });
}"""


def engine_ms(url: str) -> float:
    """The engine's time to read a request and run two steps."""
    drawing = Image.new("L", (1024, 1024), 255)
    ImageDraw.Draw(drawing).rectangle((250, 400, 750, 850), outline=0, width=20)
    file = io.BytesIO()
    drawing.save(file, "PNG")
    page = httpx2.get(url).text
    path = page.split('"endpoint": "')[1].split('"')[0]
    form = {"prompt": _PROMPT, "num_inference_steps": "2", "width": _SIDE, "height": _SIDE}
    response = httpx2.post(f"{url}/{path}", data=form, files={"image": file.getvalue()}, timeout=300)
    response.raise_for_status()
    timings: dict[str, float] = response.json()["info"]["timings_s"]
    return 1000 * sum(timings[phase] for phase in _BEFORE_THE_FIRST_PREVIEW)


def page_ms(page: Page) -> float:
    """Draw a stroke and click Draw. Returns the time until the first preview."""
    box: Any = page.locator("#scribble").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 120, steps=10)
    page.mouse.up()
    shown = page.evaluate_handle("() => ({promise: window.nextPreview()})")
    page.click("#draw")
    waited: float = page.evaluate("async each => await each.promise", shown)
    page.wait_for_selector("#frame[data-state=done]", timeout=300_000)
    return waited


@app.command(help=__doc__)
def main(url: str = "http://localhost:8080", rounds: int = 15) -> None:
    engine_times, page_times = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.add_init_script("localStorage.live = 'off'")  # or each stroke would start a draft
        page.goto(url)
        page.wait_for_selector("#status[data-state=ready]", timeout=300_000)
        page.click("#fold summary")
        page.select_option("#setting-size", f"{_SIDE}x{_SIDE}")
        page.click("#fold summary")
        page.evaluate(_STOPWATCH)
        page.fill("#prompt", _PROMPT)
        for _ in range(rounds):
            engine_times.append(engine_ms(url))
            page_times.append(page_ms(page))
        typer.echo(f"Chromium {browser.version}, {rounds} rounds; median (least, most), ms")
        browser.close()
    for name, times in (("engine, two steps", engine_times), ("page, first preview", page_times)):
        typer.echo(f"{name:20} {statistics.median(times):7.0f}  ({min(times):.0f}, {max(times):.0f})")
    added = statistics.median(page_times) - statistics.median(engine_times)
    typer.echo(f"{'added by the page':20} {added:7.0f}  (at most {_MOST_MS:.0f})")


if __name__ == "__main__":
    with measurement():
        app()
