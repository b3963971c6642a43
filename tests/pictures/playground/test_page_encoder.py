# SPDX-License-Identifier: Apache-2.0
"""The files that the page writes of what is drawn on it, and of pictures."""

from collections.abc import Callable

import pytest
from player import HOUSE, Player
from scripted_server import ScriptedServer

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

# Chromium writes PNG and JPEG files on the page's own thread only while the page is idle.
NEVER_IDLE = "() => { OffscreenCanvas.prototype.convertToBlob = () => new Promise(() => {}); }"


def test_a_page_that_is_never_idle_writes_drawings_masks_loaded_pictures_and_downloads(visit: Visit) -> None:
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
    page.click("#save-as")
    page.select_option("#export-format", "image/jpeg")
    with page.expect_download():
        page.click("#export-save")


@pytest.mark.parametrize(
    "worker",
    ["", "onmessage = () => { throw new Error(); }", "onmessage = ({data}) => data.port.postMessage(null)"],
    ids=["not loaded", "broken", "without memory"],
)
def test_without_its_worker_the_page_writes_drawings_itself(visit: Visit, worker: str) -> None:
    player = visit(may_complain=True)
    page = player.page
    page.route(
        "**/encoder_worker.js",
        lambda route: route.fulfill(content_type="text/javascript", body=worker) if worker else route.abort(),
    )
    page.reload()
    player.wait_until_ready()
    script = ScriptedServer(page)
    player.scribble(HOUSE[:1]).finish()
    assert len(script.sent) == 1
