# SPDX-License-Identifier: Apache-2.0
"""Live mode: when the page draws, and what, while a person draws."""

import io
from collections.abc import Callable

import pytest
from PIL import Image
from player import HOUSE, Player
from playwright.sync_api import expect
from scripted_server import ScriptedServer, completed, event, hold, preview, send_more

from support.scribble_app import PATH

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]


def test_strokes_become_drafts_with_one_seed_and_a_pause_finishes_the_picture(visit: Visit) -> None:
    player = visit(is_live=True).wait_until_ready()
    page = player.page
    script = ScriptedServer(player.page)
    expect(page.locator("#live")).to_be_checked()
    player.stroke(HOUSE[0])
    player.says("#live-note", "Say what your scribble shows")
    assert script.sent == []
    page.fill("#prompt", "a red house")
    expect(page.locator("#history .kept")).to_have_count(1)
    player.stroke(HOUSE[1])
    expect(page.locator("#stop")).to_be_disabled()
    assert [each["preset"] for each in script.sent] == ["draft", "quality"] * 2
    assert all("num_inference_steps" not in draft for draft in script.sent[::2])
    (seed,) = {each["seed"] for each in script.sent}
    assert seed in player.caption

    page.click("#again")  # another seed, which later strokes keep
    expect(page.locator("#history .kept")).to_have_count(2)
    player.stroke(HOUSE[2])
    expect(page.locator("#stop")).to_be_disabled()
    assert [each["preset"] for each in script.sent[4:]] == ["quality", "draft", "quality"]
    (another,) = {each["seed"] for each in script.sent[4:]}
    assert another != seed

    page.click("#live")
    page.reload()
    player.wait_until_ready()
    num_sent = len(script.sent)
    expect(page.locator("#live")).not_to_be_checked()
    player.stroke(HOUSE[0])
    page.fill("#prompt", "a red house")
    page.wait_for_timeout(600)
    assert len(script.sent) == num_sent


@pytest.fixture
def drafting(visit: Visit) -> tuple[Player, ScriptedServer]:
    """A visitor who sees a draft that goes on until the page aborts it, and the server of all later pictures."""
    player = visit(is_live=True).wait_until_ready()
    script = ScriptedServer(player.page)
    player.page.click("#live")
    player.page.click("#live")  # wanted, even if this machine is slow
    hold(player.page, preview(step=1))
    player.page.fill("#prompt", "a red house")
    player.stroke(HOUSE[0])
    player.until("#frame", "preview")
    return player, script


def test_pressing_draw_twice_while_a_draft_ends_makes_one_picture(drafting: tuple[Player, ScriptedServer]) -> None:
    player, script = drafting
    player.page.evaluate("() => { for (const _ of [1, 2]) document.getElementById('draw').click(); }")
    player.says("#prompt-error", "still being drawn")
    expect(player.page.locator("#history .kept")).to_have_count(1)
    player.finish("#again")
    assert [each["preset"] for each in script.sent] == ["quality"] * 2


def test_stop_cancels_a_picture_that_waits_for_the_end_of_a_draft(drafting: tuple[Player, ScriptedServer]) -> None:
    player, script = drafting
    player.page.evaluate("() => { for (const id of ['draw', 'stop']) document.getElementById(id).click(); }")
    player.says("#caption", "Stopped")
    player.finish()
    assert len(script.sent) == 1


def test_the_seed_of_a_visible_draft_can_be_kept(drafting: tuple[Player, ScriptedServer]) -> None:
    player, script = drafting
    player.page.dispatch_event("#paper", "pointerdown")  # while the pen is down, no picture is finished
    send_more(player.page, completed())
    player.says("#caption", "Draft · seed")
    seed = player.caption.split()[-1]
    player.page.click("#lock")
    expect(player.page.locator("#setting-seed")).to_have_value(seed)
    expect(player.page.locator("#history .kept")).to_have_count(1)
    assert {each["seed"] for each in script.sent} == {seed}


def test_stop_is_possible_as_soon_as_a_lifted_pen_makes_a_finish_due(drafting: tuple[Player, ScriptedServer]) -> None:
    player, _ = drafting
    page = player.page
    page.dispatch_event("#paper", "pointerdown")
    send_more(page, completed())
    player.says("#caption", "Draft · seed")
    expect(page.locator("#stop")).to_be_disabled()
    assert page.evaluate("""() => {
      window.dispatchEvent(new PointerEvent("pointerup"));
      return !document.getElementById("stop").disabled;
    }""")


def test_a_finish_that_ends_without_a_picture_has_the_reason_in_its_caption(visit: Visit) -> None:
    player = visit(is_live=True).wait_until_ready()
    script = ScriptedServer(player.page)
    player.page.click("#live")
    player.page.click("#live")  # wanted, even if this machine is slow
    script.bodies = [completed(), event("progress", {"step": 5, "num_steps": 12})]
    player.page.fill("#prompt", "a red house")
    player.stroke(HOUSE[0])
    player.says("#caption", "Interrupted at step 5 of 12")
    assert [each["preset"] for each in script.sent] == ["draft", "quality"]


def test_a_busy_server_has_a_countdown_and_live_drawing_goes_on(visit: Visit) -> None:
    player = visit(is_live=True).wait_until_ready()
    script = ScriptedServer(player.page)
    busy = {"status": 503, "code": "overloaded", "detail": "The queue is full.", "retry_after_s": 2}
    script.bodies.append(event("error", busy))
    player.page.fill("#prompt", "a red house")
    player.stroke(HOUSE[0])
    for text in (
        "The server is busy. Live drawing goes on in 2 s.",
        "The server is busy. Live drawing goes on in 1 s.",
    ):
        is_shown = "text => document.querySelector('.live-note').textContent === text"
        player.page.wait_for_function(is_shown, arg=text, polling="raf")
    expect(player.page.locator("#history .kept")).to_have_count(1)
    assert [each["preset"] for each in script.sent] == ["draft", "draft", "quality"]
    expect(player.page.locator("#live-note")).to_be_empty()
    assert player.ink > 0


def test_live_drawing_waits_too_when_the_server_has_refused_a_persons_picture(visit: Visit) -> None:
    player = visit(is_live=True).wait_until_ready().scribble(HOUSE[:1])
    script = ScriptedServer(player.page)
    player.says("#caption", "Seed")
    num_before = len(script.sent)
    script.bodies.append(event("error", {"status": 429, "code": "rate_limited", "detail": "Wait.", "retry_after_s": 3}))
    player.press_draw()
    player.says("#result-error", "Try again in 3 s.")
    player.stroke(HOUSE[1])
    player.says("#result-error", "Try again in 1 s.")
    assert len(script.sent) == num_before + 1
    expect(player.page.locator("#history .kept")).to_have_count(2)
    assert script.sent[num_before + 1]["preset"] == "draft"


def test_what_was_drawn_during_an_outage_is_painted_when_the_server_is_back(visit: Visit) -> None:
    player = visit(is_live=True, may_complain=True).wait_until_ready()
    page, script = player.page, ScriptedServer(player.page)
    for path in ("**/playground/model", f"**{PATH}"):
        page.route(path, lambda route: route.abort())
    page.fill("#prompt", "a red house")
    player.stroke(HOUSE[0])
    player.until("#status", "gone")
    player.stroke(HOUSE[1])
    assert script.sent == []
    page.unroute("**/playground/model")
    page.unroute(f"**{PATH}", None)
    ScriptedServer(page)
    player.wait_until_ready()
    player.says("#caption", "Seed")


def test_a_right_press_that_ends_elsewhere_does_not_put_off_the_finish_forever(visit: Visit) -> None:
    player = visit(is_live=True).wait_until_ready()
    page = player.page
    ScriptedServer(page)
    page.fill("#prompt", "a red house")
    player.stroke(HOUSE[0])
    box = page.locator("#paper").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 2)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] - 5)
    page.mouse.up(button="right")
    expect(page.locator("#history .kept")).to_have_count(1)


def test_an_earlier_picture_is_restored_without_a_new_draft(visit: Visit) -> None:
    player = visit(is_live=True).wait_until_ready()
    script = ScriptedServer(player.page)
    player.page.fill("#prompt", "a red house")
    player.stroke(HOUSE[0])
    expect(player.page.locator("#history .kept")).to_have_count(1)
    player.page.fill("#prompt", "")
    player.page.click("#clear")
    num_sent = len(script.sent)
    player.page.click("#history .kept")
    player.until("#frame", "done")
    assert player.ink > 0
    player.page.wait_for_timeout(600)
    assert len(script.sent) == num_sent


def test_a_finished_picture_replaces_the_one_before_until_a_person_uses_it(visit: Visit) -> None:
    player = visit(is_live=True).wait_until_ready()
    page = player.page
    ScriptedServer(page)
    page.click("#live")
    page.click("#live")  # wanted, even if this machine is slow
    page.fill("#prompt", "a red house")
    kept, newest = page.locator("#history .kept"), page.locator("#history li:first-child img")

    def draw(change: Callable[[], None], *, num_kept: int) -> None:
        before = newest.get_attribute("src") if kept.count() else ""
        change()
        expect(newest).not_to_have_attribute("src", before or "", timeout=30_000)
        expect(kept).to_have_count(num_kept, timeout=30_000)

    draw(lambda: player.stroke(HOUSE[0]), num_kept=1)
    draw(lambda: player.stroke(HOUSE[1]), num_kept=1)
    with page.expect_download():
        page.click("#download")
    draw(lambda: player.stroke(HOUSE[2]), num_kept=2)
    page.click("#clear")
    draw(lambda: player.stroke(HOUSE[0]), num_kept=3)  # another drawing
    draw(lambda: page.click("#examples button >> nth=1"), num_kept=4)  # and another
    draw(lambda: page.click("#undo"), num_kept=5)  # the one before
    expect(player.open_tab().page.locator("#history .kept")).to_have_count(5)


def test_a_draft_of_the_real_engine_is_painted_while_a_person_draws(visit: Visit) -> None:
    player = visit(is_live=True).wait_until_ready()
    player.page.click("#live")
    player.page.click("#live")  # wanted, even if this machine is slow
    player.scribble()
    expect(player.page.locator("#history .kept")).to_have_count(1, timeout=120_000)  # after a rest, if drafts are slow


@pytest.fixture
def live(visit: Visit) -> tuple[Player, ScriptedServer]:
    """A visitor who wants live mode, even if this machine is slow, and the server of all pictures."""
    player = visit(is_live=True).wait_until_ready()
    script = ScriptedServer(player.page)
    player.page.click("#live")
    player.page.click("#live")
    return player, script


def first_picture(live: tuple[Player, ScriptedServer]) -> int:
    """Draw one in live mode. Returns the number of requests so far."""
    player, script = live
    player.page.fill("#prompt", "a red house")
    player.stroke(HOUSE[0])
    expect(player.page.locator("#history .kept")).to_have_count(1)
    return len(script.sent)


def test_a_prompt_that_is_typed_and_sent_at_once_is_drawn_once(live: tuple[Player, ScriptedServer]) -> None:
    player, script = live
    page = player.page
    player.stroke(HOUSE[0])
    player.says("#live-note", "Say what your scribble shows")
    page.fill("#prompt", "a red house")
    page.press("#prompt", "Enter")
    expect(page.locator("#live-note")).to_be_empty()
    player.says("#caption", "Seed")
    page.wait_for_timeout(600)  # longer than the pause in typing
    assert [each["preset"] for each in script.sent] == ["quality"]
    expect(page.locator("#history .kept")).to_have_count(1)


def test_stop_right_after_typing_draws_nothing(live: tuple[Player, ScriptedServer]) -> None:
    player, script = live
    page = player.page
    num_sent = first_picture(live)
    hold(page, preview(step=1))
    player.stroke(HOUSE[1])
    player.until("#frame", "preview")
    page.fill("#prompt", "a blue house")
    page.press("#prompt", "Escape")
    page.wait_for_timeout(600)  # longer than the pause in typing
    assert len(script.sent) == num_sent
    expect(page.locator("#stop")).to_be_disabled()


def test_a_region_can_be_painted_with_other_words_in_live_mode(live: tuple[Player, ScriptedServer]) -> None:
    player, script = live
    page = player.page
    num_sent = first_picture(live)

    def mark() -> None:
        page.click("#mask-open")
        for key in ("Space", "ArrowRight", "Space"):
            page.keyboard.press(key)

    mark()
    page.fill("#prompt", "a blue door")
    page.wait_for_timeout(600)  # longer than the pause in typing
    expect(page.locator("#mask")).to_be_visible()
    expect(page.locator("#mask-paint")).to_be_enabled()
    assert len(script.sent) == num_sent
    page.click("#mask-paint")
    expect(page.locator("#history .kept")).to_have_count(2)
    assert script.sent[num_sent]["prompt"] == "a blue door"
    assert 'name="mask"' in (player.requests_to(PATH)[num_sent].post_data_buffer or b"").decode("latin-1")
    mark()
    page.fill("#prompt", "a blue house")
    page.wait_for_timeout(600)
    assert len(script.sent) == num_sent + 1
    page.click("#mask-leave")
    player.says("#caption", "Draft")
    assert script.sent[-1]["prompt"] == "a blue house"


def test_a_finish_leaves_messages_that_are_not_about_a_request(live: tuple[Player, ScriptedServer]) -> None:
    player, script = live
    page = player.page
    page.fill("#prompt", "a red house")
    photo = Image.new("RGB", (64, 64), "blue")
    photo.paste("red", (16, 16, 48, 48))
    file = io.BytesIO()
    photo.save(file, "PNG")
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": file.getvalue()})
    player.says("#scribble-error", "traced its outlines")
    expect(page.locator("#history .kept")).to_have_count(1)
    player.says("#scribble-error", "traced its outlines")
    assert [each["preset"] for each in script.sent] == ["draft", "quality"]
    script.bodies = [event("error", {"status": 500, "code": "internal_error", "detail": "It failed."})]
    player.stroke(HOUSE[0])
    player.says("#result-error", "Something went wrong")
    player.stroke(HOUSE[1])
    expect(page.locator("#result-error")).to_be_empty()
