# SPDX-License-Identifier: Apache-2.0
"""The canvas of the page: the brush's ring, straight lines, the bucket, zoom, and touch with two fingers."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from diffusion_engine.scribble import read_scribble
from player import Player
from playwright.sync_api import FloatRect, expect
from scripted_server import ScriptedServer

from support.paths import ROOT

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

# Whether each point of the canvas, given as parts of its width and height, has ink.
HAS_INK = """(canvas, points) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  return points.map(([x, y]) => copy.getImageData(x * canvas.width, y * canvas.height, 1, 1).data[3] > 128);
}"""

# The ink of a canvas that is scaled to this side, from 0 to 255.
INK_AT = """(canvas, side) => {
  const copy = new OffscreenCanvas(side, side).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0, side, side);
  return [...copy.getImageData(0, 0, side, side).data].filter((_, at) => at % 4 === 3);
}"""


def box_of(player: Player, selector: str = "#scribble") -> FloatRect:
    box = player.page.locator(selector).bounding_box()
    assert box is not None
    return box


def has_ink(player: Player, *points: tuple[float, float], selector: str = "#scribble") -> list[bool]:
    found: list[bool] = player.page.eval_on_selector(selector, HAS_INK, points)
    return found


def test_a_ring_shows_the_size_of_the_brush_which_the_wheel_changes(visit: Visit) -> None:
    player = visit()
    page = player.page
    canvas = box_of(player)
    page.mouse.move(canvas["x"] + 100, canvas["y"] + 100)
    ring = box_of(player, "#ring")
    assert ring["x"] + ring["width"] / 2 == pytest.approx(canvas["x"] + 100, abs=1)
    assert ring["width"] == pytest.approx(20 / 1024 * canvas["width"], abs=1)
    page.mouse.wheel(0, -300)
    expect(page.locator("#width")).not_to_have_value("20")
    width = int(page.input_value("#width"))
    assert width > 25
    assert box_of(player, "#ring")["width"] == pytest.approx(width / 1024 * canvas["width"], abs=1)
    page.mouse.move(canvas["x"] + 100, canvas["y"] - 20)
    expect(page.locator("#ring")).to_be_hidden()


def test_ctrl_and_the_wheel_zoom_and_what_is_drawn_stays_below_the_pointer(visit: Visit) -> None:
    player = visit()
    page = player.page
    before = box_of(player)
    page.mouse.move(before["x"] + 0.75 * before["width"], before["y"] + 0.75 * before["height"])
    page.keyboard.down("Control")
    for _ in range(3):
        page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    expect(page.locator("#zoom")).to_have_text("212%")
    page.mouse.down()
    page.mouse.up()
    assert has_ink(player, (0.75, 0.75), (0.25, 0.25)) == [True, False]
    zoomed = box_of(player)
    page.mouse.down(button="middle")
    page.mouse.move(before["x"] + 0.75 * before["width"] + 50, before["y"] + 0.75 * before["height"])
    page.mouse.up(button="middle")
    assert box_of(player)["x"] == pytest.approx(zoomed["x"] + 50, abs=1)
    page.keyboard.down("Space")
    page.mouse.down()
    page.mouse.move(before["x"] + 0.75 * before["width"], before["y"] + 0.75 * before["height"])
    page.mouse.up()
    page.keyboard.up("Space")
    assert box_of(player)["x"] == pytest.approx(zoomed["x"], abs=1)
    assert has_ink(player, (0.74, 0.75)) == [False]  # neither the mouse nor the keyboard's pen has drawn
    page.click("#zoom")
    assert box_of(player) == pytest.approx(before)
    expect(page.locator("#zoom")).to_be_hidden()


def test_the_mouse_takes_over_from_the_keyboards_pen_and_keeps_its_stroke(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    ScriptedServer(page)
    line, along, middle = ((0.2, 0.2), (0.8, 0.2)), ((0.2, 0.2), (0.5, 0.2), (0.8, 0.2)), (0.5, 0.5)

    def draw_both(selector: str) -> None:
        page.focus(selector)
        page.keyboard.press("Space")  # lowers the keyboard's pen
        player.stroke(line, selector)
        assert has_ink(player, *along, middle, selector=selector) == [True] * 4

    draw_both("#scribble")
    page.fill("#prompt", "a line")
    player.finish()
    page.click("#mask-open")
    draw_both("#mask-canvas")


def test_the_keyboards_pen_stays_up_while_the_mouse_draws(visit: Visit) -> None:
    player = visit()
    page = player.page
    box = box_of(player)
    y = box["y"] + 0.2 * box["height"]
    page.focus("#scribble")
    page.mouse.move(box["x"] + 0.2 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], y)
    page.keyboard.press("Space")
    page.mouse.move(box["x"] + 0.8 * box["width"], y)
    page.mouse.up()
    assert has_ink(player, (0.3, 0.2), (0.6, 0.2), (0.5, 0.5)) == [True, True, False]
    page.click("#undo")
    expect(page.locator("#undo")).to_be_disabled()


def test_shift_draws_straight_lines(visit: Visit) -> None:
    player = visit()
    page = player.page
    player.stroke(((0.2, 0.2), (0.2, 0.3)))
    page.keyboard.down("Shift")
    player.stroke(((0.8, 0.3),))  # a click: from the last point to here
    player.stroke(((0.2, 0.6), (0.5, 0.9), (0.8, 0.63)))  # snapped to a level line, whatever was on the way
    page.keyboard.up("Shift")
    assert has_ink(player, (0.5, 0.3), (0.5, 0.6), (0.79, 0.6), (0.5, 0.9), (0.8, 0.63)) == [
        True,
        True,
        True,
        False,
        False,
    ]
    page.click("#undo")
    page.click("#undo")
    assert has_ink(player, (0.2, 0.25), (0.5, 0.3), (0.5, 0.6)) == [True, False, False]


def test_the_bucket_fills_an_area_and_the_fill_stays_when_the_size_changes(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    outline = [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.225)]  # with a gap of a few pixels
    page.keyboard.down("Shift")
    for start, end in pairwise(outline):
        player.stroke((start, end))
    page.keyboard.up("Shift")
    page.click("#fill")
    player.stroke(((0.5, 0.5),))
    assert has_ink(player, (0.25, 0.25), (0.7, 0.7), (0.1, 0.5), (0.5, 0.9)) == [True, True, False, False]
    filled = player.ink
    player.set("size", "192x128")  # half as wide again: the square is in the middle
    assert has_ink(player, (0.5, 0.5), (0.35, 0.7), (0.1, 0.5), (0.5, 0.9)) == [True, True, False, False]
    player.set("size", "128x128")
    assert player.ink == filled
    page.click("#undo")
    assert has_ink(player, (0.5, 0.5), (0.5, 0.2)) == [False, True]
    page.click("#eraser")
    page.click("#clear")
    expect(page.locator("#brush")).to_have_attribute("aria-pressed", "true")


def test_two_fingers_move_and_zoom_the_view_and_draw_nothing(visit: Visit) -> None:
    player = visit(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    devtools = player.page.context.new_cdp_session(player.page)
    before = box_of(player)

    def touch(kind: str, *fingers: tuple[float, float]) -> None:
        points = [{"x": before["x"] + x, "y": before["y"] + y, "id": index} for index, (x, y) in enumerate(fingers)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (150, 150))
    touch("touchMove", (152, 152))
    touch("touchStart", (152, 152), (200, 200))
    touch("touchMove", (100, 100), (250, 250))
    touch("touchEnd", (100, 100))
    touch("touchMove", (120, 120))
    touch("touchEnd")
    assert player.ink == 0
    assert box_of(player)["width"] > 2 * before["width"]
    expect(player.page.locator("#zoom")).to_be_visible()

    touch("touchStart", (50, 50))
    for x in range(60, 300, 20):
        touch("touchMove", (x, 50))
    drawn = player.ink
    assert drawn > 0
    player.page.wait_for_timeout(260)  # the stroke is no longer young
    touch("touchStart", (290, 50), (200, 200))  # a palm beside a stroke changes nothing
    touch("touchMove", (300, 60), (250, 250))
    touch("touchEnd")
    assert player.ink >= drawn
    player.page.tap("#undo")
    assert player.ink == 0


def test_a_photographed_drawing_has_the_strokes_that_the_server_finds(visit: Visit) -> None:
    player = visit()
    side = 384
    for name in ("phone-photo-with-shadow.jpg", "photo-of-paper.jpg", "yellow-pen.jpg"):
        path = ROOT / "tests" / "data" / "scribbles" / name
        before = player.ink
        player.page.set_input_files("#file", path)
        player.until_redrawn(before)
        expect(player.page.locator("#scribble-error")).to_be_empty()  # not traced
        ink: list[int] = player.page.eval_on_selector("#scribble", INK_AT, side)
        page_has = np.array(ink).reshape(side, side) >= 128
        scribble = read_scribble(path.read_bytes(), max_pixels=10**7)
        server_has = np.asarray(scribble.fit(side, side).convert("L")) > 0
        assert (page_has & server_has).sum() / (page_has | server_has).sum() > 0.8, name


def test_a_slow_pinch_zooms_in_and_out_again(visit: Visit) -> None:
    player = visit()
    page = player.page
    before = box_of(player)
    page.mouse.move(before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
    page.keyboard.down("Control")
    for _ in range(60):
        page.mouse.wheel(0, -0.8)
    expect(page.locator("#zoom")).to_have_text("162%")
    for _ in range(60):
        page.mouse.wheel(0, 0.8)
    page.keyboard.up("Control")
    expect(page.locator("#zoom")).to_be_hidden()
    assert box_of(player) == pytest.approx(before)


def test_a_picture_is_of_the_stroke_too_that_is_drawn_meanwhile(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page, server = player.page, ScriptedServer(player.page)
    page.fill("#prompt", "a line")
    page.focus("#scribble")
    for key in ("Space", *["ArrowRight"] * 9, "Control+Enter"):  # the keyboard's pen stays down
        page.keyboard.press(key)
    expect(page.locator("#history .kept")).to_have_count(1)
    expect(page.locator("#scribble-error")).to_be_empty()
    assert len(server.sent) == 1
    page.keyboard.press("Space")
    drawn = player.ink
    page.click("#clear")
    assert player.ink == 0
    page.click("#history .kept")
    player.until_redrawn(0)
    assert player.ink == drawn
    page.click("#clear")
    page.locator("#scribble").scroll_into_view_if_needed()
    box = box_of(player)
    page.mouse.move(box["x"] + 150, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 250, box["y"] + 150, steps=5)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#history .kept")).to_have_count(2)
    page.mouse.up()
    drawn = player.ink
    page.click("#clear")
    page.click("#history li:first-child .kept")
    player.until_redrawn(0)
    assert player.ink == drawn
