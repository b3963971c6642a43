# SPDX-License-Identifier: Apache-2.0
"""What the checkpoint offers: words for the prompt, styles, and settings beside the picture. And the shortcuts."""

from collections.abc import Callable
from typing import Any

import pytest
from player import Player
from playwright.sync_api import Route, expect
from scripted_server import ScriptedServer, completed, event, hold, preview, send_more

from support.scribble_app import PATH

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]


def describe(player: Player, **changes: Any) -> None:
    """Change the model's description."""

    def fulfill(route: Route) -> None:
        state = route.fetch().json()
        route.fulfill(json={**state, "description": {**state["description"], **changes}})

    player.page.route("**/playground/model", fulfill)
    player.page.reload()
    player.wait_until_ready()


def test_suggestions_complete_the_prompt(visit: Visit) -> None:
    player = visit()
    describe(player, suggestions={"things": ["house", "owl"], "colours": ["red"], "places": ["in the snow"]})
    page = player.page
    for text in ("a red", "house", "in the snow"):
        page.get_by_role("button", name=text, exact=True).click()
    assert page.input_value("#prompt") == "a red house in the snow"
    page.fill("#prompt", "a red ow")
    page.get_by_role("button", name="owl", exact=True).press("Enter")
    assert page.input_value("#prompt") == "a red owl"
    expect(page.locator("#suggestions button").first).to_be_focused()  # to take the next one
    page.fill("#prompt", "")
    page.click("#examples button >> nth=1")
    expect(page.locator("#suggestions button")).to_have_count(0)  # nothing fits a whole sentence
    assert page.input_value("#prompt") == "an orange fish in the sea"
    player.reload()
    player.wait_until_ready()
    expect(page.locator("#undo")).to_be_enabled()  # the tab's work is restored
    expect(page.locator("#suggestions button")).to_have_count(0)
    describe(player, suggestions={})
    expect(page.locator("#suggestions")).to_be_hidden()


def test_styles_are_loras_that_no_preset_names_and_are_sent_with_their_strength(visit: Visit) -> None:
    player = visit(may_complain=True)  # the server has no such LoRA
    loras = [{"name": name, "unusable": ""} for name in ("few_step", "water_colour", "chalk")]
    presets = {"draft": {"num_inference_steps": 2, "loras": [{"name": "few_step"}]}}
    describe(player, loras=[*loras, {"name": "torn", "unusable": "It is broken."}], presets=presets)
    page = player.page
    expect(page.locator("#styles button")).to_have_text(["water colour", "chalk"])
    page.get_by_role("button", name="chalk").click()
    page.get_by_label("Strength of chalk").fill("0.8")
    page.select_option("#setting-preset", "draft")  # changes no style
    player.set("seed", "9007199254740993")
    player.scribble().press_draw()
    player.says("#result-error", "does not have this choice")
    (request,) = player.requests_to(PATH)
    assert request.post_data is not None
    assert '"seed":9007199254740993' in request.post_data  # a number that JavaScript cannot hold
    body = request.post_data_json
    assert body["loras"] == [{"name": "chalk", "scale": 0.8}]
    assert (body["preset"], body["num_inference_steps"]) == ("draft", 2)


def test_a_reset_switches_styles_off_and_keeps_the_focus(visit: Visit) -> None:
    player = visit()
    describe(player, loras=[{"name": "chalk", "unusable": ""}])
    player.set("seed", "7")
    chalk = player.page.get_by_role("button", name="chalk")
    chalk.click()
    expect(chalk).to_have_attribute("aria-pressed", "true")
    reset = player.page.get_by_role("button", name="Reset to defaults")
    reset.press("Enter")
    expect(player.page.locator("#setting-seed")).to_have_value("")
    expect(reset).to_be_focused()
    expect(chalk).to_have_attribute("aria-pressed", "false")
    expect(player.page.get_by_label("Strength of chalk")).to_be_hidden()


def test_the_seed_can_be_kept_and_released(visit: Visit) -> None:
    player = visit().wait_until_ready()
    player.make_it_quick()
    player.scribble().finish()
    lock = player.page.get_by_role("button", name="Keep seed")
    lock.click()
    expect(lock).to_have_attribute("aria-pressed", "true")
    seed = player.page.input_value("#setting-seed")
    assert player.caption.startswith(f"Seed {seed} ")
    player.finish()
    assert player.caption.startswith(f"Seed {seed} ")
    lock.click()
    assert player.page.input_value("#setting-seed") == ""


def test_a_seed_that_is_changed_while_a_picture_is_drawn_stays(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    page = player.page
    player.set("seed", "5")
    hold(page, event("progress", {"step": 1, "num_steps": 4}))
    player.press_draw()
    player.says("#caption", "Step 1 of 4")
    player.set("seed", "77")
    send_more(page, completed(seed=5))
    player.says("#caption", "Seed 5")
    expect(page.locator("#history .kept")).to_have_count(1)
    assert page.input_value("#setting-seed") == "77"


def test_a_question_mark_shows_the_shortcuts_except_in_a_text(visit: Visit) -> None:
    player = visit()
    page = player.page
    page.fill("#prompt", "what")
    page.keyboard.press("?")
    assert page.input_value("#prompt") == "what?"
    page.focus("#scribble")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#shortcuts")).to_be_hidden()
    expect(page.locator("#scribble")).to_be_focused()


def test_escape_closes_an_open_sheet_before_it_stops_the_picture(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    page = player.page
    hold(page, event("progress", {"step": 3, "num_steps": 12}))
    player.press_draw()
    player.says("#caption", "Step 3 of 12")
    page.click("#help")
    page.keyboard.press("Escape")
    expect(page.locator("#shortcuts")).to_be_hidden()
    expect(page.locator("#stop")).to_be_enabled()
    page.keyboard.press("Escape")
    player.says("#caption", "Stopped")


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_seed_that_is_kept_while_a_picture_is_drawn_is_its_seed(visit: Visit, count: str) -> None:
    player = visit().wait_until_ready().scribble()
    page, server = player.page, ScriptedServer(player.page)
    player.finish()
    first = server.sent[0]["seed"]
    assert player.caption.startswith(f"Seed {first} ")
    page.select_option("#count", count)
    hold(page, preview(step=1))
    player.press_draw()
    page.wait_for_selector("#frame [data-state=preview], #frame[data-state=preview]")
    page.click("#lock")
    seed = page.input_value("#setting-seed")
    assert seed not in (first, "")
    send_more(page, completed(seed=int(seed)))
    expect(page.locator("#history .kept")).to_have_count(1 + int(count))
    if count == "2":
        assert [each["seed"] for each in server.sent[1:]] == [str(int(seed) + 1)]
        page.click("#grid button >> nth=0")
    expect(page.locator("#caption")).to_contain_text(f"Seed {seed} ")
    page.select_option("#count", "1")
    player.finish()
    assert server.sent[-1]["seed"] == seed
