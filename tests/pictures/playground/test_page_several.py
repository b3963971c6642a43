# SPDX-License-Identifier: Apache-2.0
"""Several pictures at once, and a region that is painted anew."""

import re
from collections.abc import Callable

import pytest
from player import Player
from playwright.sync_api import FloatRect, Page, Route, expect
from scripted_server import ScriptedServer, completed, event, hold, preview, send_more

from support.scribble_app import PATH

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]


def test_four_pictures_have_seeds_of_their_own_and_one_is_chosen_by_keyboard(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    player.make_it_quick()
    player.set("seed", "9223372036854775806")  # the last but one: seeds begin again after the last
    page.select_option("#count", "4")
    player.scribble().press_draw()
    expect(page.locator("#history .kept")).to_have_count(4, timeout=120_000)
    player.says("#caption", "4 of 4 are ready")
    cells = page.locator("#grid button")
    seeds = ["9223372036854775806", "9223372036854775807", "0", "1"]
    assert [cells.nth(at).get_attribute("aria-label") for at in range(4)] == [
        f"Picture {at + 1} of 4, seed {seed}" for at, seed in enumerate(seeds)
    ]
    cells.nth(2).press("Enter")
    assert player.caption.startswith("Seed 0 ")
    assert page.input_value("#setting-seed") == "0"
    page.get_by_role("button", name="Show all pictures").press("Enter")
    expect(cells.first).to_be_focused()
    assert len(player.requests_to(PATH)) == 4


def test_stop_ends_all_pictures_and_refused_ones_wait_for_the_others(visit: Visit) -> None:
    player = visit(may_complain=True).wait_until_ready()
    page = player.page
    player.make_it_slow()
    page.select_option("#count", "2")
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        if len(player.requests_to(PATH)) == 2 and not refused:
            refused.append(route.request.url)
            route.fulfill(status=429, json={"code": "too_many_requests", "detail": "Only one at a time."})
        else:
            route.continue_()

    page.route(f"**{PATH}", refuse_once)
    player.scribble().press_draw()
    page.wait_for_selector("#grid [data-state=preview]")
    assert len(player.requests_to(PATH)) == 2  # the refused one waits
    page.click("#stop")
    expect(page.locator("#grid [data-state=broken]")).to_have_count(2)
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#result-error")).to_be_empty()


def draw_two(player: Player, *, drawn: str) -> ScriptedServer:
    """Begin two pictures. The first shows these events until `send_more`; the server answers for the other."""
    server = ScriptedServer(player.page)
    player.page.select_option("#count", "2")
    hold(player.page, drawn)
    return server


def test_a_chosen_picture_stays_in_use_while_others_are_drawn(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    page = player.page
    player.set("seed", "5")
    draw_two(player, drawn=preview(step=1))
    player.press_draw()
    cells = page.locator("#grid button")
    expect(cells.nth(1)).to_be_enabled()
    expect(page.locator("#download")).to_be_disabled()  # none is chosen
    player.set("seed", "77")
    cells.nth(1).click()
    expect(page.locator("#download")).to_be_enabled()
    assert page.input_value("#setting-seed") == "77"
    send_more(page, preview(step=2))
    expect(cells.nth(0)).to_have_attribute("aria-label", "Picture 1 of 2, step 2 of 4")
    expect(page.locator("#download")).to_be_enabled()
    expect(page.locator("#history [aria-current=true]")).to_have_count(1)


def test_a_refused_picture_of_several_is_of_the_same_drawing_and_prompt(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble(prompt="a red house")
    page, drawn = player.page, player.ink
    server = draw_two(player, drawn=preview(step=1))
    server.bodies = [event("error", {"status": 429, "code": "too_many_requests", "detail": "Only one at a time."})]
    player.press_draw()
    page.wait_for_selector("#grid [data-state=preview]")
    player.scribble([((0.1, 0.9), (0.9, 0.9))], prompt="a blue boat")
    send_more(page, completed())
    expect(page.locator("#history .kept")).to_have_count(2)
    assert [each["prompt"] for each in server.sent] == ["a red house"] * 2
    page.click("#history li:first-child .kept")
    expect(page.locator("#prompt")).to_have_value("a red house")
    player.says("#restored", "the earlier picture")
    assert player.ink == drawn


def refusal(code: str = "overloaded", *, retry_after_s: float = 5) -> str:
    return event("error", {"status": 503, "code": code, "detail": "Full.", "retry_after_s": retry_after_s})


def test_pictures_that_are_all_refused_are_not_sent_again(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    server = ScriptedServer(player.page)
    server.bodies = [refusal()] * 40
    player.page.select_option("#count", "4")
    player.press_draw()
    player.says("#result-error", "Try again in")
    assert len(server.sent) == 4
    expect(player.page.locator("#grid [data-state=broken]")).to_have_count(4)


def test_refused_pictures_are_sent_again_only_when_another_one_has_ended(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    page, server = player.page, ScriptedServer(player.page)
    server.bodies = [refusal("too_many_requests")] * 40
    page.select_option("#count", "4")
    hold(page, preview(step=1))
    with page.expect_event("requestfinished", lambda _: len(server.sent) >= 3):
        player.press_draw()
    send_more(page, preview(step=2))
    cells = page.locator("#grid button")
    expect(cells.nth(0)).to_have_attribute("aria-label", "Picture 1 of 4, step 2 of 4")
    assert len(server.sent) == 3
    server.bodies.clear()
    send_more(page, completed())
    expect(page.locator("#history .kept")).to_have_count(4)
    assert len(server.sent) == 6


def test_all_of_several_failures_make_a_person_wait_the_longest_of_their_times(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    page, server = player.page, ScriptedServer(player.page)
    server.bodies = [refusal("deadline_out_of_reach", retry_after_s=seconds) for seconds in (5, 50, 5, 5)]
    page.select_option("#count", "4")
    player.press_draw()
    player.says("#result-error", "Try again in")
    expect(page.locator("#result-error")).to_contain_text(re.compile(r"Try again in [45]\d s"))
    expect(page.locator("#draw")).to_have_attribute("aria-disabled", "true")
    page.keyboard.press("Control+Enter")
    page.fill("#prompt", "")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert len(server.sent) == 4


def mark_region(page: Page) -> None:
    page.click("#mask-open")
    expect(page.locator("#mask-canvas")).to_be_focused()
    expect(page.locator("#mask-paint")).to_be_disabled()
    for key in ("Space", "ArrowRight", "ArrowRight", "Space"):
        page.keyboard.press(key)
    expect(page.locator("#mask-paint")).to_be_enabled()


def pictures_in_receipt(page: Page) -> dict[bytes, bytes]:
    """Hashes of the pictures, beside the scribble, that made the newest picture."""
    page.wait_for_selector("#history li:first-child [aria-current=true]")
    with page.expect_download() as downloading:
        page.click("#download")
    receipt = downloading.value.path().read_bytes()
    return dict(re.findall(rb'"(init_image|mask)_sha256": ?"(\w+)"', receipt))


def box(page: Page, selector: str) -> FloatRect:
    found = page.locator(selector).bounding_box()
    assert found is not None
    return found


def test_marks_cover_only_the_picture_and_are_forgotten_when_the_mask_is_closed(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    ScriptedServer(page)
    player.set("size", "128x128")
    player.scribble().finish()
    mark_region(page)
    page.click("#mask-leave")
    mark_region(page)  # there are no marks at first
    page.keyboard.press("Control+z")
    expect(page.locator("#mask-undo")).to_be_disabled()
    player.set("size", "192x128")  # the square picture is in the middle of a wide frame
    page.locator("#mask-canvas").scroll_into_view_if_needed()
    frame, canvas = box(page, "#mask"), box(page, "#mask-canvas")
    assert frame["width"] == pytest.approx(1.5 * frame["height"], abs=2)
    assert canvas["width"] == pytest.approx(canvas["height"], abs=1)
    assert canvas["height"] == pytest.approx(frame["height"], abs=1)
    assert canvas["x"] - frame["x"] == pytest.approx((frame["width"] - canvas["width"]) / 2, abs=1)


def test_the_grid_the_mask_and_the_comparison_never_cover_each_other(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    ScriptedServer(page)
    page.select_option("#count", "2")
    player.scribble().press_draw()
    expect(page.locator("#history .kept")).to_have_count(2, timeout=60_000)
    page.click("#grid button:first-child")
    mask, compare = page.locator("#mask"), page.locator("#compare")
    page.click("#compare-open")
    expect(compare).to_be_visible()
    page.click("#mask-open")
    expect(compare).to_be_hidden()
    expect(page.locator("#mask-canvas")).to_be_focused()
    page.click("#compare-open")
    expect(mask).to_be_hidden()
    expect(page.locator("#compare-line")).to_be_focused()
    page.click("#grid-back")
    expect(compare).to_be_hidden()
    expect(page.locator("#mask-open")).to_be_disabled()  # no picture is chosen
    page.click("#grid button:last-child")
    expect(page.locator("#mask-open")).to_be_enabled()


def test_only_the_marked_region_is_painted_anew(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    player.make_it_quick()
    player.scribble().finish()
    mark_region(page)
    page.keyboard.press("Control+z")  # the mark, not the scribble
    expect(page.locator("#mask-paint")).to_be_disabled()
    expect(page.locator("#undo")).to_be_enabled()
    page.keyboard.press("Control+Shift+z")
    page.focus("#mask-width")
    page.keyboard.press("Control+z")
    expect(page.locator("#mask-paint")).to_be_disabled()
    expect(page.locator("#undo")).to_be_enabled()
    page.focus("#mask-width")
    page.keyboard.press("Control+Shift+z")
    page.focus("#mask-width")
    page.keyboard.press("Escape")
    expect(page.locator("#mask")).to_be_hidden()
    mark_region(page)
    player.finish("#mask-paint")
    assert {*pictures_in_receipt(page)} == {b"init_image", b"mask"}
    expect(page.locator("#mask")).to_be_hidden()
    page.click("#mask-open")
    page.click("#mask-leave")
    expect(page.locator("#mask-open")).to_be_focused()


def test_an_earlier_picture_is_drawn_again_with_its_init_image_and_mask(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    player.make_it_quick()
    player.scribble().finish()
    mark_region(page)
    player.finish("#mask-paint")
    used = pictures_in_receipt(page)
    page.click("#history li:last-child .kept")  # the whole picture
    page.wait_for_selector("#history li:last-child [aria-current=true]")
    expect(page.locator("#init-image")).to_be_hidden()
    page.click("#history li:first-child .kept")
    player.says("#init-image", "The next picture paints only the marked region")
    player.reload()
    player.wait_until_ready()
    player.says("#init-image", "The next picture paints only the marked region")
    player.finish()
    assert pictures_in_receipt(page) == used
    page.click("#init-image-drop")
    expect(page.locator("#init-image")).to_be_hidden()
    player.finish()
    assert pictures_in_receipt(page) == {}
