# SPDX-License-Identifier: Apache-2.0
"""A visitor of the page, who draws, presses buttons and reads messages."""

from collections.abc import Sequence

from playwright.sync_api import BrowserContext, Page, Request, expect

Points = Sequence[tuple[float, float]]  # as parts of the canvas's width and height

HOUSE: tuple[Points, ...] = (
    ((0.15, 0.45), (0.5, 0.15), (0.85, 0.45), (0.15, 0.45)),
    ((0.22, 0.46), (0.22, 0.85), (0.78, 0.85), (0.78, 0.46)),
    ((0.45, 0.85), (0.45, 0.62), (0.58, 0.62), (0.58, 0.85)),
)
# The share of the canvas that is covered with ink.
_INK = """canvas => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
  let ink = 0;
  for (let at = 3; at < data.length; at += 4) ink += data[at];
  return ink / 255 / canvas.width / canvas.height;
}"""


class Player:
    """One visitor, in a separate browser context."""

    def __init__(self, context: BrowserContext, url: str, *, may_complain: bool) -> None:
        self._context = context
        self._may_complain = may_complain
        self.complaints: list[str] = []
        self.requests: list[Request] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.goto(url)

    def open_tab(self) -> "Player":
        """Another tab of the same browser. Its complaints count as this player's."""
        tab = Player(self._context, self.page.url, may_complain=self._may_complain)
        tab.complaints = self.complaints
        return tab

    def until(self, selector: str, state: str) -> None:
        """Wait until the element's `data-state` is this.."""
        self.page.wait_for_selector(f"{selector}[data-state={state}]", state="attached", timeout=120_000)

    def wait_until_ready(self) -> "Player":
        """Wait until the server is ready, and stored work is restored: an earlier change is not stored yet."""
        self.until("main", "restored")
        self.until("#status", "ready")
        return self

    def reload(self) -> None:
        """Reload the page when its work is stored: browsers do not wait for what is being stored."""
        self.wait_until_stored()
        self.page.reload()

    def wait_until_stored(self) -> None:
        self.page.wait_for_selector("main[data-work=stored]", state="attached")

    def says(self, selector: str, text: str) -> None:
        """Wait until the element shows this text."""
        expect(self.page.locator(selector)).to_contain_text(text, timeout=120_000)

    def stroke(self, points: Points, canvas_selector: str = "#scribble") -> None:
        canvas = self.page.locator(canvas_selector)
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        points_on_page = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*points_on_page[0])
        self.page.mouse.down()
        for point in points_on_page[1:]:
            self.page.mouse.move(*point, steps=5)
        self.page.mouse.up()

    def scribble(self, strokes: Sequence[Points] = HOUSE, *, prompt: str = "a red house in the snow") -> "Player":
        for points in strokes:
            self.stroke(points)
        self.page.fill("#prompt", prompt)
        return self

    def set(self, name: str, value: str) -> None:
        """Change a setting."""
        if not self.page.evaluate("document.getElementById('fold').open"):
            self.page.click("#fold summary")
        control = self.page.locator(f"#setting-{name}")
        if name in ("size", "scheduler"):
            control.select_option(value)
        else:
            control.fill(value)

    def make_it_quick(self) -> None:
        """Make the next picture small, in two steps."""
        self.set("num_inference_steps", "2")
        self.set("size", "128x128")

    def make_it_slow(self) -> None:
        """Make the next picture take as long as possible."""
        self.set("num_inference_steps", "50")
        self.set("size", "256x256")

    def press_draw(self) -> None:
        self.page.click("#draw")

    def finish(self, button: str = "#draw") -> None:
        """Draw a picture, and wait until it is in the history."""
        kept = self.page.locator("#history .kept")
        num_before = kept.count()
        self.page.click(button)
        expect(kept).to_have_count(num_before + 1, timeout=120_000)
        self.until("#frame", "done")

    @property
    def ink(self) -> float:
        return float(self.page.eval_on_selector("#scribble", _INK))

    def until_redrawn(self, ink: float) -> None:
        """Wait until the share of ink differs from this."""
        self.page.wait_for_function(f"ink => ({_INK})(document.getElementById('scribble')) !== ink", arg=ink)

    @property
    def caption(self) -> str:
        return self.page.inner_text("#caption")

    def requests_to(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.url.endswith(path)]

    def leave(self) -> None:
        self._context.close()
        assert self._may_complain or not self.complaints, self.complaints
