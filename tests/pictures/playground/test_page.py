# SPDX-License-Identifier: Apache-2.0
"""The page in Chromium, with real pictures."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from player import Player
from playwright.sync_api import Route, expect

from support.paths import ROOT
from support.scribble_app import PATH
from support.serving import Server

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

HOUSE = ROOT / "demo" / "examples" / "house.png"
LAYOUT_SHIFT = """() => new Promise(resolve => {
  let total = 0;
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) total += entry.value;
  }).observe({type: "layout-shift", buffered: true});
  requestAnimationFrame(() => requestAnimationFrame(() => resolve(total)));
})"""


def test_a_scribble_becomes_a_picture_that_survives_a_reload(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    page = player.page
    player.set("num_inference_steps", "50")  # so that previews last for seconds
    player.set("size", "128x128")
    player.press_draw()
    player.until("#frame", "preview")
    assert page.evaluate("document.getElementById('picture').naturalWidth") < 128
    assert "Step" in player.caption
    player.until("#frame", "done")
    page.wait_for_function("document.getElementById('picture').naturalWidth === 128")
    assert re.fullmatch(r"Seed \d+ · \d+\.\d s", player.caption)
    caption = player.caption
    assert page.evaluate(LAYOUT_SHIFT) < 0.02

    player.reload()
    player.wait_until_ready()
    expect(page.locator("#history .kept")).to_have_count(1)
    player.until("#frame", "done")
    assert player.caption == caption
    assert page.input_value("#prompt") == "a red house in the snow"
    assert player.ink > 0.01


def test_the_page_uses_no_other_host_and_is_under_150_kilobytes(visit: Visit) -> None:
    player = visit()
    sizes: list[int] = []
    player.page.on("response", lambda response: sizes.append(int(response.headers.get("content-length", 0))))
    player.page.reload(wait_until="networkidle")
    assert {urlsplit(request.url).netloc for request in player.requests if not request.url.startswith("blob:")} == {
        urlsplit(player.page.url).netloc
    }
    assert 20_000 < sum(sizes) < 150_000


def test_stop_cancels_the_request_and_another_picture_can_be_drawn(visit: Visit, scribble_server: Server) -> None:
    cancelled = 'sdxl_engine_requests_total{how="cancelled"}'
    before = scribble_server.counted(cancelled)
    player = visit().wait_until_ready().scribble()
    player.make_it_slow()
    player.press_draw()
    player.until("#frame", "preview")
    player.page.click("#stop")
    player.until("#frame", "broken")
    assert re.match(r"Stopped at step \d+ of 50", player.caption)
    while scribble_server.counted(cancelled) == before:
        pass
    player.make_it_quick()
    player.finish()


def test_an_empty_canvas_and_an_empty_prompt_have_messages_beside_them(visit: Visit) -> None:
    player = visit().wait_until_ready()
    player.press_draw()
    player.says("#scribble-error", "The canvas is empty")
    player.says("#prompt-error", "Say what your scribble shows")
    assert player.page.get_attribute("#prompt", "aria-invalid") == "true"
    assert not player.requests_to(PATH)
    player.scribble()
    expect(player.page.locator("#scribble-error")).to_be_empty()
    player.page.click("#eraser")
    player.page.fill("#width", "90")
    for row in range(20):
        player.stroke(((0, row / 19), (1, row / 19)))
    player.press_draw()
    player.says("#scribble-error", "The canvas is empty")  # drawn on, but all of it erased


def test_pressing_draw_twice_sends_one_request_and_says_why(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    player.make_it_slow()
    player.press_draw()
    player.until("#frame", "preview")
    player.press_draw()
    player.says("#prompt-error", "still being drawn")
    player.page.keyboard.press("Escape")
    player.says("#caption", "Stopped")
    assert len(player.requests_to(PATH)) == 1


def test_a_file_that_is_not_a_picture_is_named_in_the_message(visit: Visit, tmp_path: Path) -> None:
    notes = tmp_path / "notes.png"
    notes.write_text("milk, bread")
    player = visit().wait_until_ready()
    player.page.set_input_files("#file", notes)
    player.says("#scribble-error", "“notes.png” is not a picture")
    player.page.set_input_files("#file", HOUSE)
    expect(player.page.locator("#undo")).to_be_enabled()
    expect(player.page.locator("#scribble-error")).to_be_empty()
    assert 0.02 < player.ink < 0.2


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_can_be_pasted_and_dropped(visit: Visit, way: str) -> None:
    player = visit().wait_until_ready()
    event = {"paste": "ClipboardEvent('paste', {clipboardData", "drop": "DragEvent('drop', {dataTransfer"}[way]
    player.page.evaluate(
        f"""bytes => {{
          const data = new DataTransfer();
          data.items.add(new File([Uint8Array.from(bytes)], "house.png", {{type: "image/png"}}));
          document.body.dispatchEvent(new {event}: data, bubbles: true, cancelable: true}}));
        }}""",
        list(HOUSE.read_bytes()),
    )
    expect(player.page.locator("#undo")).to_be_enabled()
    assert 0.02 < player.ink < 0.2


def test_a_validation_error_is_shown_beside_its_field(visit: Visit) -> None:
    player = visit(may_complain=True).wait_until_ready().scribble()
    player.set("seed", "seven")
    player.page.click("#fold summary")
    player.press_draw()
    player.says("#setting-seed-error", "Write a whole number")
    expect(player.page.locator("#setting-seed")).to_be_focused()
    player.set("seed", "7")
    player.says("#setting-seed-error", "The same number")
    player.set("num_inference_steps", "999")
    player.press_draw()
    player.says("#setting-num_inference_steps-error", "from 1 to 50")


def test_strokes_can_be_undone_redone_erased_and_cleared(visit: Visit) -> None:
    player = visit()
    page = player.page
    player.stroke(((0.2, 0.2), (0.8, 0.8)))
    one = player.ink
    player.stroke(((0.8, 0.2), (0.2, 0.8)))
    two = player.ink
    assert two > one > 0
    page.keyboard.press("Control+z")
    assert player.ink == one
    page.click("#redo")
    assert player.ink == two
    page.click("#eraser")
    player.stroke(((0.8, 0.2), (0.2, 0.8)))
    assert player.ink < one
    page.click("#clear")
    assert player.ink == 0
    page.click("#undo")
    assert 0 < player.ink < one
    page.fill("#prompt", "text")
    page.keyboard.press("Control+z")  # undoes the text, not the scribble
    assert 0 < player.ink < one


def test_a_drawing_stays_whole_when_the_size_changes_and_changes_back(visit: Visit) -> None:
    player = visit().wait_until_ready()
    player.stroke(((0.5, 0.02), (0.5, 0.98)))
    drawn = player.ink
    player.set("size", "192x128")
    assert 0.6 < player.ink / (drawn * 2 / 3) < 1.1  # two thirds as high and wide, on two thirds of the area
    player.set("size", "128x128")
    assert player.ink == drawn


def test_the_keyboard_alone_draws_a_picture(visit: Visit) -> None:
    player = visit().wait_until_ready()
    player.make_it_quick()
    player.page.focus("#scribble")
    for key in ["Space", *["ArrowRight"] * 12, *["ArrowDown"] * 12, *["Shift+ArrowLeft"] * 12, "Space"]:
        player.page.keyboard.press(key)
    assert player.ink > 0.003
    player.page.focus("#prompt")
    player.page.keyboard.type("a red house")
    player.page.keyboard.press("Enter")
    player.until("#frame", "done")


def test_pen_pressure_makes_strokes_wider_and_a_finger_draws(visit: Visit) -> None:
    player = visit(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page = player.page
    devtools = page.context.new_cdp_session(page)
    box = page.locator("#scribble").bounding_box()
    assert box is not None

    def pen(force: float) -> float:
        page.evaluate("document.getElementById('clear').click()")
        for kind, x in (("mousePressed", 60), ("mouseMoved", 200), ("mouseReleased", 200)):
            event = {"type": kind, "x": box["x"] + x, "y": box["y"] + 100, "button": "left", "buttons": 1}
            devtools.send("Input.dispatchMouseEvent", {**event, "clickCount": 1, "pointerType": "pen", "force": force})
        return player.ink

    assert pen(1.0) > 1.5 * pen(0.2) > 0
    page.evaluate("document.getElementById('clear').click()")
    page.touchscreen.tap(box["x"] + 50, box["y"] + 50)
    assert player.ink > 0
    assert page.evaluate("getComputedStyle(document.getElementById('scribble')).touchAction") == "none"
    assert page.evaluate("getComputedStyle(document.body).touchAction") == "auto"
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_another_seed_a_download_and_the_picture_as_the_next_scribble(visit: Visit, tmp_path: Path) -> None:
    player = visit().wait_until_ready().scribble(prompt="A red house!")
    page = player.page
    player.make_it_quick()
    player.set("seed", "9007199254740993")  # a number that JavaScript cannot hold
    player.finish()
    assert player.caption.startswith("Seed 9007199254740993 ")
    with page.expect_download() as downloading:
        page.click("#download")
    assert downloading.value.suggested_filename == "a-red-house-9007199254740993.webp"
    player.finish("#again")
    assert not player.caption.startswith("Seed 9007199254740993 ")
    expect(page.locator("#history .kept")).to_have_count(2)
    drawn = player.ink
    page.click("#reuse")
    player.until_redrawn(drawn)  # tracing takes a moment
    assert player.ink > 0
    page.click("#undo")
    assert player.ink == drawn
    page.click("#history li:last-child .drop")
    expect(page.locator("#history .kept")).to_have_count(1)
    page.click("#forget")
    expect(page.locator("#history .kept")).to_have_count(0)


def test_defaults_limits_and_choices_come_from_the_models_description(visit: Visit) -> None:
    player = visit()
    description = {
        "name": "another",
        "defaults": {"num_inference_steps": 5, "width": 64, "height": 32, "scheduler": "two"},
        "limits": {"max_inference_steps": 9},
        "sizes": [[32, 32], [64, 32]],
        "schedulers": ["one", "two"],
    }

    def fulfill(route: Route) -> None:
        route.fulfill(json={"ready": True, "description": description})

    player.page.route("**/playground/model", fulfill)
    player.page.reload()
    player.wait_until_ready()
    page = player.page
    assert (page.input_value("#setting-num_inference_steps"), page.input_value("#setting-scheduler")) == ("5", "two")
    assert page.get_attribute("#setting-num_inference_steps", "max") == "9"
    assert page.locator("#setting-size option").count() == 2
    assert page.locator("#setting-guidance_scale").count() == 0  # the description has no limit for it
    box = page.locator("#scribble").bounding_box()
    assert box is not None
    assert box["width"] / box["height"] == pytest.approx(2, rel=0.02)


def test_a_preset_shows_its_values_and_is_sent(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    page = player.page
    player.set("seed", "7")
    default = page.input_value("#setting-num_inference_steps")
    page.select_option("#setting-preset", "draft")
    assert int(page.input_value("#setting-num_inference_steps")) < int(default)
    expect(page.locator("#in-short")).to_contain_text("draft")
    player.make_it_quick()
    player.finish()
    page.select_option("#setting-preset", "quality")  # chosen at first
    assert page.input_value("#setting-num_inference_steps") == default
    page.click("#history .kept >> nth=0")
    assert page.input_value("#setting-preset") == "draft"
    assert page.input_value("#setting-num_inference_steps") == "2"


def test_an_example_fills_canvas_and_prompt(visit: Visit) -> None:
    player = visit().wait_until_ready()
    player.page.click("#examples button >> nth=1")
    expect(player.page.locator("#undo")).to_be_enabled()
    assert player.page.input_value("#prompt") == "an orange fish in the sea"
    assert 0.02 < player.ink < 0.2
    expect(player.page.locator("#restored")).to_be_hidden()  # there is nothing to put back
