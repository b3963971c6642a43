# SPDX-License-Identifier: Apache-2.0
"""The PNG files that the page writes of what is drawn on it."""

from collections.abc import Callable

import pytest
from player import HOUSE, Player
from scripted_server import ScriptedServer

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

# Chromium encodes on the page's own thread only while the page is idle.
NEVER_IDLE = "() => { OffscreenCanvas.prototype.convertToBlob = () => new Promise(() => {}); }"


def test_a_page_that_is_never_idle_sends_drawings_masks_and_loaded_pictures(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    ScriptedServer(page)
    page.evaluate(NEVER_IDLE)
    player.scribble(HOUSE[:1]).finish()
    page.click("#mask-open")
    player.stroke(HOUSE[0], "#mask-canvas")
    player.finish("#mask-paint")
    ink = player.ink
    page.click("#examples button >> nth=0")
    player.until_redrawn(ink)
    player.finish()


def test_a_page_without_its_worker_says_so_when_it_needs_it(visit: Visit) -> None:
    player = visit(may_complain=True)
    player.page.route("**/png_worker.js", lambda route: route.abort())
    player.page.reload()
    player.wait_until_ready().scribble(HOUSE[:1]).press_draw()
    player.says("#result-error", "This page has an error: it could not load all its files. Reload it.")
