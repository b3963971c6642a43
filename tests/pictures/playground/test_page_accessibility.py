# SPDX-License-Identifier: Apache-2.0
"""Accessibility of the page: names of the controls, contrast in both themes, the theme itself, and the tab order."""

from collections.abc import Callable

import pytest
from player import Player
from playwright.sync_api import expect
from scripted_server import ScriptedServer, hold, preview

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

# Elements that need an accessible name and have none.
NAMELESS = """() => [...document.querySelectorAll("button, input, select, textarea, a, canvas, progress, section, img")]
  .filter(each => {
    if (each.type === "file") return false;  // hidden: its button has the name
    const labels = each.labels?.length ? [...each.labels].map(label => label.textContent).join("") : "";
    const by = document.getElementById(each.getAttribute("aria-labelledby"))?.textContent;
    return !(each.ariaLabel || labels || by || each.textContent.trim() || each.hasAttribute("alt"));
  }).map(each => each.outerHTML)"""

# Texts with too little contrast to their background (WCAG AA: 4.5 to 1), by computed style.
FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const channels = colours => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  for (const each of document.querySelectorAll("body *")) {
    const hasText = [...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!hasText || !each.checkVisibility() || each.closest(":disabled, .unseen, option")) continue;
    const behind = [];
    for (let at = each; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const [ground, text] = [channels(behind), channels([...behind, getComputedStyle(each).color])].map(light);
    const ratio = (Math.max(ground, text) + 0.05) / (Math.min(ground, text) + 0.05);
    if (ratio < 4.5) faint.push(`${each.tagName} ${each.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_have_names_and_texts_have_enough_contrast(visit: Visit, scheme: str) -> None:
    player = visit(color_scheme=scheme, reduced_motion="reduce").wait_until_ready()
    page = player.page
    player.press_draw()  # so that the error messages are checked too
    page.click("#fold summary")
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == {"light": "rgb(245, 244, 241)", "dark": "rgb(19, 19, 22)"}[scheme]
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(FAINT) == []
    assert page.evaluate("document.querySelector('html').lang") == "en"
    assert page.locator("h1").count() == 1


def test_the_chosen_theme_survives_a_reload(visit: Visit) -> None:
    player = visit(color_scheme="light")
    button = player.page.get_by_role("button", name="Dark theme")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.click()
    for _ in range(2):
        expect(button).to_have_attribute("aria-pressed", "true")
        assert player.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(19, 19, 22)"
        player.page.reload()


def test_tab_reaches_the_controls_in_the_order_of_their_use(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    order = [reached.index(name) for name in ("theme", "brush", "scribble", "prompt", "draw", "SUMMARY")]
    assert order == sorted(order)


def test_the_focus_never_falls_to_the_start_of_the_page(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    ScriptedServer(page)

    def press(selector: str) -> None:
        page.press(selector, "Enter")
        # The browser takes the focus from a control that is disabled or hidden when it renders.
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate("document.activeElement !== document.body"), selector

    player.stroke(((0.2, 0.2), (0.8, 0.2)))
    for name in ("undo", "redo", "clear"):
        press(f"#{name}")
    page.click("#scribble-error button")
    page.fill("#prompt", "a line")
    player.finish()
    press("#again")
    expect(page.locator("#history .kept")).to_have_count(2)
    page.click("#mask-open")
    for key in ("Space", "ArrowRight", "Space"):
        page.keyboard.press(key)
    for name in ("undo", "open", "open"):
        press(f"#mask-{name}")
    for key in ("Space", "ArrowRight", "Space"):
        page.keyboard.press(key)
    press("#mask-clear")
    page.focus("#mask-canvas")
    for key in ("Space", "ArrowRight", "Space"):
        page.keyboard.press(key)
    hold(page, preview(step=1))
    press("#mask-paint")
    player.until("#frame", "preview")
    press(":focus")
    page.keyboard.press("Escape")
    for name in ("undo", "close"):
        page.click("#history li:first-child .kept")
        player.says("#restored", "those of the earlier picture")
        press(f"#restored-{name}")
        expect(page.locator("#restored")).to_be_hidden()
    page.click("#compare-open")
    hold(page, preview(step=1))
    page.press("#compare-line", "Control+Enter")
    player.until("#frame", "preview")
    press(":focus")
