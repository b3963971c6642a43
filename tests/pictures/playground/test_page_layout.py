# SPDX-License-Identifier: Apache-2.0
"""The page in windows of many sizes: both sheets are level and of one size, and Draw is in reach."""

from collections.abc import Callable

import pytest
from player import Player

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]


def box(player: Player, selector: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in the window."""
    found = player.page.locator(selector).bounding_box()
    assert found is not None
    return found["x"], found["y"], found["x"] + found["width"], found["y"] + found["height"]


def test_canvas_picture_and_draw_fit_into_the_window(visit: Visit) -> None:
    player = visit().wait_until_ready()
    for width, height, least in ((1366, 650, 380), (1920, 1080, 600), (844, 390, 250), (700, 800, 300)):
        player.page.set_viewport_size({"width": width, "height": height})
        canvas, picture, draw = (box(player, each) for each in ("#paper", "#frame", "#draw"))
        assert (canvas[1], canvas[3]) == pytest.approx((picture[1], picture[3]))
        assert canvas[2] - canvas[0] == pytest.approx(picture[2] - picture[0])
        assert canvas[2] - canvas[0] >= least
        assert canvas[2] < picture[0]
        assert max(canvas[3], picture[3], draw[3]) <= height


def test_draw_stays_in_reach_on_phones_and_nothing_is_cut_off(visit: Visit) -> None:
    player = visit().wait_until_ready()
    for width, height in ((390, 664), (320, 568), (683, 325)):
        player.page.set_viewport_size({"width": width, "height": height})
        for to in (0, 10_000):
            player.page.evaluate(f"scrollTo(0, {to})")
            assert box(player, "#draw")[3] <= height
            assert player.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_tall_picture_does_not_narrow_the_page(visit: Visit) -> None:
    player = visit().wait_until_ready()
    before = box(player, "#composer")
    player.set("size", "96x160")
    after = box(player, "#composer")
    assert (after[0], after[2]) == (before[0], before[2])
    canvas = box(player, "#paper")
    assert (canvas[3] - canvas[1]) / (canvas[2] - canvas[0]) == pytest.approx(160 / 96, rel=0.02)
