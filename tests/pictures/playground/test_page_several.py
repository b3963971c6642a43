# SPDX-License-Identifier: Apache-2.0
"""Several pictures at once, and a region that is painted anew."""

from collections.abc import Callable

import pytest
from player import Player
from playwright.sync_api import Route, expect

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


def test_only_the_marked_region_is_painted_anew(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    player.make_it_quick()
    player.scribble().finish()
    page.click("#mask-open")
    expect(page.locator("#mask-canvas")).to_be_focused()
    expect(page.locator("#mask-paint")).to_be_disabled()
    for key in ("Space", "ArrowRight", "ArrowRight", "Space"):
        page.keyboard.press(key)
    expect(page.locator("#mask-paint")).to_be_enabled()
    page.keyboard.press("Control+z")  # the mark, not the scribble
    expect(page.locator("#mask-paint")).to_be_disabled()
    expect(page.locator("#undo")).to_be_enabled()
    page.keyboard.press("Control+Shift+z")
    player.finish("#mask-paint")
    with page.expect_download() as downloading:
        page.click("#download")
    receipt = downloading.value.path().read_bytes()
    assert b'"mask_sha256"' in receipt
    assert b'"init_image_sha256"' in receipt
    expect(page.locator("#mask")).to_be_hidden()
    page.click("#mask-open")
    page.click("#mask-leave")
    expect(page.locator("#mask-open")).to_be_focused()
