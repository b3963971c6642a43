# SPDX-License-Identifier: Apache-2.0
"""Records live drawing on the page as `docs/images/live.webp`, in real time: `python -m scripts.record_page`.

It starts the embedded Triton with the demo checkpoint, or uses the server at `--url`, and draws in a real Chromium. It
needs Chromium (`apt-get install chromium`) and an idle machine: drafts are slow beside other work, and their slowness
is recorded. A screencast has no mouse pointer, so the script adds one to the page.
"""

import asyncio
import base64
import pathlib
import shutil
from typing import Annotated, Any

import typer
from playwright.async_api import Browser, CDPSession, FloatRect, Page, ViewportSize, async_playwright

from scripts.animated_webp import Frame, fitting
from scripts.demo_server import server_at
from scripts.recorded_drawings import DRAWINGS, Drawing, Path, Point, moves

IMAGES = pathlib.Path(__file__).parent.parent / "docs" / "images"
MAX_BYTES = 2_000_000
WINDOW: ViewportSize = {"width": 880, "height": 690}
BRUSH = "22"
MOVES_PER_S = 40
PEN, WALK = 420.0, 1300.0  # pixels a second: the hand that draws, and the hand that goes somewhere
LAST_S = 2.5  # how long the finished picture stays
BELOW = 6  # pixels
TIMEOUT_MS = 300_000

_POINTER = """document.addEventListener("DOMContentLoaded", () => {
  const pen = "M0 0 2-7 18-23 23-18 7-2ZM2-7 7-2M15-20 20-15";
  const arrow = "M0 0 0 17 4 13.5 7 20 10 18.7 7.2 12.5 12.5 12Z";
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS(svg.namespaceURI, "path");
  Object.assign(svg.style, {position: "fixed", left: 0, top: 0, width: "1px", height: "1px", overflow: "visible",
    zIndex: 9, pointerEvents: "none", fill: "#fff", stroke: "#1d1b18", strokeWidth: 1.3, strokeLinejoin: "round"});
  svg.append(path);
  document.body.append(svg);
  document.addEventListener("pointermove", ({clientX, clientY, target}) => {
    const isOnCanvas = target.id === "scribble";
    path.setAttribute("d", isOnCanvas ? pen : arrow);
    svg.style.fill = isOnCanvas ? "#ffc53d" : "#fff";
    svg.style.translate = `${clientX}px ${clientY}px`;
  }, true);
});"""
_IS_DRAFTED = """before => document.getElementById("frame").dataset.state === "done"
  && document.getElementById("picture").getAttribute("src") !== before"""
_IS_FINISHED = """() => document.getElementById("frame").dataset.state === "done"
  && document.getElementById("caption").textContent.startsWith("Seed")"""

_IS_PAINTED = """async () => {
  await document.getElementById("picture").decode();
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
  await Promise.allSettled(document.getAnimations().map((each) => each.finished));
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
}"""


class Screencast:
    """Collects every frame that a page paints."""

    def __init__(self, session: CDPSession) -> None:
        self._session = session
        self._acknowledgements: set[asyncio.Task[Any]] = set()
        self.frames: list[Frame] = []

    async def start(self) -> None:
        self._session.on("Page.screencastFrame", self._keep)
        await self._session.send("Page.startScreencast", {"format": "png"})

    def _keep(self, event: dict[str, Any]) -> None:
        self.frames.append(Frame(event["metadata"]["timestamp"], base64.b64decode(event["data"])))
        sent = asyncio.ensure_future(self._session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]}))
        self._acknowledgements.add(sent)
        sent.add_done_callback(self._acknowledgements.discard)

    async def stop(self) -> None:
        await self._session.send("Page.stopScreencast")
        await asyncio.gather(*self._acknowledgements)


class Hand:
    """Moves the mouse over the page as a hand does."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._at: Point = (WINDOW["width"] * 0.5, WINDOW["height"] * 0.9)

    async def follow(self, path: Path, speed: float) -> None:
        """Move along points of the window, at this many pixels a second."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for point in moves(path, speed=speed, moves_per_s=MOVES_PER_S):
            due += 1 / MOVES_PER_S
            await asyncio.sleep(due - loop.time())
            await self._page.mouse.move(*point)
        self._at = path[-1]

    async def go(self, x: float, y: float) -> None:
        await self.follow((self._at, (x, y)), WALK)

    async def click(self, selector: str) -> None:
        box = await box_of(self._page, selector)
        await self.go(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await self._page.mouse.down()
        await self._page.mouse.up()

    async def draw(self, path: Path) -> None:
        """Draw a stroke, up to the moment before the pen is lifted."""
        await self.go(*path[0])
        await self._page.mouse.down()
        await self.follow(path, PEN)

    async def lift(self) -> None:
        await self._page.mouse.up()


async def box_of(page: Page, selector: str) -> FloatRect:
    box = await page.locator(selector).bounding_box()
    if box is None:
        raise RuntimeError(f"the page has no visible {selector}")
    return box


async def open_page(browser: Browser, url: str, seed: int) -> Page:
    """The page of a new visitor, with live mode off and everything ready to draw."""
    context = await browser.new_context(viewport=WINDOW, color_scheme="light")
    await context.add_init_script("localStorage.live ??= 'off'")
    await context.add_init_script(_POINTER)
    page = await context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    await page.goto(url)
    await page.wait_for_selector("#status[data-state=ready]")
    await page.wait_for_selector("#live:visible")
    await page.click("#fold summary")
    await page.fill("#setting-seed", str(seed))
    await page.click("#fold summary")
    await page.fill("#width", BRUSH)
    await page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    return page


async def perform(page: Page, drawing: Drawing) -> None:
    """Turn live mode on, type the prompt, and draw. The hand waits for the draft of each part."""
    hand, canvas = Hand(page), await box_of(page, "#scribble")
    await hand.click("#live")
    await hand.click("#prompt")
    await page.keyboard.type(drawing.prompt, delay=40)
    for part in drawing.parts:
        before = None
        for stroke in part:
            await hand.draw(
                [(canvas["x"] + x * canvas["width"], canvas["y"] + y * canvas["height"]) for x, y in stroke]
            )
            before = await page.get_attribute("#picture", "src")
            await hand.lift()
        await page.wait_for_function(_IS_DRAFTED, arg=before, polling=50)
    await hand.go(canvas["x"] + canvas["width"] + 8, canvas["y"] + canvas["height"] + 50)  # out of the way
    await page.wait_for_function(_IS_FINISHED, polling=50)
    await page.evaluate(_IS_PAINTED)


async def record(url: str, drawing: Drawing, seed: int) -> tuple[list[Frame], int]:
    """The frames in order, and the height of the page down to the hint below the prompt."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        warm_up = await open_page(browser, url, seed)
        await perform(warm_up, Drawing(drawing.prompt, drawing.parts[:1]))
        await warm_up.context.close()
        page = await open_page(browser, url, seed)
        screencast = Screencast(await page.context.new_cdp_session(page))
        await screencast.start()
        await perform(page, drawing)
        await screencast.stop()
        hint = await box_of(page, "#prompt-error")
        await browser.close()
    frames = sorted(screencast.frames, key=lambda frame: frame.at)  # Chromium may deliver them out of order
    return frames, round(hint["y"] + hint["height"]) + BELOW


def main(
    url: Annotated[str | None, typer.Option(help="A running server. Without it, one is started.")] = None,
    drawing: Annotated[str, typer.Option(help=f"One of {', '.join(DRAWINGS)}.")] = "house",
    seed: Annotated[int, typer.Option(help="Of all pictures.")] = 1,
    output: pathlib.Path = IMAGES / "live.webp",
) -> None:
    with server_at(url) as at:
        frames, height = asyncio.run(record(at, DRAWINGS[drawing], seed))
    animation = fitting(frames, max_bytes=MAX_BYTES, last_s=LAST_S, height=height)
    output.write_bytes(animation.file)
    typer.echo(
        f"{output}: {len(animation.file)} bytes, {frames[-1].at - frames[0].at + LAST_S:.1f} s, "
        f"{animation.frames_per_s} frames a second, quality {animation.quality}"
    )


if __name__ == "__main__":
    typer.run(main)
