# SPDX-License-Identifier: Apache-2.0
"""Live mode: when the page draws, and what, while a person draws."""

from collections.abc import Callable

import pytest
from player import HOUSE, Player
from playwright.sync_api import Page, expect
from scripted_server import ScriptedServer, event

from support.scribble_app import PATH

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

# `live.js` alone, with requests that the test ends. `log` has what began, ended and changed.
MACHINE = """async () => {
  const {Live} = await import(document.querySelector("link[href$='/live.js']").href);
  const log = window.log = [];
  window.hasDrawing = true;
  const draw = (kind, signal) => new Promise(resolve => {
    log.push(kind);
    window.end = outcome => { log.push("end"); resolve({isCompleted: true, ...outcome}); };
    signal.addEventListener("abort", () => log.push("abort"));
  });
  window.live = new Live({draw, canDraw: () => window.hasDrawing});
  window.live.addEventListener("unfit", () => log.push("unfit"));
}"""


@pytest.fixture
def machine(visit: Visit) -> Callable[[], Page]:
    """A page with `window.live`, whose time stands still."""

    def start() -> Page:
        page = visit().page
        page.clock.install(time=0)
        page.clock.pause_at(1000)
        page.evaluate(MACHINE)
        return page

    return start


def step(page: Page, script: str) -> list[str]:
    """Run a line, let promises settle, and return what happened."""
    log: list[str] = page.evaluate(
        f"async () => {{ {script}; for (let i = 0; i < 30; i++) await null; return log.splice(0); }}"
    )
    return log


def after(page: Page, milliseconds: int) -> list[str]:
    page.clock.run_for(milliseconds)
    return step(page, "")


def test_a_change_supersedes_a_draft_only_when_its_request_has_ended(machine: Callable[[], Page]) -> None:
    page = machine()
    assert step(page, "live.changed()") == []  # off
    assert step(page, "live.turnOn(); live.changed(); live.changed()") == ["drafting"]
    assert step(page, "live.changed(); live.changed()") == ["abort"]
    assert step(page, "end({isCompleted: false})") == ["end", "drafting"]
    assert step(page, "hasDrawing = false; live.changed(); end({isCompleted: false})") == ["abort", "end"]
    assert step(page, "hasDrawing = true; live.wake()") == ["drafting"]
    assert step(page, "live.stop(); end({isCompleted: false})") == ["abort", "end"]
    assert after(page, 10_000) == []
    assert page.evaluate("live.state") == "idle"


def test_a_pause_finishes_the_picture_but_not_under_the_pen(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn(); live.changed()")
    assert step(page, "end()") == ["end"]
    assert after(page, 900) == []
    assert after(page, 100) == ["finishing"]
    assert step(page, "live.hold()") == []  # the pen is down: the picture is still that of the drawing
    assert step(page, "live.changed()") == ["abort"]
    assert step(page, "end({isCompleted: false}); live.hold()") == ["end", "drafting"]
    assert step(page, "end()") == ["end"]
    assert after(page, 5000) == []
    assert step(page, "live.release()") == []
    assert after(page, 1) == ["finishing"]
    assert step(page, "end()") == ["end"]
    assert after(page, 5000) == []


def test_it_rests_while_the_server_is_busy_or_slow(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn(); live.changed()")
    assert step(page, "end({isCompleted: false, retryAfter: 7})") == ["end"]
    assert page.evaluate("[live.state, live.rest.seconds]") == ["resting", 7]
    assert step(page, "live.changed()") == []
    assert after(page, 6900) == []
    assert after(page, 100) == ["drafting"]
    assert step(page, "end()") == ["end"]
    step(page, "live.changed()")
    assert after(page, 2000) == []
    assert step(page, "live.changed()") == []  # a slow draft goes on
    assert step(page, "end()") == ["end"]
    assert page.evaluate("live.rest.reason") == "slow"
    assert after(page, 5000) == ["drafting"]
    assert after(page, 2000) == []
    assert step(page, "end()") == ["end"]
    assert after(page, 10_001) == ["finishing"]  # nothing has changed
    assert step(page, "live.turnOff(); end({isCompleted: false})") == ["abort", "end"]


def test_stop_is_not_undone_by_a_refusal_that_arrives_at_the_same_time(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn(); live.changed()")
    assert step(page, "live.stop(); end({isCompleted: false, retryAfter: 7})") == ["abort", "end"]
    assert after(page, 60_000) == []


def test_it_turns_itself_off_if_the_first_draft_is_slow_unless_it_is_wanted(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn(); live.changed()")
    assert after(page, 2000) == ["abort", "unfit"]
    assert step(page, "end({isCompleted: false})") == ["end"]
    assert page.evaluate("live.state") == "off"
    step(page, "live.turnOn({isWanted: true}); live.changed()")
    assert after(page, 2000) == []


def test_strokes_become_drafts_with_one_seed_and_a_pause_finishes_the_picture(visit: Visit) -> None:
    player = visit(is_live=True).wait_until_ready()
    page = player.page
    script = ScriptedServer(player.page)
    expect(page.locator("#live")).to_be_checked()
    player.stroke(HOUSE[0])
    player.says("#live-note", "Say what your scribble shows")
    assert script.sent == []
    page.fill("#prompt", "a red house")
    player.says("#caption", "Draft")
    player.stroke(HOUSE[1])
    expect(page.locator("#history .kept")).to_have_count(1)
    expect(page.locator("#stop")).to_be_disabled()
    drafts, (finished,) = script.sent[:-1], script.sent[-1:]
    assert len(drafts) == 2
    assert {each["preset"] for each in drafts} == {"draft"}
    assert all("num_inference_steps" not in each for each in drafts)
    assert finished["preset"] == "quality"
    assert len({each["seed"] for each in script.sent}) == 1
    assert finished["seed"] in player.caption

    page.click("#again")  # another seed, which later strokes keep
    expect(page.locator("#history .kept")).to_have_count(2)
    player.stroke(HOUSE[2])
    player.says("#caption", "Draft")
    assert script.sent[-1]["seed"] == script.sent[-2]["seed"] != finished["seed"]

    page.click("#live")
    page.reload()
    player.wait_until_ready()
    expect(page.locator("#live")).not_to_be_checked()
    player.stroke(HOUSE[0])
    page.fill("#prompt", "a red house")
    page.wait_for_timeout(600)
    assert len(script.sent) == 4 + 1


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

    def draw(stroke: int, *, num_kept: int) -> None:
        before = newest.get_attribute("src") if kept.count() else ""
        player.stroke(HOUSE[stroke])
        expect(newest).not_to_have_attribute("src", before or "", timeout=30_000)
        expect(kept).to_have_count(num_kept, timeout=30_000)

    draw(0, num_kept=1)
    draw(1, num_kept=1)
    with page.expect_download():
        page.click("#download")
    draw(2, num_kept=2)
    page.click("#clear")
    draw(0, num_kept=3)  # another drawing
    expect(player.open_tab().page.locator("#history .kept")).to_have_count(3)


def test_a_draft_of_the_real_engine_is_painted_while_a_person_draws(visit: Visit) -> None:
    player = visit(is_live=True).wait_until_ready()
    player.page.click("#live")
    player.page.click("#live")  # wanted, even if this machine is slow
    player.scribble()
    expect(player.page.locator("#history .kept")).to_have_count(1, timeout=120_000)  # after a rest, if drafts are slow
