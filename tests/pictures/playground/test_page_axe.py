# SPDX-License-Identifier: Apache-2.0
"""axe-core finds no violation in any state of the page."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_scan import violations
from player import HOUSE, Player
from playwright.sync_api import Page, Route, expect
from scripted_server import ScriptedServer, event, hold

from support.scribble_app import base64_picture

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

STEP = {"step": 3, "num_steps": 12, "preview": base64_picture("WEBP", size=(128, 128))}


def refusal(**problem: Any) -> str:
    return event("error", {"status": 422, "code": "invalid", "detail": "No.", **problem})


def scan_when(player: Player, selector: str, text: str) -> None:
    """axe-core finds nothing once the element shows this text."""
    player.says(selector, text)
    assert violations(player.page) == [], f"{selector}: {text}"


@pytest.fixture
def player(visit: Visit) -> Player:
    return visit(is_live=True, may_complain=True, reduced_motion="reduce").wait_until_ready()


@pytest.fixture
def page(player: Player) -> Page:
    return player.page


@pytest.fixture
def script(page: Page) -> ScriptedServer:
    return ScriptedServer(page)


def test_from_an_empty_canvas_to_a_picture(player: Player, page: Page, script: ScriptedServer) -> None:
    assert violations(page) == [], "empty"
    page.click("#live")
    page.click("#live")  # wanted: it stays on while a draft is held
    player.press_draw()
    expect(page.locator("#prompt-error")).to_have_class("hint wrong")
    assert violations(page) == [], "nothing drawn, no prompt"
    player.stroke(HOUSE[0])
    scan_when(player, "#live-note", "Say what your scribble shows")
    hold(page, event("progress", STEP))
    page.fill("#prompt", "a red house")
    player.until("#frame", "preview")
    assert violations(page) == [], "live"
    page.click("#live")
    hold(page, event("progress", STEP))
    player.press_draw()
    scan_when(player, "#caption", "Step 3 of 12")
    page.click("#stop")
    scan_when(player, "#caption", "Stopped")
    script.notes.append("The picture is enlarged.")
    player.finish()
    assert violations(page) == [], "finished"


def test_messages_and_settings(player: Player, page: Page, script: ScriptedServer) -> None:
    page.click("#live")
    page.click("#fold summary")
    page.click("#lock")
    assert violations(page) == [], "settings"
    player.scribble()
    errors = [{"pointer": f"#/{name}", "code": "range", "detail": "Too large."} for name in ("seed", "width", "prompt")]
    script.bodies = [refusal(errors=errors), refusal(status=503, code="overloaded", retry_after_s=600)]
    player.press_draw()
    scan_when(player, "#setting-seed-error", "oo large")
    player.press_draw()
    scan_when(player, "#result-error", "Try again in")
    page.click("#clear")
    scan_when(player, "#scribble-error", "Undo")


def test_what_can_be_done_with_a_picture(player: Player, page: Page, script: ScriptedServer) -> None:
    page.click("#live")
    player.scribble().finish()
    page.click("#compare-open")
    assert violations(page) == [], "compare"
    page.click("#compare-open")
    page.click("#mask-open")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert violations(page) == [], "region"
    player.finish("#mask-paint")
    page.click("#history li:first-child .kept")
    scan_when(player, "#init-image", "only the marked region")
    page.click("#init-image-drop")
    for button in ("#save-as", "#help"):
        page.click(button)
        expect(page.locator("dialog[open]")).to_be_visible()
        assert violations(page) == [], button
        page.keyboard.press("Escape")
    page.select_option("#count", "4")
    player.press_draw()
    scan_when(player, "#caption", "4 of 4 are ready")
    page.click("#grid button:first-child")
    expect(page.locator("#grid-back")).to_be_visible()
    assert violations(page) == [], "one of the grid"
    page.click("#history .drop >> nth=0")
    scan_when(player, "#history-notice", "Undo")


def test_what_the_server_offers_refuses_or_loses(player: Player, page: Page) -> None:
    offered = {
        "suggestions": {"things": ["house", "owl"], "colours": ["red"], "places": ["in the snow"]},
        "loras": [{"name": "neon", "unusable": ""}],
        "about": "This checkpoint paints houses.",
    }
    state = page.request.get(f"{page.url}playground/model").json()
    state["description"] |= offered
    answers: list[Callable[[Route], None]] = [
        lambda route: route.fulfill(json=state),
        lambda route: route.fulfill(status=401, json={"code": "missing_key", "detail": "It needs a key."}),
        lambda route: route.abort(),
    ]
    page.route("**/playground/model", lambda route: answers[0](route))
    page.reload()
    page.get_by_role("button", name="neon").click()
    page.evaluate("location.hash = '#v=1&prompt=a+cat'")
    scan_when(player, "#restored", "come from the link")
    for state_name in ("locked", "gone"):
        answers.pop(0)
        page.reload()
        player.until("#status", state_name)
        assert violations(page) == [], state_name
